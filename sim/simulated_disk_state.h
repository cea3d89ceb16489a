// The inside of a SimulatedDisk, which its devices share. Included by simulated_disk.cc and
// simulated_device.cc only.
#ifndef UNTORN_SIM_SIMULATED_DISK_STATE_H_
#define UNTORN_SIM_SIMULATED_DISK_STATE_H_

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
#include "sim/simulated_disk.h"

namespace untorn {

// Shared by whatever holds the same content; never changed once shared.
struct alignas(64) DiskBlock {
  char bytes[kBlockBytes];
  uint64_t hash;
  uint8_t unreadable = 0;  // a bit for each sector
};
using DiskBlockPtr = std::shared_ptr<const DiskBlock>;

DiskBlockPtr MakeDiskBlock(const char* bytes, uint8_t unreadable = 0);
// What a block contributes to fingerprints.
uint64_t DiskBlockFingerprint(BlockNumber number, const DiskBlock& block);

// The blocks of a disk by number, in chunks that copies share until one of them changes there.
class DiskBlocks {
 public:
  DiskBlocks() = default;
  DiskBlocks(const DiskBlocks& other) { *this = other; }
  DiskBlocks& operator=(const DiskBlocks& other) {
    other.chunks_->is_shared.store(true, std::memory_order_relaxed);
    chunks_ = other.chunks_;
    fingerprint_ = other.fingerprint_;
    return *this;
  }

  // Zeros where there is none.
  const DiskBlock& Find(BlockNumber number) const;
  DiskBlockPtr Share(BlockNumber number) const;  // null: zeros
  void Set(BlockNumber number, DiskBlockPtr block);
  // Equal for those that hold the same.
  uint64_t fingerprint() const { return fingerprint_; }
  // Of one block.
  uint64_t Fingerprint(BlockNumber number) const;

 private:
  // `is_shared` stays for good: the last owner makes one copy too many.
  struct Chunk {
    static constexpr BlockCount kBlocks = 64;
    static size_t IndexOf(BlockNumber number) { return (number % kBlocks).value(); }
    DiskBlockPtr blocks[kBlocks.value()];         // null: zeros
    uint64_t fingerprints[kBlocks.value()] = {};  // of those that are not
    std::atomic<bool> is_shared = false;
  };
  struct Chunks {
    std::vector<std::shared_ptr<Chunk>> list;
    std::atomic<bool> is_shared = false;
  };
  const Chunk* FindChunk(BlockNumber number) const;
  Chunk& MutableChunk(BlockNumber number);

  std::shared_ptr<Chunks> chunks_ = std::make_shared<Chunks>();
  uint64_t fingerprint_ = 0;
};

// A write as the disk keeps it: whole blocks, and which of their sectors it reaches.
struct DiskWrite {
  BlockNumber first_block;
  bool atomic = false;
  std::vector<DiskBlockPtr> blocks;
  std::vector<bool> sectors;  // empty: all of them land
  bool shorn = false;         // the others are unreadable

  void ApplyTo(DiskBlocks* to) const;
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
  DiskBlocks medium;
  DiskBlocks current;  // the medium with the cache over it
  bool keep_previous = false;
  absl::flat_hash_map<BlockNumber, DiskBlockPtr>
      previous;                     // if so: what a block held before it was written last
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

#endif  // UNTORN_SIM_SIMULATED_DISK_STATE_H_
