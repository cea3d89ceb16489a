// The two kinds of files that the VFS opens: SQLite's calls of their methods, in terms of DatabaseFile and Journal.
#ifndef UNTORN_INTEGRATIONS_SQLITE_VFS_FILES_H_
#define UNTORN_INTEGRATIONS_SQLITE_VFS_FILES_H_

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "integrations/sqlite/api.h"

namespace untorn::sqlite {

// The result code of a call: `rc` of an error if there is nothing closer. SQLite's log gets the message.
int Told(const absl::Status& status, int rc, std::string_view what);
// What SQLite expects of a read: what is not there as zeros, and to be told.
int ToldRead(const absl::StatusOr<size_t>& got, void* out, size_t n, std::string_view what);

// xOpen of a database, and of a journal or super-journal. `name` is a full name, with the parameters of the URI behind it.
// A database that cannot be opened is told by ErrorOfOpen(): xOpen has no way to.
int OpenDatabase(const char* name, sqlite3_file* f, int flags);
int OpenJournal(const char* name, sqlite3_file* f, int flags);
int DatabaseFileBytes();
int JournalFileBytes();

// Why the main database of a connection could not be opened: nullptr if it could be, or is of another VFS.
const char* ErrorOfOpen(sqlite3* db);

// Of files of both kinds.
int SectorSize(sqlite3_file*);
int Characteristics(sqlite3_file*);

}  // namespace untorn::sqlite

#endif  // UNTORN_INTEGRATIONS_SQLITE_VFS_FILES_H_
