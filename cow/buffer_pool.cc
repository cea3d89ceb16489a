#include "cow/buffer_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

namespace untorn {
namespace {

bool LiesBefore(const Buffer* a, const Buffer* b) { return std::less<>()(a->data, b->data); }

}  // namespace

void BufferPool::New(std::span<BufferRef> buffers) { Take(buffers, /*with_reserve=*/true); }

bool BufferPool::TryNew(std::span<BufferRef> buffers) { return Take(buffers, /*with_reserve=*/false); }

bool BufferPool::Take(std::span<BufferRef> buffers, bool with_reserve) {
  const MutexLock guard(mu_);
  while (free_.size() < buffers.size()) {
    if (!released_.empty()) {
      free_.push_back(released_.back());
      released_.pop_back();
      continue;
    }
    if (!AddSlab(with_reserve)) return false;
  }
  // The buffers at the end came back last. Those that came back together are contiguous once they are sorted.
  const auto taken = free_.end() - buffers.size();
  std::sort(taken, free_.end(), LiesBefore);
  for (size_t i = 0; i < buffers.size(); ++i) buffers[i] = BufferRef(taken[i]);
  free_.erase(taken, free_.end());
  in_use_.fetch_add(buffers.size(), std::memory_order_relaxed);
  return true;
}

bool BufferPool::AddSlab(bool with_reserve) {
  size_t count = kSlabBuffers;
  AlignedBuffer memory = AlignedBuffer::IfThereIsMemory(count * kBlockBytes, count * kBlockBytes);
  if (memory.data() == nullptr) {
    // Of a single block, malloc would lose as much again for its alignment.
    count = std::min<size_t>(kSlabBuffers, 8);
    memory = AlignedBuffer::IfThereIsMemory(count * kBlockBytes, kBlockBytes);
    if (memory.data() == nullptr && !with_reserve) return false;
    if (memory.data() == nullptr) memory = AlignedBuffer(count * kBlockBytes);
  }
  Slab& slab = slabs_.emplace_back(Slab{std::move(memory), std::make_unique<Buffer[]>(count)});
  // The reverse order lets buffers that are taken one after another lie one after another.
  for (size_t i = count; i-- > 0;) {
    Buffer& b = slab.buffers[i];
    b.data = slab.memory.data() + i * kBlockBytes;
    b.pool = this;
    free_.push_back(&b);
  }
  return true;
}

void BufferPool::ReleaseBeyond(uint64_t bytes) {
  std::vector<Buffer*> taken;
  {
    const MutexLock guard(mu_);
    const uint64_t with_memory = bytes_in_use() + free_.size() * kBlockBytes;
    if (with_memory <= bytes) return;
    const size_t count = std::min<size_t>(free_.size(), (with_memory - bytes) / kBlockBytes);
    taken.assign(free_.end() - count, free_.end());
    free_.resize(free_.size() - count);
  }
  std::sort(taken.begin(), taken.end(), LiesBefore);
  const uintptr_t page = sysconf(_SC_PAGESIZE), slab = kSlabBuffers * kBlockBytes;
  for (size_t i = 0; i < taken.size();) {
    size_t n = 1;  // adjacent ones
    while (i + n < taken.size() && taken[i + n]->data == taken[i]->data + n * kBlockBytes) ++n;
    const auto start = reinterpret_cast<uintptr_t>(taken[i]->data), end = start + n * kBlockBytes;
    // A huge page that the kernel puts together again would bring the memory back.
    if (slab >= kHugePageBytes) {
      const uintptr_t first = start / slab * slab, behind = (end + slab - 1) / slab * slab;
      madvise(reinterpret_cast<void*>(first), behind - first, MADV_NOHUGEPAGE);
    }
    // Pages of the machine may be larger than blocks, and have others' buffers at their ends.
    const uintptr_t from = (start + page - 1) / page * page, to = end / page * page;
    if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
    i += n;
  }
  const MutexLock guard(mu_);
  // The lowest comes last, and is used again first.
  released_.insert(released_.end(), taken.rbegin(), taken.rend());
}

void BufferPool::FreeSlabs() {
  const MutexLock guard(mu_);
  std::vector<Buffer*>* const lists[] = {&free_, &released_};
  for (std::vector<Buffer*>* list : lists) std::sort(list->begin(), list->end(), LiesBefore);
  const auto in_slab = [](const std::vector<Buffer*>& list, const Slab& slab) {
    const auto before = [](const Buffer* b, const std::byte* data) { return std::less<>()(b->data, data); };
    const std::byte* start = slab.memory.data();
    const auto first = std::lower_bound(list.begin(), list.end(), start, before);
    return std::pair(first, std::lower_bound(first, list.end(), start + slab.memory.size(), before));
  };
  std::erase_if(slabs_, [&](const Slab& slab) {
    size_t buffers = 0;
    for (const auto* list : lists) {
      const auto [first, end] = in_slab(*list, slab);
      buffers += end - first;
    }
    if (buffers * kBlockBytes < slab.memory.size()) return false;
    for (auto* list : lists) {
      const auto [first, end] = in_slab(*list, slab);
      list->erase(first, end);
    }
    return true;
  });
}

void BufferPool::Return(Buffer* buffer) {
  const MutexLock guard(mu_);
  free_.push_back(buffer);
  in_use_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace untorn
