// A block device: asynchronous reads, writes, atomic writes and flushes over a file, a block device
// or memory. It knows blocks and bytes, and nothing of extents.
//
// Invariants
//  1. A request belongs to the device from Submit() until Reap() hands it back; its buffers stay valid and,
//     for writes, unchanged for that long.
//  2. Every submitted request is handed back by Reap() exactly once, with `status` set.
//  3. A flush makes durable every write whose request was handed back by Reap() before the flush was
//     submitted. It promises nothing about writes still in flight.
//  4. Nothing is promised about the order of two requests in flight together.
//  5. After a power cut a kAtomicWrite within `AtomicLimits` is there whole or not at all; a kWrite may be
//     torn at any 512-byte sector, in any pattern.
//
// Threading: Submit() may be called by any thread at any time. Reap() may be called by one thread at a
// time, concurrently with Submit().
#ifndef UNTORN_DEVICE_DEVICE_H_
#define UNTORN_DEVICE_DEVICE_H_

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/block_size.h"

namespace untorn {

// Who promises that an atomic write is kept whole.
enum class AtomicSource {
  kNone,        // nobody: there is no fast path
  kHardware,    // the disk itself, as the kernel reports it; written with RWF_ATOMIC
  kFileSystem,  // a file system's own copy-on-write behind RWF_ATOMIC: slower than ours, not used
  kStated,      // the operator (--atomic-unit): written without RWF_ATOMIC
};
const char* AtomicSourceName(AtomicSource source);

// The range of writes that the device keeps whole. A write qualifies if its length is a power of two
// within [unit_min_bytes, unit_max_bytes], its device offset is a multiple of its length, and it does
// not straddle a multiple of boundary_bytes (0: no boundary).
// Source: Linux Documentation/ABI/stable/sysfs-block, queue/atomic_write_*; statx(2).
struct AtomicLimits {
  AtomicSource source = AtomicSource::kNone;
  uint32_t unit_min_bytes = 0;
  uint32_t unit_max_bytes = 0;
  uint32_t boundary_bytes = 0;

  // True if there is a fast path at all.
  bool usable() const { return source == AtomicSource::kHardware || source == AtomicSource::kStated; }
};

struct DeviceInfo {
  std::string path;
  std::string engine;         // "io_uring", "system calls" or "memory"
  std::string engine_reason;  // why this engine, in words for an operator; empty if it is the best one
  bool direct_io = false;     // O_DIRECT
  bool block_device = false;
  bool read_only = false;
  // True if first writes to a block cost more than later ones (a file whose blocks the file system
  // still has to allocate): such blocks are written with zeros ahead of use.
  bool needs_preparing = false;
  uint64_t size_bytes = 0;
  AtomicLimits atomic;      // what the fast path may rely on
  std::string atomic_note;  // where the limits come from, or why there are none
};

enum class IoOp : uint8_t { kRead, kWrite, kAtomicWrite, kFlush };

// One request. The caller owns it and its buffers. Offsets, lengths and buffer addresses are multiples
// of kBlockBytes (kFlush has none of them).
struct IoRequest {
  IoOp op = IoOp::kRead;
  uint64_t offset_bytes = 0;
  absl::InlinedVector<iovec, 2> iov;

  // Set by the device before Reap() hands the request back.
  //  kDataLoss         a read failed (EIO) or ended before the device's stated size
  //  kInvalidArgument  a read's memory cannot be written to
  //  kOutOfRange       the range lies outside the device
  //  kUnimplemented    the device refuses to do this write atomically; nothing was written
  //  kInternal         a write or flush failed; what is on the medium is unknown
  //  kResourceExhausted  the file system below has no space (ENOSPC, EDQUOT)
  absl::Status status;

  // For the submitter's use; the device does not touch them. `done` is called by IoPump.
  void (*done)(IoRequest*) = nullptr;
  void* context = nullptr;

  uint64_t length_bytes() const {
    uint64_t n = 0;
    for (const iovec& v : iov) n += v.iov_len;
    return n;
  }
};

class Device {
 public:
  virtual ~Device() = default;

  const DeviceInfo& info() const { return info_; }

  // Starts the requests. May execute them before it returns (the system-call device does), but they
  // are always handed back through Reap(). Takes each pointer until then.
  virtual void Submit(absl::Span<IoRequest* const> requests) = 0;

  // Appends completed requests to `completed`. With wait, blocks until there is at least one: call it
  // so only while a request is submitted or about to be.
  virtual void Reap(bool wait, std::vector<IoRequest*>* completed) = 0;

 protected:
  DeviceInfo info_;
};

// Blocking helpers for phases in which no other thread uses the device (create, open, fsck, dump).
// Buffers must be aligned to kBlockBytes.
absl::Status ReadBlocking(Device& device, uint64_t offset_bytes, void* buffer, uint64_t length_bytes);
absl::Status WriteBlocking(Device& device, uint64_t offset_bytes, const void* buffer, uint64_t length_bytes);
absl::Status FlushBlocking(Device& device);
// Calls `done` with the bytes written so far.
absl::Status WriteZerosBlocking(Device& device, uint64_t offset_bytes, uint64_t length_bytes,
                                const std::function<void(uint64_t)>& done = {});

}  // namespace untorn

#endif  // UNTORN_DEVICE_DEVICE_H_
