// The committer is the one way on which change sets become durable:
//
//     select → plan → place → build → send → (commit queue) → complete
//
// Invariants
//  1. One thread at a time sends a commit. So records enter the log in the order of freezing.
//  2. A change set waits while a committing set overlaps it, or while metadata of one object puts a
//     committing set before it (MustWait). A set also waits while a set of an earlier barrier epoch is
//     committing in place (CommitQueue::InPlaceBefore).
//  3. After the first failure of a write or flush nothing is sent any more. Every waiter gets the failure.
//
// Threading: the store's mutex guards the committer. The mutex is released during I/O, hashing and encoding.
#ifndef UNTORN_WRITEBACK_COMMITTER_H_
#define UNTORN_WRITEBACK_COMMITTER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/aligned_buffer.h"
#include "base/lock.h"
#include "base/readiness.h"
#include "writeback/batch_selector.h"
#include "writeback/checkpointer.h"
#include "writeback/commit_queue.h"
#include "writeback/parts.h"
#include "writeback/plan.h"
#include "writeback/planner.h"

namespace untorn {

struct CommitterOptions {
  WritePolicy policy = WritePolicy::kAutomatic;
  AtomicLimits limits;
  BlockCount dirty_limit_blocks;  // writeback begins by itself at half of this
  bool background = false;        // a thread calls WriteBack(), also for changes that have become old
};

class Committer {
 public:
  Committer(const Parts& parts, Checkpointer& checkpointer, const CommitterOptions& options);
  Committer(const Committer&) = delete;

  // Returns once all these change sets are durable. An error is the failure of the store. Releases the lock.
  absl::Status Sync(Lock& lock, ChangeSetRefs sets) REQUIRES_STORE_LOCK {
    return Sync(lock, std::move(sets), /*waits_for_space=*/true);
  }
  absl::Status SyncAll(Lock& lock) REQUIRES_STORE_LOCK;
  // Is Sync(), but does not wait for space in the file system below.
  //  kResourceExhausted  there is none. The sets become durable when there is.
  absl::Status SyncWithSpace(Lock& lock, ChangeSetRefs&& sets) REQUIRES_STORE_LOCK {
    return Sync(lock, std::move(sets), /*waits_for_space=*/false);
  }
  // Returns all change sets, pending and committing, that `filter` accepts.
  ChangeSetRefs SetsWhere(absl::FunctionRef<bool(const ChangeSet&)> filter) const REQUIRES_STORE_LOCK;
  ChangeSetRefs AllSets() const REQUIRES_STORE_LOCK {
    return SetsWhere([](const ChangeSet&) { return true; });
  }
  // Asks for a pending change set to be sent soon, without a wait. The caller wakes the background thread.
  void Want(const ChangeSetRef& set) REQUIRES_STORE_LOCK;

  // Sends one commit: of wanted change sets first, otherwise of the oldest if writeback is due. Returns false
  // if nothing was sent.
  bool WriteBack(Lock& lock) REQUIRES_STORE_LOCK;
  // True if a commit can be sent, and much is dirty or (with a background thread) something has become old.
  bool WriteBackDue() const REQUIRES_STORE_LOCK { return DirtyDue() || AgedDue(); }
  bool DirtyDue() const REQUIRES_STORE_LOCK;
  // True if a commit can be sent for a wanted change set for which no thread waits.
  bool WantedDue() const REQUIRES_STORE_LOCK { return async_wanted_ && CanSend(); }
  // Waits while more than the dirty limit is dirty. Sends commits meanwhile.
  Readiness AwaitCleanSpace(Lock& lock) REQUIRES_STORE_LOCK;

  // True if the log is much shorter than it should be in a store that has grown.
  bool LogGrowthDue() const REQUIRES_STORE_LOCK { return LogBlocksDue(0) > 0; }
  // Moves the log to a longer run, if that is due or needed for a commit of so many blocks, and if there is space. Releases
  // the lock. Nothing is sent meanwhile. An error is the failure of the store.
  absl::Status GrowLog(Lock& lock, BlockCount commit_blocks = 0) REQUIRES_STORE_LOCK;

  // Moves the log to a run of the same length before the withdrawn blocks, if it lies in these.
  //  kResourceExhausted  there is no such run
  absl::Status MoveLogOutOfWithdrawn(Lock& lock) REQUIRES_STORE_LOCK;
  // Ends the store before the withdrawn blocks (Volume::Shrink). Releases the lock. Nothing is sent meanwhile.
  //  kResourceExhausted  others use the blocks, or need them
  absl::Status Shrink(Lock& lock, BlockCount total_blocks) REQUIRES_STORE_LOCK;

  // Returns milliseconds of a steady clock. Returns 0 if there is no background thread that looks at ages.
  int64_t NowMs() const;
  // The committer calls `serve` when the background thread may have something to do that could not be done
  // before the call.
  void SetServeBackground(std::function<void()> serve) REQUIRES_STORE_LOCK {
    serve_background_ = std::move(serve);
  }
  const CommitterOptions& options() const { return options_; }
  // Returns the largest number of log blocks that one commit may take.
  BlockCount log_blocks_max() const REQUIRES_STORE_LOCK { return parts_.volume.geometry().log.count / 2; }

  // Stops the process if a numbered invariant of this class or of the commit queue does not hold.
  void CheckInvariants() const REQUIRES_STORE_LOCK;

 private:
  enum class Sent { kBatch, kNothing };

