// The names of a database.
//   in the store   "app.db": what the application gives, without its "." and ".." parts
//   full           "/srv/app.untorn:app.db": what SQLite takes for the path, and what is unique in the process. '%' and ':'
//                  of the store's path are written as %25 and %3a
//   of journals    the full name, and an ending
// A full name is a path at which a file can be made, beside the store, unless the name in the store has a '/' in it, or the
// store's directory a '%' or ':'.
#ifndef UNTORN_INTEGRATIONS_SQLITE_NAMES_H_
#define UNTORN_INTEGRATIONS_SQLITE_NAMES_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace untorn::sqlite {

// SQLite reads the name of a super-journal into one page, which may be as small as this (pager_playback).
inline constexpr int kFullNameMax = 500;

// The canonical path of the store of a database, whose name SQLite has passed: that of the parameter "store", or else of
// the variable UNTORN_STORE.
//  kInvalidArgument     there is neither, or it leads nowhere
absl::StatusOr<std::string> StorePath(const char* uri_name);

// `name` may be a full name.
std::string FullName(std::string_view store_path, std::string_view name);
std::string NameInStore(std::string_view store_path, std::string_view full_name);
std::string StoreOf(std::string_view full_name);  // its path

std::string JournalName(std::string_view full_name);
std::string DatabaseOf(std::string_view journal_name);  // also of other VFSes
bool IsSuperJournal(std::string_view name);
bool IsJournal(std::string_view name);  // or a super-journal
// The full name of the main database of the transaction.
std::string_view MainOfSuperJournal(std::string_view name);

}  // namespace untorn::sqlite

#endif  // UNTORN_INTEGRATIONS_SQLITE_NAMES_H_
