// A block device does asynchronous reads, writes, atomic writes and flushes on a file, a disk or memory. It
// knows blocks and bytes, and nothing of extents.
//
// Invariants
//  1. A request belongs to the device from Submit() until Reap() hands the request back, or during Execute(). For that
//     long its buffers stay valid, and the buffers of a write stay unchanged.
//  2. Reap() hands back every submitted request exactly once, with `status` set.
//  3. A flush makes durable every write that Reap() or Execute() handed back before the flush was given to the device. It
//     promises nothing about writes that are still in flight.
//  4. Two requests that are in flight together may be carried out in either order.
//  5. A write that asks to be durable is durable when the device hands it back with an OK status. It makes no other
//     write durable, though some devices flush for it.
//  6. After a power cut, a kAtomicWrite within `AtomicLimits` is there whole or not at all. A kWrite may be
//     torn at any 512-byte sector, in any pattern.
//
// Threading: any thread may call Submit() and Execute() at any time. One thread at a time may call Reap(), also while
// others call Submit() and Execute().
#ifndef UNTORN_DEVICE_DEVICE_H_
#define UNTORN_DEVICE_DEVICE_H_

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/block_size.h"
#include "base/byte_range.h"

namespace untorn {

// Who promises that the device keeps an atomic write whole.
enum class AtomicSource {
  kNone,        // nobody does, so there is no fast path
  kHardware,    // the disk does, as the kernel reports; the device writes with RWF_ATOMIC
  kFileSystem,  // the file system does by its own copy-on-write, which is slower than ours and not used
  kStated,      // the operator does (--atomic-unit); the device writes without RWF_ATOMIC
};
const char* AtomicSourceName(AtomicSource source);

// The writes that the device keeps whole. The length of such a write is a power of two within
// [unit_min_bytes, unit_max_bytes]. Its offset on the device is a multiple of its length. The write does not
// cross a multiple of boundary_bytes (0: no boundary). Source: Linux Documentation/ABI/stable/sysfs-block,
// queue/atomic_write_*; statx(2).
struct AtomicLimits {
  AtomicSource source = AtomicSource::kNone;
  uint32_t unit_min_bytes = 0;
  uint32_t unit_max_bytes = 0;
  uint32_t boundary_bytes = 0;

  // True if the store may overwrite in place at all.
  bool usable() const { return source == AtomicSource::kHardware || source == AtomicSource::kStated; }
};

struct DeviceInfo {
  std::string path;
  std::string engine;         // "io_uring", "system calls" or "memory"
  std::string engine_reason;  // tells an operator why the engine is not the best one; empty if it is
  std::string durable_note;   // what a durable write is, in words
  bool direct_io = false;     // O_DIRECT
  std::string
      direct_io_note;  // why it is not, or what it is worth here, and what follows; empty if there is nothing to say
  // True if the file system may take writes through the page cache all the same.
  bool may_cache_writes = false;
  bool block_device = false;
  bool has_name = false;  // the file had one when it was opened
  bool read_only = false;
  // True if the device is open for reading beside an owner that has it open for writing.
  bool beside_owner = false;
  // True if the first write to a block costs more than later writes, as in a file whose blocks the file
  // system has not allocated. The store then writes zeros to such blocks ahead of use.
  bool needs_preparing = false;
  // True if Submit() does the requests itself, and returns when they are done.
  bool submit_blocks = false;
  bool can_execute = false;  // Device::Execute() may be called
  uint64_t size_bytes = 0;   // when the device was opened; Device::size_bytes() has the present size
  AtomicLimits atomic;       // the writes that may go in place
  std::string atomic_note;   // where the limits come from, or why there are none
  std::string warning;  // what an operator must know when the device is opened; empty if there is nothing
};

enum class IoOp : uint8_t { kRead, kWrite, kAtomicWrite, kFlush };

inline bool IsWrite(IoOp op) { return op == IoOp::kWrite || op == IoOp::kAtomicWrite; }

// One request. The caller owns the request and its buffers. The offset, the lengths and the addresses of
// buffers are multiples of kBlockBytes. A kFlush has none of these.
struct IoRequest {
  IoOp op = IoOp::kRead;
  // For a write: it is durable when it is over (invariant 5). As RWF_DSYNC of pwritev2(2).
  bool durable = false;
  // For a write: its sender can do without it. So IoPump does not send it again if the file system below has no space.
  bool optional = false;
  // For a write: it has zeros ahead of use, and nothing relies on them.
  bool zeros = false;
  uint64_t offset_bytes = 0;
  absl::InlinedVector<iovec, 2> iov;

  // The device sets the status before it hands the request back.
  //  kDataLoss           a read failed (EIO), ended before the device's stated size, or lies outside the device
  //  kInvalidArgument    the memory of a read cannot be written to
  //  kOutOfRange         the range of a write lies outside the device
  //  kUnimplemented      the device refuses to do this write atomically; it wrote nothing
  //  kInternal           a write or flush failed; the contents of the medium are unknown
  //  kAborted            what is read may belong to somebody else by now (extent/lease.h)
  //  kResourceExhausted  the file system below has no space (ENOSPC, EDQUOT), or the process may not write there
  //                      (RLIMIT_FSIZE; `untried`)
  absl::Status status;
  // The device sets this with the status: it refused the write without trying, so nothing else was lost.
  bool untried = false;

