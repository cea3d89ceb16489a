// The checkpointer decides when to make checkpoints, one at a time, and when to prepare space ahead of use.
//
// Threading: the store's mutex guards the checkpointer.
#ifndef UNTORN_WRITEBACK_CHECKPOINTER_H_
#define UNTORN_WRITEBACK_CHECKPOINTER_H_

#include <cstdint>
#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "base/lock.h"
#include "writeback/parts.h"

namespace untorn {

class Checkpointer {
 public:
  explicit Checkpointer(const Parts& parts) : parts_(parts) {}

  // Returns once a checkpoint is made that began after this call. Another thread may be the one that makes
  // the checkpoint. Releases the lock. After an error the store has failed.
  absl::Status Checkpoint(Lock& lock) REQUIRES_STORE_LOCK;
  // The checkpointer calls `after` when a checkpoint is made, before the next one can begin.
  void SetAfterCheckpoint(std::function<void()> after) { after_checkpoint_ = std::move(after); }
  // True while a checkpoint is being made.
  bool running() const REQUIRES_STORE_LOCK { return running_; }
  // Returns how many free blocks a store has prepared ahead of use, if so many are prepared in all.
  static BlockCount PrepareAhead(BlockCount prepared);
  // Returns how many changes a checkpoint waits for at most.
  static uint64_t ChangesMax(BlockCount tree_nodes);
  // True if Step() has something to do.
  bool StepDue() const REQUIRES_STORE_LOCK {
    return GrowthDue() || CheckpointDue() || PrepareDue() || LoadDue();
  }
  // Makes a checkpoint, prepares a step of space, or loads a part of the free-space map, if one of them is due. Returns
  // false if none is due, or if the step failed.
  bool Step(Lock& lock) REQUIRES_STORE_LOCK;

 private:
  bool CheckpointDue() const REQUIRES_STORE_LOCK;
  // True if the delta has enough changes for a checkpoint.
  bool ChangesDue() const REQUIRES_STORE_LOCK;
  // True if writes may soon find no prepared blocks.
  bool PrepareDue() const REQUIRES_STORE_LOCK;
  // True if the store is to grow so that free runs are longer.
  bool GrowthDue() const REQUIRES_STORE_LOCK;
  bool MayPrepare() const REQUIRES_STORE_LOCK;
  // True if what is in memory of the free-space map has no long runs for lanes, and more can be loaded.
  bool LoadDue() const REQUIRES_STORE_LOCK;
  bool PrepareStep(Lock& lock) REQUIRES_STORE_LOCK;

  const Parts parts_;
  std::function<void()> after_checkpoint_ = [] {};
  bool running_ GUARDED_BY_STORE_LOCK = false;
  uint64_t begun_ GUARDED_BY_STORE_LOCK = 0, done_ GUARDED_BY_STORE_LOCK = 0;  // numbers of checkpoints
  uint64_t grow_at_bytes_written_ GUARDED_BY_STORE_LOCK = 0;
  // The file system below is full, so the background does not try again to prepare space.
  bool prepare_failed_ GUARDED_BY_STORE_LOCK = false;
  bool load_failed_ GUARDED_BY_STORE_LOCK = false;  // a part of the free-space map cannot be read
  int loads_ GUARDED_BY_STORE_LOCK = 0;             // of parts that lanes needed
};

// The checkpointer prepares space in steps of this many blocks.
inline constexpr BlockCount kPrepareStepBlocks = BlocksFor(4 << 20);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_CHECKPOINTER_H_
