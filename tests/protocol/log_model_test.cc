// The protocol of format 2's log (docs/format-2.md) keeps the promises within the bounds of the model, and each of its
// rules is needed. Promises 1, 3 and 9.
#include "tests/protocol/log_model.h"

#include <gtest/gtest.h>

#include <iterator>
#include <ostream>
#include <set>
#include <string>

namespace untorn::protocol {

std::ostream& operator<<(std::ostream& out, const Bounds& b) {
  return out << b.lanes << " lanes, " << b.extents << " extents of " << b.extent_blocks << ", ring of "
             << b.ring_blocks << ", " << b.commits << " commits, " << b.large << " large, " << b.chains
             << " chains, " << b.in_flight << " in flight, " << b.settling << " settling, " << b.openings
             << " openings, " << b.in_place << " in place, " << b.giving_back << " giving back, "
             << b.checkpoints << " checkpoints, " << b.power_cuts << " power cuts, " << b.kills << " kills, "
             << b.rotten_blocks << " rotten, " << b.rotten_slots << " rotten slots, " << b.lost_slot_writes
             << " lost writes of slots" << (b.named_at_first ? "" : ", not named at first")
             << (b.retries ? ", retries" : "");
}

namespace {

std::string Steps(const SearchResult& result) {
  std::string steps = result.violation;
  for (const std::string& step : result.trace) steps += "\n  " + step;
  return steps;
}

class ProtocolTest : public testing::TestWithParam<Bounds> {};

TEST_P(ProtocolTest, KeepsThePromisesInEveryState) {
  const SearchResult result = Search(GetParam(), {});
  EXPECT_TRUE(result.violation.empty()) << GetParam() << ": " << Steps(result);
  EXPECT_TRUE(result.exhausted) << GetParam() << ": " << result.states << " states";
  EXPECT_GT(result.dropped_commits, 0u) << GetParam();
  EXPECT_GT(result.opening_folds, 0u) << GetParam();
  if (GetParam().large > 0 && GetParam().named_at_first) {
    EXPECT_GT(result.folds, 0u) << GetParam();
  }
  if (GetParam().rotten_blocks + GetParam().rotten_slots + GetParam().lost_slot_writes > 0) {
    EXPECT_GT(result.damage_found, 0u) << GetParam();
  }
  RecordProperty("states", static_cast<int>(result.states));
  if (GetParam().in_place > 0) {
    EXPECT_GT(result.adopted_blocks, 0u) << GetParam();
  }
  if (GetParam().in_place > 0 && GetParam().checkpoints > 0) {
    EXPECT_GT(result.closed_blocks, 0u) << GetParam();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ProtocolTest,
    testing::Values(
        // Alone: records are overwritten, lanes move.
        Bounds{.extents = 6, .commits = 7}, Bounds{.commits = 5, .rotten_blocks = 1},
        Bounds{.extents = 12, .extent_blocks = 2, .commits = 6},
        Bounds{.extent_blocks = 2, .commits = 4, .checkpoints = 2, .rotten_blocks = 1},
        Bounds{.lanes = 2, .commits = 5, .rotten_blocks = 1}, Bounds{.lanes = 1, .commits = 5},
        // Large, and a ring that is too short.
        Bounds{.commits = 4, .large = 2, .rotten_blocks = 1},
        Bounds{.ring_blocks = 3, .commits = 5, .large = 2},
        Bounds{.commits = 7, .large = 2, .checkpoints = 0},
        // With others.
        Bounds{.commits = 3, .large = 1, .in_flight = 2},
        Bounds{.commits = 4, .in_flight = 3, .checkpoints = 0},
        Bounds{.commits = 4, .large = 1, .in_flight = 2, .checkpoints = 0, .rotten_blocks = 1},
        Bounds{.commits = 1, .chains = 1, .in_flight = 3},
        Bounds{.commits = 1, .chains = 1, .in_flight = 3, .checkpoints = 0, .rotten_blocks = 1},
        Bounds{.commits = 3, .in_flight = 2, .settling = 1, .checkpoints = 0, .rotten_blocks = 1},
        // Lanes are given back, or not yet named.
        Bounds{.commits = 4, .large = 1, .giving_back = 1},
        Bounds{.commits = 4, .large = 1, .giving_back = 1, .checkpoints = 0, .rotten_blocks = 1},
        Bounds{.extent_blocks = 2, .commits = 4, .in_flight = 2, .giving_back = 1, .checkpoints = 0},
        Bounds{.commits = 4, .large = 1, .in_flight = 2, .rotten_blocks = 1, .named_at_first = false},
        // In place.
        Bounds{.commits = 2, .settling = 1, .openings = 1, .in_place = 2},
        Bounds{.commits = 2, .settling = 1, .openings = 1, .in_place = 1, .rotten_blocks = 1},
        Bounds{.commits = 2,
               .in_flight = 2,
               .settling = 1,
               .openings = 1,
               .in_place = 1,
               .checkpoints = 0,
               .rotten_blocks = 1},
        Bounds{.commits = 2, .settling = 1, .openings = 1, .in_place = 1, .power_cuts = 2},
        Bounds{.commits = 2, .openings = 1, .in_place = 1, .kills = 1},
        Bounds{.commits = 2, .settling = 1, .openings = 2, .in_place = 2, .checkpoints = 0, .kills = 1},
        Bounds{
            .commits = 2, .settling = 1, .openings = 1, .in_place = 1, .giving_back = 1, .rotten_blocks = 1},
        // The slots of the superblock.
        Bounds{.commits = 4, .checkpoints = 2, .rotten_slots = 1},
        Bounds{.commits = 2, .power_cuts = 2, .rotten_slots = 1},
        Bounds{.commits = 1, .kills = 2, .rotten_slots = 1},
        Bounds{.commits = 3, .checkpoints = 2, .lost_slot_writes = 1},
        Bounds{.commits = 2, .power_cuts = 2, .lost_slot_writes = 1},
        // More than one crash.
        Bounds{.commits = 4, .power_cuts = 2}, Bounds{.commits = 3, .kills = 1},
        Bounds{.commits = 3, .large = 1, .in_flight = 2, .checkpoints = 0, .power_cuts = 2, .retries = true},
        Bounds{.commits = 3, .large = 1, .checkpoints = 0, .power_cuts = 3, .rotten_blocks = 1}));

TEST(ReachTest, LanesAreOverwrittenAndMoveAndAreFolded) {
  const SearchResult result = Search({.extents = 6, .commits = 6, .power_cuts = 0}, {});
  EXPECT_GT(result.overwritten_records, 0u);
  EXPECT_GT(result.lane_moves, 0u);
  EXPECT_GT(result.folds, 0u);
}

struct Canary {
  Rule rule;
  Bounds bounds;
  std::string violation;  // a part of what goes wrong
};
std::ostream& operator<<(std::ostream& out, const Canary& canary) { return out << RuleName(canary.rule); }

const Canary kCanaries[] = {
    {Rule::kAlone, {.commits = 3, .large = 1, .in_flight = 2}, "the log ends at"},
    {Rule::kOverwriteTwiceRepeated,
     {.lanes = 2, .commits = 4, .checkpoints = 0, .rotten_blocks = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kOverwriteRepeated,
     {.lanes = 1, .commits = 4, .checkpoints = 0},
     "was acknowledged, and recovery finds"},
    {Rule::kKeepRetired,
     {.commits = 4, .large = 1, .giving_back = 1, .checkpoints = 0},
     "was acknowledged, and recovery finds"},
    {Rule::kRepeatAll, {.commits = 4}, "the log ends at"},
    {Rule::kExtentNamed, {.commits = 1, .named_at_first = false}, "was acknowledged, and recovery finds"},
    {Rule::kExtentNamedTwice,
     {.commits = 3, .large = 2, .checkpoints = 0, .rotten_blocks = 1, .named_at_first = false},
     "was acknowledged, and recovery finds"},
    {Rule::kNameExtents, {.commits = 3, .large = 1}, "was acknowledged, and recovery finds"},
    {Rule::kFoldFirst, {.commits = 3, .large = 1}, "was acknowledged, and recovery finds"},
    {Rule::kFoldNames,
     {.commits = 5, .large = 2, .checkpoints = 0, .rotten_blocks = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kKeepRing, {.ring_blocks = 3, .commits = 6, .large = 6, .checkpoints = 0}, "the log ends at"},
    {Rule::kRoomForFold,
     {.ring_blocks = 2, .commits = 3, .large = 1, .checkpoints = 0},
     "no room for the fold"},
    {Rule::kFollowFolded, {.commits = 3, .large = 1}, "was acknowledged, and recovery finds"},
    {Rule::kOpenFlushesFirst, {.commits = 1, .kills = 1}, "which holds"},
    {Rule::kSlotsAgree,
     {.commits = 2, .power_cuts = 2, .rotten_slots = 1},
     "a record names a newer superblock"},
    {Rule::kOpeningFolds, {.commits = 2, .power_cuts = 2}, "the log ends at"},
    {Rule::kFoldBeforeSuperblock, {.commits = 1, .power_cuts = 2}, "the log ends at"},
    {Rule::kNextEpoch,
     {.commits = 3, .large = 1, .in_flight = 2, .checkpoints = 0, .power_cuts = 2, .retries = true},
     "had been dropped, and is back"},
    {Rule::kEpochOfSuperblock,
     {.commits = 3, .large = 1, .in_flight = 2, .checkpoints = 0, .power_cuts = 2, .retries = true},
     "had been dropped, and is back"},
    {Rule::kOldEpochsCount, {.commits = 1, .power_cuts = 2}, "the log ends at"},
    {Rule::kLaneRecordEpoch,
     {.commits = 3, .checkpoints = 0, .power_cuts = 3, .rotten_blocks = 1},
     "which holds"},
    {Rule::kNamesBehindEnd,
     {.commits = 3, .in_flight = 2, .checkpoints = 0, .rotten_blocks = 1, .named_at_first = false},
     "was acknowledged, and recovery finds"},
    {Rule::kLanesBeforeVouchers, {.commits = 4, .large = 1}, "the log ends at"},
    {Rule::kVouch,
     {.commits = 5, .large = 1, .checkpoints = 0, .rotten_blocks = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kLaneRecordsClaim, {.commits = 4, .large = 2}, "was acknowledged, and recovery finds"},
    {Rule::kNamesNewerSuperblock,
     {.commits = 2, .power_cuts = 2, .lost_slot_writes = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kCheckUnsettledData, {.commits = 4}, "which holds"},
    {Rule::kStrictBeyondClaim, {.commits = 2, .settling = 1, .openings = 1, .in_place = 1}, "which holds"},
    {Rule::kEndInsideRecord, {.commits = 4}, "was acknowledged, and recovery finds"},
    {Rule::kEndAtChainEnd, {.commits = 1, .chains = 1, .in_flight = 3}, "half of a chain is there"},
    {Rule::kSlotsInTurn, {.commits = 1}, "no superblock is readable"},
    {Rule::kCountsInBothSlots,
     {.commits = 1, .power_cuts = 2, .rotten_slots = 1},
     "a record names a newer superblock"},
    {Rule::kNameDurableRecord, {.commits = 4}, "the log ends at"},
    {Rule::kDurableIsNoFlush, {.commits = 3, .in_flight = 2}, "was acknowledged, and recovery finds"},
    {Rule::kClaimPrefix, {.commits = 4, .in_flight = 3, .checkpoints = 0}, "which holds"},
    {Rule::kClaimChainEnds, {.commits = 1, .chains = 1, .in_flight = 3}, "half of a chain is there"},
    {Rule::kReuseSettledTwice,
     {.commits = 4, .large = 1, .in_flight = 2, .checkpoints = 0, .rotten_blocks = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kReuseDisplaced, {.commits = 5, .in_flight = 2, .checkpoints = 0}, "which holds"},
    {Rule::kDisplacedSettled,
     {.commits = 4, .large = 1, .checkpoints = 0, .rotten_blocks = 1},
     "which holds"},
    {Rule::kInPlaceSettled,
     {.commits = 2,
      .in_flight = 2,
      .settling = 2,
      .openings = 1,
      .in_place = 1,
      .checkpoints = 0,
      .rotten_blocks = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kInPlaceOpened, {.commits = 2, .settling = 1, .openings = 1, .in_place = 1}, "which holds"},
    {Rule::kCloseInMemory, {.commits = 2, .settling = 1, .openings = 1, .in_place = 1}, "which holds"},
    {Rule::kCarryWhatIsFlushed, {.commits = 2, .settling = 1, .openings = 1, .in_place = 1}, "which holds"},
    {Rule::kCloseWhatIsKnown,
     {.commits = 2, .settling = 1, .openings = 1, .in_place = 1, .power_cuts = 2},
     "which holds"},
};

class CanaryTest : public testing::TestWithParam<Canary> {};

TEST_P(CanaryTest, WithoutTheRuleAPromiseBreaks) {
  const Canary& canary = GetParam();
  const SearchResult result = Search(canary.bounds, {canary.rule});
  EXPECT_NE(result.violation.find(canary.violation), std::string::npos)
      << RuleName(canary.rule) << " in " << result.states << " states: " << Steps(result);
  RecordProperty("steps", static_cast<int>(result.trace.size()));
}

INSTANTIATE_TEST_SUITE_P(All, CanaryTest, testing::ValuesIn(kCanaries),
                         [](const testing::TestParamInfo<Canary>& info) {
                           std::string name = RuleName(info.param.rule);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(CanariesTest, EveryRuleHasOne) {
  std::set<Rule> rules;
  for (const Canary& canary : kCanaries) rules.insert(canary.rule);
  EXPECT_EQ(rules.size(), static_cast<size_t>(Rule::kCount));
}

}  // namespace
}  // namespace untorn::protocol
