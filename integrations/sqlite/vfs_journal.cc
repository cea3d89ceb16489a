// Journals and super-journals, as SQLite calls them.
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "integrations/sqlite/database_file.h"
#include "integrations/sqlite/journal.h"
#include "integrations/sqlite/names.h"
#include "integrations/sqlite/super_journal.h"
#include "integrations/sqlite/vfs_files.h"

namespace untorn::sqlite {
namespace {

struct JournalFile {
  sqlite3_file base;
  std::shared_ptr<Journal> journal;
  std::string name;
  std::unique_ptr<SuperJournal> super;  // if it is one
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
  JournalFile& file = AsJournal(f);
  if (file.super) {  // the name of a journal and a zero
    const std::string_view journal(static_cast<const char*>(data), n - 1);
    const absl::Status added = file.super->Add(journal);
    if (file.super->has_file()) file.journal->SetHasFile();
    if (const int rc = Told(added, SQLITE_IOERR_WRITE, "super-journal"); rc != SQLITE_OK) return rc;
  }
  if (offset == 0) {
    if (const int rc = Finalize(f, SQLITE_IOERR_WRITE); rc != SQLITE_OK) return rc;
  }
  return Told(file.journal->Write(offset, data, n), SQLITE_IOERR_WRITE, "journal");
}

int JournalTruncate(sqlite3_file* f, sqlite3_int64 bytes) {
  if (bytes == 0) {
    if (const int rc = Finalize(f, SQLITE_IOERR_TRUNCATE); rc != SQLITE_OK) return rc;
  }
  return Told(AsJournal(f).journal->Truncate(bytes), SQLITE_IOERR_TRUNCATE, "journal");
}

int JournalSync(sqlite3_file* f, int) {
  JournalFile& file = AsJournal(f);
  file.journal->Sync();
  return file.super ? Told(file.super->Sync(), SQLITE_IOERR_FSYNC, "super-journal") : SQLITE_OK;
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

}  // namespace

int OpenJournal(const char* name, sqlite3_file* f, int flags) {
  Journals& journals = Journals::Get();
  const bool create = (flags & SQLITE_OPEN_CREATE) != 0;
  std::shared_ptr<Journal> journal = create ? journals.FindOrCreate(name) : journals.Find(name);
  if (!journal) return SQLITE_CANTOPEN;
  auto* opened = new (f) JournalFile;
  opened->journal = std::move(journal);
  opened->name = name;
  if (create && IsSuperJournal(name)) opened->super = std::make_unique<SuperJournal>(name);
  // Journals of others are looked at under another flag (pager_delsuper).
  opened->owner = (flags & SQLITE_OPEN_MAIN_JOURNAL) != 0;
  f->pMethods = &kJournalMethods;
  return SQLITE_OK;
}

int JournalFileBytes() { return sizeof(JournalFile); }

}  // namespace untorn::sqlite
