// Each broken rule of the extent layer takes effect: what canaries_test hunts for in whole stores, seen at its source.
// Without a canary the rules are the product's.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>

#include "extent/rules.h"
#include "tests/canaries/canary.h"
#include "tests/extent/open_volume.h"

namespace untorn {
namespace {

class ExtentRulesTest : public VolumeTest {
 protected:
  void TearDown() override { active_canary = Canary::kNone; }
};

TEST_F(ExtentRulesTest, FreedExtentIsReusedBeforeItsRecordIsSettled) {
  for (const bool broken : {false, true}) {
    active_canary = broken ? Canary::kReuseUnsettled : Canary::kNone;
    const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
    LogAppend& first = open_->Send({a});
    LogAppend& second = open_->Send({open_->NewData(kObject, {0, 4}, 'b')});
    open_->Flush();
    open_->Durable(first);
    open_->Durable(second);
    const absl::StatusOr<Extent> next = open_->Allocate(4);
    ASSERT_TRUE(next.ok());
    EXPECT_EQ(next->start == a.physical, broken) << "and it is the first to be reused";
    active_canary = Canary::kNone;
    Reopen();
  }
}

TEST_F(ExtentRulesTest, FreedExtentIsReusedUnderARead) {
  for (const bool broken : {false, true}) {
    active_canary = broken ? Canary::kReuseUnderRead : Canary::kNone;
    const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
    open_->Commit({a});
    const ReadPin pin = volume().space().PinRead(Place(a));
    open_->Commit({open_->NewData(kObject, {0, 4}, 'b')});
    open_->Commit({});
    EXPECT_EQ(open_->IsAllocatable(Place(a)), broken);
    active_canary = Canary::kNone;
  }
}

TEST_F(ExtentRulesTest, RecordCountsAsDurableAlthoughOneBeforeItDoesNot) {
  active_canary = Canary::kClaimPastGap;
  LogAppend& first = open_->Send({});
  LogAppend& second = open_->Send({});
  open_->Durable(second);
  EXPECT_EQ(volume().log().durable_lsn(), second.last);
  open_->Durable(first);
  EXPECT_EQ(volume().log().durable_lsn(), second.last);
}

TEST_F(ExtentRulesTest, RecordIsBelievedWithoutItsData) {
  for (const bool broken : {false, true}) {
    LogEntry entry = open_->NewData(kObject, {broken ? ObjectBlock(1) : ObjectBlock(0), 1}, 'a');
    entry.data.check ^= 1;
    open_->Send({entry});
    open_->Flush();
    active_canary = broken ? Canary::kNoDataHash : Canary::kNone;
    PowerCut();
    EXPECT_EQ(volume().counters().recovered_records, broken ? 1u : 0u);
  }
}

TEST_F(ExtentRulesTest, OpeningDoesNotFlushOrBeginsNoEpoch) {
  const LogEpoch epoch = volume().superblock().epoch;
  active_canary = Canary::kOpenWithoutEpoch;
  Reopen();
  EXPECT_EQ(volume().superblock().epoch, epoch);
  EXPECT_EQ(open_->device().counts().flushes, 1u);
  active_canary = Canary::kOpenWithoutFlush;
  Reopen();
  EXPECT_EQ(volume().superblock().epoch, epoch + 1);
  EXPECT_EQ(open_->device().counts().flushes, 0u);
}

TEST_F(ExtentRulesTest, SuperblocksAreWrittenTogether) {
  // How many superblocks are in flight at a time.
  size_t at_once = 0;
  disk_->SetObserver([&] {
    size_t in_flight = 0;
    for (const SimulatedDisk::Unflushed& write : disk_->unflushed()) {
      in_flight += write.in_flight &&
                   (write.first_block == kSuperblockSlots[0] || write.first_block == kSuperblockSlots[1]);
    }
    at_once = std::max(at_once, in_flight);
  });
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_EQ(at_once, 1u);
  active_canary = Canary::kSuperblocksTogether;
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_EQ(at_once, 2u);
  disk_->SetObserver({});
}

}  // namespace
}  // namespace untorn
