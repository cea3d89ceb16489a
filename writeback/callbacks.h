// Callbacks holds calls of the application's functions that the store makes later, without its lock.
//
// Threading: the store's mutex guards the object.
#ifndef UNTORN_WRITEBACK_CALLBACKS_H_
#define UNTORN_WRITEBACK_CALLBACKS_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/lock.h"
#include "untorn/options.h"

namespace untorn {

class Callbacks {
 public:
  explicit Callbacks(LogCallback log) : log_(std::move(log)) {}

  void Add(std::function<void()> call) { calls_.push_back(std::move(call)); }
  void Log(LogLevel level, std::string message) {
    if (!log_) return;
    Add([this, level, message = std::move(message)] { log_(level, message); });
  }
  bool empty() const { return calls_.empty(); }
  // Makes all calls that there are, with the lock released.
  void Run(Lock& lock) REQUIRES_STORE_LOCK {
    // A call may use the store again, and so come here. The loop below makes the calls that are added
    // then.
    if (running_) return;
    running_ = true;
    while (!calls_.empty()) {
      std::vector<std::function<void()>> calls = std::exchange(calls_, {});
      const Unlocked unlocked(lock);
      for (auto& call : calls) call();
      calls.clear();
    }
    running_ = false;
  }

 private:
  const LogCallback log_;
  std::vector<std::function<void()>> calls_;
  bool running_ = false;
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_CALLBACKS_H_
