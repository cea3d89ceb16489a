// An IoVector is a scattered buffer. The application owns the memory, which must stay valid as long as the
// IoVector.
#ifndef UNTORN_STORE_IO_VECTOR_H_
#define UNTORN_STORE_IO_VECTOR_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/container/inlined_vector.h"
#include "base/byte_range.h"

namespace untorn {

struct IoVector {
  std::span<const iovec> pieces;
  uint64_t bytes = 0;

  // These two copy `n` bytes between contiguous memory and the buffer, from position `at` of the buffer on.
  void CopyOut(uint64_t at, std::byte* to, uint64_t n) const { Copy(at, to, n, true); }
  void CopyIn(uint64_t at, const std::byte* from, uint64_t n) const {
    Copy(at, const_cast<std::byte*>(from), n, false);
  }
  void Zero(ByteRange range) const;
  // Appends the parts of memory behind the range to `parts`. True if the address and length of every part are
  // multiples of kBlockBytes, so that a device can use the memory directly.
  bool Aligned(ByteRange range, absl::InlinedVector<iovec, 2>* parts) const;

 private:
  void Copy(uint64_t at, std::byte* other, uint64_t n, bool out) const;
  // Calls part(memory, length) for the memory behind the range, in order.
  template <typename Fn>
  void ForEachPart(ByteRange range, Fn part) const;
};

// Returns UINT64_MAX if the sum is larger than UINT64_MAX.
uint64_t TotalBytes(std::span<const iovec> pieces);

}  // namespace untorn

#endif  // UNTORN_STORE_IO_VECTOR_H_
