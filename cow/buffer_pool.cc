#include "cow/buffer_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <functional>

namespace untorn {

void BufferPool::New(std::span<BufferRef> buffers) {
  const MutexLock guard(mu_);
  while (free_.size() < buffers.size()) {
    if (!released_.empty()) {
      free_.push_back(released_.back());
      released_.pop_back();
      continue;
    }
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

void BufferPool::ReleaseBeyond(uint64_t bytes) {
  const MutexLock guard(mu_);
  const uint64_t with_memory = bytes_in_use() + free_.size() * kBlockBytes;
  if (with_memory <= bytes) return;
  const size_t count = std::min<size_t>(free_.size(), (with_memory - bytes) / kBlockBytes);
  // Adjacent buffers are released together.
  std::sort(free_.begin(), free_.end(),
            [](const Buffer* a, const Buffer* b) { return std::less<>()(a->data, b->data); });
  for (size_t i = 0; i < count;) {
    size_t n = 1;
    while (i + n < count && free_[i + n]->data == free_[i]->data + n * kBlockBytes) ++n;
    madvise(free_[i]->data, n * kBlockBytes, MADV_DONTNEED);
    i += n;
  }
  // The lowest comes last, and is used again first.
  released_.insert(released_.end(), free_.rend() - count, free_.rend());
  free_.erase(free_.begin(), free_.begin() + count);
}

void BufferPool::Return(Buffer* buffer) {
  const MutexLock guard(mu_);
  free_.push_back(buffer);
  in_use_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace untorn
