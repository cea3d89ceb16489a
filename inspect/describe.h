// Keys, ranges and blocks in words, for findings and error messages.
#ifndef UNTORN_INSPECT_DESCRIBE_H_
#define UNTORN_INSPECT_DESCRIBE_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "extent/types.h"

namespace untorn::internal {

// Returns "mapping of object 5 at block 100", "object 7" or "name 'a'". The key may hold any bytes: a key
// that no parser accepts is returned in hexadecimal.
std::string DescribeKey(std::string_view key);

// Says which keys lie in [first, limit). Without a limit the range goes to the end.
std::string DescribeRange(std::string_view first, std::optional<std::string_view> limit);

// Returns "block 7" or "blocks 7 to 9".
std::string DescribeRun(Extent extent);
std::string DescribeRun(BlockRange range);

// What absl::StrCat takes for a word of a message.
template <typename T>
const T& Word(const T& word) {
  return word;
}
template <typename Tag, typename Distance>
uint64_t Word(const StrongInt<Tag, Distance>& number) {
  return number.value();
}

inline std::string Message(const absl::Status& status) { return std::string(status.message()); }

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_DESCRIBE_H_
