// Memory aligned for direct I/O.
#ifndef UNTORN_BASE_ALIGNED_BUFFER_H_
#define UNTORN_BASE_ALIGNED_BUFFER_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/block_size.h"

namespace untorn {

constexpr size_t kHugePageBytes = 2 << 20;

// `bytes`, a multiple of `alignment`, not initialised. Aligned to kHugePageBytes it asks for huge pages: a disk takes few
// long pieces of memory faster than many short ones, and so does memcpy.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes, size_t alignment = kBlockBytes)
      : data_(static_cast<std::byte*>(std::aligned_alloc(alignment, bytes))), bytes_(bytes) {
    if (alignment >= kHugePageBytes) madvise(data_.get(), bytes_, MADV_HUGEPAGE);
  }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return bytes_; }
  std::span<std::byte> span() { return {data_.get(), bytes_}; }
  std::span<const std::byte> span() const { return {data_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte[], Free> data_;
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
