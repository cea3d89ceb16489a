// A disk in memory, for tests, with a volatile write cache and a stated fault model.
//
// Fault model
//  1. Writes go to a volatile cache. A flush moves to the medium every write that was handed back by Reap()
//     before the flush was submitted, and nothing else.
//  2. At a power cut (Crash, AfterCut) every other write, in flight or not flushed, may or may not have
//     reached the medium, in any order. A write that is not a promised atomic unit may be torn at every
//     512-byte sector, in any pattern; sectors of it that do not land hold what they held before, or, of a
//     write that is cut short (AfterCut), are unreadable until they are written again.
//  3. A kAtomicWrite within the limits is there whole or not at all.
//  4. After a process kill (Kill, AfterKill) writes in flight may land or not, whole or torn; the cache
//     survives. They land before the next device is made: the lock of a store, which lies on the file
//     description that does the I/O, keeps the next owner out until then.
//  5. Requests complete in an order drawn from the seed, one per Reap() when `shuffle` is set, otherwise in
//     order of submission. With a latency model they complete in the order of virtual time; nothing sleeps.
//  6. A device made before a Crash() or Kill() is cut off by it: every request it still has, or gets, fails
//     without effect. So an engine may be destroyed after the crash as well as before.
// On demand (Inject, FailAfter, `lies`)
//  7. The n-th operation of a kind fails. A failed write keeps nothing, or all, or some of its sectors; of
//     what a failed flush covers each write stays in the cache, or some of its sectors do, or none: as real
//     disks and kernels lose it.
//  8. The n-th write is lost (acknowledged, never done) or misdirected (done at another place).
//  9. The n-th read finds a bit rotted, on the medium and for good, or returns what a block held before it
//     was written last.
// 10. A disk that ignores flush, or that tears the atomic writes it promised.
// Every decision comes from the seed. Threading: as Device; what ends a process (SimulatedDisk::Crash, Kill)
// and the accessors must not run concurrently with anything else.
#ifndef UNTORN_SIM_SIMULATED_DEVICE_H_
#define UNTORN_SIM_SIMULATED_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "device/device.h"
#include "sim/simulated_disk.h"

namespace untorn {

// How long requests take, in virtual time. Reads and writes are handed over one after another; then each takes its
// time by itself, however many there are.
struct SimulatedLatency {
  uint64_t request_ns = 0;  // to hand over a read or write,
  uint64_t block_ns = 0;    // and each block of it
  uint64_t read_ns = 0, write_ns = 0, flush_ns = 0;
  uint64_t jitter_ns = 0;  // up to this much more, by the seed
};

struct SimulatedDeviceOptions {
  uint64_t size_bytes = 64 << 20;
  uint64_t seed = 1;
  bool shuffle = true;
  AtomicLimits atomic;              // source kNone: no fast path
  int refuse_atomic_per_mille = 0;  // of atomic writes within the limits, refused at run time all the same
  bool needs_preparing = false;
  std::optional<SimulatedLatency> latency;
  struct Lies {
    bool ignore_flush = false;
    bool tear_atomic = false;
  } lies;
  bool keep_previous = false;  // for kStaleRead, which costs memory
  bool track_reads = false;    // for blocks_read() and reads_fingerprint()
};

struct DeviceCounts {
  uint64_t reads = 0, writes = 0, atomic_writes = 0, flushes = 0;
  uint64_t bytes_read = 0, bytes_written = 0;
};

// Something that goes wrong with the operations number `first` (1: the next), `first` + 1, … of a kind.
struct SimulatedFault {
  enum Kind { kError, kLostWrite, kMisdirectedWrite, kBitRot, kStaleRead } kind = kError;
  IoOp op = IoOp::kWrite;
  uint64_t first = 1;
  uint64_t count = 1;
  absl::Status status;  // kError
};

class SimulatedDevice : public Device {
 public:
  SimulatedDevice(std::shared_ptr<SimulatedDisk> disk, const SimulatedDeviceOptions& options);
  ~SimulatedDevice() override;

  void Submit(absl::Span<IoRequest* const> requests) override;
  void Reap(bool wait, std::vector<IoRequest*>* completed) override;

  void Inject(const SimulatedFault& fault);
  void FailAfter(IoOp op, uint64_t n, absl::Status status, uint64_t count = 1);
  void ClearFaults();
  // Faults that came to pass.
  uint64_t faults_seen() const;

  // Holds back the next `count` operations of this kind that come in, until they are released, or, but for
  // kForever, until a Reap() that waits has nothing else to hand back.
  enum class HoldUntil { kNothingElse, kForever };
  void Hold(IoOp op, uint64_t count, HoldUntil until);
  void Release();
  uint64_t held() const;

  const DeviceCounts& counts() const { return counts_; }
  uint64_t virtual_ns() const;
  // What the device has read, if it tracks that: the blocks, and a fingerprint of them and their contents, each
  // as it was read first.
  std::vector<BlockNumber> blocks_read() const;
  uint64_t reads_fingerprint() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  DeviceCounts counts_;
};

}  // namespace untorn

#endif  // UNTORN_SIM_SIMULATED_DEVICE_H_
