// Opens a file or block device as a Device. The device uses io_uring with O_DIRECT where the system allows
// both. Otherwise it uses system calls or buffered I/O, and DeviceInfo says why.
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
  // For reading only. An owner that lets others read beside it says so by a lock on one of `owner_bytes`. With kMay, the
  // device is opened beside such an owner, without a flock of its own (DeviceInfo::beside_owner), or alone. With kMust, it
  // is not opened alone (kUnavailable).
  enum class BesideOwner { kNever, kMay, kMust } beside_owner = BesideOwner::kNever;
  ByteRange owner_bytes;
  // With 0 the device goes by what the kernel reports. Otherwise this is the operator's word: the device
  // keeps every aligned write whole whose length is a power of two up to this size. The unit itself is a
  // power of two, at least kBlockBytes and at most the largest request of the disk's queue. It needs
  // O_DIRECT.
  uint64_t stated_unit_bytes = 0;
  bool use_io_uring = true;  // false: system calls, for tests and for comparison
  // How long to wait for a lock whose holder is dead or dying. The holder's requests may still be on their
  // way to the disk, and its lock lasts until they are done.
  int lock_wait_ms = 2000;
};

// Opens `path` and locks it: exclusively for writing, shared for reading only. The lock (flock) is on the
// open file description that does the I/O. So it outlives a killed owner until the owner's last request is
// done.
//  kNotFound             there is no such file
//  kPermissionDenied     the file's permissions do not allow it
//  kFailedPrecondition   another process has the lock: "open for writing by process N"
//  kUnavailable          with BesideOwner::kMust: there is no owner that lets others read
//  kInvalidArgument      `path` is no regular file and no block device, or the stated unit cannot be used
absl::StatusOr<std::unique_ptr<Device>> OpenFileDevice(const std::string& path,
                                                       const FileDeviceOptions& options);

// Creates an empty regular file, durably. kAlreadyExists: `path` exists.
absl::Status CreateStoreFile(const std::string& path);
// Returns the size of the file system that has or would have `path`, free or not.
absl::StatusOr<uint64_t> SizeOfFileSystem(const std::string& path);
// Returns a name beside `path` that nobody else uses: PATH.new-0123456789abcdef.
absl::StatusOr<std::string> FreshNameBeside(const std::string& path);
// Durably renames `from` to `to`. kAlreadyExists: there is a `to`; both stay.
absl::Status NameStoreFile(const std::string& from, const std::string& to);
// Durably renames `from` to `to`, which may exist.
absl::Status ReplaceStoreFile(const std::string& from, const std::string& to);

// Returns what `path` holds already, such as "ext4 file system" or "GPT partition table". libblkid's
// low-level probe finds it out. The result is empty if the probe recognises nothing.
absl::StatusOr<std::string> ProbeForeignContent(const std::string& path);

}  // namespace untorn

#endif  // UNTORN_DEVICE_FILE_DEVICE_H_