  bool CanSend() const REQUIRES_STORE_LOCK;
  bool TooMuchDirty() const REQUIRES_STORE_LOCK {
    return parts_.fork.dirty_blocks() > options_.dirty_limit_blocks;
  }
  bool AgedDue() const REQUIRES_STORE_LOCK;
  // Sends one commit. Returns false if nothing could be sent, or if the store has failed.
  bool Send(Lock& lock, Take take) REQUIRES_STORE_LOCK;
  Sent SendBatch(Lock& lock, Take take) REQUIRES_STORE_LOCK;
  // Holds what one send has learned in its turns.
  struct Attempt {
    int settlings = 0;
    bool tree_damaged = false;  // the rest of the attempt looks up no mappings
    MappingsKnown mappings_known = MappingsKnown::kAll;
    // Lives from the first node that was missing until the attempt waits for something else. A checkpoint that is made
    // meanwhile would leave the whole tree in the cache.
    std::optional<NodeCache::Hold> hold;
  };
  Readiness SelectAndPlan(Lock& lock, Take take, Attempt* attempt, Plan* plan,
                          LogReservation* log) REQUIRES_STORE_LOCK;
  Readiness AwaitMappings(Lock& lock, std::span<const ChangeSetRef> sets, Attempt* attempt,
                          AllMappings* found) REQUIRES_STORE_LOCK;
  absl::Status LoadNodes(Lock& lock, const MissingNodes& missing, Attempt* attempt) REQUIRES_STORE_LOCK;
  Readiness AwaitLogRoom(Lock& lock, BlockCount blocks, LogReservation* log) REQUIRES_STORE_LOCK;
  Commit& FreezeBatch(const Plan& plan) REQUIRES_STORE_LOCK;
  // Says whether the plan may be one write of data and record, in a lane. Its entries may still be too many.
  bool MayGoToLane(const Plan& plan) const REQUIRES_STORE_LOCK;
  // Says where a commit is in a lane.
  struct InLane {
    std::optional<Extent> data;  // nullopt: the lane has no room
    BlockCount record_blocks;    // the room for the record
    BlockCount blocks;           // of both
    BlockCount alignment;        // of the data
  };
  // Gives every block of the plan's copy-on-write change sets its place. With `lane`, the data goes to a lane if there is
  // room.
  absl::StatusOr<CowPieces> Place(Lock& lock, const Plan& plan, InLane* lane) REQUIRES_STORE_LOCK;
  // Gives the commit's record its place: behind its data in the lane, or in the ring.
  void BeginRecord(LogReservation room, std::vector<LogEntry> entries, bool lane_wanted, const InLane& lane,
                   Commit* commit) REQUIRES_STORE_LOCK;
  // Finds the entries that open the blocks of the only set of the plan, and closed blocks near them. Finds none if there
  // is no space for them in the tree. `room` gets that space.
  Readiness AwaitOpenings(Lock& lock, const ChangeSet& set, Attempt* attempt, std::vector<LogEntry>* entries,
                          Reservation* room) REQUIRES_STORE_LOCK;
  // Sends a record of these entries, or a settling record without entries. Waits until the record is durable.
  absl::Status Settle(Lock& lock, std::vector<LogEntry> entries) REQUIRES_STORE_LOCK;
  // Returns how long the log should become, or 0.
  BlockCount LogBlocksDue(BlockCount commit_blocks) const REQUIRES_STORE_LOCK;
  // Takes a longer run for the log, and zeros it durably. Returns nullopt if there is none.
  absl::StatusOr<std::optional<Extent>> TakeLongerLog(Lock& lock, BlockCount blocks) REQUIRES_STORE_LOCK;
  // Zeros a run that TakeLog() has taken. Gives it back, and returns false, if the file system below has no space.
  absl::StatusOr<bool> ZeroLog(Lock& lock, Extent run) REQUIRES_STORE_LOCK;
  // Moves the log to a run that is zero. An error is the failure of the store.
  absl::Status MoveLog(Lock& lock, Extent run) REQUIRES_STORE_LOCK;
  // Makes a checkpoint that holds all records: none is on its way. `ask` says what else the checkpoint does.
  absl::Status HoldAndCheckpoint(Lock& lock, absl::FunctionRef<absl::Status()> ask) REQUIRES_STORE_LOCK;
  // Lets others send again.
  void EndHold() REQUIRES_STORE_LOCK;
  absl::Status Sync(Lock& lock, ChangeSetRefs&& sets, bool waits_for_space) REQUIRES_STORE_LOCK;
  void TellFailure(const absl::Status& failure) REQUIRES_STORE_LOCK;

  const Parts parts_;
  Checkpointer& checkpointer_;
  const CommitterOptions options_;
  CommitQueue queue_ GUARDED_BY_STORE_LOCK;
  std::function<void()> serve_background_ GUARDED_BY_STORE_LOCK = [] {};
  bool sending_ GUARDED_BY_STORE_LOCK = false;
  // A thread gives the log another place. With hold_ set, it waits for its turn to send.
  bool growing_log_ GUARDED_BY_STORE_LOCK = false;
  bool hold_ GUARDED_BY_STORE_LOCK = false;
  // Holds how many blocks were prepared when there was no run for a longer log.
  BlockCount no_longer_log_at_ GUARDED_BY_STORE_LOCK;
  // Holds the data of the commit that is in a lane. There is one such commit at a time, because it needs no flush only if
  // it is alone. So its sender is the only one who uses the memory.
  AlignedBuffer gathered_;
  bool batch_was_full_ GUARDED_BY_STORE_LOCK = false;  // the last commit left candidates behind
  // Holds the progress count at which none of the wanted change sets could be sent.
  uint64_t nothing_to_send_at_ GUARDED_BY_STORE_LOCK = UINT64_MAX;
  WantedSets wanted_ GUARDED_BY_STORE_LOCK;
  bool async_wanted_ GUARDED_BY_STORE_LOCK = false;  // a set in wanted_ may have no thread that waits
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_COMMITTER_H_
