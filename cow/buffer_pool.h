// A buffer pool hands out block-sized buffers that are counted by references. The cache keeps
// its content in these buffers.
//
// Invariant: a buffer with more than one reference is never changed. So a reference that was taken under the
// store's lock is a snapshot. Readers copy from the snapshot, and writeback hashes and sends the snapshot,
// all without the lock.
//
// Threading: the pool and the reference counts are thread-safe.
#ifndef UNTORN_COW_BUFFER_POOL_H_
#define UNTORN_COW_BUFFER_POOL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/config.h"
#include "absl/base/thread_annotations.h"
#include "base/aligned_buffer.h"
#include "base/mutex.h"

namespace untorn {

class BufferPool;

struct Buffer {
  std::atomic<uint32_t> references{0};
  std::byte* data = nullptr;  // kBlockBytes, aligned to kBlockBytes
  BufferPool* pool = nullptr;
};

// A BufferRef is a counted reference to a Buffer.
class BufferRef {
 public:
  BufferRef() = default;
  explicit BufferRef(Buffer* buffer) : buffer_(buffer), data_(buffer ? buffer->data : nullptr) {
    if (buffer_) buffer_->references.fetch_add(1, std::memory_order_relaxed);
  }
  BufferRef(const BufferRef& other) : BufferRef(other.buffer_) {}
  BufferRef(BufferRef&& other) noexcept
      : buffer_(std::exchange(other.buffer_, nullptr)), data_(std::exchange(other.data_, nullptr)) {}
  BufferRef& operator=(BufferRef other) noexcept {
    std::swap(buffer_, other.buffer_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~BufferRef() { Release(); }
  explicit operator bool() const { return buffer_ != nullptr; }
  bool operator==(const BufferRef&) const = default;
  std::byte* data() const { return data_; }
  bool shared() const { return buffer_->references.load(std::memory_order_acquire) > 1; }

 private:
  inline void Release();
  Buffer* buffer_ = nullptr;
  std::byte* data_ = nullptr;  // buffer_->data, so that the content can be fetched before the count is
};

class BufferPool {
 public:
  BufferPool() = default;
  BufferPool(const BufferPool&) = delete;

  // Does not initialise the content. The pool allocates memory in slabs, and keeps all slabs until FreeSlabs().
  // ReleaseBeyond() gives memory of slabs back.
  BufferRef New() {
    BufferRef buffer;
    New({&buffer, 1});
    return buffer;
  }
  // Puts a new buffer into every element. Buffers that were taken together and given back come together
  // again, one after another in memory. A disk takes few long pieces faster than many short ones.
  void New(std::span<BufferRef> buffers);
  // Does the same without the memory reserve. Returns false, and takes nothing, if there is no memory.
  bool TryNew(std::span<BufferRef> buffers);
  uint64_t bytes_in_use() const { return in_use_.load(std::memory_order_relaxed) * kBlockBytes; }
  // Gives memory of free buffers back to the kernel until the pool has at most `bytes`, or no free buffer with memory.
  void ReleaseBeyond(uint64_t bytes);
  // Gives up the slabs of which every buffer is free, with their address space.
  void FreeSlabs();

 private:
  friend class BufferRef;
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  static constexpr size_t kSlabBuffers = 1;  // so that the sanitizer finds an access past a buffer's end
#else
  static constexpr size_t kSlabBuffers = kHugePageBytes / kBlockBytes;
#endif
  struct Slab {
    AlignedBuffer memory;
    std::unique_ptr<Buffer[]> buffers;
  };
  bool Take(std::span<BufferRef> buffers, bool with_reserve);
  // Adds a slab of free buffers: of a few if there is no memory for more. Returns false if there is no memory but the reserve.
  bool AddSlab(bool with_reserve) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Return(Buffer* buffer);

  Mutex mu_;
  std::vector<Slab> slabs_ ABSL_GUARDED_BY(mu_);
  std::vector<Buffer*> free_ ABSL_GUARDED_BY(mu_);
  std::vector<Buffer*> released_ ABSL_GUARDED_BY(mu_);  // free, without memory until they are used
  std::atomic<uint64_t> in_use_{0};
};

void BufferRef::Release() {
  if (!buffer_) return;
  // Nobody can copy the only reference meanwhile. So a plain store does, and saves a slow locked instruction.
  if (buffer_->references.load(std::memory_order_acquire) == 1) {
    buffer_->references.store(0, std::memory_order_relaxed);
  } else if (buffer_->references.fetch_sub(1, std::memory_order_acq_rel) != 1) {
    return;
  }
  buffer_->pool->Return(buffer_);
}

}  // namespace untorn

#endif  // UNTORN_COW_BUFFER_POOL_H_
