// This header has the inside of a SimulatedDisk, which the devices of the disk share. Only simulated_disk.cc
// and simulated_device.cc include this header.
//
// Threading: State::mu guards what belongs to one disk alone. Disks also share blocks and chunks. Nobody
// changes those once they are shared, and `is_shared` is atomic.
#ifndef UNTORN_SIM_SIMULATED_DISK_STATE_H_
#define UNTORN_SIM_SIMULATED_DISK_STATE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "device/device.h"
#include "sim/simulated_disk.h"

namespace untorn {

// The content of one block. Disks, caches and writes share a DiskBlock, so nobody changes one once it is
// made.
struct alignas(64) DiskBlock {
  char bytes[kBlockBytes];
  uint64_t hash;
  uint8_t unreadable = 0;  // a bit for each sector
};
using DiskBlockPtr = std::shared_ptr<const DiskBlock>;

DiskBlockPtr MakeDiskBlock(const char* bytes, uint8_t unreadable = 0);
// Returns what a block contributes to fingerprints.
uint64_t DiskBlockFingerprint(BlockNumber number, const DiskBlock& block);

// The blocks of a disk by number, in chunks. Copies of the blocks share a chunk until one of the copies
// changes the chunk.
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

  // Returns a block of zeros if the block was never written.
  const DiskBlock& Find(BlockNumber number) const;
  DiskBlockPtr Share(BlockNumber number) const;  // nullptr if the block is all zeros
  void Set(BlockNumber number, DiskBlockPtr block);
  // Fingerprints are equal for DiskBlocks that hold the same.
  uint64_t fingerprint() const { return fingerprint_; }
  // Returns the fingerprint of one block.
  uint64_t Fingerprint(BlockNumber number) const;

 private:
  // `is_shared` is never cleared. So the last owner makes one copy too many, which is safe.
  struct Chunk {
    static constexpr BlockCount kBlocks = 64;
    static size_t IndexOf(BlockNumber number) { return (number % kBlocks).value(); }
    DiskBlockPtr blocks[kBlocks.value()];         // nullptr for zeros
    uint64_t fingerprints[kBlocks.value()] = {};  // 0 for zeros
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

// A write as the disk keeps it: whole blocks, and which of their sectors land.
struct DiskWrite {
  BlockNumber first_block;
  bool atomic = false;
  std::vector<DiskBlockPtr> blocks;  // nullptr: a later durable write took its place
  std::vector<bool> sectors;         // empty: all of them land
  bool shorn = false;                // the other sectors become unreadable

  void ApplyTo(DiskBlocks* to) const;
  // True if later durable writes took the place of all its blocks.
  bool gone() const {
    return std::all_of(blocks.begin(), blocks.end(), [](const DiskBlockPtr& b) { return b == nullptr; });
  }
  // Keeps only some sectors of the write: a prefix, a suffix, or scattered ones.
  void Tear(std::mt19937_64& rng);
};

// What the disk must know of a device.
struct DiskUser {
  bool disconnected = false;  // by Crash() or Kill()
  std::map<uint64_t, Device::ByteLock> locks;
  // Returns the writes between Submit() and Reap(), in the order of submission.
  virtual std::vector<const DiskWrite*> InFlight() const = 0;

 protected:
  ~DiskUser() = default;
};

struct SimulatedDisk::State {
  State(uint64_t size, uint64_t length, bool file)
      : is_file(file), size_bytes(size), length_bytes(length), durable_length_bytes(length) {}

  mutable std::mutex mu;
  const bool is_file;  // its length may change
  std::atomic<uint64_t> size_bytes;
  std::atomic<uint64_t> length_bytes;
  uint64_t durable_length_bytes;  // as the last flush found it
  bool full = false;              // no write has space
  DiskBlocks medium;
  DiskBlocks current;  // the medium with the cache over it
  bool keep_previous = false;
  absl::flat_hash_map<BlockNumber, DiskBlockPtr>
      previous;                     // what a block held before its last write, if keep_previous
  std::deque<DiskWrite> unflushed;  // completed writes that are only in the cache, in order of completion
  uint64_t unflushed_first = 0;     // the number of unflushed.front()
  std::vector<DiskUser*> users;
  std::vector<DiskWrite> orphans;  // in flight on the device that was destroyed last
  std::function<void()> observer;

  // Ends a file where the last flush found its end.
  void CutToDurableLength();
  // Ends a file there, durably. What was behind is gone.
  void CutTo(uint64_t end_bytes);
  // Returns what the length adds to fingerprints.
  uint64_t LengthFingerprint() const {
    return length_bytes == size_bytes ? 0 : length_bytes * 0x9e3779b97f4a7c15;
  }

  uint64_t unflushed_end() const { return unflushed_first + unflushed.size(); }
  void Cache(DiskWrite write);
  // Puts the write on the medium, over what is cached of the same blocks.
  void CacheAndFlush(DiskWrite write);
  void FlushBefore(uint64_t end);
  // Is for a flush that failed. The writes that the flush covers stay in the cache, are torn there, or are
  // gone.
  void FailFlushBefore(uint64_t end, std::mt19937_64& rng);
  std::vector<DiskWrite> CopyInFlight() const;
  // Disconnects all devices, and returns the writes that were in flight, in an order drawn from `rng`.
  std::vector<DiskWrite> TakeInFlight(std::mt19937_64& rng);
};

}  // namespace untorn

#endif  // UNTORN_SIM_SIMULATED_DISK_STATE_H_
