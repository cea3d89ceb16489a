// Which way each change set goes, and what its blocks are mapped to. A plan that overwrites in place what it
// must not breaks promise 1, or promise 3.
#include "writeback/planner.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cow/cow_fork.h"
#include "tests/extent/open_volume.h"
#include "writeback/log_entries.h"

namespace untorn {
namespace {

constexpr Lsn kSettled = 10;
const AtomicLimits kUnit16 = {AtomicSource::kHardware, kBlockBytes, 16 * kBlockBytes, 0};

Mapping Written(BlockRange blocks, BlockNumber physical, Lsn lsn = 1) {
  return {blocks, MappingState::kWritten, physical, lsn, 0};
}
Mapping Unwritten(BlockRange blocks, BlockNumber physical) {
  return {blocks, MappingState::kUnwritten, physical, 1, 0};
}
Mapping Hole(BlockRange blocks) { return {blocks, MappingState::kHole, 0, 0, 0}; }

// Change sets made by hand, of one object whose durable size reaches over all they change.
class ChangeSets {
 public:
  ChangeSets() { object_->id = kObject, object_->durable_size_bytes = 1 << 30; }

  ChangeSetRef Add(const std::vector<BlockRange>& data, const Mappings& mapped, BarrierEpoch epoch = 0) {
    auto set = std::make_shared<ChangeSet>();
    set->epoch = epoch;
    set->sequence = sets_.size() + 1;
    ObjectChange& change = set->changes[kObject];
    change.object = object_;
    for (const BlockRange& range : data) {
      change.data.Add(range);
      set->data_blocks += range.count;
    }
    change.mapped.assign(mapped.begin(), mapped.end());
    sets_.push_back(set);
    return set;
  }
  const std::vector<ChangeSetRef>& all() const { return sets_; }

 private:
  std::shared_ptr<ObjectState> object_ = std::make_shared<ObjectState>();
  std::vector<ChangeSetRef> sets_;
};

class PlannerTest : public testing::Test {
 protected:
  Plan Make() {
    return MakePlan(sets_.all(), {.policy = policy_,
                                  .limits = kUnit16,
                                  .settled_twice = kSettled,
                                  .earlier_in_flight = earlier_in_flight_,
                                  .read_outstanding = [this](Extent e) { return e == read_; }});
  }
  std::string Reasons() {
    std::string reasons;
    for (const Plan::SetPlan& own : Make().sets) reasons += std::string(PathReasonName(own.reason)) + " ";
    return reasons;
  }

