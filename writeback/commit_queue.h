// The commit queue holds the commits in flight, in the order in which the commits were sent. A commit is in
// flight from its first write to its acknowledgement.
//
// Invariants
//  1. A commit is flushed by a flush that was submitted after all writes of the commit had completed. Or it is
//     one write, sent with no other commit in flight, that is durable by itself.
//  2. Commits with a record become durable in the order of their LSNs.
//  3. After the first failure of a write or flush nothing is acknowledged any more.
//
// Threading: the store's mutex guards the queue. Completion functions run with the mutex held.
#ifndef UNTORN_WRITEBACK_COMMIT_QUEUE_H_
#define UNTORN_WRITEBACK_COMMIT_QUEUE_H_

#include <deque>
#include <functional>
#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/lock.h"
#include "writeback/commit.h"
#include "writeback/parts.h"

namespace untorn {

class CommitQueue {
 public:
  explicit CommitQueue(const Parts& parts) : parts_(parts) {}
  CommitQueue(const CommitQueue&) = delete;

  // The queue calls `refused` for a change set that the device did not write whole in place. The set is
  // pending again, and its writers still wait for it. The queue calls `advanced` when something became
  // durable, or when the device refused something.
  void SetListeners(std::function<void(const ChangeSetRef&)> refused,
                    std::function<void()> advanced) REQUIRES_STORE_LOCK {
    on_refused_ = std::move(refused);
    on_advanced_ = std::move(advanced);
  }

  size_t size() const REQUIRES_STORE_LOCK { return commits_.size(); }
  bool empty() const REQUIRES_STORE_LOCK { return commits_.empty(); }
  // True if a commit in flight has a change set of an earlier barrier epoch. InPlaceBefore() looks only at
  // commits that go in place.
  bool AnyBefore(BarrierEpoch epoch) const REQUIRES_STORE_LOCK;
  bool InPlaceBefore(BarrierEpoch epoch) const REQUIRES_STORE_LOCK;
  void ForEachSet(absl::FunctionRef<void(const ChangeSetRef&)> fn) const REQUIRES_STORE_LOCK;

  // Returns an empty commit. The queue keeps one finished commit, so that its memory is used again.
  std::unique_ptr<Commit> NewCommit() REQUIRES_STORE_LOCK;
  // Takes a commit whose change sets are frozen. The writes of the commit follow, and the data may go first.
  Commit& Begin(std::unique_ptr<Commit> commit) REQUIRES_STORE_LOCK;
  void QueueData(Commit& commit) REQUIRES_STORE_LOCK;
  // Queues all writes of the commit that are not queued yet, its log records included.
  void Send(Commit& commit) REQUIRES_STORE_LOCK;

  // Stops the process if a numbered invariant does not hold.
  void CheckInvariants() const REQUIRES_STORE_LOCK;

 private:
  static void OnWriteDone(IoRequest* request) REQUIRES_STORE_LOCK;
  void Queue(Commit& commit, Commit::Write& write) REQUIRES_STORE_LOCK;
  // Returns true if the commit is one write, which names no data written before, and no other commit is in
  // flight. A flush would serve this write alone.
  bool NeedsNoFlush(const Commit& commit) const REQUIRES_STORE_LOCK;
  void Written(Commit& commit) REQUIRES_STORE_LOCK;
  void TakeBackRefused(Commit& commit) REQUIRES_STORE_LOCK;
  void StartFlush() REQUIRES_STORE_LOCK;
  void Flushed(const absl::Status& status) REQUIRES_STORE_LOCK;
  void Advance() REQUIRES_STORE_LOCK;
  void Finish(Commit& commit) REQUIRES_STORE_LOCK;

  const Parts parts_;
  std::function<void(const ChangeSetRef&)> on_refused_ GUARDED_BY_STORE_LOCK;
  std::function<void()> on_advanced_ GUARDED_BY_STORE_LOCK;
  std::deque<std::unique_ptr<Commit>> commits_ GUARDED_BY_STORE_LOCK;  // in order of sending
  std::unique_ptr<Commit> spare_ GUARDED_BY_STORE_LOCK;
  IoRequest flush_ GUARDED_BY_STORE_LOCK;
  bool flushing_ GUARDED_BY_STORE_LOCK = false;
  bool refusal_told_ GUARDED_BY_STORE_LOCK = false;  // the log callback has the warning about refusals
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_COMMIT_QUEUE_H_
