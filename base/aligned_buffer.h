// Memory aligned for direct I/O.
#ifndef UNTORN_BASE_ALIGNED_BUFFER_H_
#define UNTORN_BASE_ALIGNED_BUFFER_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

#include "base/block_size.h"

namespace untorn {

constexpr size_t kHugePageBytes = 2 << 20;

// Gives back memory that was mapped, or allocated if `mapped_bytes` is 0.
struct FreeAligned {
  size_t mapped_bytes = 0;
  void operator()(std::byte* p) const {
    if (mapped_bytes > 0)
      munmap(p, mapped_bytes);
    else
      std::free(p);
  }
};

// `bytes`, a multiple of `alignment`, not initialised. Aligned to kHugePageBytes it asks for huge pages: a disk takes few
// long pieces of memory faster than many short ones, and so does memcpy.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes, size_t alignment = kBlockBytes) {
    while (!TryAllocate(bytes, alignment)) {
      // As operator new does.
      const std::new_handler handler = std::get_new_handler();
      if (handler == nullptr) throw std::bad_alloc();
      handler();
    }
  }
  // Without memory it is empty, and takes nothing from the memory reserve.
  static AlignedBuffer IfThereIsMemory(size_t bytes, size_t alignment) {
    AlignedBuffer buffer;
    buffer.TryAllocate(bytes, alignment);
    return buffer;
  }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return bytes_; }
  std::span<std::byte> span() { return {data_.get(), bytes_}; }
  std::span<const std::byte> span() const { return {data_.get(), bytes_}; }

 private:
  bool TryAllocate(size_t bytes, size_t alignment) {
    if (alignment < kHugePageBytes) {
      data_ = {static_cast<std::byte*>(std::aligned_alloc(alignment, bytes)), FreeAligned()};
    } else {
      // Huge pages are mapped, so that their address space is given back with them.
      const size_t mapped = bytes + alignment - kBlockBytes;
      void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) return false;
      auto* start = static_cast<std::byte*>(memory);
      const size_t before = -reinterpret_cast<uintptr_t>(start) % alignment;
      if (before > 0) munmap(start, before);
      if (before + bytes < mapped) munmap(start + before + bytes, mapped - before - bytes);
      data_ = {start + before, FreeAligned{bytes}};
      madvise(data_.get(), bytes, MADV_HUGEPAGE);
    }
    bytes_ = data_ ? bytes : 0;
    return data_ != nullptr;
  }

  std::unique_ptr<std::byte[], FreeAligned> data_;
  size_t bytes_ = 0;
};

// Zeros to write from, so many bytes, aligned to kBlockBytes.
inline constexpr size_t kZeroBytes = 256 << 10;
inline const std::byte* Zeros() {
  alignas(kBlockBytes) static std::byte zeros[kZeroBytes];
  return zeros;
}

}  // namespace untorn

#endif  // UNTORN_BASE_ALIGNED_BUFFER_H_
