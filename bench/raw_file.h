// A file of which every block has been written, opened for direct I/O.
#ifndef UNTORN_BENCH_RAW_FILE_H_
#define UNTORN_BENCH_RAW_FILE_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace untorn::bench {

// `result`: what a call returned, -errno for an error; less than was asked for.
absl::Status IoError(const std::string& what, ssize_t result);

class RawFile {
 public:
  RawFile() = default;
  RawFile(const RawFile&) = delete;
  ~RawFile();
  int fd() const { return fd_; }

  absl::Status Open(const std::string& path, uint64_t bytes);
  absl::Status Read(uint64_t offset, std::byte* out, uint64_t bytes) const;

 private:
  int fd_ = -1;
};

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_RAW_FILE_H_
