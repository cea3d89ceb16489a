// A steady clock.
#ifndef UNTORN_BASE_CLOCK_H_
#define UNTORN_BASE_CLOCK_H_

#include <chrono>
#include <cstdint>

namespace untorn {

inline uint64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace untorn

#endif  // UNTORN_BASE_CLOCK_H_
