// A store on a device that the caller has made, for tests, simulations and benchmarks.
#ifndef UNTORN_STORE_ON_DEVICE_H_
#define UNTORN_STORE_ON_DEVICE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "device/device.h"
#include "extent/open_for_reading.h"
#include "untorn/store.h"

namespace untorn::internal {

// Does what Store::Create does, on a device. Ignores options.force.
absl::Status CreateOnDevice(Device& device, const CreateOptions& options);
// Does what Store::Open does, on a device. If `background` is false, the store starts no thread: writeback and
// checkpoints run inside calls.
absl::StatusOr<std::unique_ptr<Store>> OpenOnDevice(std::unique_ptr<Device> device,
                                                    const OpenOptions& options, bool background = true);

// Opens the state of a store that is leased.
absl::StatusOr<std::unique_ptr<Store>> OpenLeasedOnDevice(ReadDevice leased, const OpenOptions& options);

}  // namespace untorn::internal

#endif  // UNTORN_STORE_ON_DEVICE_H_
