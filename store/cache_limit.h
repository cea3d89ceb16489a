// The cache limit says how much memory the cached pages and tree nodes of a store may take: so much as the options say, or
// what fits the machine. Pages have 7/8, and tree nodes have 1/8.
//
// What fits is for pages a quarter of all that the pages have and that the machine could still give. So the limit falls when others take
// memory. The store then evicts pages, and gives their memory back. Only clean pages are evicted. So how much may be dirty does
// not depend on the machine.
//
// Threading: thread-safe.
#ifndef UNTORN_STORE_CACHE_LIMIT_H_
#define UNTORN_STORE_CACHE_LIMIT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/lock.h"
#include "writeback/parts.h"

namespace untorn::internal {

class CacheLimit {
 public:
  using AvailableFn = std::function<std::optional<uint64_t>()>;
  // `bytes` is the limit of both; it is the least limit if the limit fits the machine. `available` tells what the machine
  // could give.
  CacheLimit(uint64_t bytes, bool fits_machine, AvailableFn available);

  uint64_t page_bytes() const { return bytes_.load(std::memory_order_relaxed); }
  uint64_t node_bytes() const { return page_bytes() / 7; }
  bool fits_machine() const { return fits_machine_; }
  // Must be called after reads. Says whether Update() is due.
  bool DueAfterRead(uint64_t read_bytes);
  // Fits the limit to the machine anew. `used_bytes` is what the pages have now. Reads files of /proc, so the caller should not
  // have a lock.
  void Update(uint64_t used_bytes);
  // Evicts pages and tree nodes beyond the limit.
  void Apply(const Parts& parts) const REQUIRES_STORE_LOCK;

 private:
  const uint64_t least_bytes_;
  const bool fits_machine_;
  const AvailableFn available_;
  std::atomic<uint64_t> bytes_;          // of pages
  std::atomic<uint64_t> read_bytes_{0};  // since Update() was due
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_CACHE_LIMIT_H_
