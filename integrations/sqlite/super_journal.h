// The super-journal of a transaction that may have changed several databases. SQLite makes it with the VFS of the main
// database, writes the names of all journals into it, writes the databases, and deletes it: that is the commit
// (vdbeCommit() in src/vdbeaux.c). BEGIN IMMEDIATE makes every attached database a part of the transaction, also one that is
// not changed. Databases of other VFSes and of other stores cannot commit at one point with those of a store.
//
//   changed          main is of this VFS                   main is of another VFS
//   ours only        the super-journal is in memory, and   when the last of ours is ready, all of ours commit: no other has
//                    its deletion is our commit            a journal to be finalized
//   others only      it is a file beside the store, as     we are not asked
//                    their journals name it: a crash
//                    rolls them back while it is there
//   both             refused when SQLite writes the        refused when the first of ours is ready; SQLite rolls the
//                    names, before anything else           others back
//
// Crash states. Ours alone: one transaction of the store. Others alone: those of SQLite. Both: before the refusal, the others
// have what SQLite writes before a commit, and a crash rolls them back.
//
// Not seen are databases that commit by themselves on any VFS (WAL, MEMORY, OFF, in memory), and a database that is only
// locked and that SQLite vacuums within the commit, at the wish of sqlite3_autovacuum_pages().
#ifndef UNTORN_INTEGRATIONS_SQLITE_SUPER_JOURNAL_H_
#define UNTORN_INTEGRATIONS_SQLITE_SUPER_JOURNAL_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "integrations/sqlite/plain_file.h"

namespace untorn::sqlite {

// Which databases a transaction has changed, of those whose journals were added.
class ChangedDatabases {
 public:
  //  kUnimplemented       it has changed databases of both kinds
  absl::Status Add(std::string_view journal);
  bool others() const { return !last_of_others_.empty(); }
  const std::string& last_of_ours() const {
    return last_of_ours_;
  }  // the name of its journal; empty: there is none

 private:
  std::string last_of_ours_, last_of_others_;
};

// One that SQLite makes by this VFS.
class SuperJournal {
 public:
  // `name`: as SQLite passes it to xOpen, and valid as long as the object.
  explicit SuperJournal(const char* name) : name_(name) {}

  // The errors of ChangedDatabases and of the file.
  absl::Status Add(std::string_view journal);
  absl::Status Sync();
  bool has_file() const { return file_ != nullptr; }

 private:
  const char* const name_;
  std::string content_;
  ChangedDatabases changed_;
  std::unique_ptr<PlainFile> file_;  // if others have changes
};

// What is in one that another VFS has made.
absl::StatusOr<std::string> ReadSuperJournal(const std::string& name);
absl::StatusOr<ChangedDatabases> ChangedIn(std::string_view content);

}  // namespace untorn::sqlite

#endif  // UNTORN_INTEGRATIONS_SQLITE_SUPER_JOURNAL_H_
