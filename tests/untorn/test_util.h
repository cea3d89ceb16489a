// Statuses, seeds and bytes for tests.
#ifndef UNTORN_TESTS_UNTORN_TEST_UTIL_H_
#define UNTORN_TESTS_UNTORN_TEST_UTIL_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace untorn {

inline const absl::Status& ToStatus(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& ToStatus(const absl::StatusOr<T>& result) {
  return result.status();
}

// EXPECT_TRUE(IsOk(store->Sync()));  EXPECT_TRUE(Fails(object.Size(), absl::StatusCode::kNotFound));
testing::AssertionResult StatusIs(const absl::Status& status, absl::StatusCode code);
template <typename T>
testing::AssertionResult IsOk(const T& result) {
  return StatusIs(ToStatus(result), absl::StatusCode::kOk);
}
template <typename T>
testing::AssertionResult Fails(const T& result, absl::StatusCode code) {
  return StatusIs(ToStatus(result), code);
}

// The seed of a test: `by_default`, or the environment's UNTORN_SEED. Prints it.
uint64_t TestSeed(uint64_t by_default);
// The number in an environment variable, or `by_default`.
uint64_t FromEnvironment(const char* name, uint64_t by_default);

// Bytes that differ from those of every other stamp, in every block and word.
std::vector<std::byte> Stamped(uint64_t stamp, size_t length);
// `length` bytes, all of them `value`.
std::vector<std::byte> Filled(int value, size_t length);

}  // namespace untorn

#endif  // UNTORN_TESTS_UNTORN_TEST_UTIL_H_
