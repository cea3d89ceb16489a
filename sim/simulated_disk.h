// What a SimulatedDevice writes to: a medium with a volatile cache over it, which outlive the process that
// writes. The fault model is stated in simulated_device.h.
//
// Threading: the methods take a lock of their own; those that end a process (Crash, Kill) must not run
// concurrently with calls on its device.
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

// Sparse: blocks never written read as zeros and take no memory. Clones share blocks until one is written.
class SimulatedDisk {
 public:
  explicit SimulatedDisk(uint64_t size_bytes);
  ~SimulatedDisk();

  uint64_t size_bytes() const;

  // ---- Power cuts and kills, drawn at random ----
  // Power cut: each unflushed write (completed, or in flight on a device, or on the one that was destroyed
  // last without reaping it) lands wholly, partly or not, by `rng`. keep_per_mille: the chance of a write to
  // land; of those that land and are not atomic half are torn. Afterwards the medium is all there is.
  void Crash(std::mt19937_64& rng, int keep_per_mille = 500);
  // The process is gone but the power is on: writes that were completed stay in the cache, those in flight
  // land wholly, partly or not.
  void Kill(std::mt19937_64& rng);

  // ---- Power cuts and kills, each of those that are possible by itself ----
  // A write that no flush covers.
  struct Unflushed {
    BlockNumber first_block;
    uint64_t sectors = 0;
    bool may_tear = true;    // false: an atomic write
    bool in_flight = false;  // not yet handed back
  };
  // What becomes of one of them.
  struct Landing {
    bool lands = false;
    std::vector<bool> sectors;  // which of them do; empty: all
    bool shorn = false;         // the others were being written, and are unreadable
  };
  // Completed ones in their order, then those in flight in order of submission.
  std::vector<Unflushed> unflushed() const;
  // The disk as a power cut at this moment leaves it, given what becomes of each of unflushed(), in order.
  std::shared_ptr<SimulatedDisk> AfterCut(std::span<const Landing> landings) const;
  // As a kill leaves it: what was completed is in the cache. Only the landings of those in flight count.
  std::shared_ptr<SimulatedDisk> AfterKill(std::span<const Landing> landings) const;
  // Called after every change of what a power cut could leave: writes submitted, a flush done. Not while
  // calling it may the device be used.
  void SetObserver(std::function<void()> observer);
  // Equal for disks that hold the same, in medium and cache.
  uint64_t Fingerprint() const;
  // Equal for disks that return the same when these blocks are read: SimulatedDevice::reads_fingerprint() of a
  // device that reads them.
  uint64_t Fingerprint(std::span<const BlockNumber> blocks) const;

  // ---- For tests ----
  // What a read would return now (cache over medium); tests damage the disk with Poke (to the medium and
  // cache).
  void Peek(uint64_t offset_bytes, void* out, uint64_t length_bytes) const;
  void Poke(uint64_t offset_bytes, const void* data, uint64_t length_bytes);
  bool IsReadable(BlockNumber block) const;
  // A copy of this disk, cache and all: to try many crashes from one state.
  std::shared_ptr<SimulatedDisk> Clone() const;

 private:
  friend class SimulatedDevice;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace untorn

#endif  // UNTORN_SIM_SIMULATED_DISK_H_
