#include "store/stats_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

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
constexpr char kEnding[] = ".stats";

absl::Status NoStatistics(const std::string& path) {
  return absl::AlreadyExistsError(
      absl::StrCat(path, ": it has no statistics of a store; give it another name"));
}

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
  path_ = absl::StrCat(store_, kEnding);
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
  std::string page(std::min<uint64_t>(st.st_size, kPageBytesMax), '\0');
  const ssize_t n = S_ISREG(st.st_mode) ? read(file.fd(), page.data(), page.size()) : 0;
  if (n < 0) return ErrnoError(errno, path_, "cannot be read");
  page.resize(static_cast<size_t>(n));
  return absl::StartsWith(page, kBeginning) ? absl::StatusOr<std::string>(std::move(page))
                                            : NoStatistics(path_);
}

// The directory of the file, and the store's file in it. All that is done goes by the directory: another could take its place.
struct StatsFile::Place {
  OpenFile directory;
  std::string name;  // of the store in the directory
  struct stat store;
};

absl::StatusOr<StatsFile::Place> StatsFile::FindPlace() const {
  const std::filesystem::path path(store_);
  Place place{
      OpenFile(open(path.parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), path.filename(), {}};
  if (!place.directory.is_open()) return ErrnoError(errno, path_, "cannot be written");
  if (fstatat(place.directory.fd(), place.name.c_str(), &place.store, AT_SYMLINK_NOFOLLOW) != 0 ||
      place.store.st_dev != dev_ || place.store.st_ino != inode_) {
    return absl::FailedPreconditionError(absl::StrCat(
        store_, ": the store has another name now; statistics come again when the store is opened anew"));
  }
  return place;
}

// Fails if something else has the name. A power cut may leave an empty file.
absl::Status StatsFile::CheckReplaceable(const Place& place) const {
  struct stat st;
  const std::string name = place.name + kEnding;
  if (fstatat(place.directory.fd(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
    return errno == ENOENT ? absl::OkStatus() : ErrnoError(errno, path_, "cannot be read");
  if (S_ISLNK(st.st_mode))
    return absl::AlreadyExistsError(absl::StrCat(path_, ": it is a symbolic link; remove it"));
  if (S_ISREG(st.st_mode) && st.st_size == 0) return absl::OkStatus();
  const OpenFile file(
      openat(place.directory.fd(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file.is_open()) return ErrnoError(errno, path_, "cannot be read");
  char beginning[sizeof(kBeginning) - 1];
  const ssize_t n = S_ISREG(st.st_mode) ? read(file.fd(), beginning, sizeof(beginning)) : 0;
  if (n < 0) return ErrnoError(errno, path_, "cannot be read");
  return std::string_view(beginning, static_cast<size_t>(n)) == kBeginning ? absl::OkStatus()
                                                                           : NoStatistics(path_);
}

absl::Status StatsFile::Write(const std::string& page) {
  ASSIGN_OR_RETURN(const Place place, FindPlace());
  RETURN_IF_ERROR(CheckReplaceable(place));
  const std::string name = place.name + kEnding;
  ASSIGN_OR_RETURN(const std::string fresh, FreshNameBeside(name));
  const int directory = place.directory.fd();
  const OpenFile file(
      openat(directory, fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.is_open()) return ErrnoError(errno, path_, "cannot be written");
  absl::Status status = WriteAll(file.fd(), page, path_);
  if (status.ok()) status = GivePermissions(file.fd(), place.store, path_);
  if (status.ok() && renameat(directory, fresh.c_str(), directory, name.c_str()) != 0)
    status = ErrnoError(errno, path_, "cannot be replaced");
  if (!status.ok()) unlinkat(directory, fresh.c_str(), 0);
  return status;
}

void StatsFile::Remove() {
  const absl::StatusOr<Place> place = FindPlace();
  if (place.ok() && CheckReplaceable(*place).ok())
    unlinkat(place->directory.fd(), (place->name + kEnding).c_str(), 0);
}

}  // namespace untorn::internal
