// A scrub goes on beside everything else, and is held back by its limit alone.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

constexpr WriteOptions kSync{.durability = Durability::kSync};
constexpr uint64_t kPage = 16384;

TEST(ScrubTest, GoesOnBesideWritesOfAllKindsAndFindsNothing) {
  TestStoreOptions options{.size_bytes = 32 << 20, .atomic = HardwareUnit(4096, 65536), .background = true};
  TestStore store(options);
  {
    auto a = store->CreateObject("a");
    ASSERT_TRUE(IsOk(a->Write(0, Stamped(1, 1 << 20), kSync)));
    std::atomic<bool> done = false;
    std::thread writer([&] {
      std::mt19937_64 rng(TestSeed(33));
      for (uint64_t i = 0; !done; ++i) {
        EXPECT_TRUE(IsOk(a->Write(rng() % 8 * kPage, Stamped(i, kPage), i % 3 ? kSync : WriteOptions())));
        if (i % 50 != 0) continue;
        EXPECT_TRUE(IsOk(store->Checkpoint()));
        EXPECT_TRUE(IsOk(a->PunchHole(40 * kPage, kPage)));
      }
    });
    uint64_t told = 0, bytes = 0;
    for (int i = 0; i < 20; ++i) {
      ScrubOptions scrubbing;
      scrubbing.progress = [&](uint64_t progress_done, uint64_t total) {
        EXPECT_LE(progress_done, total);
        ++told;
        return true;
      };
      const auto scrub = store->Scrub(scrubbing);
      EXPECT_TRUE(IsOk(scrub));
      EXPECT_EQ(scrub->damaged_total, 0u) << scrub->damaged[0].why;
      bytes += scrub->bytes;
    }
    done = true;
    writer.join();
    EXPECT_GT(told, 20u);
    EXPECT_GT(bytes, 10u << 20);
  }
  EXPECT_TRUE(IsOk(store.Close()));
}

TEST(ScrubTest, StopsWhenItIsTold) {
  TestStore store({});
  ASSERT_TRUE(IsOk(store->CreateObject("a")->Write(0, Stamped(1, 4 << 20), kSync)));
  int calls = 0;
  EXPECT_TRUE(Fails(store->Scrub({.progress = [&](uint64_t, uint64_t) { return ++calls < 2; }}),
                    absl::StatusCode::kCancelled));
  EXPECT_EQ(calls, 2);
}

TEST(ScrubTest, LimitHoldsItBack) {
  TestStore store({});
  ASSERT_TRUE(IsOk(store->CreateObject("a")->Write(0, Stamped(1, 1 << 20), kSync)));
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_TRUE(IsOk(store->Scrub({.bytes_per_second_max = 4 << 20})));
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(250));
}

TEST(ScrubTest, HolesAndUnwrittenBlocksOfALargeObjectTakeNoTime) {
  TestStore store({});
  auto a = store->CreateObject("a");
  ASSERT_TRUE(IsOk(a->Write(uint64_t{1} << 55, Stamped(1, 5000), kSync)));
  ASSERT_TRUE(IsOk(a->Preallocate(0, 1 << 20)));
  const auto scrub = store->Scrub();
  ASSERT_TRUE(IsOk(scrub));
  EXPECT_EQ(scrub->objects, 1u);
  EXPECT_EQ(scrub->bytes, 2 * kBlockBytes);
}

}  // namespace
}  // namespace untorn
