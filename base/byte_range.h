// A run of bytes of an object, a device or a buffer.
#ifndef UNTORN_BASE_BYTE_RANGE_H_
#define UNTORN_BASE_BYTE_RANGE_H_

#include <cstdint>

namespace untorn {

struct ByteRange {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  uint64_t end_bytes() const { return offset_bytes + length_bytes; }
  bool empty() const { return length_bytes == 0; }
  bool operator==(const ByteRange&) const = default;
};

}  // namespace untorn

#endif  // UNTORN_BASE_BYTE_RANGE_H_
