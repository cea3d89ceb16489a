#include "cow/buffer_pool.h"

namespace untorn {

BufferRef BufferPool::New() {
  std::lock_guard guard(mu_);
  if (free_.empty()) {
    auto slab = std::make_unique<Slab>();
    // In reverse, so that buffers taken one after another lie one after another.
    for (size_t i = kSlabBuffers; i-- > 0;) {
      Buffer& b = slab->buffers[i];
      b.data = slab->memory.data() + i * kBlockBytes;
      b.pool = this;
      free_.push_back(&b);
    }
    slabs_.push_back(std::move(slab));
  }
  Buffer* buffer = free_.back();
  free_.pop_back();
  in_use_.fetch_add(1, std::memory_order_relaxed);
  return BufferRef(buffer);
}

void BufferPool::Return(Buffer* buffer) {
  std::lock_guard guard(mu_);
  free_.push_back(buffer);
  in_use_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace untorn
