// A simulated device is a disk in memory, for tests. The disk has a volatile write cache and a stated fault
// model.
//
// Fault model
//  1. Writes go to a volatile cache. A flush moves to the medium every write that Reap() handed back before
//     the flush was submitted, and nothing else. A durable write goes to the medium when it completes, and takes
//     nothing else there.
//  2. At a power cut (Crash, AfterCut) every other write, in flight or not flushed, may or may not have
//     reached the medium, in any order. A write that the device does not keep whole may be torn at every
//     512-byte sector, in any pattern. Sectors that do not land hold what they held before. If AfterCut
//     shears a write, its other sectors are unreadable until they are written again.
//  3. A kAtomicWrite within the limits is there whole or not at all.
//  4. At a process kill (Kill, AfterKill) the cache survives. Each write in flight may land or not, whole or
//     torn, but lands before the next device is made. A real store guarantees so: its lock lies on the file
//     description that does the I/O, and keeps the next owner out until then.
//  5. With `shuffle`, requests complete in an order drawn from the seed, one in each Reap(). Otherwise
//     requests complete in the order of submission. With a latency model, requests complete in the order of
//     virtual time; nothing sleeps.
//  6. Crash() and Kill() cut off every device that was made before. Every request that such a device still
//     has, or gets, fails without effect. So an engine may be destroyed after the crash as well as before.
// On demand (Inject, FailAfter, `lies`)
//  7. The n-th operation of a kind fails. A failed write keeps nothing, or all, or some of its sectors. A
//     failed flush keeps in the cache all, some or no sectors of each write that it covers, as real disks and
//     kernels lose writes.
//  8. The n-th write is lost (acknowledged and never done) or misdirected (done at another place).
//  9. The n-th read finds a rotten bit, on the medium and for good, or returns what a block held before its
//     last write.
// 10. The disk ignores flushes, or tears the atomic writes that it promised to keep whole.
// 11. The disk is full (SimulatedDisk::SetFull): no write has space, and a part of it may land all the same.
// Every decision comes from the seed.
//
// Threading: as for Device. SimulatedDisk::Crash and Kill, and the accessors, must not run concurrently with
// anything else.
#ifndef UNTORN_SIM_SIMULATED_DEVICE_H_
#define UNTORN_SIM_SIMULATED_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "device/device.h"
#include "sim/simulated_disk.h"

namespace untorn {

// Says how long requests take, in virtual time. Reads and writes are handed over one after another. Each then
// takes its own time, in parallel with all others.
struct SimulatedLatency {
  uint64_t request_ns = 0;  // to hand over a read or write
  uint64_t block_ns = 0;    // to hand over each of its blocks, in addition
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
  uint64_t durable_writes = 0;  // those of the writes, atomic ones among them, that are durable by themselves
  uint64_t bytes_read = 0, bytes_written = 0;
};

// A fault strikes `count` operations of one kind, from operation number `first` on. 1 is the next operation. With kBitRot
// a bit of the medium changes for good. With kBitFlip it changes in what one read returns.
struct SimulatedFault {
  enum Kind { kError, kLostWrite, kMisdirectedWrite, kBitRot, kBitFlip, kStaleRead } kind = kError;
  IoOp op = IoOp::kWrite;
  uint64_t first = 1;
  uint64_t count = 1;
  absl::Status status;  // for kError only
};

class SimulatedDevice : public Device {
 public:
  SimulatedDevice(std::shared_ptr<SimulatedDisk> disk, const SimulatedDeviceOptions& options);
  ~SimulatedDevice() override;

  uint64_t size_bytes() const override;
  absl::Status Extend(uint64_t size_bytes) override;
  absl::Status Shorten(uint64_t size_bytes) override;
  absl::Status LockByte(uint64_t byte, ByteLock kind) override;
  absl::Status UnlockByte(uint64_t byte) override;
  absl::StatusOr<std::optional<uint64_t>> FindLock(uint64_t first, uint64_t count,
                                                   ByteLock kind) const override;
  SimulatedDisk& disk();
  const std::shared_ptr<SimulatedDisk>& shared_disk() const;
  void Submit(absl::Span<IoRequest* const> requests) override;
  void Reap(bool wait, std::vector<IoRequest*>* completed) override;

  void Inject(const SimulatedFault& fault);
  void FailAfter(IoOp op, uint64_t n, absl::Status status, uint64_t count = 1);
  void ClearFaults();
  // Returns how many faults came to pass.
  uint64_t faults_seen() const;

  // Holds back the next `count` operations of this kind until Release(). With kNothingElse, a Reap() that
  // waits and has nothing else to hand back releases them too.
  enum class HoldUntil { kNothingElse, kForever };
  void Hold(IoOp op, uint64_t count, HoldUntil until);
  void Release();
  uint64_t held() const;

  const DeviceCounts& counts() const { return counts_; }
  uint64_t virtual_ns() const;
  // With `track_reads`, blocks_read() returns the blocks that the device has read. reads_fingerprint()
  // returns a fingerprint of these blocks and their contents. Each block counts with the content that its
  // first read returned.
  std::vector<BlockNumber> blocks_read() const;
  uint64_t reads_fingerprint() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  DeviceCounts counts_;
};

}  // namespace untorn

#endif  // UNTORN_SIM_SIMULATED_DEVICE_H_
