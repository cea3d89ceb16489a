#include "tools/sqlite_log.h"

#include <fcntl.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <system_error>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "inspect/printable.h"

namespace untorn::tools {
namespace {

constexpr off_t kSharedFirst = 0x40000002, kSharedBytes = 510;  // of sqlite3 os.h
constexpr size_t kWalHeaderBytes = 32;

enum class Log { kNone, kHotJournal, kWal };

// The first bytes of a file; fewer if it is shorter, none if there is none.
absl::StatusOr<std::string> Beginning(const std::string& path, size_t bytes) {
  absl::StatusOr<InputFile> file = InputFile::Open(path);
  if (absl::IsNotFound(file.status())) return std::string();
  if (!file.ok()) return file.status();
  std::string beginning(bytes, '\0');
  const absl::StatusOr<size_t> count =
      file->Read(std::as_writable_bytes(std::span(beginning.data(), beginning.size())));
  if (!count.ok()) return count.status();
  beginning.resize(*count);
  return beginning;
}

absl::StatusOr<Log> LogOf(const std::string& path) {
  const absl::StatusOr<std::string> journal = Beginning(path + "-journal", 1);
  if (!journal.ok()) return journal.status();
  // One that was finalized without being deleted begins with zeros, or is empty.
  if (!journal->empty() && journal->front() != '\0') return Log::kHotJournal;
  const absl::StatusOr<std::string> wal = Beginning(path + "-wal", kWalHeaderBytes + 1);
  if (!wal.ok()) return wal.status();
  const bool is_wal = wal->starts_with("\x37\x7f\x06\x82") || wal->starts_with("\x37\x7f\x06\x83");
  return is_wal && wal->size() > kWalHeaderBytes ? Log::kWal : Log::kNone;
}

}  // namespace

absl::Status CheckSqliteFileIsWhole(const std::string& path, const InputFile& input) {
  struct flock shared = {};
  shared.l_type = F_RDLCK;
  shared.l_whence = SEEK_SET;
  shared.l_start = kSharedFirst;
  shared.l_len = kSharedBytes;
  if (fcntl(input.fd(), F_OFD_SETLK, &shared) != 0 && (errno == EAGAIN || errno == EACCES))
    return absl::FailedPreconditionError(Printable(path) +
                                         " is being written to by SQLite in another process");
  // SQLite names them after the file that a link leads to.
  std::error_code error;
  const std::filesystem::path canonical = std::filesystem::canonical(path, error);
  const std::string database = error ? path : canonical.string(), name = Printable(database);
  const absl::StatusOr<Log> log = LogOf(database);
  if (!log.ok()) return log.status();
  if (*log == Log::kHotJournal) {
    return absl::FailedPreconditionError(absl::StrCat(
        name, " is a database of SQLite with a transaction that was cut short: without the hot journal ",
        name, "-journal it is damaged. Have SQLite roll it back first: sqlite3 ", name,
        " 'PRAGMA integrity_check'"));
  }
  if (*log == Log::kWal) {
    return absl::FailedPreconditionError(absl::StrCat(
        name, " is a database of SQLite with transactions that are in its write-ahead log only, ", name,
        "-wal. Have SQLite move them into the file first: sqlite3 ", name,
        " 'PRAGMA wal_checkpoint(TRUNCATE)'"));
  }
  return absl::OkStatus();
}

absl::Status CheckSqliteWouldLeaveAlone(const std::string& path) {
  const absl::StatusOr<Log> log = LogOf(path);
  if (!log.ok()) return log.status();
  if (*log == Log::kNone) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      Printable(path), *log == Log::kWal ? "-wal" : "-journal",
      " belongs to another database of this name, and SQLite would apply it to this one. Move it "
      "away, or write to another name"));
}

}  // namespace untorn::tools
