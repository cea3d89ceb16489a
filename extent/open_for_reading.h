// Opens the device of a store for reading: alone, or under a lease beside a process that has the store open for writing.
#ifndef UNTORN_EXTENT_OPEN_FOR_READING_H_
#define UNTORN_EXTENT_OPEN_FOR_READING_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "device/device.h"
#include "device/file_device.h"
#include "extent/superblock.h"

namespace untorn {

struct ReadDevice {
  std::unique_ptr<Device> device;
  // The leased checkpoint, which has all that was durable at the call. nullopt: nobody has the store open for writing, and
  // nobody can open it so while the device is open.
  std::optional<Superblock> leased;
};

// Opens the device, and waits for a lease if there is an owner. The errors are those of OpenFileDevice, and:
//  kUnavailable  the owner has not answered for 30 seconds; or, with kBesideOwner, there is none
enum class ReadWhere { kAnywhere, kBesideOwner };
absl::StatusOr<ReadDevice> OpenForReading(const std::string& path, const FileDeviceOptions& options,
                                          ReadWhere where = ReadWhere::kAnywhere);

// Says whether the lease still holds.
//  kAborted  it has ended, so what was read lately says nothing
absl::Status CheckLease(Device& device);

}  // namespace untorn

#endif  // UNTORN_EXTENT_OPEN_FOR_READING_H_
