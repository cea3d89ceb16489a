#include "tests/untorn/test_util.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iostream>

namespace untorn {

testing::AssertionResult StatusIs(const absl::Status& status, absl::StatusCode code) {
  if (status.code() == code) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "status is " << status.ToString() << ", expected "
                                     << absl::StatusCodeToString(code);
}

uint64_t FromEnvironment(const char* name, uint64_t by_default) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == 0 ? by_default : std::strtoull(value, nullptr, 0);
}

uint64_t TestSeed(uint64_t by_default) {
  const uint64_t seed = FromEnvironment("UNTORN_SEED", by_default);
  std::cout << "seed " << seed << std::endl;
  return seed;
}

std::vector<std::byte> Stamped(uint64_t stamp, size_t length) {
  std::vector<std::byte> bytes(length);
  uint64_t word = (stamp + 1) * 0x9e3779b97f4a7c15u;
  for (size_t at = 0; at < length; at += sizeof(word)) {
    word += 0xd1342543de82ef95u;
    std::memcpy(bytes.data() + at, &word, std::min(sizeof(word), length - at));
  }
  return bytes;
}

std::vector<std::byte> Filled(int value, size_t length) {
  return std::vector<std::byte>(length, static_cast<std::byte>(value));
}

}  // namespace untorn
