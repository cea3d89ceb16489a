// The store's lock, as a value: who has one in its hands holds the mutex, or has just let go of it.
//
// A function that takes a Lock& is called with the mutex held, and returns with it held. In between it may
// release the mutex: whatever the mutex guards may have changed when such a function returns. A function that
// takes a const Lock& keeps the mutex.
//
// Clang checks at compile time who holds the mutex (tools/check_locks). Clang compares names, and a store's mutex
// has many. So one tag, `store_mutex`, stands for the mutex of the store at hand. The check has two limits:
//  1. The check does not see that a function takes the lock of one store and touches another store.
//  2. The check does not follow a function object or a function pointer. So a lambda that runs with the lock held
//     says so (REQUIRES_STORE_LOCK), and the function that calls the lambda says the same. The lambda does not
//     assert that: the predicate of a wait runs on other threads too, and they hold the mutex by Locks of their own.
#ifndef UNTORN_BASE_LOCK_H_
#define UNTORN_BASE_LOCK_H_

#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/check.h"

namespace untorn {

class ABSL_LOCKABLE StoreMutexTag {};
inline constexpr StoreMutexTag store_mutex;

// For a field: it is used with the lock held. For a reference: what it refers to is.
#define GUARDED_BY_STORE_LOCK ABSL_GUARDED_BY(::untorn::store_mutex)
// For a pointer: what it points to is used with the lock held.
#define PT_GUARDED_BY_STORE_LOCK ABSL_PT_GUARDED_BY(::untorn::store_mutex)
// For a function: it is called with the lock held, and returns with the lock held.
#define REQUIRES_STORE_LOCK ABSL_EXCLUSIVE_LOCKS_REQUIRED(::untorn::store_mutex)
// For a function: it is called without the lock, and takes the lock itself.
#define EXCLUDES_STORE_LOCK ABSL_LOCKS_EXCLUDED(::untorn::store_mutex)

// ABSL_UNLOCK_FUNCTION on a constructor does not tell clang that the destructor locks again. This does.
#if ABSL_HAVE_ATTRIBUTE(release_capability)
#define UNTORN_RELEASES_STORE_LOCK __attribute__((release_capability(::untorn::store_mutex)))
#else
#define UNTORN_RELEASES_STORE_LOCK
#endif

class ABSL_SCOPED_LOCKABLE Lock {
 public:
  // Holds no mutex until another Lock is moved here.
  Lock() = default;
  explicit Lock(std::mutex& mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(::untorn::store_mutex) : lock_(mu) {}
  // Does not take the mutex yet.
  Lock(std::mutex& mu, std::defer_lock_t deferred) EXCLUDES_STORE_LOCK : lock_(mu, deferred) {}
  Lock(Lock&& other) = default;
  Lock& operator=(Lock&& other) = default;
  ~Lock() ABSL_UNLOCK_FUNCTION() {}

  // Clang does not know that `lock_` is the mutex that the tag stands for.
  void lock() ABSL_EXCLUSIVE_LOCK_FUNCTION(::untorn::store_mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    lock_.lock();
  }
  void unlock() ABSL_UNLOCK_FUNCTION(::untorn::store_mutex) ABSL_NO_THREAD_SAFETY_ANALYSIS { lock_.unlock(); }
  bool owns_lock() const { return lock_.owns_lock(); }
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK(::untorn::store_mutex) {
    UNTORN_CHECK(owns_lock(), "the store's lock is not held");
  }
  // For condition variables.
  std::unique_lock<std::mutex>& unique_lock() REQUIRES_STORE_LOCK { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

// Releases the lock for the life of this object.
class ABSL_SCOPED_LOCKABLE Unlocked {
 public:
  explicit Unlocked(Lock& lock) UNTORN_RELEASES_STORE_LOCK : lock_(lock) { lock_.unlock(); }
  ~Unlocked() ABSL_UNLOCK_FUNCTION() { lock_.lock(); }
  Unlocked(const Unlocked&) = delete;

 private:
  Lock& lock_;
};

}  // namespace untorn

#endif  // UNTORN_BASE_LOCK_H_
