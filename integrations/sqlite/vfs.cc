// The VFS: what SQLite calls, in terms of databases and journals.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "integrations/sqlite/api.h"
#include "integrations/sqlite/database_file.h"
#include "integrations/sqlite/header.h"
#include "integrations/sqlite/journal.h"
#include "integrations/sqlite/untorn_sqlite.h"

namespace untorn::sqlite {
namespace {

// SQLite reads the name of a super-journal into one page, which may be as small as this (pager_playback).
constexpr int kPathMax = 500;
constexpr uint64_t kStoreCacheMibMax = 1 << 20;

sqlite3_vfs* default_vfs = nullptr;

// `rc` if there is nothing closer.
int Told(const absl::Status& status, int rc, std::string_view what) {
  if (status.ok()) return SQLITE_OK;
  if (absl::IsResourceExhausted(status)) rc = SQLITE_FULL;
  if (absl::IsPermissionDenied(status)) rc = SQLITE_READONLY;
  sqlite3_log(rc, "untorn: %.*s: %s", static_cast<int>(what.size()), what.data(),
              std::string(status.message()).c_str());
  return rc;
}

// ---- Databases ----

struct MainFile {
  sqlite3_file base;
  DatabaseFile* file;
  // Why it could not be opened, if so. That is told by OnOpen(), as an error of sqlite3_open: xOpen has no way to.
  std::string* error;
};
MainFile& Main(sqlite3_file* f) { return *reinterpret_cast<MainFile*>(f); }

int MainClose(sqlite3_file* f) {
  delete Main(f).file;
  delete Main(f).error;
  return SQLITE_OK;
}

// What SQLite expects of a read: what is not there as zeros, and to be told.
int ToldRead(const absl::StatusOr<size_t>& got, void* out, size_t n, std::string_view what) {
  if (!got.ok()) return Told(got.status(), SQLITE_IOERR_READ, what);
  if (*got == n) return SQLITE_OK;
  std::memset(static_cast<char*>(out) + *got, 0, n - *got);
  return SQLITE_IOERR_SHORT_READ;
}

int MainRead(sqlite3_file* f, void* out, int n, sqlite3_int64 offset) {
  if (Main(f).file == nullptr) {
    std::memset(out, 0, n);
    // sqlite3_open reads the header, and must not fail yet.
    return n == static_cast<int>(kHeaderBytes) ? SQLITE_IOERR_SHORT_READ : SQLITE_IOERR_READ;
  }
  const std::span<std::byte> into(static_cast<std::byte*>(out), n);
  return ToldRead(Main(f).file->Read(offset, into), out, n, "read");
}

int MainWrite(sqlite3_file* f, const void* data, int n, sqlite3_int64 offset) {
  if (Main(f).file == nullptr) return SQLITE_IOERR_WRITE;
  return Told(
      Main(f).file->Write(offset, std::span(static_cast<const std::byte*>(data), static_cast<size_t>(n))),
      SQLITE_IOERR_WRITE, "write");
}

int MainTruncate(sqlite3_file* f, sqlite3_int64 bytes) {
  if (Main(f).file == nullptr) return SQLITE_IOERR_TRUNCATE;
  return Told(Main(f).file->Truncate(bytes), SQLITE_IOERR_TRUNCATE, "truncate");
}

int MainSync(sqlite3_file* f, int) {
  if (Main(f).file == nullptr) return SQLITE_IOERR_FSYNC;
  return Told(Main(f).file->Sync(), SQLITE_IOERR_FSYNC, "commit");
}

int MainSize(sqlite3_file* f, sqlite3_int64* bytes) {
  *bytes = 0;
  if (Main(f).file == nullptr) return SQLITE_IOERR_FSTAT;
  const absl::StatusOr<uint64_t> size = Main(f).file->Size();
  if (size.ok()) *bytes = static_cast<sqlite3_int64>(*size);
  return Told(size.status(), SQLITE_IOERR_FSTAT, "size");
}

int MainLock(sqlite3_file* f, int level) {
  if (Main(f).file == nullptr) return SQLITE_CANTOPEN;
  if (Main(f).file->failed()) return SQLITE_IOERR_LOCK;
  return Main(f).file->Lock(static_cast<Database::Level>(level)) ? SQLITE_OK : SQLITE_BUSY;
}

int MainUnlock(sqlite3_file* f, int level) {
  if (Main(f).file != nullptr) Main(f).file->Unlock(static_cast<Database::Level>(level));
  return SQLITE_OK;
}

int MainCheckReserved(sqlite3_file* f, int* reserved) {
  *reserved = Main(f).file != nullptr && Main(f).file->Reserved();
  return SQLITE_OK;
}

// Refuses other modes in time. Where main is on another VFS that one is asked instead, and DatabaseFile has to refuse them.
int MainPragma(char** arguments) {
  if (sqlite3_stricmp(arguments[1], "journal_mode") != 0 || arguments[2] == nullptr ||
      sqlite3_stricmp(arguments[2], "delete") == 0)
    return SQLITE_NOTFOUND;
  arguments[0] = sqlite3_mprintf(
      "untorn: journal_mode=%s is refused: only DELETE is supported; its journal is in memory, "
      "nothing of it is written to the device",
      arguments[2]);
  return SQLITE_ERROR;
}

constexpr int kErrorOfOpen = 0x756e7472;  // a file control of our own: the text, or nullptr

int MainControl(sqlite3_file* f, int op, void* argument) {
  DatabaseFile* file = Main(f).file;
  if (op == kErrorOfOpen) {
    *static_cast<const std::string**>(argument) = Main(f).error;
    return SQLITE_OK;
  }
  if (file == nullptr) return SQLITE_NOTFOUND;
  switch (op) {
    case SQLITE_FCNTL_SYNC:
      return Told(file->BeginSync(argument != nullptr ? static_cast<const char*>(argument) : ""),
                  SQLITE_IOERR_FSYNC, "commit");
    case SQLITE_FCNTL_COMMIT_PHASETWO:
      return Told(file->EndCommit(), SQLITE_IOERR_FSYNC, "commit");
    case SQLITE_FCNTL_PRAGMA:
      return MainPragma(static_cast<char**>(argument));
    case SQLITE_FCNTL_VFSNAME:
      *static_cast<char**>(argument) = sqlite3_mprintf("untorn");
      return SQLITE_OK;
    case SQLITE_FCNTL_LOCKSTATE:
      *static_cast<int*>(argument) = file->level();
      return SQLITE_OK;
    default:
      return SQLITE_NOTFOUND;
  }
}

int SectorSize(sqlite3_file*) { return 512; }
// A page that is written leaves its neighbours alone: with it, SQLite does not drag them into the journal.
int Characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

constexpr sqlite3_io_methods kMainMethods = {
    1,        MainClose,  MainRead,          MainWrite,   MainTruncate, MainSync,       MainSize,
    MainLock, MainUnlock, MainCheckReserved, MainControl, SectorSize,   Characteristics};

// ---- Journals ----

struct JournalFile {
  sqlite3_file base;
  std::shared_ptr<Journal> journal;
  std::string name;
  bool super = false;
  bool owner = false;
};
JournalFile& AsJournal(sqlite3_file* f) { return *reinterpret_cast<JournalFile*>(f); }

int JournalClose(sqlite3_file* f) {
  AsJournal(f).~JournalFile();
  return SQLITE_OK;
}

int JournalRead(sqlite3_file* f, void* out, int n, sqlite3_int64 offset) {
  return ToldRead(AsJournal(f).journal->Read(offset, out, n, AsJournal(f).owner), out, n, "journal");
}

// When its beginning changes after pages were synced, the transaction is over. If that fails the journal stays as it is, and
// is played back.
int Finalize(sqlite3_file* f, int rc) {
  return Told(DatabaseFile::CommitReady(AsJournal(f).name), rc, "commit");
}

int JournalWrite(sqlite3_file* f, const void* data, int n, sqlite3_int64 offset) {
  // A super-journal gets the names of the journals, one at a time. One that is not ours would outlive a crash that this
  // does not, and then be taken for one of a finished transaction.
  if (AsJournal(f).super &&
      !DatabaseFile::AnyHasJournal(std::string_view(static_cast<const char*>(data), n - 1))) {
    return Told(absl::FailedPreconditionError(
                    "a transaction that also changes databases of another VFS cannot be atomic"),
                SQLITE_IOERR_WRITE, "super-journal");
  }
  if (offset == 0) {
    if (const int rc = Finalize(f, SQLITE_IOERR_WRITE); rc != SQLITE_OK) return rc;
  }
  return Told(AsJournal(f).journal->Write(offset, data, n), SQLITE_IOERR_WRITE, "journal");
}

int JournalTruncate(sqlite3_file* f, sqlite3_int64 bytes) {
  if (bytes == 0) {
    if (const int rc = Finalize(f, SQLITE_IOERR_TRUNCATE); rc != SQLITE_OK) return rc;
  }
  return Told(AsJournal(f).journal->Truncate(bytes), SQLITE_IOERR_TRUNCATE, "journal");
}

int JournalSync(sqlite3_file* f, int) {
  AsJournal(f).journal->Sync();
  return SQLITE_OK;
}

int JournalSize(sqlite3_file* f, sqlite3_int64* bytes) {
  *bytes = static_cast<sqlite3_int64>(AsJournal(f).journal->size());
  return SQLITE_OK;
}

int JournalLock(sqlite3_file*, int) { return SQLITE_OK; }
int JournalCheckReserved(sqlite3_file*, int* reserved) {
  *reserved = 0;
  return SQLITE_OK;
}
int JournalControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }

constexpr sqlite3_io_methods kJournalMethods = {1,
                                                JournalClose,
                                                JournalRead,
                                                JournalWrite,
                                                JournalTruncate,
                                                JournalSync,
                                                JournalSize,
                                                JournalLock,
                                                JournalLock,
                                                JournalCheckReserved,
                                                JournalControl,
                                                SectorSize,
                                                Characteristics};

// ---- The VFS ----

// A full name is the store's path, a slash, and the database's name: unique in the process, as SQLite needs it.
std::string NameInStore(std::string_view full_name, std::string_view store_path) {
  return std::string(full_name.substr(std::min(full_name.size(), store_path.size() + 1)));
}

absl::StatusOr<std::string> StorePath(const char* name) {
  const char* store = sqlite3_uri_parameter(name, "store");
  if (store == nullptr || *store == '\0') {
    return absl::InvalidArgumentError(
        absl::StrCat("'", name, "' names no store: open 'file:NAME?vfs=untorn&store=PATH'"));
  }
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::weakly_canonical(store, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(store, ": ", error.message()));
  return canonical.string();
}

// The parameter of this key; `otherwise` if there is none.
absl::StatusOr<uint64_t> NumberOf(const char* name, const char* key, uint64_t otherwise) {
  const char* text = sqlite3_uri_parameter(name, key);
  uint64_t number;
  if (text == nullptr) return otherwise;
  if (absl::SimpleAtoi(text, &number)) return number;
  return absl::InvalidArgumentError(absl::StrCat(key, "=", text, ": not a number"));
}

bool IsSuperJournal(std::string_view name) {
  // "-mj", nine digits of base 16 (sqlite3 vdbeaux.c)
  return name.size() > 12 && name.substr(name.size() - 12, 3) == "-mj" && !name.ends_with("-journal");
}
bool IsJournal(std::string_view name) { return name.ends_with("-journal") || IsSuperJournal(name); }

absl::StatusOr<DatabaseFile*> OpenMain(const char* name, int flags) {
  absl::StatusOr<std::string> store = StorePath(name);
  if (!store.ok()) return store.status();
  if (sqlite3_uri_boolean(name, "nolock", 0) != 0 || sqlite3_uri_boolean(name, "immutable", 0) != 0)
    return absl::InvalidArgumentError(absl::StrCat("'", name, "': nolock and immutable are not supported"));
  const std::string own = NameInStore(name, *store);
  if (IsJournal(own) || own.ends_with("-wal"))
    return absl::InvalidArgumentError(absl::StrCat("'", own, "': SQLite gives such names to journals"));
  OpenOptions options;
  const absl::StatusOr<uint64_t> mib = NumberOf(name, "store_cache_mib", options.cache_bytes >> 20),
                                 unit = NumberOf(name, "store_atomic_unit", 0);
  if (!mib.ok()) return mib.status();
  if (!unit.ok()) return unit.status();
  if (*mib < 4 || *mib > kStoreCacheMibMax)
    return absl::InvalidArgumentError(absl::StrCat("store_cache_mib=", *mib, ": 4 to ", kStoreCacheMibMax));
  options.cache_bytes = *mib << 20;
  options.stated_atomic_unit_bytes = *unit;
  absl::StatusOr<std::shared_ptr<Database>> database =
      Database::Open(*store, options, own, (flags & SQLITE_OPEN_CREATE) != 0);
  if (!database.ok()) return database.status();
  return new DatabaseFile(*std::move(database), absl::StrCat(name, "-journal"),
                          (flags & SQLITE_OPEN_READONLY) != 0);
}

int Open(sqlite3_vfs*, const char* name, sqlite3_file* f, int flags, int* flags_out) {
  constexpr int kTemporary =
      SQLITE_OPEN_TEMP_DB | SQLITE_OPEN_TRANSIENT_DB | SQLITE_OPEN_TEMP_JOURNAL | SQLITE_OPEN_SUBJOURNAL;
  f->pMethods = nullptr;
  if (name == nullptr || (flags & kTemporary) != 0)
    return default_vfs->xOpen(default_vfs, name, f, flags, flags_out);
  if (flags_out != nullptr) *flags_out = flags;
  if ((flags & SQLITE_OPEN_MAIN_DB) != 0) {
    const absl::StatusOr<DatabaseFile*> file = OpenMain(name, flags);
    if (!file.ok()) Told(file.status(), SQLITE_CANTOPEN, "open");
    Main(f).file = file.ok() ? *file : nullptr;
    Main(f).error = file.ok() ? nullptr : new std::string(file.status().message());
    f->pMethods = &kMainMethods;
    return SQLITE_OK;
  }
  if ((flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL)) == 0) {
    return Told(absl::FailedPreconditionError("only journal_mode=DELETE is supported, no write-ahead log"),
                SQLITE_CANTOPEN, name);
  }
  Journals& journals = Journals::Get();
  std::shared_ptr<Journal> journal =
      (flags & SQLITE_OPEN_CREATE) != 0 ? journals.FindOrCreate(name) : journals.Find(name);
  if (!journal) return SQLITE_CANTOPEN;
  auto* opened = new (f) JournalFile;
  opened->journal = std::move(journal);
  opened->name = name;
  opened->super = IsSuperJournal(name);
  // Journals of others are looked at under another flag (pager_delsuper).
  opened->owner = (flags & SQLITE_OPEN_MAIN_JOURNAL) != 0;
  f->pMethods = &kJournalMethods;
  return SQLITE_OK;
}

