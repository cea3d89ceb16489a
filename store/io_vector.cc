#include "store/io_vector.h"

#include <algorithm>
#include <cstring>

#include "base/block_size.h"

namespace untorn {

template <typename Fn>
void IoVector::ForEachPart(ByteRange range, Fn part) const {
  uint64_t at = range.offset_bytes, n = range.length_bytes;
  for (const iovec& piece : pieces) {
    if (n == 0) return;
    if (at >= piece.iov_len) {
      at -= piece.iov_len;
      continue;
    }
    const uint64_t length = std::min<uint64_t>(n, piece.iov_len - at);
    part(static_cast<std::byte*>(piece.iov_base) + at, length);
    n -= length;
    at = 0;
  }
}

void IoVector::Copy(uint64_t at, std::byte* other, uint64_t n, bool out) const {
  ForEachPart({at, n}, [&](std::byte* user, uint64_t length) {
    if (out) {
      std::memcpy(other, user, length);
    } else {
      std::memcpy(user, other, length);
    }
    other += length;
  });
}

void IoVector::Zero(ByteRange range) const {
  ForEachPart(range, [](std::byte* user, uint64_t length) { std::memset(user, 0, length); });
}

bool IoVector::Aligned(ByteRange range, absl::InlinedVector<iovec, 2>* parts) const {
  bool aligned = true;
  ForEachPart(range, [&](std::byte* user, uint64_t length) {
    aligned &= reinterpret_cast<uintptr_t>(user) % kBlockBytes == 0 && length % kBlockBytes == 0;
    parts->push_back({user, length});
  });
  return aligned;
}

uint64_t TotalBytes(std::span<const iovec> pieces) {
  uint64_t n = 0;
  for (const iovec& v : pieces) {
    if (v.iov_len > UINT64_MAX - n) return UINT64_MAX;
    n += v.iov_len;
  }
  return n;
}

}  // namespace untorn
