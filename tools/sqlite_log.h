// What SQLite may have left beside a database file: without it the file is not the database, and another file under that
// name would be changed by it. https://www.sqlite.org/fileformat2.html, 3 and 4.
#ifndef UNTORN_TOOLS_SQLITE_LOG_H_
#define UNTORN_TOOLS_SQLITE_LOG_H_

#include <string>

#include "absl/status/status.h"

namespace untorn::tools {

// kFailedPrecondition: `path` has a hot rollback journal, or a write-ahead log with transactions, beside it.
absl::Status CheckSqliteFileIsWhole(const std::string& path);
absl::Status CheckSqliteWouldLeaveAlone(const std::string& path);

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_SQLITE_LOG_H_
