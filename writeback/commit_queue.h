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
#include "writeback/commit.h"
#include "writeback/parts.h"

namespace untorn {

class CommitQueue {
 public:
  explicit CommitQueue(const Parts& parts) : parts_(parts) {}
  CommitQueue(const CommitQueue&) = delete;

  // `refused` is called for a change set that the device would not write whole in place: it is pending again, and its
  // writers still wait for it. `advanced` is called when something became durable.
  void SetListeners(std::function<void(const ChangeSetRef&)> refused, std::function<void()> advanced) {
    on_refused_ = std::move(refused);
    on_advanced_ = std::move(advanced);
  }

  size_t size() const { return commits_.size(); }
  bool empty() const { return commits_.empty(); }
  // Whether something of an earlier barrier epoch is in flight; in place.
  bool AnyBefore(BarrierEpoch epoch) const;
  bool InPlaceBefore(BarrierEpoch epoch) const;
  void ForEachSet(absl::FunctionRef<void(const ChangeSetRef&)> fn) const;

  // A commit to be filled: one that is done with, so that its memory is used again, or a new one.
  std::unique_ptr<Commit> NewCommit();
  // Takes a commit whose change sets are frozen. Its writes follow: the data may go first.
  Commit& Begin(std::unique_ptr<Commit> commit);
  void QueueData(Commit& commit);
  // Queues what is not queued yet, its log record included.
  void Send(Commit& commit);

  // Stops the process if a numbered invariant does not hold.
  void CheckInvariants() const;

 private:
  static void OnWriteDone(IoRequest* request);
  void Queue(Commit& commit, Commit::Write& write);
  void Written(Commit& commit);
  void TakeBackRefused(Commit& commit);
  void StartFlush();
  void Flushed(const absl::Status& status);
  void Advance();
  void Finish(Commit& commit);

  const Parts parts_;
  std::function<void(const ChangeSetRef&)> on_refused_;
  std::function<void()> on_advanced_;
  std::deque<std::unique_ptr<Commit>> commits_;  // in order of sending
  std::unique_ptr<Commit> spare_;
  IoRequest flush_;
  bool flushing_ = false;
  bool refusal_told_ = false;  // that the device refuses atomic writes
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_COMMIT_QUEUE_H_
