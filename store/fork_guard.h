// Tells a child of fork() from the process that opened the store.
#ifndef UNTORN_STORE_FORK_GUARD_H_
#define UNTORN_STORE_FORK_GUARD_H_

#include <cstdint>

#include "absl/status/status.h"

namespace untorn::internal {

class ForkGuard {
 public:
  ForkGuard();
  // kFailedPrecondition in a child of the process that made the guard. Called first by every call, without the lock.
  absl::Status CheckProcess() const;

 private:
  uint64_t generation_;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_FORK_GUARD_H_
