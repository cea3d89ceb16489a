// Parts names the parts of an open store that writeback works on.
#ifndef UNTORN_WRITEBACK_PARTS_H_
#define UNTORN_WRITEBACK_PARTS_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "base/lock.h"
#include "base/memory_reserve.h"
#include "cow/cow_fork.h"
#include "device/io_pump.h"
#include "extent/volume.h"
#include "untorn/options.h"
#include "writeback/callbacks.h"
#include "writeback/health.h"

namespace untorn {

// Counts the events that a waiting thread may wait for, besides the completion of I/O.
class Progress {
 public:
  explicit Progress(IoPump& pump) : pump_(pump) {}
  uint64_t count() const REQUIRES_STORE_LOCK { return count_; }
  // Counts an event, and wakes nobody: a thread sees the event when the thread next looks at the count.
  void Note() REQUIRES_STORE_LOCK { ++count_; }
  // Counts an event, and wakes the threads whose condition is true now.
  void Tell() REQUIRES_STORE_LOCK {
    ++count_;
    pump_.Notify();
  }

 private:
  IoPump& pump_;
  uint64_t count_ GUARDED_BY_STORE_LOCK = 0;
};

// The store owns the parts, and outlives everybody who holds these references.
struct Parts {
  IoPump& pump;
  Volume& volume GUARDED_BY_STORE_LOCK;
  CowFork& fork GUARDED_BY_STORE_LOCK;
  Health& health GUARDED_BY_STORE_LOCK;
  Progress& progress GUARDED_BY_STORE_LOCK;
  Callbacks& callbacks GUARDED_BY_STORE_LOCK;
  Stats& stats GUARDED_BY_STORE_LOCK;
  // The pool is thread-safe, unlike the COW fork that owns the pool.
  BufferPool& buffers = fork.pages().pool();
  // The key of the checksums of data never changes.
  uint64_t data_key = volume.data_key();

  // Says whether the store takes a change now: it is writable, the file system below has space, and the process has memory.
  absl::Status CheckChangeable() const REQUIRES_STORE_LOCK {
    absl::Status status = health.CheckWritable();
    if (status.ok()) status = CheckMemory();
    if (status.ok() && pump.short_of_space()) status = pump.CheckSpaceBelow();
    return status;
  }
  // Says whether the process has memory for new work. Clean data gives its memory back first.
  absl::Status CheckMemory() const REQUIRES_STORE_LOCK {
    if (MemoryReserve::IsWhole()) [[likely]]
      return absl::OkStatus();
    if (MemoryReserve::Check().ok()) return absl::OkStatus();
    ShedMemory();
    return MemoryReserve::Check();
  }
  // Drops clean data, and gives its memory back.
  void ShedMemory() const REQUIRES_STORE_LOCK {
    fork.pages().Evict(0);
    buffers.FreeSlabs();
  }
  // Waits until `ready()` is true, or until the store fails. As IoPump::Wait().
  void WaitUntil(Lock& lock, absl::FunctionRef<bool()> ready) const REQUIRES_STORE_LOCK {
    pump.Wait(lock, [&]() REQUIRES_STORE_LOCK { return ready() || health.failed(); });
  }
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_PARTS_H_
