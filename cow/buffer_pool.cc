#include "cow/buffer_pool.h"

#include <algorithm>
#include <functional>

namespace untorn {

void BufferPool::New(std::span<BufferRef> buffers) {
  const MutexLock guard(mu_);
  while (free_.size() < buffers.size()) {
    auto slab = std::make_unique<Slab>();
    // The reverse order lets buffers that are taken one after another lie one after another.
    for (size_t i = kSlabBuffers; i-- > 0;) {
      Buffer& b = slab->buffers[i];
      b.data = slab->memory.data() + i * kBlockBytes;
      b.pool = this;
      free_.push_back(&b);
    }
    slabs_.push_back(std::move(slab));
  }
  // The buffers at the end came back last. Those that came back together are contiguous once they are sorted.
  const auto taken = free_.end() - buffers.size();
  std::sort(taken, free_.end(),
            [](const Buffer* a, const Buffer* b) { return std::less<>()(a->data, b->data); });
  for (size_t i = 0; i < buffers.size(); ++i) buffers[i] = BufferRef(taken[i]);
  free_.erase(taken, free_.end());
  in_use_.fetch_add(buffers.size(), std::memory_order_relaxed);
}

void BufferPool::Return(Buffer* buffer) {
  const MutexLock guard(mu_);
  free_.push_back(buffer);
  in_use_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace untorn
