// The VFS: its own methods.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "integrations/sqlite/api.h"
#include "integrations/sqlite/database_file.h"
#include "integrations/sqlite/journal.h"
#include "integrations/sqlite/names.h"
#include "integrations/sqlite/plain_file.h"
#include "integrations/sqlite/untorn_sqlite.h"
#include "integrations/sqlite/vfs_files.h"

namespace untorn::sqlite {

int Told(const absl::Status& status, int rc, std::string_view what) {
  if (status.ok()) return SQLITE_OK;
  if (absl::IsResourceExhausted(status)) rc = SQLITE_FULL;
  if (absl::IsPermissionDenied(status)) rc = SQLITE_READONLY;
  if (absl::IsUnimplemented(status)) rc = SQLITE_MISUSE;
  sqlite3_log(rc, "untorn: %.*s: %s", static_cast<int>(what.size()), what.data(),
              std::string(status.message()).c_str());
  return rc;
}

int ToldRead(const absl::StatusOr<size_t>& got, void* out, size_t n, std::string_view what) {
  // What another process writes has taken the place of what was to be read. The next transaction sees its state.
  if (absl::IsAborted(got.status())) return Told(got.status(), SQLITE_BUSY, what);
  if (!got.ok()) return Told(got.status(), SQLITE_IOERR_READ, what);
  if (*got == n) return SQLITE_OK;
  std::memset(static_cast<char*>(out) + *got, 0, n - *got);
  return SQLITE_IOERR_SHORT_READ;
}

namespace {

int Open(sqlite3_vfs*, const char* name, sqlite3_file* f, int flags, int* flags_out) {
  constexpr int kTemporary =
      SQLITE_OPEN_TEMP_DB | SQLITE_OPEN_TRANSIENT_DB | SQLITE_OPEN_TEMP_JOURNAL | SQLITE_OPEN_SUBJOURNAL;
  f->pMethods = nullptr;
  if (name == nullptr || (flags & kTemporary) != 0)
    return PlainVfs()->xOpen(PlainVfs(), name, f, flags, flags_out);
  if (flags_out != nullptr) *flags_out = flags;
  if ((flags & SQLITE_OPEN_MAIN_DB) != 0) return OpenDatabase(name, f, flags);
  if ((flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL)) != 0)
    return OpenJournal(name, f, flags);
  return Told(absl::FailedPreconditionError("only journal_mode=DELETE is supported, no write-ahead log"),
              SQLITE_CANTOPEN, name);
}

int Delete(sqlite3_vfs*, const char* name, int sync_directory) {
  const std::shared_ptr<Journal> journal = Journals::Get().Find(name);
  if (!journal) return SQLITE_IOERR_DELETE_NOENT;
  // It is kept if that fails: it is played back, and the journals of a super-journal only while that is there.
  const absl::Status committed =
      IsSuperJournal(name) ? DatabaseFile::CommitPrepared(name) : DatabaseFile::CommitReady(name);
  if (!committed.ok()) return Told(committed, SQLITE_IOERR_DELETE, "commit");
  if (journal->has_file()) {
    const int rc = PlainVfs()->xDelete(PlainVfs(), name, sync_directory);
    if (rc != SQLITE_OK && rc != SQLITE_IOERR_DELETE_NOENT) return rc;
  }
  Journals::Get().Remove(name);
  return SQLITE_OK;
}

int Access(sqlite3_vfs*, const char* name, int, int* result) {
  *result = Journals::Get().Find(name) != nullptr;
  return SQLITE_OK;
}

// SQLite passes the name it was given, with its parameters behind it (sqlite3PagerOpen, sqlite3BtreeOpen).
int FullPathname(sqlite3_vfs*, const char* name, int bytes, char* out) {
  const absl::StatusOr<std::string> store = StorePath(name);
  const std::string full = store.ok() ? FullName(*store, name) : name;  // Open() tells
  if (full.size() >= static_cast<size_t>(bytes)) {
    return Told(absl::InvalidArgumentError(absl::StrCat(full, ": longer than ", bytes - 1, " bytes")),
                SQLITE_CANTOPEN, "open");
  }
  std::memcpy(out, full.c_str(), full.size() + 1);
  return SQLITE_OK;
}

void* DlOpen(sqlite3_vfs*, const char* name) { return PlainVfs()->xDlOpen(PlainVfs(), name); }
void DlError(sqlite3_vfs*, int n, char* message) { PlainVfs()->xDlError(PlainVfs(), n, message); }
void (*DlSym(sqlite3_vfs*, void* library, const char* symbol))(void) {
  return PlainVfs()->xDlSym(PlainVfs(), library, symbol);
}
void DlClose(sqlite3_vfs*, void* library) { PlainVfs()->xDlClose(PlainVfs(), library); }
int Randomness(sqlite3_vfs*, int n, char* out) { return PlainVfs()->xRandomness(PlainVfs(), n, out); }
int Sleep(sqlite3_vfs*, int us) { return PlainVfs()->xSleep(PlainVfs(), us); }
int CurrentTime(sqlite3_vfs*, double* time) { return PlainVfs()->xCurrentTime(PlainVfs(), time); }
int LastError(sqlite3_vfs*, int, char*) { return 0; }
int CurrentTimeInt64(sqlite3_vfs*, sqlite3_int64* time) {
  return PlainVfs()->xCurrentTimeInt64(PlainVfs(), time);
}

// Called with every connection that is opened: fails where its database could not be, and says why.
int OnOpen(sqlite3* db, char** message, const sqlite3_api_routines*) {
  const char* error = ErrorOfOpen(db);
  if (error == nullptr) return SQLITE_OK;
  *message = sqlite3_mprintf("untorn: %s", error);
  return SQLITE_CANTOPEN;
}

}  // namespace
}  // namespace untorn::sqlite

extern "C" int untorn_sqlite_register(int make_default) {
  using namespace untorn::sqlite;
  static sqlite3_vfs vfs;
  static std::mutex mu;
  std::lock_guard guard(mu);
  if (vfs.zName == nullptr) {
    if (PlainVfs() == nullptr) return SQLITE_ERROR;
    vfs.iVersion = 2;
    vfs.szOsFile = std::max({DatabaseFileBytes(), JournalFileBytes(), PlainVfs()->szOsFile});
    vfs.mxPathname = kFullNameMax;
    vfs.zName = "untorn";
    vfs.xOpen = Open;
    vfs.xDelete = Delete;
    vfs.xAccess = Access;
    vfs.xFullPathname = FullPathname;
    vfs.xDlOpen = DlOpen;
    vfs.xDlError = DlError;
    vfs.xDlSym = DlSym;
    vfs.xDlClose = DlClose;
    vfs.xRandomness = Randomness;
    vfs.xSleep = Sleep;
    vfs.xCurrentTime = CurrentTime;
    vfs.xGetLastError = LastError;
    vfs.xCurrentTimeInt64 = CurrentTimeInt64;
  }
  // Registering again would take away that it is the default.
  if (sqlite3_vfs_find(vfs.zName) != &vfs || (make_default != 0 && sqlite3_vfs_find(nullptr) != &vfs)) {
    if (const int rc = sqlite3_vfs_register(&vfs, make_default); rc != SQLITE_OK) return rc;
  }
  return sqlite3_auto_extension(reinterpret_cast<void (*)()>(OnOpen));
}
