// A file descriptor that closes itself.
#ifndef UNTORN_DEVICE_OPEN_FILE_H_
#define UNTORN_DEVICE_OPEN_FILE_H_

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <utility>

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
  // Ends the flock now. Closing the file is not enough if something else holds the same open file
  // description. A child process may do so, or a ring that the kernel has not taken down yet.
  void Unlock() const { flock(fd_, LOCK_UN); }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_OPEN_FILE_H_
