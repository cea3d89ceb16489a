// Block-sized buffers, counted by references: the memory of the cache.
//
// Invariant: a buffer to which more than one reference exists is never changed. So a reference taken under
// the store's lock is a snapshot: readers copy from it, and writeback hashes and sends it, without the lock.
//
// Threading: the pool and the counts are thread-safe.
#ifndef UNTORN_COW_BUFFER_POOL_H_
#define UNTORN_COW_BUFFER_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/base/config.h"
#include "device/aligned_buffer.h"

namespace untorn {

class BufferPool;

struct Buffer {
  std::atomic<uint32_t> references{0};
  std::byte* data = nullptr;  // kBlockBytes, aligned to kBlockBytes
  BufferPool* pool = nullptr;
};

// A counted reference to a Buffer.
class BufferRef {
 public:
  BufferRef() = default;
  explicit BufferRef(Buffer* buffer) : buffer_(buffer) {
    if (buffer_) buffer_->references.fetch_add(1, std::memory_order_relaxed);
  }
  BufferRef(const BufferRef& other) : BufferRef(other.buffer_) {}
  BufferRef(BufferRef&& other) noexcept : buffer_(std::exchange(other.buffer_, nullptr)) {}
  BufferRef& operator=(BufferRef other) noexcept {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  ~BufferRef() { Release(); }
  explicit operator bool() const { return buffer_ != nullptr; }
  bool operator==(const BufferRef&) const = default;
  std::byte* data() const { return buffer_->data; }
  bool shared() const { return buffer_->references.load(std::memory_order_acquire) > 1; }

 private:
  inline void Release();
  Buffer* buffer_ = nullptr;
};

class BufferPool {
 public:
  BufferPool() = default;
  BufferPool(const BufferPool&) = delete;

  // Contents are not initialised. Allocates memory in slabs, which are kept until the pool goes.
  BufferRef New();
  uint64_t bytes_in_use() const { return in_use_.load(std::memory_order_relaxed) * kBlockBytes; }

 private:
  friend class BufferRef;
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  static constexpr size_t kSlabBuffers = 1;  // what runs over the end of a buffer is found
#else
  static constexpr size_t kSlabBuffers = 256;
#endif
  struct Slab {
    AlignedBuffer memory{kSlabBuffers * kBlockBytes};
    std::unique_ptr<Buffer[]> buffers{new Buffer[kSlabBuffers]};
  };
  void Return(Buffer* buffer);

  std::mutex mu_;
  std::vector<std::unique_ptr<Slab>> slabs_;
  std::vector<Buffer*> free_;
  std::atomic<uint64_t> in_use_{0};
};

void BufferRef::Release() {
  if (buffer_ && buffer_->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
    buffer_->pool->Return(buffer_);
}

}  // namespace untorn

#endif  // UNTORN_COW_BUFFER_POOL_H_
