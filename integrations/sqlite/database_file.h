// One connection's handle of a database. It stages what SQLite writes in a transaction of the store, and finds out from
// what SQLite calls when to commit that and when to drop it.
//
// How a transaction of SQLite (3.40, journal_mode=DELETE) maps, by src/pager.c and vdbeCommit() in src/vdbeaux.c
//   begin         the first xWrite or xTruncate; spills of its page cache included
//   commit        SQLITE_FCNTL_SYNC without a super-journal, then xSync: ready, to become durable. With synchronous=OFF,
//                 where the journal was not synced, there is no xSync: ready, buffered. It is committed when SQLite
//                 finalizes its journal: deletes it, or overwrites its beginning (locking_mode=EXCLUSIVE). Until then
//                 SQLite may roll back, because another database of the transaction fails.
//   several       SQLITE_FCNTL_SYNC with the name of a super-journal: prepared; deleting the super-journal commits all
//   files         that are prepared for it in one transaction. See super_journal.h for files of other VFSes.
//   rollback      SQLite plays its journal back, on top of what is staged, and calls xSync. A commit writes and syncs the
//                 journal before it writes pages, and rollback reads it last: so if it was read last, what is staged is
//                 dropped. With synchronous=OFF that cannot be told from a commit after a savepoint was rolled back, and
//                 what was played back is committed: pages as they were, but for free ones. Unlocking and closing drop
//                 what is staged too, and giving up the journal with it: it has nothing to restore.
//   zeros         what SQLite overwrites with zeros becomes a hole, and gives its space back
//   page 1        Every transaction of SQLite counts in it, so that caches are found to be stale. If nothing else of it
//                 changes it is not written: the counters are kept in memory, and put over what is read of it. They go
//                 back to an older value when the last handle is closed, and with it the last cache.
//   VACUUM        truncates after the commit, before SQLITE_FCNTL_COMMIT_PHASETWO; that goes to the object itself. If it
//                 is lost the database has unused pages at its end, which SQLite expects.
//
// Crash states. Nothing reaches the store before the commit, which is one transaction of the store: old or new.
//
// Threading: thread-safe. SQLite calls a handle from one thread at a time, but for the deletion of a super-journal, which in
// shared-cache mode does not wait for others that read.
#ifndef UNTORN_INTEGRATIONS_SQLITE_DATABASE_FILE_H_
#define UNTORN_INTEGRATIONS_SQLITE_DATABASE_FILE_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "integrations/sqlite/database.h"
#include "untorn/store.h"

namespace untorn::sqlite {

class Journal;

class DatabaseFile {
 public:
  DatabaseFile(std::shared_ptr<Database> database, std::string journal_name, bool read_only);
  ~DatabaseFile();
  DatabaseFile(const DatabaseFile&) = delete;
  // Whether a database that is open has its journal under this name.
  static bool AnyHasJournal(std::string_view name);

  absl::StatusOr<uint64_t> Size() const;
  // Returns how many bytes there were.
  absl::StatusOr<size_t> Read(uint64_t offset, std::span<std::byte> out) const;
  absl::Status Write(uint64_t offset, std::span<const std::byte> data);
  absl::Status Truncate(uint64_t bytes);

  // SQLITE_FCNTL_SYNC. `super_journal` empty: none.
  absl::Status BeginSync(const std::string& super_journal);
  absl::Status Sync();
  // SQLITE_FCNTL_COMMIT_PHASETWO
  absl::Status EndCommit();
  // This main journal is about to be finalized: commits what is ready.
  static absl::Status CommitReady(std::string_view journal);
  // Commits what is prepared for this super-journal. Whatever becomes of it, it is not prepared any more.
  static absl::Status CommitPrepared(const std::string& super_journal);

  bool failed() const { return database_->shared_store().failed(); }
  // kUnimplemented: this is a fork()ed child of the process that opened the file.
  absl::Status CheckProcess() const;
  absl::StatusOr<bool> Lock(Database::Level level);
  void Unlock(Database::Level level);
  Database::Level level() const { return level_; }
  bool Reserved() const { return database_->Reserved(); }

 private:
  bool IsOfParentProcess() const { return !database_->shared_store().CheckProcess().ok(); }

  enum class State {
    kIdle,
    kStaging,
    kReady,      // for its journal to be finalized
    kPrepared,   // for its super-journal to be deleted
    kCommitted,  // and SQLite is not done with it
  };
  // These with mu_ locked.
  absl::StatusOr<size_t> ReadLocked(uint64_t offset, std::span<std::byte> out) const;
  absl::Status Begin();
  absl::Status Commit();
  std::shared_ptr<Journal> FindJournal() const;  // in use, or null
  // This database is prepared for a super-journal of another VFS. mu_ is not locked.
  absl::Status CommitIfOthersAreUnchanged(const std::string& super_journal);
  // Later transactions, durable ones too, rely on buffered ones.
  static absl::Status CommitInOrder(Database& database, Transaction& transaction, Durability durability);
  void EndStaging(State next);
  // Says whether bytes [offset, end) may become a hole.
  bool NoteHole(uint64_t offset, uint64_t end);
  absl::StatusOr<bool> OnlyCountersChange(std::span<const std::byte> first_page);

  const std::shared_ptr<Database> database_;
  const std::string journal_name_;
  const bool read_only_;
  // Before the lock of all handles; of several handles in the order of their addresses.
  mutable std::mutex mu_;
  Database::Level level_ = Database::kNone;
  State state_ = State::kIdle;
  std::optional<Transaction> staged_;          // if kStaging, kReady or kPrepared
  Durability durability_ = Durability::kSync;  // if kReady or kPrepared
  // What is staged of page 1: all of it, or, without that, these counters. With it they are those to show after the commit,
  // where SQLite has to read page 1 again, since it has cached what marks a WAL in it.
  bool first_page_staged_ = false;
  std::optional<HeaderCounters> counters_;
  std::vector<std::byte> block_;
  int holes_ = 0;          // of `staged_`; adjacent ones count once
  uint64_t hole_end_ = 0;  // of the last one; 0 before the first
};

}  // namespace untorn::sqlite

#endif  // UNTORN_INTEGRATIONS_SQLITE_DATABASE_FILE_H_
