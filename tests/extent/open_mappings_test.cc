#include "extent/open_mappings.h"

#include <gtest/gtest.h>

#include "tests/extent/test_checksums.h"

namespace untorn {
namespace {

constexpr ObjectId kObject{7};
constexpr LogEpoch kSession(5);

// A tree of which only the mappings of one object are known, with checkpoints as a volume makes them.
class OpenMappingsTest : public testing::Test {
 protected:
  static Mapping Written(BlockRange range, BlockNumber physical) {
    return WithTestChecksums({range, MappingState::kWritten, physical});
  }
  void Apply(const LogEntry& entry) {
    EXPECT_TRUE(active_.Apply(entry, ++lsn_, [](Extent, Lsn) {}).ok());
  }
  void Open(BlockRange range, BlockNumber physical, LogEpoch epoch = kSession) {
    Apply(LogEntry::Open(kObject, Written(range, physical), epoch));
  }
  // What the checkpoint says of the mappings.
  void Checkpoint(bool has_room = true) {
    open_.Forget(active_);
    open_.CloseQuiet([&](uint64_t) { return has_room; }, &active_);
    EXPECT_TRUE(active_.CheckInvariants().ok());
    frozen_ = std::move(active_);
    active_ = Delta();
    open_.Carried(kSession, frozen_);
  }
  // "start+count@physical", with o if the mapping is open.
  static std::string Text(const Delta& delta) {
    std::string text;
    delta.ForEachMapping([&](ObjectId, const Mapping& m, bool) {
      if (!text.empty()) text += " ";
      text += std::to_string(m.logical.start.value()) + "+" + std::to_string(m.logical.count.value());
      text += m.state == MappingState::kHole ? " hole" : "@" + std::to_string(m.physical.value());
      text += m.opened > 0 ? "o" : "";
      EXPECT_TRUE(HasTestChecksums(m));
    });
    return text;
  }

  OpenMappings open_;
  Delta active_, frozen_;
  Lsn lsn_;
};

TEST_F(OpenMappingsTest, OpenedMappingIsCarriedOnceAndThenClosed) {
  Open({8, 4}, 100);
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "8+4@100o");
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "8+4@100");
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "");
  EXPECT_TRUE(open_.empty());
}

TEST_F(OpenMappingsTest, OverwrittenPartStaysOpenAndTheRestIsClosed) {
  Open({8, 4}, 100);
  Checkpoint();
  Mapping overwritten = Written({9, 1}, 101);
  overwritten.opened = kSession;
  active_.Note(kObject, overwritten);
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "8+1@100 9+1@101o 10+2@102");
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "9+1@101");
}

TEST_F(OpenMappingsTest, OverwriteInFlightKeepsItOpen) {
  Open({8, 4}, 100);
  Checkpoint();
  open_.Begin({101, 1});
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "");
  open_.CloseNewest(kSession, &active_);
  open_.End({101, 1});
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "8+4@100");
}

// A checkpoint that has no room closes nothing. What it knows newer mappings of must not come back.
TEST_F(OpenMappingsTest, WhatWasMappedAnewIsForgottenAlsoWithoutRoom) {
  Open({8, 4}, 100);
  Open({20, 2}, 300);
  Checkpoint();
  Apply(TestMap(kObject, {9, 1}, 500));
  Apply(LogEntry::Hole(kObject, {20, 2}));
  Checkpoint(/*has_room=*/false);
  EXPECT_EQ(Text(frozen_), "9+1@500 20+2 hole");
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "8+1@100 10+2@102");
  Open({8, 1}, 100);
  Checkpoint(/*has_room=*/false);
  Apply(LogEntry::InodeGone(kObject));
  Checkpoint(/*has_room=*/false);
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "");
  EXPECT_TRUE(open_.empty());
}

TEST_F(OpenMappingsTest, WhatIsOpenedAgainElsewhereIsClosedThere) {
  Open({8, 4}, 100);
  Checkpoint();
  Apply(TestMap(kObject, {8, 4}, 700));
  Open({8, 4}, 700);
  Checkpoint(/*has_room=*/false);
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "8+4@700");
}

TEST_F(OpenMappingsTest, CleanCloseClosesTheNewestOnesOfThisSessionAlone) {
  Open({8, 4}, 100);
  Open({30, 2}, 400, LogEpoch(4));
  open_.CloseNewest(kSession, &active_);
  Checkpoint();
  EXPECT_EQ(Text(frozen_), "8+4@100 30+2@400o") << "nobody knows what an earlier session has overwritten";
  EXPECT_TRUE(open_.empty());
}

}  // namespace
}  // namespace untorn