int Delete(sqlite3_vfs*, const char* name, int) {
  if (!Journals::Get().Find(name)) return SQLITE_IOERR_DELETE_NOENT;
  // It is kept if that fails: it is played back, and the journals of a super-journal only while that is there.
  const absl::Status committed =
      IsSuperJournal(name) ? DatabaseFile::CommitPrepared(name) : DatabaseFile::CommitReady(name);
  if (!committed.ok()) return Told(committed, SQLITE_IOERR_DELETE, "commit");
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
  const std::string full = store.ok() ? absl::StrCat(*store, "/", name) : name;
  if (full.size() >= static_cast<size_t>(bytes)) return SQLITE_CANTOPEN;
  std::memcpy(out, full.c_str(), full.size() + 1);
  return SQLITE_OK;
}

void* DlOpen(sqlite3_vfs*, const char* name) { return default_vfs->xDlOpen(default_vfs, name); }
void DlError(sqlite3_vfs*, int n, char* message) { default_vfs->xDlError(default_vfs, n, message); }
void (*DlSym(sqlite3_vfs*, void* library, const char* symbol))(void) {
  return default_vfs->xDlSym(default_vfs, library, symbol);
}
void DlClose(sqlite3_vfs*, void* library) { default_vfs->xDlClose(default_vfs, library); }
int Randomness(sqlite3_vfs*, int n, char* out) { return default_vfs->xRandomness(default_vfs, n, out); }
int Sleep(sqlite3_vfs*, int us) { return default_vfs->xSleep(default_vfs, us); }
int CurrentTime(sqlite3_vfs*, double* time) { return default_vfs->xCurrentTime(default_vfs, time); }
int LastError(sqlite3_vfs*, int, char*) { return 0; }
int CurrentTimeInt64(sqlite3_vfs*, sqlite3_int64* time) {
  return default_vfs->xCurrentTimeInt64(default_vfs, time);
}

