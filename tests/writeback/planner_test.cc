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
  Mapping m{blocks, MappingState::kWritten, physical, lsn, 0};
  m.opened = LogEpoch(1);
  return m;
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
    mappings_.emplace_back(change).mappings = mapped;
    sets_.push_back(set);
    return set;
  }
  const std::vector<ChangeSetRef>& all() const { return sets_; }
  AllMappings& mappings() { return mappings_; }
  ObjectState& object() { return *object_; }

 private:
  std::shared_ptr<ObjectState> object_ = std::make_shared<ObjectState>();
  std::vector<ChangeSetRef> sets_;
  AllMappings mappings_;
};

class PlannerTest : public testing::Test {
 protected:
  Plan Make() {
    return MakePlan(sets_.all(), {.policy = policy_,
                                  .limits = kUnit16,
                                  .mappings_known = mappings_known_,
                                  .mappings = sets_.mappings(),
                                  .settled = {kSettled, kSettled},
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
  MappingsKnown mappings_known_ = MappingsKnown::kAll;
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
  const ChangeSetRef set = sets_.Add({{0, 4}}, {});
  ObjectChange& change = set->changes[ObjectId{2}];
  change.object = std::make_shared<ObjectState>();
  change.object->id = ObjectId{2};
  change.data.Add({0, 4});
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

TEST_F(PlannerTest, BlindSetsAreTakenByCopyOnWriteForAReasonOfTheirOwn) {
  sets_.Add({{8, 4}}, {});
  mappings_known_ = MappingsKnown::kNotNeeded;
  EXPECT_EQ(Reasons(), "cheaper-packed ");
  mappings_known_ = MappingsKnown::kDamaged;
  EXPECT_EQ(Reasons(), "mapping-damaged ") << "promise 9: the damage does not refuse the write";
  EXPECT_TRUE(Make().needs_record());
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
  Mapping closed = Written({8, 4}, 96, kSettled + 1);
  closed.opened = LogEpoch();
  sets_.Add({{8, 4}}, {closed});
  EXPECT_EQ(Reasons(), "unsettled ");
  EXPECT_FALSE(Make().settle_first) << "it was rewritten once: a record costs less";
  sets_.mappings()[0].mappings[0].unsettled_rewrites = 1;
  EXPECT_TRUE(Make().settle_first);
  sets_.Add({{50, 1}}, {Hole({50, 1})});
  EXPECT_FALSE(Make().settle_first) << "the other one needs a record anyway";
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
  sets_.Add({{4, 8}}, {Unwritten({4, 2}, 44), Hole({6, 2}), Unwritten({8, 4}, 80)});
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

// ---- The chance to go in place ----

class ChanceTest : public testing::Test {
 protected:
  bool Possible(WritePolicy policy = WritePolicy::kAutomatic) {
    return ChanceOfInPlace(sets_.all(), policy, kUnit16).possible;
  }
  ChangeSets sets_;
};

TEST_F(ChanceTest, OneRangeOfTheDevicesUnitsHasAChance) {
  sets_.Add({{8, 4}}, {});
  EXPECT_TRUE(Possible());
  EXPECT_FALSE(Possible(WritePolicy::kAlwaysCow));
  EXPECT_FALSE(ChanceOfInPlace(sets_.all(), WritePolicy::kAutomatic, AtomicLimits()).possible);
}

TEST_F(ChanceTest, OneSetThatNeedsARecordTakesItFromAllUnlessThePolicyIsHardwareOnly) {
  sets_.Add({{8, 4}}, {});
  sets_.Add({{20, 3}}, {});
  EXPECT_FALSE(Possible());
  EXPECT_TRUE(Possible(WritePolicy::kHardwareOnly));
}

TEST_F(ChanceTest, MoreDataThanTwoOverwritesTakeHasNone) {
  for (uint64_t i = 0; i < 2; ++i) sets_.Add({{ObjectBlock(16 * i), 16}}, {});
  EXPECT_TRUE(Possible());
  sets_.Add({{100, 1}}, {});
  EXPECT_FALSE(Possible());
}

TEST_F(ChanceTest, NeighboursInTheirObjectAreNotScattered) {
  for (uint64_t i = 0; i < 4; ++i) sets_.Add({{ObjectBlock(2 * i), 2}}, {});
  EXPECT_FALSE(ChanceOfInPlace(sets_.all(), WritePolicy::kAutomatic, kUnit16).scattered);
  for (uint64_t i = 0; i < 2; ++i) sets_.Add({{ObjectBlock(100 * (i + 1)), 1}}, {});
  EXPECT_TRUE(ChanceOfInPlace(sets_.all(), WritePolicy::kAutomatic, kUnit16).scattered);
}

// ---- FindMappings ----

class FindMappingsTest : public VolumeTest {
 protected:
  void Find(bool in_place_possible = true) {
    const absl::Status status = open_->Find([&](MissingNodes* missing) {
      return FindMappings(sets_.all(), in_place_possible, volume().mappings(), &found_, missing);
    });
    ASSERT_TRUE(status.ok()) << status;
  }
  std::string Text(size_t i) const {
    std::string text;
    for (const Mapping& m : found_.at(i).mappings) {
      text += std::to_string(m.logical.start.value()) + "+" + std::to_string(m.logical.count.value()) + "@" +
              std::to_string(m.physical.value()) + " ";
    }
    return text;
  }

  ChangeSets sets_;
  AllMappings found_;
};

TEST_F(FindMappingsTest, NothingIsLookedUpThatDecidesNothing) {
  sets_.Add({{0, 4}}, {});
  Find(/*in_place_possible=*/false);
  EXPECT_TRUE(found_.empty());
}

TEST_F(FindMappingsTest, PreallocatedObjectIsAlwaysLookedUp) {
  const LogEntry entry = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({entry});
  sets_.Add({{0, 4}}, {});
  sets_.object().preallocated = true;
  Find(/*in_place_possible=*/false);
  EXPECT_EQ(Text(0), "0+4@" + std::to_string(entry.physical.value()) + " ");
}

TEST_F(FindMappingsTest, MappingsInTheTreeAreFoundOnceItsNodesAreLoaded) {
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a'), b = open_->NewData(kObject, {100, 4}, 'b');
  open_->Commit({a, b});
  ASSERT_TRUE(open_->Checkpoint().ok());
  Reopen();
  sets_.Add({{2, 2}, {100, 8}}, {});
  Find();
  EXPECT_EQ(Text(0), "2+2@" + std::to_string((a.physical + 2).value()) + " 100+4@" +
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
