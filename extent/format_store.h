// Making an empty store.
#ifndef UNTORN_EXTENT_FORMAT_STORE_H_
#define UNTORN_EXTENT_FORMAT_STORE_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "device/device.h"

namespace untorn {

// Writes an empty store over the device's first `size_bytes` (0: all of it). `prepare_all`: SpaceLedger::PrepareMore()
// will not be needed. Calls `progress` (which may be null) with the bytes written so far, and in all. A power cut
// leaves the new store, or none.
//  kInvalidArgument  the size is too small, too large, or larger than the device
absl::Status FormatStore(Device& device, uint64_t size_bytes, bool prepare_all,
                         const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace untorn

#endif  // UNTORN_EXTENT_FORMAT_STORE_H_
