// A SimulatedDevice writes to a simulated disk: a medium with a volatile cache over it. The disk outlives the
// process that writes. simulated_device.h states the fault model.
//
// Threading: the methods take a lock of their own. Crash and Kill end a process, and must not run
// concurrently with calls on the device of that process.
#ifndef UNTORN_SIM_SIMULATED_DISK_H_
#define UNTORN_SIM_SIMULATED_DISK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "base/block_size.h"

namespace untorn {

// The disk is sparse: blocks that were never written read as zeros and take no memory. Clones share a block
// until the block is written.
class SimulatedDisk {
 public:
  explicit SimulatedDisk(uint64_t size_bytes) : SimulatedDisk(size_bytes, size_bytes, false) {}
  // A file of `length_bytes`, which Device::Extend() makes longer, on a file system that lets it have `size_bytes`. A
  // power cut leaves the length that the last flush found. Devices of it need preparing.
  SimulatedDisk(uint64_t size_bytes, uint64_t length_bytes) : SimulatedDisk(size_bytes, length_bytes, true) {}
  ~SimulatedDisk();

  uint64_t size_bytes() const;
  uint64_t length_bytes() const;
  // Lets a file become so long from now on.
  void SetSize(uint64_t size_bytes);
  // While it is full, every write fails for lack of space, also one over what was written before: the file system copies on
  // write. A part of such a write may land. Copies of the disk are not full.
  void SetFull(bool full);

  // ---- Power cuts and kills, drawn at random ----
  // Cuts the power. Each unflushed write lands wholly, partly or not, by `rng`. Unflushed are completed
  // writes that no flush covers, writes in flight on a device, and writes in flight on the device that was
  // destroyed last. A write lands with the chance `keep_per_mille`. Half of the writes that land and are not
  // atomic are torn. Afterwards the cache holds what the medium holds.
  void Crash(std::mt19937_64& rng, int keep_per_mille = 500);
  // Ends the process while the power stays on. Completed writes stay in the cache. Writes in flight land in
  // the cache wholly, partly or not.
  void Kill(std::mt19937_64& rng);

  // ---- Power cuts and kills, each of those that are possible by itself ----
  // A write that no flush covers.
  struct Unflushed {
    BlockNumber first_block;
    uint64_t sectors = 0;
    bool may_tear = true;    // false for an atomic write
    bool in_flight = false;  // not yet handed back
  };
  // What becomes of one unflushed write.
  struct Landing {
    bool lands = false;
    std::vector<bool> sectors;  // which sectors land; all if empty
    bool shorn = false;         // the power failed during the other sectors, which are now unreadable
  };
  // Returns completed writes in the order of completion, then writes in flight in the order of submission.
  std::vector<Unflushed> unflushed() const;
  // Returns the disk that a power cut at this moment leaves. `landings` says what becomes of each of
  // unflushed(), in the same order. The disk itself does not change.
  std::shared_ptr<SimulatedDisk> AfterCut(std::span<const Landing> landings) const;
  // Returns the disk that a kill at this moment leaves: completed writes stay in the cache. `landings` is as
  // for AfterCut(), but only the landings of writes in flight count.
  std::shared_ptr<SimulatedDisk> AfterKill(std::span<const Landing> landings) const;
  // The disk calls `observer` after every change of what a power cut could leave: writes submitted, or a
  // flush done. The observer must not use the device.
  void SetObserver(std::function<void()> observer);
  // Fingerprints are equal for disks that hold the same in medium and cache.
  uint64_t Fingerprint() const;
  // Fingerprints are equal for disks that return the same when these blocks are read. A device that reads the
  // blocks has the same SimulatedDevice::reads_fingerprint().
  uint64_t Fingerprint(std::span<const BlockNumber> blocks) const;

  // ---- For tests ----
  // Peek() copies what a read would return now, the cache over the medium. Poke() damages the disk: it writes
  // to the medium and to the cache.
  void Peek(uint64_t offset_bytes, void* out, uint64_t length_bytes) const;
  void Poke(uint64_t offset_bytes, const void* data, uint64_t length_bytes);
  bool IsReadable(BlockNumber block) const;
  // Returns a copy of this disk with its cache and its writes in flight. So a test can try many crashes from
  // one state.
  std::shared_ptr<SimulatedDisk> Clone() const;

 private:
  friend class SimulatedDevice;
  struct State;
  SimulatedDisk(uint64_t size_bytes, uint64_t length_bytes, bool is_file);
  // Returns a disk of the same kind, sizes and medium, with an empty cache. State::mu must be held.
  std::shared_ptr<SimulatedDisk> CopyOfMedium() const;
  std::unique_ptr<State> state_;
};

}  // namespace untorn

#endif  // UNTORN_SIM_SIMULATED_DISK_H_
