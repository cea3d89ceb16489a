#include "store/cache_limit.h"

#include <algorithm>
#include <utility>

#include "extent/tree_node.h"

namespace untorn::internal {
namespace {

constexpr uint64_t kShare = 4;  // of what there is
// Reading so much takes far longer than Update().
constexpr uint64_t kReadBytes = 16 << 20;
// At once so much is evicted, so that nobody waits long: an eighth of the pages, and this at least.
constexpr uint64_t kFallBytes = 64 << 20;

}  // namespace

CacheLimit::CacheLimit(uint64_t bytes, bool fits_machine, AvailableFn available)
    : least_bytes_(bytes - bytes / 8),
      fits_machine_(fits_machine),
      available_(std::move(available)),
      bytes_(least_bytes_) {
  Update(0);
}

bool CacheLimit::DueAfterRead(uint64_t read_bytes) {
  if (!fits_machine_ || read_bytes_.fetch_add(read_bytes, std::memory_order_relaxed) < kReadBytes)
    return false;
  read_bytes_.store(0, std::memory_order_relaxed);
  return true;
}

void CacheLimit::Update(uint64_t used_bytes) {
  if (!fits_machine_) return;
  const std::optional<uint64_t> available = available_();
  if (!available) return;  // The process may have no descriptor left to look with.
  const uint64_t now = std::min(page_bytes(), used_bytes);
  const uint64_t fits = (used_bytes + *available) / kShare;
  const uint64_t lowest = now - std::min(now, std::max(now / 8, kFallBytes));
  bytes_.store(std::max({fits, lowest, least_bytes_}), std::memory_order_relaxed);
}

void CacheLimit::Apply(const Parts& parts) const {
  parts.fork.pages().Evict(page_bytes());
  parts.volume.mappings().node_cache().SetLimit(node_bytes() / sizeof(TreeNode));
}

}  // namespace untorn::internal
