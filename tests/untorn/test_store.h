// What the tests of the public API share: a store on a simulated disk that can be killed, cut off and
// reopened, and is checked by fsck at every turn.
#ifndef UNTORN_TESTS_UNTORN_TEST_STORE_H_
#define UNTORN_TESTS_UNTORN_TEST_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "sim/simulated_device.h"
#include "tests/inspect/fsck_findings.h"
#include "tests/untorn/cut_device.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {

// Reads exactly `length` bytes, or fails the test.
std::vector<std::byte> ReadAll(const Object& object, uint64_t offset, size_t length);

// Everything an application can see of a store: names, sizes, contents.
std::map<std::string, std::vector<std::byte>> Contents(Store& store);

inline AtomicLimits HardwareUnit(uint32_t min_bytes, uint32_t max_bytes, uint32_t boundary_bytes = 0) {
  return {AtomicSource::kHardware, min_bytes, max_bytes, boundary_bytes};
}

struct TestStoreOptions {
  uint64_t size_bytes = 32 << 20;
  uint64_t seed = 1;
  AtomicLimits atomic;  // none by default
  int refuse_atomic_per_mille = 0;
  bool needs_preparing = false;
  // Is the most that the store may take, if it is not the size of the disk. The disk is then a file that grows.
  uint64_t limit_bytes = 0;
  bool shuffle = true;
  bool background = false;
  OpenOptions open = {.cache_bytes = 4 << 20};
};

// A file that may become `size_bytes` long, and a store in it that may take `limit_bytes`.
inline TestStoreOptions InAFile(uint64_t size_bytes, uint64_t limit_bytes) {
  return {.size_bytes = size_bytes, .limit_bytes = limit_bytes};
}

class TestStore {
 public:
  // Creates a store and opens it; fails the test if that does not work.
  explicit TestStore(const TestStoreOptions& options);
  // Ends as after a kill: nothing is written.
  ~TestStore();

  Store* operator->() { return store_.get(); }
  Store& operator*() { return *store_; }
  bool is_open() const { return store_ != nullptr; }

  absl::Status Open() { return Open(options_.open, 0); }
  // The power goes at event `cut_after` of the device (0: not).
  absl::Status Open(const OpenOptions& open, uint64_t cut_after);
  // Closes, runs fsck and fails the test on a finding.
  absl::Status Close();
  // The process dies, now; with Crash the power goes too. Handles and transactions must be gone.
  void Kill();
  void Crash(int keep_per_mille = 500);
  // As each of these, then opens again.
  void KillAndOpen();
  void CrashAndOpen(int keep_per_mille = 500);
  void CloseAndOpen();

  // What fsck finds on the disk while the store is closed: "" if all is well.
  std::string Fsck() const { return FsckFindings(*disk_); }

  // Those of the current open.
  CutDevice& device() { return *device_; }
  const DeviceCounts& counts() { return device_->simulated().counts(); }
  std::shared_ptr<SimulatedDisk> disk() { return disk_; }
  std::mt19937_64& rng() { return rng_; }
  const TestStoreOptions& options() const { return options_; }
  std::unique_ptr<CutDevice> NewDevice(const std::shared_ptr<SimulatedDisk>& disk);

 private:
  TestStoreOptions options_;
  std::mt19937_64 rng_;
  std::shared_ptr<SimulatedDisk> disk_;
  CutDevice* device_ = nullptr;  // the store's, until that lets go of it
  std::unique_ptr<Store> store_;
};

}  // namespace untorn

#endif  // UNTORN_TESTS_UNTORN_TEST_STORE_H_