  ChangeSets sets_;
  WritePolicy policy_ = WritePolicy::kAutomatic;
  bool earlier_in_flight_ = false;
  Extent read_;
};

// ---- MakePlan ----

TEST_F(PlannerTest, OneSettledRangeGoesInPlaceWithoutARecord) {
  sets_.Add({{8, 4}}, {Written({8, 4}, 96)});
  const Plan plan = Make();
  ASSERT_EQ(plan.sets.size(), 1u);
  EXPECT_EQ(plan.sets[0].reason, PathReason::kInPlace);
  EXPECT_EQ(plan.sets[0].in_place, (Extent{96, 4}));
  EXPECT_FALSE(plan.needs_record());
  EXPECT_EQ(plan.sets_in_place(), 1u);
  EXPECT_FALSE(plan.settle_first);
}

TEST_F(PlannerTest, SeveralRangesNeverGoInPlace) {
  sets_.Add({{0, 4}, {8, 4}}, {Written({0, 4}, 96), Written({8, 4}, 100)});
  EXPECT_EQ(Reasons(), "several-ranges ") << "promise 6: half of it would be";
  EXPECT_TRUE(Make().needs_record());
}

TEST_F(PlannerTest, TwoObjectsAreSeveralRanges) {
  const ChangeSetRef set = sets_.Add({{0, 4}}, {Written({0, 4}, 96)});
  ObjectChange& change = set->changes[ObjectId{2}];
  change.object = std::make_shared<ObjectState>();
  change.object->id = ObjectId{2};
  change.data.Add({0, 4});
  change.mapped = {Written({0, 4}, 100)};
  set->data_blocks += 4;
  EXPECT_EQ(Reasons(), "several-ranges ");
}

TEST_F(PlannerTest, ChangeOfMetadataAloneNeedsARecord) {
  sets_.Add({}, {})->changes[kObject].holes.Add({0, 4});
  EXPECT_EQ(Reasons(), "metadata-change ");
  EXPECT_TRUE(Make().needs_record());
}

TEST_F(PlannerTest, GrowthBeyondTheDurableSizeNeedsARecordAndGrowthWithinDoesNot) {
  const ChangeSetRef set = sets_.Add({{8, 4}}, {Written({8, 4}, 96)});
  set->changes[kObject].grow_to_bytes = 1 << 30;
  EXPECT_EQ(Reasons(), "in-place ");
  set->changes[kObject].grow_to_bytes = (1 << 30) + 1;
  EXPECT_EQ(Reasons(), "metadata-change ");
}

TEST_F(PlannerTest, WhatTheBatchMustBeOrderedBehindDoesNotGoInPlace) {
  sets_.Add({{8, 4}}, {Written({8, 4}, 96)});
  earlier_in_flight_ = true;
  EXPECT_EQ(Reasons(), "barrier-unmet ");
  earlier_in_flight_ = false;
  sets_.Add({{8, 4}}, {Written({8, 4}, 96)}, 1);
  EXPECT_EQ(Reasons(), "barrier-unmet barrier-unmet ") << "promise 5: one record orders both";
}

TEST_F(PlannerTest, RangeThatIsBeingReadDoesNotGoInPlace) {
  sets_.Add({{8, 4}}, {Written({8, 4}, 96)});
  read_ = {96, 4};
  EXPECT_EQ(Reasons(), "read-outstanding ") << "promise 2";
}

TEST_F(PlannerTest, RefusedOnceIsNotTriedAgain) {
  sets_.Add({{8, 4}}, {Written({8, 4}, 96)})->device_refused = true;
  EXPECT_EQ(Reasons(), "device-refused ");
}

TEST_F(PlannerTest, OnlyThePartOfAMappingThatIsWrittenCounts) {
  sets_.Add({{4, 4}}, {Written({0, 64}, 92)});
  const Plan plan = Make();
  EXPECT_EQ(plan.sets[0].reason, PathReason::kInPlace);
  EXPECT_EQ(plan.sets[0].in_place, (Extent{96, 4}));
}

TEST_F(PlannerTest, OverlappingDuplicatesOfMappingsAreHarmless) {
  sets_.Add({{8, 4}}, {Written({8, 2}, 96), Written({8, 4}, 96), Written({9, 3}, 97), Written({11, 1}, 99)});
  const Plan plan = Make();
  EXPECT_EQ(plan.sets[0].reason, PathReason::kInPlace);
  EXPECT_EQ(plan.sets[0].in_place, (Extent{96, 4}));
}

TEST_F(PlannerTest, ScatteredRangesArePackedWhereThatIsCheaper) {
  for (uint64_t i = 0; i < 3; ++i)
    sets_.Add({{ObjectBlock(8 * i), 4}}, {Written({ObjectBlock(8 * i), 4}, BlockNumber(96 + 32 * i))});
  EXPECT_EQ(Reasons(), "cheaper-packed cheaper-packed cheaper-packed ");
  const Plan plan = Make();
  EXPECT_TRUE(plan.in_place.empty());
  EXPECT_TRUE(plan.needs_record());
}

TEST_F(PlannerTest, HardwareOnlyPolicyPacksNothing) {
  policy_ = WritePolicy::kHardwareOnly;
  for (uint64_t i = 0; i < 3; ++i)
    sets_.Add({{ObjectBlock(8 * i), 4}}, {Written({ObjectBlock(8 * i), 4}, BlockNumber(96 + 32 * i))});
  EXPECT_EQ(Reasons(), "in-place in-place in-place ");
}

TEST_F(PlannerTest, NeighboursOnTheDeviceAreOneWriteThatNamesTheirChangeSets) {
  sets_.Add({{100, 4}}, {Written({100, 4}, 100)});
  sets_.Add({{8, 4}}, {Written({8, 4}, 96)});
  const Plan plan = Make();
  ASSERT_EQ(plan.in_place.size(), 1u);
  EXPECT_EQ(plan.in_place[0].extent, (Extent{96, 8}));
  EXPECT_EQ(plan.in_place[0].candidates, (std::vector<size_t>{1, 0})) << "in order of their place";
}

TEST_F(PlannerTest, ThirdRewriteOfTheSameUnsettledRangeSettlesFirst) {
  const ChangeSetRef set = sets_.Add({{8, 4}}, {Written({8, 4}, 96, kSettled + 1)});
  EXPECT_EQ(Reasons(), "unsettled ");
  EXPECT_FALSE(Make().settle_first) << "it was rewritten once: a record costs less";
  set->changes[kObject].mapped[0].unsettled_rewrites = 1;
  EXPECT_TRUE(Make().settle_first);
  sets_.Add({{50, 1}}, {Hole({50, 1})});
  EXPECT_FALSE(Make().settle_first) << "the other one needs a record anyway";
}

TEST_F(PlannerTest, PartOfARewrittenRangeDoesNotCountAsRewritten) {
  Mapping mapping = Written({8, 8}, 96, kSettled + 1);
  mapping.unsettled_rewrites = 3;
  sets_.Add({{8, 4}}, {mapping});
  EXPECT_FALSE(Make().settle_first);
}

TEST_F(PlannerTest, LogRoomIsThatOfAllItsChangeSets) {
  uint64_t bytes = 0;
  for (ObjectBlock at = 0; at < 1600; at += 8) {
    bytes += LogBytesMax(*sets_.Add({{at, 1}}, {Hole({at, 1})}));
  }
  EXPECT_EQ(Make().log_blocks_max, LogBlocksMax(bytes));
}

// ---- Unwritten extents ----

std::vector<Extent> Places(const Plan::SetPlan& own) {
  std::vector<Extent> places;
  for (const auto& [id, m] : own.unwritten) places.push_back(m.extent());
  return places;
}

TEST_F(PlannerTest, NewDataGoesIntoTheUnwrittenExtentsBelowIt) {
  sets_.Add({{4, 8}}, {Unwritten({0, 6}, 40), Hole({6, 2}), Unwritten({8, 20}, 80)});
  const Plan plan = Make();
  EXPECT_EQ(Places(plan.sets[0]), (std::vector<Extent>{{44, 2}, {80, 4}}));
}

TEST_F(PlannerTest, NotIntoThoseThatAHoleOfItsOwnChangeSetGivesBack) {
  const ChangeSetRef set = sets_.Add({{0, 8}}, {Unwritten({0, 8}, 40)});
  set->changes[kObject].holes.Add({2, 3});
  const Plan plan = Make();
  EXPECT_EQ(Places(plan.sets[0]), (std::vector<Extent>{{40, 2}, {45, 3}}));
}

TEST_F(PlannerTest, NotInALaterBarrierEpochThanOthersOfTheBatch) {
  sets_.Add({{0, 4}}, {Unwritten({0, 4}, 40)});
  sets_.Add({{0, 4}}, {Unwritten({0, 4}, 40)}, 1);
  const Plan plan = Make();
  EXPECT_EQ(Places(plan.sets[0]), (std::vector<Extent>{{40, 4}}));
  EXPECT_TRUE(plan.sets[1].unwritten.empty()) << "the earlier one writes there";
}

// ---- FindMappings ----

class FindMappingsTest : public VolumeTest {
 protected:
  void Find() {
    const absl::Status status = open_->Find(
        [&](MissingNodes* missing) { return FindMappings(sets_.all(), volume().mappings(), missing); });
    ASSERT_TRUE(status.ok()) << status;
  }
  static std::string Text(const ObjectChange& change) {
    std::string text;
    for (const Mapping& m : change.mapped) {
      text += std::to_string(m.logical.start.value()) + "+" + std::to_string(m.logical.count.value()) + "@" +
              std::to_string(m.physical.value()) + " ";
    }
    return text;
  }

