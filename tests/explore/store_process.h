// A store on a simulated disk, which ends as if its process were killed or its power cut.
#ifndef UNTORN_TESTS_EXPLORE_STORE_PROCESS_H_
#define UNTORN_TESTS_EXPLORE_STORE_PROCESS_H_

#include <memory>
#include <random>

#include "absl/status/statusor.h"
#include "sim/simulated_device.h"
#include "untorn/store.h"

namespace untorn {

class StoreProcess {
 public:
  // Opens without threads of the store's own.
  static absl::StatusOr<std::unique_ptr<StoreProcess>> Open(std::shared_ptr<SimulatedDisk> disk,
                                                            const SimulatedDeviceOptions& options,
                                                            const SimulatedFault* fault = nullptr);
  // As End by a kill, if it has not ended.
  ~StoreProcess();
  // Handles, transactions and drivers must be gone.
  void End(bool power_cut, std::mt19937_64& rng);

  Store& store() { return *store_; }
  SimulatedDevice& device() { return *device_; }
  const std::shared_ptr<SimulatedDisk>& disk() const { return disk_; }

 private:
  StoreProcess() = default;

  std::shared_ptr<SimulatedDisk> disk_;
  SimulatedDevice* device_ = nullptr;  // the store's
  std::unique_ptr<Store> store_;
};

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_STORE_PROCESS_H_
