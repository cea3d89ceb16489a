// Opens a file or block device as a Device: io_uring with O_DIRECT where the system allows both, plain
// system calls (or buffered I/O) where it refuses, with the reason in DeviceInfo.
#ifndef UNTORN_DEVICE_FILE_DEVICE_H_
#define UNTORN_DEVICE_FILE_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "device/device.h"

namespace untorn {

struct FileDeviceOptions {
  bool read_only = false;
  // 0: what the kernel reports. Otherwise the operator's word that the device keeps every aligned
  // power-of-two write up to this size whole. A power of two, at least kBlockBytes, at most the largest
  // request of the queue. Needs O_DIRECT.
  uint64_t stated_unit_bytes = 0;
  bool use_io_uring = true;  // false: system calls (tests, and comparison)
  // How long to wait for the lock when the process that holds it is dead or dying: its requests may
  // still be on their way to the disk, and its open file description lives until they are done.
  int lock_wait_ms = 2000;
};

// Opens `path` and locks it: exclusively for writing, shared for reading only. The lock (flock) is on the
// open file description that does the I/O, so it is held until the last request of a killed owner is done.
//  kNotFound             no such file
//  kPermissionDenied     not allowed; or read-only file opened for writing
//  kFailedPrecondition   locked by another process: "open for writing by process N"
//  kInvalidArgument      neither a regular file nor a block device; stated unit not usable here
absl::StatusOr<std::unique_ptr<Device>> OpenFileDevice(const std::string& path,
                                                       const FileDeviceOptions& options);

// Creates an empty sparse regular file of `size_bytes`. kAlreadyExists if there is one.
absl::Status CreateStoreFile(const std::string& path, uint64_t size_bytes);
// Renames `from` to `to`, replacing it, durably.
absl::Status ReplaceStoreFile(const std::string& from, const std::string& to);

// What already lives on `path` ("ext4 file system", "GPT partition table"), by libblkid's low-level probe;
// empty if nothing is recognised.
absl::StatusOr<std::string> ProbeForeignContent(const std::string& path);

}  // namespace untorn

#endif  // UNTORN_DEVICE_FILE_DEVICE_H_
