// A disk in memory, for tests, with a volatile write cache and a stated fault model.
//
// Fault model
//  1. Writes go to a volatile cache. A flush moves to the medium every write that was handed back by Reap()
//     before the flush was submitted.
//  2. At a power cut (Crash) every other write, in flight or not flushed, may or may not have reached the
//     medium, in any order. A write that is not a promised atomic unit may be torn at every 512-byte sector,
//     in any pattern.
//  3. A kAtomicWrite within the limits is there whole or not at all.
//  4. After a process kill (Kill) writes in flight may land or not, whole or torn; the cache survives.
//  5. Requests complete in an order drawn from the seed, one per Reap() when `shuffle` is set, otherwise in
//     order of submission.
//  6. A device made before a Crash() or Kill() is cut off by it: every request it still has, or gets, fails
//     without effect. So an engine may be destroyed after the crash as well as before.
//  7. On demand the n-th operation of a kind fails (FailAfter).
// Every decision comes from the seed. Threading: as Device; Crash, Kill and the accessors must not run
// concurrently with anything else.
#ifndef UNTORN_DEVICE_SIMULATED_DEVICE_H_
#define UNTORN_DEVICE_SIMULATED_DEVICE_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "device/device.h"

namespace untorn {

struct SimulatedDeviceOptions {
  uint64_t size_bytes = 64 << 20;
  uint64_t seed = 1;
  bool shuffle = true;
  AtomicLimits atomic;              // source kNone: no fast path
  int refuse_atomic_per_mille = 0;  // of atomic writes within the limits, refused at run time all the same
  bool needs_preparing = false;
};

// The medium and the volatile cache, which outlive a process (a SimulatedDevice) that uses them. Sparse:
// blocks never written read as zeros and take no memory.
class SimulatedDisk;

struct DeviceCounts {
  uint64_t reads = 0, writes = 0, atomic_writes = 0, flushes = 0;
  uint64_t bytes_read = 0, bytes_written = 0;
};

class SimulatedDevice : public Device {
 public:
  SimulatedDevice(std::shared_ptr<SimulatedDisk> disk, const SimulatedDeviceOptions& options);
  ~SimulatedDevice() override;

  void Submit(absl::Span<IoRequest* const> requests) override;
  void Reap(bool wait, std::vector<IoRequest*>* completed) override;

  // The n-th operation of this kind from now (1: the next) fails with `status`, and `count` in all (default:
  // just that one). A failed write keeps nothing, or all, or some of its sectors, as drawn from the seed. A
  // failed flush keeps what it covered volatile.
  void FailAfter(IoOp op, uint64_t n, absl::Status status, uint64_t count = 1);

  const DeviceCounts& counts() const { return counts_; }

 private:
  friend class SimulatedDisk;
  struct Impl;
  std::unique_ptr<Impl> impl_;
  DeviceCounts counts_;
};

class SimulatedDisk {
 public:
  explicit SimulatedDisk(uint64_t size_bytes);
  ~SimulatedDisk();

  // Power cut: each unflushed write (completed, or in flight on the device that was destroyed last without
  // reaping it) lands wholly, partly or not, by `rng`. keep_per_mille: the chance of a write to land; of
  // those that land and are not atomic half are torn. Afterwards the medium is all there is.
  void Crash(std::mt19937_64& rng, int keep_per_mille = 500);
  // The process is gone but the power is on: writes that were completed stay in the cache, those in flight
  // land wholly, partly or not.
  void Kill(std::mt19937_64& rng);

  // What a read would return now (cache over medium); tests damage the disk with Poke (to the medium and
  // cache).
  void Peek(uint64_t offset_bytes, void* out, uint64_t length_bytes) const;
  void Poke(uint64_t offset_bytes, const void* data, uint64_t length_bytes);
  // A copy of this disk, cache and all: to try many crashes from one state.
  std::shared_ptr<SimulatedDisk> Clone() const;
  uint64_t size_bytes() const;

 private:
  friend class SimulatedDevice;
  friend struct SimulatedDevice::Impl;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_SIMULATED_DEVICE_H_
