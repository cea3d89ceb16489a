// A number of bytes as people write it: 4096, 64K, 16M, 4G, 1T.
#ifndef UNTORN_TOOLS_BYTE_SIZE_H_
#define UNTORN_TOOLS_BYTE_SIZE_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace untorn::tools {

// The type of flags that take a size.
struct ByteSize {
  static constexpr uint64_t kNotGiven = UINT64_MAX;  // shown as "none"; cannot be written
  uint64_t bytes = kNotGiven;
  bool given() const { return bytes != kNotGiven; }
};

bool AbslParseFlag(absl::string_view text, ByteSize* size, std::string* error);
std::string AbslUnparseFlag(ByteSize size);

std::string HumanBytes(uint64_t bytes);  // "512 B", "1.5 MiB"

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_BYTE_SIZE_H_
