// A call of the application that may return only when something is durable. Such calls are timed, and no others: two looks at
// a clock would be a tenth of what a buffered write takes.
#ifndef UNTORN_STORE_DURABLE_CALL_H_
#define UNTORN_STORE_DURABLE_CALL_H_

#include <cstdint>

#include "base/clock.h"
#include "base/lock.h"
#include "untorn/options.h"

namespace untorn::internal {

class DurableCall {
 public:
  // Must be made when the call begins.
  explicit DurableCall(Durability durability) : begun_ns_(durability == Durability::kSync ? NowNs() : 0) {}

  bool waits() const { return begun_ns_ != 0; }
  // Must be called when the call has succeeded.
  void Count(Stats& stats) const REQUIRES_STORE_LOCK {
    if (waits()) stats.durable_call_latency.Add(NowNs() - begun_ns_);
  }

 private:
  const uint64_t begun_ns_;  // 0: the call does not wait
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_DURABLE_CALL_H_
