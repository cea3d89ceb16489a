#include "store/fork_guard.h"

#include <pthread.h>

#include <atomic>

namespace untorn::internal {
namespace {

// Counts the fork()s of this process and of its ancestors. So a child has another number than its parent had
// at open.
std::atomic<uint64_t> fork_generation{0};

}  // namespace

ForkGuard::ForkGuard() {
  static const int once = pthread_atfork(nullptr, nullptr, [] { fork_generation.fetch_add(1); });
  (void)once;
  generation_ = fork_generation.load();
}

absl::Status ForkGuard::CheckProcess() const {
  if (fork_generation.load(std::memory_order_relaxed) == generation_) return absl::OkStatus();
  return absl::FailedPreconditionError("the store was opened by a process that this one was forked from");
}

}  // namespace untorn::internal
