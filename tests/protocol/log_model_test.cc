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
  return out << b.lanes << " lanes, " << b.segments << " segments of " << b.segment_blocks << ", "
             << b.commits << " commits, " << b.chains << " chains, " << b.in_flight << " in flight, "
             << b.settling << " settling, " << b.openings << " openings, " << b.in_place << " in place, "
             << b.checkpoints << " checkpoints, " << b.power_cuts << " power cuts, " << b.kills << " kills, "
             << b.rotten_blocks << " rotten, " << b.rotten_slots << " rotten slots, " << b.lost_slot_writes
             << " lost writes of slots, " << b.replacing << " replacing, " << b.bad_places << " bad places";
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
        // Alone: records are overwritten, lanes move, bases change.
        Bounds{.commits = 7, .checkpoints = 1}, Bounds{.commits = 6, .checkpoints = 1, .rotten_blocks = 1},
        Bounds{.segment_blocks = 2, .commits = 6, .checkpoints = 2},
        Bounds{.lanes = 2, .commits = 6, .checkpoints = 1, .rotten_blocks = 1},
        Bounds{.segments = 7, .commits = 8, .checkpoints = 2},
        // With others.
        Bounds{.commits = 3, .in_flight = 2}, Bounds{.commits = 4, .in_flight = 3, .checkpoints = 0},
        Bounds{.commits = 4, .in_flight = 2, .checkpoints = 0, .rotten_blocks = 1},
        Bounds{.segments = 10, .segment_blocks = 1, .commits = 4, .in_flight = 2},
        Bounds{.commits = 1, .chains = 1, .in_flight = 3, .commits_in_record = 4},
        Bounds{.commits = 3, .in_flight = 2, .settling = 1, .checkpoints = 0},
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
        Bounds{.commits = 2, .openings = 1, .in_place = 1, .power_cuts = 1, .kills = 1},
        Bounds{.commits = 2,
               .settling = 1,
               .openings = 2,
               .in_place = 2,
               .checkpoints = 0,
               .power_cuts = 1,
               .kills = 1},
        // The slots of the superblock.
        Bounds{.commits = 4, .checkpoints = 2, .rotten_slots = 1},
        Bounds{.commits = 2, .power_cuts = 2, .rotten_slots = 1},
        Bounds{.commits = 1, .power_cuts = 1, .kills = 2, .rotten_slots = 1},
        Bounds{.commits = 3, .checkpoints = 2, .lost_slot_writes = 1},
        Bounds{.commits = 1, .in_flight = 2, .openings = 1, .power_cuts = 2, .lost_slot_writes = 1},
        // Replaced segments, and openings that take the second next segment.
        Bounds{.commits = 5, .checkpoints = 0, .rotten_blocks = 1, .replacing = 1, .bad_places = 1},
        Bounds{.commits = 7, .checkpoints = 0, .rotten_blocks = 1, .replacing = 1},
        Bounds{.segments = 12,
               .segment_blocks = 2,
               .commits = 7,
               .checkpoints = 0,
               .rotten_blocks = 1,
               .replacing = 2},
        Bounds{.commits = 2, .power_cuts = 2, .replacing = 1, .bad_places = 1},
        Bounds{.commits = 2,
               .in_flight = 2,
               .checkpoints = 0,
               .power_cuts = 2,
               .rotten_blocks = 1,
               .replacing = 1,
               .bad_places = 1},
        // More than one crash.
        Bounds{.commits = 4, .power_cuts = 2}, Bounds{.commits = 3, .power_cuts = 1, .kills = 1},
        Bounds{.segments = 10,
               .segment_blocks = 2,
               .commits = 3,
               .checkpoints = 0,
               .power_cuts = 3,
               .rotten_blocks = 1}));

struct Canary {
  Rule rule;
  Bounds bounds;
  std::string violation;  // a part of what goes wrong
};
std::ostream& operator<<(std::ostream& out, const Canary& canary) { return out << RuleName(canary.rule); }

