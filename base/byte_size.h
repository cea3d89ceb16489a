// Numbers of bytes as people write them: 4096, 64K, 16M, 4G, 1T.
#ifndef UNTORN_BASE_BYTE_SIZE_H_
#define UNTORN_BASE_BYTE_SIZE_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace untorn {

// The type of command-line flags that take a size.
struct ByteSize {
  static constexpr uint64_t kNotGiven = UINT64_MAX;  // a help text shows it as "none"
  uint64_t bytes = kNotGiven;
  bool given() const { return bytes != kNotGiven; }
};

bool AbslParseFlag(absl::string_view text, ByteSize* size, std::string* error);
std::string AbslUnparseFlag(ByteSize size);

// Returns "512 B" or "1.5 MiB".
std::string HumanBytes(uint64_t bytes);

}  // namespace untorn

#endif  // UNTORN_BASE_BYTE_SIZE_H_
