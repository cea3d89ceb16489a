// Databases, as SQLite calls them.
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "integrations/sqlite/database_file.h"
#include "integrations/sqlite/header.h"
#include "integrations/sqlite/names.h"
#include "integrations/sqlite/vfs_files.h"

namespace untorn::sqlite {
namespace {

constexpr uint64_t kStoreCacheMibMax = 1 << 20;

struct MainFile {
  sqlite3_file base;
  DatabaseFile* file;
  std::string* error;  // instead of it: why there is none
};
MainFile& Main(sqlite3_file* f) { return *reinterpret_cast<MainFile*>(f); }

int MainClose(sqlite3_file* f) {
  delete Main(f).file;
  delete Main(f).error;
  return SQLITE_OK;
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
  if (const int rc = Told(Main(f).file->CheckProcess(), SQLITE_IOERR_LOCK, "lock"); rc != SQLITE_OK)
    return rc;
  const absl::StatusOr<bool> locked = Main(f).file->Lock(static_cast<Database::Level>(level));
  if (!locked.ok()) {
    const bool later = absl::IsAborted(locked.status()) || absl::IsUnavailable(locked.status());
    return Told(locked.status(), later ? SQLITE_BUSY : SQLITE_IOERR_LOCK, "lock");
  }
  return *locked ? SQLITE_OK : SQLITE_BUSY;
}

int MainUnlock(sqlite3_file* f, int level) {
  if (Main(f).file != nullptr) Main(f).file->Unlock(static_cast<Database::Level>(level));
  return SQLITE_OK;
}

int MainCheckReserved(sqlite3_file* f, int* reserved) {
  *reserved = Main(f).file != nullptr && Main(f).file->Reserved();
  return SQLITE_OK;
}

// A mode other than DELETE becomes a question for the mode there is, as with every VFS that cannot give what is asked for
// (https://www.sqlite.org/pragma.html#pragma_journal_mode). SQLite takes a word that it does not know as such a question,
// so the word is changed: only that gives a row with SQLite's name for its column. Where main is on another VFS that one
// is asked instead, and DatabaseFile refuses what it cannot know to be right.
int MainPragma(char** arguments) {
  const char* const name = arguments[1];
  char* const mode = arguments[2];
  if (sqlite3_stricmp(name, "journal_mode") != 0 || mode == nullptr || *mode == '\0') return SQLITE_NOTFOUND;
  // SQLite takes a beginning of the word for it.
  if (sqlite3_strnicmp(mode, "delete", static_cast<int>(std::strlen(mode))) == 0) return SQLITE_NOTFOUND;
  sqlite3_log(SQLITE_NOTICE, "untorn: journal_mode stays delete, not %s: the journal is in memory", mode);
  *mode = '?';
  return SQLITE_NOTFOUND;
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
    case SQLITE_FCNTL_MMAP_SIZE:  // whatever is asked for, nothing is mapped
      *static_cast<sqlite3_int64*>(argument) = 0;
      return SQLITE_OK;
    case SQLITE_FCNTL_HAS_MOVED:
      *static_cast<int*>(argument) = 0;
      return SQLITE_OK;
    case SQLITE_FCNTL_POWERSAFE_OVERWRITE:
      *static_cast<int*>(argument) = 1;
      return SQLITE_OK;
    default:
      return SQLITE_NOTFOUND;
  }
}

constexpr sqlite3_io_methods kMainMethods = {
    1,        MainClose,  MainRead,          MainWrite,   MainTruncate, MainSync,       MainSize,
    MainLock, MainUnlock, MainCheckReserved, MainControl, SectorSize,   Characteristics};

// The parameter of this key; `otherwise` if there is none.
absl::StatusOr<uint64_t> NumberOf(const char* name, const char* key, uint64_t otherwise) {
  const char* text = sqlite3_uri_parameter(name, key);
  uint64_t number;
  if (text == nullptr) return otherwise;
  if (absl::SimpleAtoi(text, &number)) return number;
  return absl::InvalidArgumentError(absl::StrCat(key, "=", text, ": not a number"));
}

absl::StatusOr<DatabaseFile*> Open(const char* name, int flags) {
  absl::StatusOr<std::string> store = StorePath(name);
  if (!store.ok()) return store.status();
  if (sqlite3_uri_boolean(name, "nolock", 0) != 0)
    return absl::InvalidArgumentError(absl::StrCat("'", name, "': nolock is not supported"));
  const std::string own = NameInStore(*store, name);
  if (IsJournal(own) || own.ends_with("-wal"))
    return absl::InvalidArgumentError(absl::StrCat("'", own, "': SQLite gives such names to journals"));
  StoreOptions options;
  const absl::StatusOr<uint64_t> mib = NumberOf(name, "store_cache_mib", 0),
                                 unit = NumberOf(name, "store_atomic_unit", 0),
                                 size = NumberOf(name, "store_size", 0);
  for (const auto* number : {&mib, &unit, &size}) {
    if (!number->ok()) return number->status();
  }
  if (*mib != 0 && (*mib < 4 || *mib > kStoreCacheMibMax)) {
    return absl::InvalidArgumentError(absl::StrCat("store_cache_mib=", *mib, ": 4 to ", kStoreCacheMibMax,
                                                   ", or 0 for what fits the machine"));
  }
  options.open.cache_bytes = *mib << 20;
  options.open.stated_atomic_unit_bytes = *unit;
  options.create.size_bytes = *size;
  const bool create = (flags & SQLITE_OPEN_CREATE) != 0, read_only = (flags & SQLITE_OPEN_READONLY) != 0;
  options.only_reads = read_only;
  options.may_create = create && sqlite3_uri_boolean(name, "store_create", 1) != 0;
  const DatabaseUse use = create      ? DatabaseUse::kCreate
                          : read_only ? DatabaseUse::kRead
                                      : DatabaseUse::kWrite;
  absl::StatusOr<std::shared_ptr<Database>> database = Database::Open(*store, options, own, use);
  if (!database.ok()) return database.status();
  return new DatabaseFile(*std::move(database), JournalName(name), read_only);
}

}  // namespace

int OpenDatabase(const char* name, sqlite3_file* f, int flags) {
  const absl::StatusOr<DatabaseFile*> file = Open(name, flags);
  if (const int rc = Told(file.status(), SQLITE_CANTOPEN, "open"); rc != SQLITE_OK) {
    // Without locks SQLite would go on to read.
    if (sqlite3_uri_boolean(name, "nolock", 0) != 0 || sqlite3_uri_boolean(name, "immutable", 0) != 0)
      return rc;
  }
  Main(f).file = file.ok() ? *file : nullptr;
  Main(f).error = file.ok() ? nullptr : new std::string(file.status().message());
  f->pMethods = &kMainMethods;
  return SQLITE_OK;
}

int DatabaseFileBytes() { return sizeof(MainFile); }

const char* ErrorOfOpen(sqlite3* db) {
  const std::string* error = nullptr;
  if (sqlite3_file_control(db, "main", kErrorOfOpen, &error) != SQLITE_OK || error == nullptr) return nullptr;
  return error->c_str();
}

int SectorSize(sqlite3_file*) { return 512; }
// A page that is written leaves its neighbours alone: with it, SQLite does not drag them into the journal.
int Characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

}  // namespace untorn::sqlite
