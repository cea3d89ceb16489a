// The one way on which change sets become durable:
//
//     select → plan → place → build → send → (commit queue) → complete
//
// Invariants
//  1. One thread at a time sends a commit, so records enter the log in the order in which their change sets were
//     frozen.
//  2. A change set is not sent while anything is committing that it overlaps, that is ordered before it by
//     metadata of the same object, or that went in place in an earlier barrier epoch (MustWait,
//     CommitQueue::InPlaceBefore).
//  3. After the first failure of a write or flush nothing is sent any more; every waiter gets the failure.
//
// Threading: one mutex, released during I/O, hashing and encoding.
#ifndef UNTORN_WRITEBACK_COMMITTER_H_
#define UNTORN_WRITEBACK_COMMITTER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/lock.h"
#include "base/readiness.h"
#include "writeback/batch_selector.h"
#include "writeback/checkpointer.h"
#include "writeback/commit_queue.h"
#include "writeback/parts.h"
#include "writeback/plan.h"

namespace untorn {

struct CommitterOptions {
  WritePolicy policy = WritePolicy::kAutomatic;
  AtomicLimits limits;
  BlockCount dirty_limit_blocks;  // from half of it on, writeback begins by itself
  bool background = false;        // a thread calls WriteBack(), also for what has become old
};

class Committer {
 public:
  Committer(const Parts& parts, Checkpointer& checkpointer, const CommitterOptions& options);
  Committer(const Committer&) = delete;

  // Returns once all these change sets are durable. An error is the store's failure.
  absl::Status Sync(Lock& lock, ChangeSetRefs sets) REQUIRES_STORE_LOCK;
  absl::Status SyncAll(Lock& lock) REQUIRES_STORE_LOCK;
  // All change sets, pending and committing, that `filter` accepts.
  ChangeSetRefs SetsWhere(absl::FunctionRef<bool(const ChangeSet&)> filter) const REQUIRES_STORE_LOCK;
  // Asks for a pending change set to be sent soon, without waiting for it. The caller wakes the background thread.
  void Want(const ChangeSetRef& set) REQUIRES_STORE_LOCK;

  // Sends one commit of what nobody waits for, if it is due. False: nothing was sent.
  bool WriteBack(Lock& lock) REQUIRES_STORE_LOCK;
  // Whether WriteBack() has something to do: much is dirty, or (in the background) something has become old.
  bool WriteBackDue() const REQUIRES_STORE_LOCK { return DirtyDue() || AgedDue(); }
  bool DirtyDue() const REQUIRES_STORE_LOCK;
  // Whether something is wanted that nobody waits for, and can be sent.
  bool WantedDue() const REQUIRES_STORE_LOCK { return async_wanted_ && CanSend(); }
  // Waits while more than the limit is dirty.
  Readiness AwaitCleanSpace(Lock& lock) REQUIRES_STORE_LOCK;

  // Milliseconds of a steady clock; 0 where there is no background thread to look at it.
  int64_t NowMs() const;
  // Called when the background may have found itself unable to do before what it can do now.
  void SetServeBackground(std::function<void()> serve) REQUIRES_STORE_LOCK {
    serve_background_ = std::move(serve);
  }
  const CommitterOptions& options() const { return options_; }
  // The largest number of log blocks one commit may take.
  BlockCount log_blocks_max() const REQUIRES_STORE_LOCK { return parts_.volume.geometry().log_blocks / 2; }

  // Stops the process if a numbered invariant of this class or of the commit queue does not hold.
  void CheckInvariants() const REQUIRES_STORE_LOCK;

 private:
  enum class Sent { kBatch, kNothing };

  bool CanSend() const REQUIRES_STORE_LOCK;
  bool TooMuchDirty() const REQUIRES_STORE_LOCK {
    return parts_.fork.dirty_blocks() > options_.dirty_limit_blocks;
  }
  // Waits for `ready`, or for the failure of the store.
  void WaitUntil(Lock& lock, absl::FunctionRef<bool()> ready) REQUIRES_STORE_LOCK {
    parts_.pump.Wait(lock, [&]() REQUIRES_STORE_LOCK { return ready() || parts_.health.failed(); });
  }
  bool AgedDue() const REQUIRES_STORE_LOCK;
  // Sends one commit. False: there was nothing that could be sent, or the store has failed.
  bool Send(Lock& lock, Take take) REQUIRES_STORE_LOCK;
  Sent SendBatch(Lock& lock, Take take) REQUIRES_STORE_LOCK;
  Readiness SelectAndPlan(Lock& lock, Take take, bool* settled, Plan* plan,
                          LogReservation* log) REQUIRES_STORE_LOCK;
  Readiness AwaitMappings(Lock& lock, std::span<const ChangeSetRef> sets) REQUIRES_STORE_LOCK;
  Readiness AwaitLogRoom(Lock& lock, BlockCount blocks, LogReservation* log) REQUIRES_STORE_LOCK;
  Commit& FreezeBatch(const Plan& plan) REQUIRES_STORE_LOCK;
  absl::StatusOr<CowPieces> Place(Lock& lock, const Plan& plan) REQUIRES_STORE_LOCK;
  absl::Status Settle(Lock& lock) REQUIRES_STORE_LOCK;
  void TellFailure(const absl::Status& failure) REQUIRES_STORE_LOCK;

  const Parts parts_;
  Checkpointer& checkpointer_;
  const CommitterOptions options_;
  CommitQueue queue_ GUARDED_BY_STORE_LOCK;
  std::function<void()> serve_background_ GUARDED_BY_STORE_LOCK = [] {};
  bool sending_ GUARDED_BY_STORE_LOCK = false;
  bool batch_was_full_ GUARDED_BY_STORE_LOCK = false;  // the last commit's: there was more
  uint64_t nothing_to_send_at_ GUARDED_BY_STORE_LOCK =
      UINT64_MAX;  // the progress when of what is wanted nothing could be sent
  WantedSets wanted_ GUARDED_BY_STORE_LOCK;
  bool async_wanted_ GUARDED_BY_STORE_LOCK = false;  // something in wanted_ has nobody who waits
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_COMMITTER_H_