const Canary kCanaries[] = {
    {Rule::kOverwriteTwiceRepeated,
     {.lanes = 2, .commits = 4, .checkpoints = 0, .rotten_blocks = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kOverwriteRepeated,
     {.lanes = 1, .commits = 4, .checkpoints = 0},
     "was acknowledged, and recovery finds"},
    {Rule::kKeepBases, {.commits = 7}, "is claimed and cannot be read"},
    {Rule::kKeepWhatSuperblockNames, {.commits = 6}, "the record that the superblock names is not there"},
    {Rule::kNameDurableRecord, {.commits = 6}, "the record that the superblock names is not there"},
    {Rule::kEpochOfSuperblock, {.commits = 4, .power_cuts = 2}, "was acknowledged, and recovery finds"},
    {Rule::kEpochOfItsOwn,
     {.segments = 10,
      .segment_blocks = 2,
      .commits = 3,
      .checkpoints = 0,
      .power_cuts = 3,
      .rotten_blocks = 1},
     "which holds"},
    {Rule::kOpeningRecordFirst,
     {.commits = 4, .power_cuts = 2},
     "the record that the superblock names is not there"},
    {Rule::kOpeningPlaceUnused,
     {.commits = 4, .power_cuts = 2},
     "the record that the superblock names is not there"},
    {Rule::kVouch, {.commits = 7, .rotten_blocks = 1}, "was acknowledged, and recovery finds"},
    {Rule::kNameNextSegments, {.commits = 6}, "was acknowledged, and recovery finds"},
    {Rule::kOneMoveForEachBase, {.commits = 7, .rotten_blocks = 1}, "was acknowledged, and recovery finds"},
    {Rule::kNotBeforeSuperblock,
     {.segments = 7, .commits = 11, .checkpoints = 2},
     "was acknowledged, and recovery finds"},
    {Rule::kScanToTheClaim, {.commits = 3, .in_flight = 2}, "the log ends at"},
    {Rule::kCheckUnsettledData, {.commits = 6}, "which holds"},
    {Rule::kDurableIsNoFlush, {.commits = 3, .in_flight = 2}, "was acknowledged, and recovery finds"},
    {Rule::kClaimPrefix, {.commits = 4, .in_flight = 3, .checkpoints = 0}, "is claimed and cannot be read"},
    {Rule::kClaimChainEnds,
     {.commits = 1, .chains = 1, .in_flight = 3, .commits_in_record = 4},
     "the log ends at"},
    {Rule::kEndAtChainEnd,
     {.commits = 1, .chains = 1, .in_flight = 3, .commits_in_record = 4},
     "half of a chain is there"},
    {Rule::kReuseSettled,
     {.commits = 4, .in_flight = 2, .checkpoints = 0, .rotten_blocks = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kSettledTwice,
     {.commits = 4, .in_flight = 2, .checkpoints = 0, .rotten_blocks = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kDisplacedSettled,
     {.commits = 4, .in_flight = 2, .checkpoints = 0, .rotten_blocks = 1},
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
    {Rule::kStrictBeyondClaim, {.commits = 2, .settling = 1, .openings = 1, .in_place = 1}, "which holds"},
    {Rule::kSlotsInTurn, {.commits = 1}, "no superblock is readable"},
    {Rule::kCountsInBothSlots, {.commits = 1, .rotten_slots = 1}, "a record names a newer superblock"},
    {Rule::kOpenFlushesFirst, {.commits = 1, .kills = 1}, "no superblock is readable"},
    {Rule::kSlotsAgree,
     {.commits = 1, .power_cuts = 2, .rotten_slots = 1},
     "a record names a newer superblock"},
    {Rule::kNamesNewerSuperblock,
     {.commits = 1, .in_flight = 2, .openings = 1, .power_cuts = 2, .lost_slot_writes = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kKeepFirstNext,
     {.segments = 10,
      .segment_blocks = 2,
      .commits = 5,
      .checkpoints = 0,
      .rotten_blocks = 1,
      .replacing = 1},
     "was acknowledged, and recovery finds"},
    {Rule::kReuseDisplaced,
     {.segments = 9, .segment_blocks = 2, .commits = 6, .in_flight = 2, .checkpoints = 2},
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
