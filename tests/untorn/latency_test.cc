// Which calls are timed, and what the histogram of times tells.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr int kLast = LatencyHistogram::kBuckets - 1;

TEST(LatencyHistogramTest, BucketsFollowOneAnotherWithoutAGap) {
  uint64_t before = 0;
  for (int bucket = 0; bucket <= kLast; ++bucket) {
    const uint64_t end = LatencyHistogram::BucketEndNs(bucket);
    ASSERT_GT(end, before);
    EXPECT_EQ(LatencyHistogram::Bucket(before + 1), bucket);
    EXPECT_EQ(LatencyHistogram::Bucket(end), bucket);
    // At most an eighth of a power of two, once nanoseconds are finer than that.
    EXPECT_LE((end - before) * 8, std::max<uint64_t>(before, 8)) << bucket;
    before = end;
  }
  EXPECT_EQ(before, uint64_t{1} << 36);
}

TEST(LatencyHistogramTest, TimesOutOfRangeCountInTheOuterBuckets) {
  EXPECT_EQ(LatencyHistogram::Bucket(0), 0);
  EXPECT_EQ(LatencyHistogram::Bucket((uint64_t{1} << 36) + 1), kLast);
  EXPECT_EQ(LatencyHistogram::Bucket(std::numeric_limits<uint64_t>::max()), kLast);
}

TEST(LatencyHistogramTest, EmptyHistogramHasNoPercentile) {
  EXPECT_EQ(LatencyHistogram().PercentileNs(50), 0u);
  EXPECT_EQ(LatencyHistogram().PercentileNs(100), 0u);
}

TEST(LatencyHistogramTest, PercentilesAreThoseOfTheSortedTimesUpToAnEighth) {
  std::mt19937_64 rng(TestSeed(1));
  std::vector<uint64_t> times;
  LatencyHistogram histogram;
  uint64_t sum = 0;
  for (int i = 0; i < 10000; ++i) {
    times.push_back(rng() >> (28 + rng() % 30));
    histogram.Add(times.back());
    sum += times.back();
  }
  std::sort(times.begin(), times.end());
  for (const double percent : {1.0, 50.0, 99.0, 99.9, 100.0}) {
    const uint64_t exact = times[static_cast<size_t>(percent * 100) - 1];
    EXPECT_GE(histogram.PercentileNs(percent), exact) << percent;
    EXPECT_LE(histogram.PercentileNs(percent), exact + exact / 8 + 1) << percent;
  }
  EXPECT_EQ(histogram.count(), 10000u);
  EXPECT_EQ(histogram.sum_ns(), sum);
}

class LatencyTest : public testing::Test {
 protected:
  LatencyTest() : store_(TestStoreOptions()) {
    auto object = store_->CreateObject("a");
    EXPECT_TRUE(IsOk(object));
    a_ = *object;
  }
  uint64_t DurableCalls() { return store_->stats().durable_call_latency.count(); }

  TestStore store_;
  Object a_;
};

TEST_F(LatencyTest, CallsThatWaitAreTimedAndOthersAreNot) {
  const std::vector<std::byte> page = Stamped(1, 4096);
  ASSERT_TRUE(IsOk(a_.Write(0, page)));
  ASSERT_TRUE(IsOk(a_.Truncate(8192)));
  ASSERT_TRUE(IsOk(store_->CreateObject("b")));
  Transaction buffered = store_->Begin();
  ASSERT_TRUE(IsOk(buffered.Write(a_, 0, page)));
  ASSERT_TRUE(IsOk(buffered.Commit(Durability::kBuffered)));
  EXPECT_EQ(DurableCalls(), 0u);

  uint64_t expected = 0;
  const auto expect_timed = [&](const absl::Status& status, const char* what) {
    EXPECT_TRUE(IsOk(status)) << what;
    EXPECT_EQ(DurableCalls(), ++expected) << what;
  };
  expect_timed(a_.Write(0, page, {.durability = Durability::kSync}), "write");
  expect_timed(a_.Truncate(5000, Durability::kSync), "truncate");
  expect_timed(a_.PunchHole(0, 100, Durability::kSync), "hole");
  expect_timed(a_.PunchHole(1 << 20, 100, Durability::kSync), "hole behind the end");
  expect_timed(a_.Sync(), "sync");
  expect_timed(a_.SyncRange(0, 10), "sync of a range");
  expect_timed(store_->Sync(), "sync of the store");
  expect_timed(store_->CreateObject("c", Durability::kSync).status(), "create");
  expect_timed(store_->Rename("c", "d", Durability::kSync), "rename");
  expect_timed(store_->Remove("d", Durability::kSync), "remove");
  Transaction transaction = store_->Begin();
  ASSERT_TRUE(IsOk(transaction.Write(a_, 0, page)));
  expect_timed(transaction.Commit(), "commit");
  // It returns when it is durable, whatever was asked for.
  Transaction large = store_->Begin();
  ASSERT_TRUE(IsOk(large.Write(a_, 0, Stamped(2, 3 << 20))));
  expect_timed(large.Commit(Durability::kBuffered), "large commit");
  expect_timed(a_.Write(0, Stamped(3, 3 << 20)), "large write");

  EXPECT_FALSE(store_->Remove("nothing", Durability::kSync).ok());
  EXPECT_EQ(DurableCalls(), expected) << "a call that failed is timed";
  EXPECT_GT(store_->stats().durable_call_latency.PercentileNs(50), 0u);
}

TEST_F(LatencyTest, EveryCommitIsTimed) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(IsOk(a_.Write(i * 4096, Stamped(i, 4096), {.durability = Durability::kSync})));
  }
  const Stats stats = store_->stats();
  EXPECT_GE(stats.commits, 5u);
  EXPECT_EQ(stats.commit_latency.count(), stats.commits);
}

TEST_F(LatencyTest, OnlyReadsThatGoToTheDeviceAreTimed) {
  ASSERT_TRUE(IsOk(a_.Write(0, Stamped(1, 64 << 10), {.durability = Durability::kSync})));
  ReadAll(a_, 0, 4096);
  EXPECT_EQ(store_->stats().device_read_latency.count(), 0u);
  a_ = Object();
  store_.CloseAndOpen();
  auto again = store_->OpenObject("a");
  ASSERT_TRUE(IsOk(again));
  a_ = *again;
  ReadAll(a_, 0, 64 << 10);
  EXPECT_EQ(store_->stats().device_read_latency.count(), 1u);
  ReadAll(a_, 0, 64 << 10);
  EXPECT_EQ(store_->stats().device_read_latency.count(), 1u);
}

}  // namespace
}  // namespace untorn
