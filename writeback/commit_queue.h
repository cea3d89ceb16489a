// The commits in flight, in the order in which they were sent: from their first write to their acknowledgement.
//
// Invariants
//  1. A commit is flushed by a flush submitted after all its writes completed.
//  2. Commits with a record become durable in the order of their LSNs.
//  3. After the first failure of a write or flush nothing is acknowledged any more.
//
// Threading: guarded by the store's mutex. Completions run with it held.
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

  // `refused` is called for a change set that the device would not write whole in place: it is pending again, and its
  // writers still wait for it. `advanced` is called when something became durable.
  void SetListeners(std::function<void(const ChangeSetRef&)> refused,
                    std::function<void()> advanced) REQUIRES_STORE_LOCK {
    on_refused_ = std::move(refused);
    on_advanced_ = std::move(advanced);
  }

  size_t size() const REQUIRES_STORE_LOCK { return commits_.size(); }
  bool empty() const REQUIRES_STORE_LOCK { return commits_.empty(); }
  // Whether something of an earlier barrier epoch is in flight; in place.
  bool AnyBefore(BarrierEpoch epoch) const REQUIRES_STORE_LOCK;
  bool InPlaceBefore(BarrierEpoch epoch) const REQUIRES_STORE_LOCK;
  void ForEachSet(absl::FunctionRef<void(const ChangeSetRef&)> fn) const REQUIRES_STORE_LOCK;

  // A commit to be filled: one that is done with, so that its memory is used again, or a new one.
  std::unique_ptr<Commit> NewCommit() REQUIRES_STORE_LOCK;
  // Takes a commit whose change sets are frozen. Its writes follow: the data may go first.
  Commit& Begin(std::unique_ptr<Commit> commit) REQUIRES_STORE_LOCK;
  void QueueData(Commit& commit) REQUIRES_STORE_LOCK;
  // Queues what is not queued yet, its log record included.
  void Send(Commit& commit) REQUIRES_STORE_LOCK;

  // Stops the process if a numbered invariant does not hold.
  void CheckInvariants() const REQUIRES_STORE_LOCK;

 private:
  static void OnWriteDone(IoRequest* request) REQUIRES_STORE_LOCK;
  void Queue(Commit& commit, Commit::Write& write) REQUIRES_STORE_LOCK;
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
  bool refusal_told_ GUARDED_BY_STORE_LOCK = false;  // that the device refuses atomic writes
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_COMMIT_QUEUE_H_
