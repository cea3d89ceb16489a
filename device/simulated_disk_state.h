// The inside of a SimulatedDisk, which its devices share. Included by simulated_disk.cc and
// simulated_device.cc only.
#ifndef UNTORN_DEVICE_SIMULATED_DISK_STATE_H_
#define UNTORN_DEVICE_SIMULATED_DISK_STATE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "device/device.h"
#include "device/simulated_disk.h"

namespace untorn {

// Shared by whatever holds the same content; never changed once shared.
struct alignas(64) DiskBlock {
  char bytes[kBlockBytes];
  uint64_t hash;
  uint8_t unreadable = 0;  // a bit for each sector
};
using DiskBlockPtr = std::shared_ptr<const DiskBlock>;
using DiskBlocks = absl::flat_hash_map<uint64_t, DiskBlockPtr>;

DiskBlockPtr MakeDiskBlock(const char* bytes, uint8_t unreadable = 0);
// Zeros where there is none.
const DiskBlock& FindDiskBlock(const DiskBlocks& blocks, uint64_t number);
// What a block contributes to fingerprints.
uint64_t DiskBlockFingerprint(uint64_t number, const DiskBlock& block);

// Blocks that copies of a disk share until one of them changes.
class SharedDiskBlocks {
 public:
  SharedDiskBlocks() = default;
  SharedDiskBlocks(const SharedDiskBlocks& other) { *this = other; }
  SharedDiskBlocks& operator=(const SharedDiskBlocks& other) {
    other.shared_->is_shared = true;
    shared_ = other.shared_;
    return *this;
  }

  const DiskBlocks& get() const { return shared_->blocks; }
  DiskBlocks& Mutable() {
    if (shared_->is_shared) {
      auto own = std::make_shared<Shared>();
      own->blocks = shared_->blocks;
      shared_ = std::move(own);
    }
    return shared_->blocks;
  }

 private:
  struct Shared {
    DiskBlocks blocks;
    std::atomic<bool> is_shared = false;  // for good: its last owner makes one copy too many
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

// A write as the disk keeps it: whole blocks, and which of their sectors it reaches.
struct DiskWrite {
  uint64_t first_block = 0;
  bool atomic = false;
  std::vector<DiskBlockPtr> blocks;
  std::vector<bool> sectors;  // empty: all of them land
  bool shorn = false;         // the others are unreadable

  void ApplyTo(DiskBlocks& to) const;
  // Keeps some sectors only: scattered ones, or a prefix, or a suffix.
  void Tear(std::mt19937_64& rng);
};

// A device's side of what the disk must know.
struct DiskUser {
  bool disconnected = false;  // by Crash() or Kill()
  // Writes between Submit() and Reap(), in order of submission.
  virtual std::vector<const DiskWrite*> InFlight() const = 0;

 protected:
  ~DiskUser() = default;
};

struct SimulatedDisk::State {
  explicit State(uint64_t size) : size_bytes(size) {}

  mutable std::mutex mu;
  const uint64_t size_bytes;
  SharedDiskBlocks medium;
  SharedDiskBlocks current;  // the medium with the cache over it
  bool keep_previous = false;
  DiskBlocks previous;              // if so: what each block held before it was written last
  std::deque<DiskWrite> unflushed;  // completed writes that are only in the cache, in order of completion
  uint64_t unflushed_first = 0;     // the number of unflushed.front()
  std::vector<DiskUser*> users;
  std::vector<DiskWrite> orphans;  // in flight on the device that was destroyed last
  std::function<void()> observer;

  uint64_t unflushed_end() const { return unflushed_first + unflushed.size(); }
  void Cache(DiskWrite write);
  void FlushBefore(uint64_t end);
  // A flush that failed: of what it covers some is on the medium, some still in the cache, some gone.
  void FailFlushBefore(uint64_t end, std::mt19937_64& rng);
  std::vector<DiskWrite> CopyInFlight() const;
  // The writes in flight, which the disk no longer owes an answer; in an order drawn from `rng`.
  std::vector<DiskWrite> TakeInFlight(std::mt19937_64& rng);
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_SIMULATED_DISK_STATE_H_
