// What SQLite may have beside a database file: without it the file is not the database, and another file of that name would
// be changed by it. https://www.sqlite.org/fileformat2.html, 3 and 4; locks: https://www.sqlite.org/lockingv3.html
#ifndef UNTORN_TOOLS_SQLITE_LOG_H_
#define UNTORN_TOOLS_SQLITE_LOG_H_

#include <string>

#include "absl/status/status.h"
#include "base/file_io.h"

namespace untorn::tools {

// kFailedPrecondition: `path` has a hot rollback journal, or a write-ahead log with transactions, beside it; or SQLite is writing
// to it. It does not, as long as `input`, which is `path`, is open.
absl::Status CheckSqliteFileIsWhole(const std::string& path, const InputFile& input);
// kFailedPrecondition: something beside `path`, where a file is to be made, would be applied to it.
absl::Status CheckSqliteWouldLeaveAlone(const std::string& path);

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_SQLITE_LOG_H_
