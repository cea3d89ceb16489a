// fsck, repair and dump of a store on a device that the caller has made. untorn/inspect.h says what each of them does.
#ifndef UNTORN_INSPECT_ON_DEVICE_H_
#define UNTORN_INSPECT_ON_DEVICE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "device/device.h"
#include "untorn/inspect.h"

namespace untorn {

absl::StatusOr<FsckResult> FsckDevice(Device& device, const FsckOptions& options = {});
absl::StatusOr<RepairResult> RepairDevice(Device& device, const RepairOptions& options);
absl::StatusOr<std::string> DumpJsonDevice(Device& device, const DumpOptions& options);

}  // namespace untorn

#endif  // UNTORN_INSPECT_ON_DEVICE_H_
