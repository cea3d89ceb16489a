// A fork guard tells a fork()ed child from the process that opened the store.
#ifndef UNTORN_STORE_FORK_GUARD_H_
#define UNTORN_STORE_FORK_GUARD_H_

#include <cstdint>

#include "absl/status/status.h"

namespace untorn::internal {

class ForkGuard {
 public:
  ForkGuard();
  // Returns kFailedPrecondition in a fork()ed child of the process that made the guard. Every call of the
  // store checks this first, without the lock: in the child the lock may be held for ever.
  absl::Status CheckProcess() const;

 private:
  uint64_t generation_;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_FORK_GUARD_H_
