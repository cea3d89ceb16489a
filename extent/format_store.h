// Makes an empty store.
#ifndef UNTORN_EXTENT_FORMAT_STORE_H_
#define UNTORN_EXTENT_FORMAT_STORE_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "device/device.h"

namespace untorn {

// Writes an empty store over the first `size_bytes` of the device. A size of 0 means the whole device. With
// `prepare_all`, SpaceLedger::PrepareMore() will not be needed. Calls `progress`, which may be null, with
// the bytes written so far and the bytes in all. A power cut leaves the new store or none. Before the first
// flush, a power cut may also leave the store that was there before.
//  kInvalidArgument  the size is too small, too large, or larger than the device
absl::Status FormatStore(Device& device, uint64_t size_bytes, bool prepare_all,
                         const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace untorn

#endif  // UNTORN_EXTENT_FORMAT_STORE_H_
