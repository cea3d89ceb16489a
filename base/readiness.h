// Whether what an operation needs is there: the result of every step that may have to wait for it.
//
// An operation needs several things at once, under the store's lock: space, a tree node, the old content of a
// block. Each step looks for one of them. A step that has to wait releases the lock, and then says kRetry: what
// the steps before it found may have changed, so the operation looks at everything again. The names of such
// steps begin with Await.
//
//     absl::Status s = UntilReady([&]() -> Readiness {
//       RETURN_UNLESS_READY(AwaitObject(lock, object));
//       RETURN_UNLESS_READY(AwaitSpace(lock, cost, &reservation));
//       return Readiness::Ready();
//     });
//     // With an OK status the lock has been held without a break since the first of the steps began.
#ifndef UNTORN_BASE_READINESS_H_
#define UNTORN_BASE_READINESS_H_

#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/check.h"
#include "base/lock.h"

namespace untorn {

class [[nodiscard]] Readiness {
 public:
  // What is needed is there. The lock was not released.
  static Readiness Ready() { return Readiness(Kind::kReady); }
  // The step waited, and released the lock meanwhile.
  static Readiness Retry() { return Readiness(Kind::kRetry); }
  // The operation fails. `error` must not be OK.
  Readiness(absl::Status error) : kind_(Kind::kError), error_(std::move(error)) {
    UNTORN_CHECK(!error_.ok(), "an OK status does not say whether the lock was released");
  }
  // After a wait: retry, if it went well.
  static Readiness RetryIfOk(absl::Status waited) {
    return waited.ok() ? Retry() : Readiness(std::move(waited));
  }

  bool ready() const { return kind_ == Kind::kReady; }
  bool retry() const { return kind_ == Kind::kRetry; }
  bool failed() const { return kind_ == Kind::kError; }
  // OK unless failed().
  const absl::Status& error() const { return error_; }

 private:
  enum class Kind : unsigned char { kReady, kRetry, kError };
  explicit Readiness(Kind kind) : kind_(kind) {}
  Kind kind_;
  absl::Status error_;
};

// Returns the result of `expr`, a Readiness, from the enclosing function unless it is ready.
#define RETURN_UNLESS_READY(expr) \
  if (::untorn::Readiness readiness_ = (expr); !readiness_.ready()) return readiness_

// Calls `look`, with the lock held, until it is ready or fails.
inline absl::Status UntilReady(absl::FunctionRef<Readiness()> look) REQUIRES_STORE_LOCK {
  while (true) {
    Readiness readiness = look();
    if (!readiness.retry()) return readiness.error();
  }
}

}  // namespace untorn

#endif  // UNTORN_BASE_READINESS_H_
