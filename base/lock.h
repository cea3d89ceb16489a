// The store's lock, as a value: who has one in its hands holds the mutex, or has just let go of it.
//
// A function that takes a Lock& is called with the mutex held, and returns with it held. In between it may
// release the mutex: whatever the mutex guards may have changed when such a function returns.
#ifndef UNTORN_BASE_LOCK_H_
#define UNTORN_BASE_LOCK_H_

#include <mutex>

#include "base/check.h"

namespace untorn {

class Lock : public std::unique_lock<std::mutex> {
 public:
  using std::unique_lock<std::mutex>::unique_lock;
  void AssertHeld() const { UNTORN_CHECK(owns_lock(), "the store's lock is not held"); }
};

// Releases the lock for the life of this object.
class Unlocked {
 public:
  explicit Unlocked(Lock& lock) : lock_(lock) { lock_.unlock(); }
  ~Unlocked() { lock_.lock(); }
  Unlocked(const Unlocked&) = delete;

 private:
  Lock& lock_;
};

}  // namespace untorn

#endif  // UNTORN_BASE_LOCK_H_
