// A scattered buffer of the application's.
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

  // Copies between position `at` of the buffer and contiguous memory.
  void CopyOut(uint64_t at, std::byte* to, uint64_t n) const { Copy(at, to, n, true); }
  void CopyIn(uint64_t at, const std::byte* from, uint64_t n) const {
    Copy(at, const_cast<std::byte*>(from), n, false);
  }
  void Zero(ByteRange range) const;
  // Adds the parts of memory behind the range. Whether a device takes them all as they are.
  bool Aligned(ByteRange range, absl::InlinedVector<iovec, 2>* parts) const;

 private:
  void Copy(uint64_t at, std::byte* other, uint64_t n, bool out) const;
  // Calls part(memory, length) for the memory behind the range, in order.
  template <typename Fn>
  void ForEachPart(ByteRange range, Fn part) const;
};

// UINT64_MAX if the sum is larger.
uint64_t TotalBytes(std::span<const iovec> pieces);

}  // namespace untorn

#endif  // UNTORN_STORE_IO_VECTOR_H_
