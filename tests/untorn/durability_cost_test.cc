// What durability costs, counted at the device: one round trip, and no log write where hardware keeps the
// range whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr uint64_t kPage = 16 << 10;
constexpr WriteOptions kSync = {.durability = Durability::kSync};

DeviceCounts operator-(const DeviceCounts& a, const DeviceCounts& b) {
  return {.reads = a.reads - b.reads,
          .writes = a.writes - b.writes,
          .atomic_writes = a.atomic_writes - b.atomic_writes,
          .flushes = a.flushes - b.flushes,
          .durable_writes = a.durable_writes - b.durable_writes,
          .bytes_read = a.bytes_read - b.bytes_read,
          .bytes_written = a.bytes_written - b.bytes_written};
}

class DurabilityCostTest : public testing::Test {
 protected:
  // A store on a disk that keeps writes of up to `unit` whole (0: none), and an object of 4 MiB in it,
  // settled.
  void Make(uint32_t unit, WritePolicy policy = WritePolicy::kAutomatic) {
    TestStoreOptions options;
    open_ = options.open;
    open_.cache_bytes = 16 << 20;
    open_.policy = policy;
    options.size_bytes = 64 << 20;
    options.shuffle = false;
    options.open.cache_bytes = open_.cache_bytes;
    if (unit > 0) options.atomic = HardwareUnit(4096, unit);
    store_ = std::make_unique<TestStore>(options);
    ASSERT_TRUE(store_->is_open());
    ASSERT_TRUE(IsOk((*store_)->CreateObject("a")->Write(0, Stamped(0, 4 << 20))));
    ASSERT_TRUE(IsOk(store_->Close()));
    ASSERT_TRUE(IsOk(store_->Open(open_, 0)));
    a_ = *(*store_)->OpenObject("a");
    ReadAll(a_, 0, 4 << 20);  // its mappings are in memory
  }

  // What the device is asked for by `work`.
  template <typename F>
  DeviceCounts Cost(F work) {
    const DeviceCounts before = store_->counts();
    work();
    return store_->counts() - before;
  }
  DeviceCounts CostOfWrite(uint64_t offset) {
    return Cost([&] { EXPECT_TRUE(IsOk(a_.Write(offset, Stamped(++stamp_, kPage), kSync))); });
  }
  uint64_t InPlace() { return (*store_)->stats().change_sets_in_place(); }

  std::unique_ptr<TestStore> store_;
  OpenOptions open_;
  Object a_;
  uint64_t stamp_ = 100;
};

TEST_F(DurabilityCostTest, SyncWriteByCowTakesOneFlush) {
  for (uint32_t unit : {0, 64 << 10}) {
    ASSERT_NO_FATAL_FAILURE(Make(unit, WritePolicy::kAlwaysCow));
    for (int i = 0; i < 50; ++i) {
      const DeviceCounts cost = CostOfWrite(i % 7 * 3 * kPage);
      EXPECT_LE(cost.flushes, 1u) << i;
      EXPECT_LE(cost.writes, 2u) << i;  // data and log
      EXPECT_EQ(cost.atomic_writes, 0u) << i;
      EXPECT_LE(cost.bytes_written, kPage + 8192) << i;
    }
    a_ = Object();
  }
}

TEST_F(DurabilityCostTest, SyncWriteInPlaceTakesOneDurableWriteAndNoFlushAndNoLog) {
  ASSERT_NO_FATAL_FAILURE(Make(64 << 10, WritePolicy::kHardwareOnly));
  for (uint64_t at = 0; at < (4 << 20); at += 1 << 20) CostOfWrite(at);  // opens its region
  const Stats before = (*store_)->stats();
  for (int i = 0; i < 50; ++i) {
    const DeviceCounts cost = CostOfWrite(i * 5 % 64 * kPage);
    EXPECT_EQ(cost.atomic_writes, 1u) << i;
    EXPECT_EQ(cost.writes, 0u) << i;
    EXPECT_EQ(cost.durable_writes, 1u) << i;
    EXPECT_EQ(cost.flushes, 0u) << i;
    EXPECT_EQ(cost.bytes_written, kPage) << i;
    EXPECT_EQ(cost.reads, 0u) << i;
  }
  EXPECT_EQ((*store_)->stats().log_records, before.log_records);
  EXPECT_EQ((*store_)->stats().checkpoints, before.checkpoints);
}

TEST_F(DurabilityCostTest, WriteByCowReadsNothingOfTheTree) {
  for (uint32_t unit : {0, 64 << 10}) {
    ASSERT_NO_FATAL_FAILURE(Make(unit, WritePolicy::kAlwaysCow));
    // Every block gets a mapping of its own.
    std::vector<uint64_t> blocks(6144);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(1));
    for (uint64_t b : blocks) ASSERT_TRUE(IsOk(a_.Write(b * 4096, Stamped(++stamp_, 4096), kSync)));
    a_ = Object();
    ASSERT_TRUE(IsOk(store_->Close()));
    ASSERT_TRUE(IsOk(store_->Open(open_, 0)));
    a_ = *(*store_)->OpenObject("a");
    for (int i = 0; i < 50; ++i) {
      const DeviceCounts cost =
          Cost([&] { ASSERT_TRUE(IsOk(a_.Write(i * 480 * 1024, Stamped(++stamp_, 4096), kSync))); });
      // The first write loads the free-space map.
      if (i > 0) {
        EXPECT_EQ(cost.reads, 0u) << i;
      }
    }
    const DeviceCounts checkpoint = Cost([&] { ASSERT_TRUE(IsOk((*store_)->Checkpoint())); });
    EXPECT_GT(checkpoint.bytes_read, 3u * 4096) << "the checkpoint finds what the writes displaced";
    EXPECT_LT(checkpoint.bytes_read, 40u * 4096) << "and reads each leaf once";
    EXPECT_LT(checkpoint.reads, checkpoint.bytes_read / 4096) << "leaves that lie together at once";
    a_ = Object();
  }
}

