// A mutex of one class, for fields that are ABSL_GUARDED_BY it. Clang checks its use, as that of base/lock.h.
//
// libstdc++ does not annotate std::mutex. absl::Mutex is annotated, but Debian's is built without the thread
// sanitizer, which would then report every use as a race.
#ifndef UNTORN_BASE_MUTEX_H_
#define UNTORN_BASE_MUTEX_H_

#include <mutex>

#include "absl/base/thread_annotations.h"

namespace untorn {

class ABSL_LOCKABLE Mutex {
 private:
  friend class MutexLock;
  std::mutex mu_;
};

// Holds the mutex for the life of this object.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : lock_(mu.mu_) {}
  ~MutexLock() ABSL_UNLOCK_FUNCTION() {}
  MutexLock(const MutexLock&) = delete;
  // For condition variables.
  std::unique_lock<std::mutex>& unique_lock() { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace untorn

#endif  // UNTORN_BASE_MUTEX_H_
