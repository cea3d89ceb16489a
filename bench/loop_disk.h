// A file system in a file, mounted through a loop device: for one that the machine does not have, or for a disk that is
// as fast as memory.
#ifndef UNTORN_BENCH_LOOP_DISK_H_
#define UNTORN_BENCH_LOOP_DISK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace untorn::bench {

class LoopDisk {
 public:
  // Makes a sparse file of this size (as of truncate: "3G"), a file system in it by the command `mkfs`, and mounts it
  // at `mounted`, which is made. Direct I/O goes to the file directly. Only root can do that.
  //  kPermissionDenied   the process is not root's
  //  kFailedPrecondition a command has failed, and has said why
  static absl::StatusOr<std::unique_ptr<LoopDisk>> Make(const std::string& image, const std::string& size,
                                                        const std::string& mkfs, const std::string& mounted);
  // Unmounts it. The file goes with it.
  ~LoopDisk();
  LoopDisk(const LoopDisk&) = delete;

 private:
  explicit LoopDisk(std::string mounted) : mounted_(std::move(mounted)) {}
  const std::string mounted_;
};

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_LOOP_DISK_H_
