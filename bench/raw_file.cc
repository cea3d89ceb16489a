#include "bench/raw_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"

namespace untorn::bench {

absl::Status IoError(const std::string& what, ssize_t result) {
  if (result >= 0) return absl::InternalError(absl::StrCat(what, ": ended after ", result, " bytes"));
  return absl::ErrnoToStatus(static_cast<int>(-result), what);
}

RawFile::~RawFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status RawFile::Open(const std::string& path, uint64_t bytes) {
  fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
  if (fd_ < 0) return absl::ErrnoToStatus(errno, path);
  const uint64_t there = std::max<off_t>(0, lseek(fd_, 0, SEEK_END));
  AlignedBuffer zeros(1 << 20);
  std::memset(zeros.data(), 0, zeros.size());
  for (uint64_t at = there; at < bytes; at += zeros.size()) {
    const ssize_t n = pwrite(fd_, zeros.data(), std::min<uint64_t>(zeros.size(), bytes - at), at);
    if (n <= 0) return IoError(path, n < 0 ? -errno : n);
  }
  return fdatasync(fd_) == 0 ? absl::OkStatus() : absl::ErrnoToStatus(errno, path);
}

absl::Status RawFile::Read(uint64_t offset, std::byte* out, uint64_t bytes) const {
  AlignedBuffer aligned(bytes);
  const ssize_t n = pread(fd_, aligned.data(), bytes, offset);
  if (n != static_cast<ssize_t>(bytes)) return IoError("read", n < 0 ? -errno : n);
  std::memcpy(out, aligned.data(), bytes);
  return absl::OkStatus();
}

}  // namespace untorn::bench