// Called with every connection that is opened: fails where its database could not be, and says why.
int OnOpen(sqlite3* db, char** message, const sqlite3_api_routines*) {
  const std::string* error = nullptr;
  if (sqlite3_file_control(db, "main", kErrorOfOpen, &error) != SQLITE_OK || error == nullptr)
    return SQLITE_OK;
  *message = sqlite3_mprintf("untorn: %s", error->c_str());
  return SQLITE_CANTOPEN;
}

}  // namespace
}  // namespace untorn::sqlite

extern "C" int untorn_sqlite_register(int make_default) {
  using namespace untorn::sqlite;
  static sqlite3_vfs vfs;
  static std::mutex mu;
  std::lock_guard guard(mu);
  if (default_vfs == nullptr) {
    default_vfs = sqlite3_vfs_find(nullptr);
    if (default_vfs == nullptr) return SQLITE_ERROR;
    vfs.iVersion = 2;
    vfs.szOsFile = std::max<int>({sizeof(MainFile), sizeof(JournalFile), default_vfs->szOsFile});
    vfs.mxPathname = kPathMax;
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
  if (const int rc = sqlite3_vfs_register(&vfs, make_default); rc != SQLITE_OK) return rc;
  return sqlite3_auto_extension(reinterpret_cast<void (*)()>(OnOpen));
}
