// The memory reserve lets a store end what it has begun when the process can get no more memory.
//
// While the reserve is whole, a store may begin new work. Where an allocation of the store finds no memory, a part of the
// reserve makes room, and the allocation succeeds. From then on Check() fails until the reserve is whole again, so nothing new
// is begun. What was begun ends with the rest of the reserve. The program's own allocations never take from it.
//
// Limit: more than kBytes for what was begun ends the process, with a message.
//
// The reserve works by the new-handler of C++ (std::set_new_handler), which the process shares. The handler that the program
// has set before is called for what is not the store's. If the program sets one later, the reserve is not used.
//
// Threading: thread-safe.
#ifndef UNTORN_BASE_MEMORY_RESERVE_H_
#define UNTORN_BASE_MEMORY_RESERVE_H_

#include <atomic>
#include <cstddef>
#include <new>

#include "absl/status/status.h"

namespace untorn {

class MemoryReserve {
 public:
  static constexpr size_t kBytes = 16 << 20;

  // While one lives, this thread works for a store, and its allocations may take from the reserve.
  class Use {
   public:
    Use() { ++depth_; }
    ~Use() { --depth_; }
    Use(const Use&) = delete;

   private:
    friend class MemoryReserve;
    static constinit thread_local int depth_;
  };

  // Makes the reserve, when the first store is opened. kResourceExhausted: there is no memory for it.
  static absl::Status Prepare();
  // Says whether new work may begin, as Check() does, but without trying to make the reserve whole.
  static bool IsWhole() { return whole_.load(std::memory_order_relaxed); }
  // Must be OK before new work begins. Makes the reserve whole if that is possible again. Allocates no memory.
  //  kResourceExhausted   a part of the reserve is in use, and the process can get no more memory
  static absl::Status Check();
  // The error of an allocation that failed before anything was begun. Allocates no memory.
  static absl::Status NoMemory();

 private:
  static bool Fill();
  static std::atomic<bool> whole_;
  static void OnNoMemory();
};

// Calls `fn`, which returns a status or a value with one. Is for work that gives up without harm wherever it is, and that may
// need far more memory than the reserve has.
//  kResourceExhausted   an allocation has failed
template <typename Fn>
auto UnlessOutOfMemory(Fn fn) -> decltype(fn()) {
  try {
    return fn();
  } catch (const std::bad_alloc&) {
    return MemoryReserve::NoMemory();
  }
}

}  // namespace untorn

#endif  // UNTORN_BASE_MEMORY_RESERVE_H_
