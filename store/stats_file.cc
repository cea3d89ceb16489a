#include "store/stats_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "device/file_device.h"
#include "device/open_file.h"

namespace untorn::internal {
namespace {

// What a page of PrometheusText() begins with.
constexpr char kBeginning[] = "# HELP untorn_store_info ";
constexpr size_t kPageBytesMax = 1 << 20;

absl::Status ErrnoError(int error, const std::string& path, const char* what) {
  return absl::Status(absl::ErrnoToStatusCode(error),
                      absl::StrCat(path, ": ", what, ": ", std::generic_category().message(error)));
}

absl::Status WriteAll(int fd, const std::string& text, const std::string& path) {
  for (size_t at = 0; at < text.size();) {
    const ssize_t n = write(fd, text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return ErrnoError(n < 0 ? errno : EIO, path, "cannot be written");
    at += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

// Gives the file the owner and the permissions of the store, as far as this process may.
absl::Status GivePermissions(int fd, const struct stat& store, const std::string& path) {
  mode_t mode = store.st_mode & (S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH);
  if (fchown(fd, store.st_uid, store.st_gid) != 0 && fchown(fd, -1, store.st_gid) != 0) {
    // The group is another one.
    mode &= ~S_IRWXG;
  }
  return fchmod(fd, mode) == 0 ? absl::OkStatus() : ErrnoError(errno, path, "cannot be given permissions");
}

}  // namespace

StatsFile::StatsFile(const std::string& store) : store_(store) {
  std::error_code error;
  // The process may have another working directory later.
  if (const auto real = std::filesystem::canonical(store, error); !error) store_ = real.string();
  path_ = absl::StrCat(store_, ".stats");
  struct stat st;
  if (stat(store_.c_str(), &st) != 0) return;
  dev_ = st.st_dev;
  inode_ = st.st_ino;
}

absl::StatusOr<std::string> StatsFile::Read() const {
  const OpenFile file(open(path_.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.is_open()) return ErrnoError(errno, path_, "cannot be read");
  struct stat st;
  if (fstat(file.fd(), &st) != 0) return ErrnoError(errno, path_, "cannot be read");
  std::string page(kPageBytesMax, '\0');
  const ssize_t n = S_ISREG(st.st_mode) ? read(file.fd(), page.data(), page.size()) : 0;
  if (n < 0) return ErrnoError(errno, path_, "cannot be read");
  page.resize(static_cast<size_t>(n));
  if (!absl::StartsWith(page, kBeginning)) {
    return absl::AlreadyExistsError(
        absl::StrCat(path_, ": it has no statistics of a store; give it another name"));
  }
  return page;
}

absl::Status StatsFile::CheckReplaceable() const {
  const absl::Status found = Read().status();
  if (absl::IsNotFound(found)) return absl::OkStatus();
  // O_NOFOLLOW says so of a symbolic link.
  struct stat st;
  if (lstat(path_.c_str(), &st) == 0 && S_ISLNK(st.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(path_, ": it is a symbolic link; remove it"));
  }
  return found;
}

absl::Status StatsFile::Write(const std::string& page) {
  RETURN_IF_ERROR(CheckReplaceable());
  struct stat st;
  if (stat(store_.c_str(), &st) != 0 || st.st_dev != dev_ || st.st_ino != inode_) {
    return absl::FailedPreconditionError(absl::StrCat(
        store_, ": the store has another name now; statistics come again when the store is opened anew"));
  }
  ASSIGN_OR_RETURN(const std::string fresh, FreshNameBeside(path_));
  const OpenFile file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.is_open()) return ErrnoError(errno, path_, "cannot be written");
  absl::Status status = WriteAll(file.fd(), page, path_);
  if (status.ok()) status = GivePermissions(file.fd(), st, path_);
  if (status.ok() && rename(fresh.c_str(), path_.c_str()) != 0)
    status = ErrnoError(errno, path_, "cannot be replaced");
  if (!status.ok()) unlink(fresh.c_str());
  return status;
}

void StatsFile::Remove() {
  if (Read().ok()) unlink(path_.c_str());
}

}  // namespace untorn::internal
