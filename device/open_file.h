// A file descriptor that closes itself, and the locks on its bytes.
#ifndef UNTORN_DEVICE_OPEN_FILE_H_
#define UNTORN_DEVICE_OPEN_FILE_H_

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace untorn {

class OpenFile {
 public:
  OpenFile() = default;
  // Takes over `fd` (-1: none). Moves it to a number above those of the standard streams. Otherwise, in a
  // process that runs with a standard stream closed, whatever the process prints could land in the file.
  explicit OpenFile(int fd) : fd_(fd) {
    if (fd < 0 || fd > STDERR_FILENO) return;
    fd_ = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    close(fd);
  }
  OpenFile(OpenFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OpenFile& operator=(OpenFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }

  int fd() const { return fd_; }
  // Ends the locks on bytes and the flock now, in this order. Closing the file is not enough if something else holds the
  // same open file description. A child process may do so, or a ring that the kernel has not taken down yet.
  void Unlock() const;
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

inline struct flock LockOnBytes(uint64_t first, uint64_t count, short kind) {
  struct flock lock = {};
  lock.l_type = kind;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(first);
  lock.l_len = static_cast<off_t>(count);
  return lock;
}

// Sets or ends an open file description lock, of the kinds F_RDLCK, F_WRLCK and F_UNLCK. Does not wait. A count of 0 stands
// for all bytes behind. Returns 0 or an errno.
inline int LockBytes(int fd, uint64_t first, uint64_t count, short kind) {
  struct flock lock = LockOnBytes(first, count, kind);
  return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

inline void OpenFile::Unlock() const {
  LockBytes(fd_, 0, 0, F_UNLCK);
  flock(fd_, LOCK_UN);
}

// Returns a byte of [first, first + count) that another open file description has locked.
inline absl::StatusOr<std::optional<uint64_t>> FindLockedByte(int fd, uint64_t first, uint64_t count,
                                                              bool exclusively) {
  struct flock lock = LockOnBytes(first, count, exclusively ? F_RDLCK : F_WRLCK);  // what would conflict
  if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return absl::ErrnoToStatus(errno, "locks on bytes cannot be read");
  if (lock.l_type == F_UNLCK) return std::optional<uint64_t>();
  return std::max(first, static_cast<uint64_t>(lock.l_start));
}

}  // namespace untorn

#endif  // UNTORN_DEVICE_OPEN_FILE_H_
