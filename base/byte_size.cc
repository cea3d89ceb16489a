#include "base/byte_size.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace untorn {
namespace {

constexpr absl::string_view kSuffixes = "KMGTP";

}  // namespace

bool AbslParseFlag(absl::string_view text, ByteSize* size, std::string* error) {
  const absl::string_view whole = text;
  int shift = 0;
  if (!text.empty() && absl::ascii_isalpha(text.back())) {
    if (text.size() > 2 && absl::EndsWithIgnoreCase(text, "iB")) text.remove_suffix(2);
    const size_t at = kSuffixes.find(absl::ascii_toupper(text.back()));
    if (at != absl::string_view::npos) {
      shift = 10 * (static_cast<int>(at) + 1);
      text.remove_suffix(1);
    }
  }
  uint64_t number = 0;
  const bool digits = !text.empty() && absl::ascii_isdigit(text.front()) && absl::ascii_isdigit(text.back());
  if (!digits || !absl::SimpleAtoi(text, &number)) {
    *error = absl::StrCat("'", whole, "' is not a size: write a whole number, optionally with K, M, G or T");
    return false;
  }
  if (number > (ByteSize::kNotGiven - 1) >> shift) {
    *error = absl::StrCat("'", whole, "' is too large");
    return false;
  }
  size->bytes = number << shift;
  return true;
}

std::string AbslUnparseFlag(ByteSize size) {
  if (!size.given()) return "none";
  uint64_t number = size.bytes;
  size_t steps = 0;
  while (number != 0 && number % 1024 == 0 && steps < 4) {
    number /= 1024;
    ++steps;
  }
  return steps == 0 ? absl::StrCat(number) : absl::StrCat(number, kSuffixes.substr(steps - 1, 1));
}

std::string HumanBytes(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes);
  size_t steps = 0;
  while (value >= 1024 && steps < kSuffixes.size()) {
    value /= 1024;
    ++steps;
  }
  return absl::StrFormat("%.1f %ciB", value, kSuffixes[steps - 1]);
}

}  // namespace untorn
