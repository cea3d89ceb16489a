// A scattered buffer of the application's.
#ifndef UNTORN_STORE_IO_VECTOR_H_
#define UNTORN_STORE_IO_VECTOR_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/container/inlined_vector.h"

namespace untorn {

struct IoVector {
  std::span<const iovec> pieces;
  uint64_t bytes = 0;

  // Copies between position `at` of the buffer and contiguous memory.
  void CopyOut(uint64_t at, std::byte* to, uint64_t n) const { Copy(at, to, n, true); }
  void CopyIn(uint64_t at, const std::byte* from, uint64_t n) const {
    Copy(at, const_cast<std::byte*>(from), n, false);
  }
  void Zero(uint64_t at, uint64_t n) const;
  // Adds the parts of memory behind [at, at + n). Whether a device takes them all as they are.
  bool Aligned(uint64_t at, uint64_t n, absl::InlinedVector<iovec, 2>* parts) const;

 private:
  void Copy(uint64_t at, std::byte* other, uint64_t n, bool out) const;
  // Calls part(memory, length) for the memory behind [at, at + n), in order.
  template <typename Fn>
  void ForEachPart(uint64_t at, uint64_t n, Fn part) const;
};

// UINT64_MAX if the sum is larger.
uint64_t TotalBytes(std::span<const iovec> pieces);

}  // namespace untorn

#endif  // UNTORN_STORE_IO_VECTOR_H_