TEST_F(DurabilityCostTest, TransactionOfScatteredRangesIsDurableAtOnceInFewLargeWrites) {
  for (uint32_t unit : {0, 64 << 10}) {
    ASSERT_NO_FATAL_FAILURE(Make(unit));
    for (int round = 0; round < 5; ++round) {
      const DeviceCounts cost = Cost([&] {
        Transaction transaction = (*store_)->Begin();
        for (uint64_t i = 0; i < 16; ++i) {
          EXPECT_TRUE(IsOk(transaction.Write(a_, i * 15 * kPage, Stamped(++stamp_, kPage))));
        }
        EXPECT_TRUE(IsOk(transaction.Commit(Durability::kSync)));
      });
      EXPECT_EQ(cost.flushes + cost.durable_writes, 1u) << round;
      EXPECT_LE(cost.writes + cost.atomic_writes, 4u) << round;
      EXPECT_LE(cost.bytes_written, 16 * kPage + 16384) << round;
    }
    a_ = Object();
  }
}

TEST_F(DurabilityCostTest, BufferedWritesThatAdjoinGoOutTogether) {
  ASSERT_NO_FATAL_FAILURE(Make(0));
  const DeviceCounts cost = Cost([&] {
    for (uint64_t i = 0; i < 32; ++i) EXPECT_TRUE(IsOk(a_.Write(i * kPage, Stamped(++stamp_, kPage))));
    EXPECT_TRUE(IsOk((*store_)->Sync()));
  });
  EXPECT_LE(cost.writes, 6u);
  EXPECT_EQ(cost.flushes, 1u);
}

// From its first write on, a page that is overwritten durably again and again.
TEST_F(DurabilityCostTest, RewrittenPageReachesTheInPlacePathByItsThirdWriteAndStays) {
  for (uint64_t offset : {uint64_t{0}, uint64_t{8 << 20}}) {  // mapped before, and not
    ASSERT_NO_FATAL_FAILURE(Make(64 << 10));
    ASSERT_TRUE(IsOk(a_.PunchHole(offset, kPage, Durability::kSync)));
    const DeviceCounts before = store_->counts();
    constexpr int kWrites = 100;
    for (int i = 0; i < kWrites; ++i) {
      const uint64_t in_place = InPlace();
      const DeviceCounts cost = CostOfWrite(offset);
      if (i < 2) continue;
      EXPECT_EQ(InPlace(), in_place + 1) << "write " << i + 1;
      EXPECT_EQ(cost.atomic_writes, 1u) << "write " << i + 1;
      if (i == 2) continue;  // here the mapping may have been settled
      EXPECT_EQ(cost.writes, 0u) << "write " << i + 1;
      EXPECT_EQ(cost.durable_writes, 1u) << "write " << i + 1;
      EXPECT_EQ(cost.flushes, 0u) << "write " << i + 1;
    }
    const DeviceCounts all = store_->counts() - before;
    EXPECT_LE(all.flushes + all.durable_writes, kWrites + 2u);
    EXPECT_LE((*store_)->stats().settling_records, 2u);
    a_ = Object();
  }
}

// Many pages that are rewritten in turn: settling is shared, too.
TEST_F(DurabilityCostTest, RewrittenPagesSettleEachOther) {
  ASSERT_NO_FATAL_FAILURE(Make(64 << 10));
  const DeviceCounts before = store_->counts();
  for (int round = 0; round < 4; ++round) {
    for (uint64_t i = 0; i < 20; ++i) CostOfWrite((8 << 20) + i * kPage);
  }
  const DeviceCounts cost = store_->counts() - before;
  EXPECT_LE(cost.flushes + cost.durable_writes, 80u + 20u);
  EXPECT_GE(cost.atomic_writes, 40u);
}

TEST_F(DurabilityCostTest, DurableChangeOfANameTakesOneDurableWriteAndNoFlush) {
  ASSERT_NO_FATAL_FAILURE(Make(0));
  int n = 0;
  for (const auto& change : std::vector<std::function<absl::Status()>>{
           [&] { return (*store_)->CreateObject("b", Durability::kSync).status(); },
           [&] { return (*store_)->Rename("b", "c", Durability::kSync); },
           [&] { return (*store_)->Remove("c", Durability::kSync); }}) {
    const DeviceCounts cost = Cost([&] { EXPECT_TRUE(IsOk(change())); });
    EXPECT_EQ(cost.durable_writes, 1u) << n;
    EXPECT_EQ(cost.writes, 1u) << n;
    EXPECT_EQ(cost.flushes, 0u) << n++;
  }
}

TEST_F(DurabilityCostTest, NothingIsFlushedTwice) {
  ASSERT_NO_FATAL_FAILURE(Make(64 << 10));
  EXPECT_TRUE(IsOk((*store_)->Sync()));
  const DeviceCounts cost = Cost([&] {
    EXPECT_TRUE(IsOk((*store_)->Sync()));
    EXPECT_TRUE(IsOk(a_.Sync()));
    EXPECT_TRUE(IsOk(a_.SyncRange(0, kPage)));
  });
  EXPECT_EQ(cost.flushes + cost.writes + cost.atomic_writes, 0u);
}

}  // namespace
}  // namespace untorn
