#include "tools/sqlite_log.h"

#include <array>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "tools/file_io.h"
#include "untorn/printable.h"

namespace untorn::tools {
namespace {

constexpr size_t kWalHeaderBytes = 32;

// The first bytes of a file; fewer if it is shorter, none if it cannot be read.
std::string Beginning(const std::string& path, size_t bytes) {
  absl::StatusOr<InputFile> file = InputFile::Open(path);
  if (!file.ok()) return "";
  std::string beginning(bytes, '\0');
  const absl::StatusOr<size_t> count =
      file->Read(std::span(reinterpret_cast<std::byte*>(beginning.data()), bytes));
  beginning.resize(count.ok() ? *count : 0);
  return beginning;
}

// A journal that was finalized without being deleted begins with zeros, or is empty.
bool HasHotJournal(const std::string& path) {
  const std::string beginning = Beginning(path + "-journal", 1);
  return !beginning.empty() && beginning[0] != '\0';
}

bool HasWal(const std::string& path) {
  const std::string beginning = Beginning(path + "-wal", kWalHeaderBytes + 1);
  return beginning.size() > kWalHeaderBytes &&
         (beginning.starts_with("\x37\x7f\x06\x82") || beginning.starts_with("\x37\x7f\x06\x83"));
}

}  // namespace

absl::Status CheckSqliteFileIsWhole(const std::string& path) {
  const std::string name = Printable(path);
  if (HasHotJournal(path)) {
    return absl::FailedPreconditionError(absl::StrCat(
        name, " is a database of SQLite with a transaction that was cut short: without the hot journal ",
        name, "-journal it is damaged. Have SQLite roll it back first: sqlite3 ", name,
        " 'PRAGMA integrity_check'"));
  }
  if (HasWal(path)) {
    return absl::FailedPreconditionError(absl::StrCat(
        name, " is a database of SQLite with transactions that are in its write-ahead log only, ", name,
        "-wal. Have SQLite move them into the file first: sqlite3 ", name,
        " 'PRAGMA wal_checkpoint(TRUNCATE)'"));
  }
  return absl::OkStatus();
}

absl::Status CheckSqliteWouldLeaveAlone(const std::string& path) {
  const char* log = HasHotJournal(path) ? "-journal" : HasWal(path) ? "-wal" : nullptr;
  if (log == nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(Printable(path), log,
                   " belongs to another database of this name, and SQLite would apply it to this "
                   "one. Move it away, or write to another name"));
}

}  // namespace untorn::tools