  ChangeSets sets_;
};

TEST_F(FindMappingsTest, CarriedMappingsAreUsedIfTheyCoverTheData) {
  const ChangeSetRef set = sets_.Add({{0, 4}}, {Written({2, 2}, 777), Written({0, 2}, 700)});
  Find();
  EXPECT_EQ(Text(set->changes[kObject]), "0+2@700 2+2@777 ") << "sorted, and not looked up";
}

TEST_F(FindMappingsTest, CarriedMappingsThatLeaveAGapAreLookedUp) {
  const LogEntry entry = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({entry});
  const ChangeSetRef set = sets_.Add({{0, 4}}, {Written({0, 2}, 700), Written({3, 1}, 703)});
  Find();
  EXPECT_EQ(Text(set->changes[kObject]), "0+4@" + std::to_string(entry.physical.value()) + " ");
  EXPECT_TRUE(set->changes[kObject].mapped_known);
}

TEST_F(FindMappingsTest, ForgottenMappingsAreLookedUpThoughTheyWouldCover) {
  const LogEntry entry = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({entry});
  const ChangeSetRef set = sets_.Add({{0, 4}}, {Written({0, 4}, 700)});
  set->changes[kObject].mapped_known = false;
  Find();
  EXPECT_EQ(Text(set->changes[kObject]), "0+4@" + std::to_string(entry.physical.value()) + " ");
}

// A later barrier epoch has the newest version of a block: whoever commits another version makes only that one's mappings
// unknown. In place over the old ones, this change set would overwrite another's blocks.
TEST_F(FindMappingsTest, WhatAChangeSetWithDetachedBlocksRemembersIsLookedUpEachTime) {
  const LogEntry old_version = open_->NewData(kObject, {0, 1}, 'a');
  open_->Commit({old_version});
  CowFork fork;
  const std::shared_ptr<ObjectState> object = fork.objects().Add({kObject, kBlockBytes, "one"});
  const auto stage = [&](char value) {
    BufferRef buffer = fork.pages().pool().New();
    std::memset(buffer.data(), value, kBlockBytes);
    ChangeSetRef set = fork.SetForRange(object, {0, 1});
    fork.StageBlock(set, object, 0, std::move(buffer));
    return set;
  };
  const ChangeSetRef first = stage('b');
  fork.Barrier();
  const ChangeSetRef second = stage('c');
  fork.Barrier();
  const ChangeSetRef third = stage('d');
  const auto find = [&](std::vector<ChangeSetRef> sets) {
    const absl::Status status =
        open_->Find([&](MissingNodes* missing) { return FindMappings(sets, volume().mappings(), missing); });
    ASSERT_TRUE(status.ok()) << status;
  };
  find({first, second});
  EXPECT_EQ(Text(second->changes[kObject]), "0+1@" + std::to_string(old_version.physical.value()) + " ");
  // The first one becomes durable alone.
  fork.Freeze(first);
  const LogEntry new_version = open_->NewData(kObject, {0, 1}, 'b');
  open_->Commit({new_version});
  fork.Complete(first);
  find({second});
  EXPECT_EQ(Text(second->changes[kObject]), "0+1@" + std::to_string(new_version.physical.value()) + " ");
}

TEST_F(FindMappingsTest, MappingsInTheTreeAreFoundOnceItsNodesAreLoaded) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a'), b = open_->NewData(kObject, {100, 4}, 'b');
  open_->Commit({a, b});
  ASSERT_TRUE(open_->Checkpoint().ok());
  Reopen();
  const ChangeSetRef set = sets_.Add({{2, 2}, {100, 8}}, {});
  Find();
  EXPECT_EQ(Text(set->changes[kObject]), "2+2@" + std::to_string((a.physical + 2).value()) + " 100+4@" +
                                             std::to_string(b.physical.value()) + " 104+4@0 ");
}

// ---- What has to be placed ----

std::string Text(const CowPieces& pieces) {
  std::string text;
  for (const CowPiece& p : pieces) {
    text += absl::StrCat(p.blocks.start.value(), "+", p.blocks.count.value(), "@", p.physical.value(), " ");
  }
  return text;
}

TEST(DataToPlaceTest, UnwrittenBlocksAreTheirOwnPlaceAndTheRestNeedsOne) {
  ObjectState object;
  object.id = kObject;
  Plan plan;
  const auto set = std::make_shared<ChangeSet>();
  set->epoch = 3;
  set->frozen.push_back({.object = &object, .blocks = {10, 8}});
  set->frozen.push_back({.object = &object, .blocks = {40, 2}});
  Plan::SetPlan& own = plan.sets.emplace_back();
  own.set = set;
  own.reason = PathReason::kUnwritten;
  own.unwritten.push_back({kObject, {{12, 3}, MappingState::kUnwritten, 500}});
  own.unwritten.push_back({ObjectId{9}, {{40, 2}, MappingState::kUnwritten, 600}});
  const auto in_place = std::make_shared<ChangeSet>();
  in_place->frozen.push_back({.object = &object, .blocks = {80, 1}});
  plan.sets.push_back({.set = in_place, .reason = PathReason::kInPlace});

  const DataToPlace data = FindDataToPlace(plan);
  EXPECT_EQ(Text(data.into_unwritten), "12+3@500 ");
  EXPECT_TRUE(data.into_unwritten[0].into_unwritten);
  std::string items;
  for (const LayoutItem& item : data.items) {
    EXPECT_EQ(item.epoch, 3);
    items +=
        absl::StrCat(item.blocks.start.value(), "+", item.blocks.count.value(), " of ", item.source, "; ");
  }
  EXPECT_EQ(items, "10+2 of 0; 15+3 of 0; 40+2 of 1; ") << "nothing of what goes in place";
  EXPECT_EQ(data.sources.at(1).second, &set->frozen[1]);
}

TEST(DataToPlaceTest, PieceIsCutAtWhatAnEntryCanName) {
  CowPieces pieces;
  AddPiece({nullptr, nullptr, {7, 2 * kMapEntryBlocksMax + 1}, 100, false}, &pieces);
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[1].blocks, (BlockRange{ObjectBlock(7) + kMapEntryBlocksMax, kMapEntryBlocksMax}));
  EXPECT_EQ(pieces[2].blocks.count, 1);
  EXPECT_EQ(pieces[2].physical, BlockNumber(100) + 2 * kMapEntryBlocksMax);
}

}  // namespace
}  // namespace untorn
