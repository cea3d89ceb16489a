// What the cached pages may take, as the machine has more or less memory.
#include "store/cache_limit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace untorn::internal {
namespace {

constexpr uint64_t kMiB = 1 << 20, kGiB = 1 << 30;

TEST(CacheLimitTest, ALimitThatIsToldStays) {
  CacheLimit limit(8 * kMiB, /*fits_machine=*/false, nullptr);
  limit.Update(0);
  EXPECT_EQ(limit.page_bytes(), 7 * kMiB);
  EXPECT_EQ(limit.node_bytes(), kMiB);
  EXPECT_FALSE(limit.DueAfterRead(kGiB));
}

TEST(CacheLimitTest, FitsAQuarterOfWhatThePagesHaveAndWhatThereIs) {
  uint64_t available = 8 * kGiB;
  CacheLimit limit(64 * kMiB, /*fits_machine=*/true, [&] { return available; });
  EXPECT_EQ(limit.page_bytes(), 2 * kGiB);
  // What the pages take themselves changes nothing.
  available = 6 * kGiB;
  limit.Update(2 * kGiB);
  EXPECT_EQ(limit.page_bytes(), 2 * kGiB);
}

TEST(CacheLimitTest, FallsInStepsDownToTheLeastAndRisesAgain) {
  std::optional<uint64_t> available = 8 * kGiB;
  CacheLimit limit(64 * kMiB, true, [&] { return available; });
  available = std::nullopt;  // as where no descriptor is left to look with
  limit.Update(kGiB);
  EXPECT_EQ(limit.page_bytes(), 2 * kGiB);
  available = 0;
  // The pages have half of what they may.
  uint64_t used = kGiB;
  int steps = 0;
  while (limit.page_bytes() > used / 4) {
    limit.Update(used);
    ASSERT_LT(limit.page_bytes(), used);
    EXPECT_LE(used - limit.page_bytes(), std::max(used / 8, 64 * kMiB));
    used = limit.page_bytes();
    if (used == 56 * kMiB) break;
    ASSERT_LT(++steps, 30);
  }
  EXPECT_GT(steps, 5);
  limit.Update(0);
  EXPECT_EQ(limit.page_bytes(), 56 * kMiB);
  available = 4 * kGiB;
  limit.Update(0);
  EXPECT_EQ(limit.page_bytes(), kGiB);
}

TEST(CacheLimitTest, ReadsMakeItDueNowAndThen) {
  CacheLimit limit(64 * kMiB, true, [] { return 8 * kGiB; });
  int due = 0;
  for (int i = 0; i < 16384; ++i) due += limit.DueAfterRead(64 << 10);  // 1 GiB
  EXPECT_NEAR(due, 64, 2);
}

}  // namespace
}  // namespace untorn::internal
