#include "tests/explore/store_process.h"

#include <utility>

#include "store/on_device.h"

namespace untorn {

absl::StatusOr<std::unique_ptr<StoreProcess>> StoreProcess::Open(std::shared_ptr<SimulatedDisk> disk,
                                                                 const SimulatedDeviceOptions& options,
                                                                 const SimulatedFault* fault) {
  std::unique_ptr<StoreProcess> process(new StoreProcess);
  process->disk_ = disk;
  auto device = std::make_unique<SimulatedDevice>(std::move(disk), options);
  process->device_ = device.get();
  if (fault != nullptr) device->Inject(*fault);
  absl::StatusOr<std::unique_ptr<Store>> store =
      internal::OpenOnDevice(std::move(device), {.cache_bytes = 4 << 20}, false);
  if (!store.ok()) return store.status();
  process->store_ = *std::move(store);
  return process;
}

StoreProcess::~StoreProcess() {
  disk_->SetObserver(nullptr);
  std::mt19937_64 rng(1);
  if (store_ != nullptr) End(false, rng);
}

void StoreProcess::End(bool power_cut, std::mt19937_64& rng) {
  if (power_cut) {
    disk_->Crash(rng, rng() % 1001);
  } else {
    disk_->Kill(rng);
  }
  store_.reset();
}

}  // namespace untorn
