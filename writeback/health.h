// Health says whether the store takes changes: a store is open, closed, read-only, or failed (promise 8).
//
// Threading: the store's mutex guards the object.
#ifndef UNTORN_WRITEBACK_HEALTH_H_
#define UNTORN_WRITEBACK_HEALTH_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace untorn {

class Health {
 public:
  explicit Health(bool read_only) : read_only_(read_only) {}

  // Returns OK unless the store is closed.
  absl::Status CheckOpen() const {
    return closed_ ? absl::FailedPreconditionError("the store is closed") : absl::OkStatus();
  }
  // Returns OK unless the store is closed, read-only or failed.
  absl::Status CheckWritable() const {
    if (closed_) return CheckOpen();
    if (read_only_) return absl::FailedPreconditionError("the store is open read-only");
    return failure_;
  }
  bool closed() const { return closed_; }
  bool failed() const { return !failure_.ok(); }
  // Returns OK, or the error that says why the store takes no more changes.
  const absl::Status& failure() const { return failure_; }

  void Close() { closed_ = true; }
  // Keeps the first failure. The store takes no more changes from then on.
  void Fail(const absl::Status& cause) {
    if (failed()) return;
    failure_ = absl::FailedPreconditionError(
        absl::StrCat("the store has failed and takes no more changes; ",
                     absl::IsDataLoss(cause) ? "something on the device is damaged, fsck tells what"
                                             : "open it again to recover what was durable",
                     ". Cause: ", std::string(cause.message())));
    for (const auto& tell : on_failure_) tell(failure_);
  }
  // Fail() calls `tell` once, with the failure and with the lock held.
  void OnFailure(std::function<void(const absl::Status&)> tell) { on_failure_.push_back(std::move(tell)); }

 private:
  const bool read_only_;
  bool closed_ = false;
  absl::Status failure_;
  std::vector<std::function<void(const absl::Status&)>> on_failure_;
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_HEALTH_H_
