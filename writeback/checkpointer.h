// When checkpoints are made and space is prepared ahead of use, and that one checkpoint is made at a time.
//
// Threading: guarded by the store's mutex.
#ifndef UNTORN_WRITEBACK_CHECKPOINTER_H_
#define UNTORN_WRITEBACK_CHECKPOINTER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "base/lock.h"
#include "writeback/parts.h"

namespace untorn {

class Checkpointer {
 public:
  explicit Checkpointer(const Parts& parts) : parts_(parts) {}

  // Returns once a checkpoint is made that began after this call: its own, or one that another thread makes meanwhile.
  // Releases the lock. An error has failed the store.
  absl::Status Checkpoint(Lock& lock) REQUIRES_STORE_LOCK;
  // Whether a checkpoint is being made.
  bool running() const REQUIRES_STORE_LOCK { return running_; }
  // Whether Step() has something to do.
  bool StepDue() const REQUIRES_STORE_LOCK { return CheckpointDue() || PrepareDue(); }
  // A checkpoint, or a step of preparing space, if either is due. False: neither was, or it failed.
  bool Step(Lock& lock) REQUIRES_STORE_LOCK;

 private:
  bool CheckpointDue() const REQUIRES_STORE_LOCK;
  bool PrepareDue() const REQUIRES_STORE_LOCK;
  bool PrepareStep(Lock& lock) REQUIRES_STORE_LOCK;

  const Parts parts_;
  bool running_ GUARDED_BY_STORE_LOCK = false;
  uint64_t begun_ GUARDED_BY_STORE_LOCK = 0, done_ GUARDED_BY_STORE_LOCK = 0;  // checkpoints
  uint64_t grow_at_bytes_written_ GUARDED_BY_STORE_LOCK = 0;
  bool prepare_failed_ GUARDED_BY_STORE_LOCK =
      false;  // the file system below is full: not tried again in the background
};

// Space is prepared in steps of so many blocks.
inline constexpr BlockCount kPrepareStepBlocks = BlocksFor(4 << 20);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_CHECKPOINTER_H_
