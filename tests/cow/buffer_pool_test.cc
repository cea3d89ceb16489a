// Buffers, alone and in runs.
#include "cow/buffer_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

namespace untorn {
namespace {

TEST(BufferPoolTest, ABufferIsReturnedWithItsLastReference) {
  BufferPool pool;
  BufferRef first = pool.New(), second = first;
  EXPECT_TRUE(first.shared());
  EXPECT_EQ(pool.bytes_in_use(), kBlockBytes);
  first = BufferRef();
  EXPECT_FALSE(second.shared());
  EXPECT_EQ(pool.bytes_in_use(), kBlockBytes);
  second = BufferRef();
  EXPECT_EQ(pool.bytes_in_use(), 0u);
}

#ifndef ABSL_HAVE_ADDRESS_SANITIZER  // there each buffer is memory of its own
TEST(BufferPoolTest, WhatWasTakenTogetherComesInOnePieceAgainInWhateverOrderItWasGivenBack) {
  constexpr size_t kRuns = 1000, kLength = 4;
  BufferPool pool;
  std::mt19937 rng(1);
  std::vector<std::vector<BufferRef>> runs(kRuns);
  for (int round = 0; round < 5; ++round) {
    for (auto& run : runs) {
      run.resize(kLength);
      pool.New(run);
      for (size_t i = 1; i < kLength; ++i) ASSERT_EQ(run[i].data(), run[0].data() + i * kBlockBytes);
      for (const BufferRef& buffer : run) std::memset(buffer.data(), 1, kBlockBytes);
    }
    EXPECT_EQ(pool.bytes_in_use(), kRuns * kLength * kBlockBytes);
    std::shuffle(runs.begin(), runs.end(), rng);
    for (auto& run : runs) {
      std::shuffle(run.begin(), run.end(), rng);
      run.clear();
    }
    EXPECT_EQ(pool.bytes_in_use(), 0u);
  }
}
#endif

TEST(BufferPoolTest, WhatIsReleasedIsUsedAgainAndWhatIsInUseStays) {
  constexpr size_t kBuffers = 4096;
  BufferPool pool;
  std::vector<BufferRef> buffers(kBuffers);
  pool.New(buffers);
  for (const BufferRef& buffer : buffers) std::memset(buffer.data(), 7, kBlockBytes);
  // Every second one is free.
  for (size_t i = 0; i < kBuffers; i += 2) buffers[i] = BufferRef();
  const uint64_t used = pool.bytes_in_use();
  EXPECT_EQ(used, kBuffers / 2 * kBlockBytes);
  pool.ReleaseBeyond(used + 100 * kBlockBytes);
  pool.ReleaseBeyond(used);
  pool.ReleaseBeyond(0);
  EXPECT_EQ(pool.bytes_in_use(), used);
  for (size_t i = 1; i < kBuffers; i += 2) {
    for (size_t at = 0; at < kBlockBytes; at += 512) ASSERT_EQ(buffers[i].data()[at], std::byte{7}) << i;
  }
  std::vector<BufferRef> more(kBuffers);
  pool.New(more);
  for (const BufferRef& buffer : more) std::memset(buffer.data(), 8, kBlockBytes);
  for (size_t i = 1; i < kBuffers; i += 2) ASSERT_EQ(buffers[i].data()[0], std::byte{7}) << i;
  EXPECT_EQ(pool.bytes_in_use(), used + kBuffers * kBlockBytes);
}

}  // namespace
}  // namespace untorn