  // These two are for the submitter, and the device does not touch them. IoPump calls `done`.
  void (*done)(IoRequest*) = nullptr;
  void* context = nullptr;

  uint64_t length_bytes() const {
    uint64_t n = 0;
    for (const iovec& v : iov) n += v.iov_len;
    return n;
  }
};

// Says whether the request failed and may have lost what the device's cache held: a flush, or a write that was
// to be durable, since a device may flush for such a write.
bool LosesCachedWrites(const IoRequest& request);

// Says whether the request is a write that failed only because the file system below has no space, and lost nothing else.
// The same bytes may be written to the same place later. A file system that copies on write may refuse even an overwrite.
// Without direct I/O, a write that was to be durable may have been refused for what the page cache held, unless the device
// did not try it.
bool FoundNoSpace(const IoRequest& request, bool direct_io);

class Device {
 public:
  virtual ~Device() = default;

  const DeviceInfo& info() const { return info_; }
  // Returns why the device uses system calls by now, and no longer the engine that it was opened with; empty if it uses that
  // one. Any thread may call it.
  virtual std::string engine_lost() const { return ""; }

  // Returns where the device ends. Any thread may call it.
  virtual uint64_t size_bytes() const { return info_.size_bytes; }
  // Makes the device at least so large. What is new reads as zeros, and takes no space of the file system below until it
  // is written. The next flush makes the new size durable. One thread at a time may call it.
  //  kResourceExhausted  a file cannot become so large
  //  kOutOfRange         the block device is smaller
  virtual absl::Status Extend(uint64_t size_bytes);

  // Cuts a file to so many bytes, at once or when the power fails. Gives the space behind them to the file system. Nothing
  // may be in flight there. A file that is not longer stays as it is, and so does a block device. Of Extend() and
  // Shorten(), one thread at a time may call one.
  virtual absl::Status Shorten(uint64_t) { return absl::OkStatus(); }

  // Returns kDataLoss if a file has fewer bytes now: somebody else has cut it. Writes behind its end would make it larger
  // again, and nothing would tell. Also if somebody has removed the file, or put another one in its place: what is written
  // would end with the process. Any thread may call it.
  virtual absl::Status CheckHolds(uint64_t) const { return absl::OkStatus(); }

  // ---- Locks on bytes ----
  // Openings of one device, in one process or in several, tell one another something by locks on bytes that lie behind all
  // content. A lock belongs to the opening, and ends with it at the latest. All locks of an opening have ended before another
  // one can be the owner. Any thread may call these. Source: fcntl_locking(2), "Open file description locks"; and
  // locks_remove_file() of Linux, which ends these locks before the flock(2) that keeps a second owner out.
  enum class ByteLock { kShared, kExclusive };
  // Locks a byte. A device that is open for reading alone can take shared locks only.
  //  kUnavailable    another opening has a lock that conflicts
  //  kUnimplemented  the device has no such locks
  virtual absl::Status LockByte(uint64_t byte, ByteLock kind);
  // After an error the byte is still locked.
  virtual absl::Status UnlockByte(uint64_t byte);
  // Returns a byte of [first, first + count) that another opening has locked: exclusively, with kExclusive.
  virtual absl::StatusOr<std::optional<uint64_t>> FindLock(uint64_t first, uint64_t count,
                                                           ByteLock kind) const;

  // Starts the requests. The call may carry them out before it returns, as the system-call device does, but
  // only Reap() hands them back. Each pointer must stay valid until then.
  virtual void Submit(absl::Span<IoRequest* const> requests) = 0;

  // Appends completed requests to `completed`. With `wait`, the call blocks until there is at least one. Use
  // `wait` only while a request is submitted or about to be submitted.
  virtual void Reap(bool wait, std::vector<IoRequest*>* completed) = 0;

  // Carries one request out in the calling thread, and returns when the request is over. Reap() does not hand it back.
  // That is one system call, without a hand-off. May be called only if info() says so.
  virtual void Execute(IoRequest* request);

 protected:
  DeviceInfo info_;
};

// Blocking I/O, for phases in which no other thread uses the device: create, open, fsck, dump, repair.
// Buffers must be aligned to kBlockBytes.
absl::Status ReadBlocking(Device& device, uint64_t offset_bytes, void* buffer, uint64_t length_bytes);
absl::Status WriteBlocking(Device& device, uint64_t offset_bytes, const void* buffer, uint64_t length_bytes);
absl::Status FlushBlocking(Device& device);
// Calls `done` now and then, with the number of bytes written so far.
absl::Status WriteZerosBlocking(Device& device, ByteRange range,
                                const std::function<void(uint64_t)>& done = {});

}  // namespace untorn

#endif  // UNTORN_DEVICE_DEVICE_H_
