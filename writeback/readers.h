// Readers serves the processes that read the store while this one has it open for writing (extent/lease.h).
//
// Invariants
//  1. The blocks of a checkpoint are protected before its lease is granted, and until the lease is revoked.
//  2. From before the checkpoint that is going to be leased until its blocks are protected, no overwrite in place begins or
//     is in flight. So the checkpoint is a state that the store had, and stays as it is.
//
// Threading: the store's mutex guards the object.
#ifndef UNTORN_WRITEBACK_READERS_H_
#define UNTORN_WRITEBACK_READERS_H_

#include <chrono>
#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "base/lock.h"
#include "extent/lease.h"
#include "writeback/checkpointer.h"
#include "writeback/parts.h"

namespace untorn {

class Readers {
 public:
  Readers(const Parts& parts, Checkpointer& checkpointer);

  // Tells other processes that they may read. From then on Step() must be called now and then.
  absl::Status Announce() REQUIRES_STORE_LOCK;
  // Ends leases that nobody uses, and grants a lease if a reader has asked for one. Releases the lock for the checkpoint. If
  // overwrites in place must end first, a later call goes on.
  void Step(Lock& lock) REQUIRES_STORE_LOCK;
  // Revokes all leases, so that the blocks that only they keep are free. Returns false if no block becomes free.
  bool RevokeAll() REQUIRES_STORE_LOCK;
  // While a Hold lives, no lease is granted, and readers wait. Must be destroyed with the lock held.
  class Hold {
   public:
    explicit Hold(Readers& readers) REQUIRES_STORE_LOCK : readers_(readers) { ++readers_.holds_; }
    ~Hold() REQUIRES_STORE_LOCK { --readers_.holds_; }
    Hold(const Hold&) = delete;

   private:
    Readers& readers_;
  };
  size_t leases() const REQUIRES_STORE_LOCK { return leases_.size(); }
  // Returns how soon Step() may have something to do.
  std::chrono::milliseconds StepInterval() const REQUIRES_STORE_LOCK;

 private:
  using Clock = std::chrono::steady_clock;
  struct Lease {
    Generation checkpoint;
    Clock::time_point granted;
    bool was_used = false;
  };

  void EndUnused() REQUIRES_STORE_LOCK;
  absl::Status Grant() REQUIRES_STORE_LOCK;
  // Returns false if the lease cannot be revoked now.
  bool End(const Lease& lease) REQUIRES_STORE_LOCK;
  template <typename Which>
  void EndWhere(Which which) REQUIRES_STORE_LOCK;

  const Parts parts_;
  Checkpointer& checkpointer_;
  LeaseGrantor grantor_;
  bool announced_ GUARDED_BY_STORE_LOCK = false;
  int holds_ GUARDED_BY_STORE_LOCK = 0;
  std::vector<Lease> leases_ GUARDED_BY_STORE_LOCK;  // the oldest first
  Clock::time_point asked_ GUARDED_BY_STORE_LOCK;    // when a reader last wanted something
  int rounds_asked_ GUARDED_BY_STORE_LOCK = 0;       // in a row, at each of which somebody has asked
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_READERS_H_
