// The decision, reason by reason: docs/design.md, "The decision". What it holds up is promise 1: only a write
// that the device keeps whole may go in place.
#include "writeback/decision.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <random>
#include <set>
#include <string>

namespace untorn {
namespace {

constexpr uint64_t kWriteBlocks = 8;  // of the write that would qualify
constexpr BlockNumber kPlace = 96;    // a multiple of it
constexpr Lsn kSettled = 10;

AtomicLimits Limits(AtomicSource source, uint32_t min_blocks, uint32_t max_blocks,
                    uint32_t boundary_blocks = 0) {
  const uint32_t block = kBlockBytes;
  return {source, min_blocks * block, max_blocks * block, boundary_blocks * block};
}

// A write that qualifies. The boundary is no multiple of its length, so that a place can cross it and be
// aligned.
struct Candidate {
  DecisionInput input;
  Mappings mappings;

  Candidate() {
    input.limits = Limits(AtomicSource::kHardware, 4, 16, 12);
    input.length_bytes = kWriteBlocks * kBlockBytes;
    input.settled = {kSettled + 5, kSettled};
    // Two entries that are one run on the device.
    mappings = {{{0, 3}, MappingState::kWritten, kPlace, kSettled, 0},
                {{3, 5}, MappingState::kWritten, kPlace + 3, 0, 0}};
    for (Mapping& m : mappings) m.opened = LogEpoch(1);
  }
  void MoveTo(BlockNumber physical) {
    mappings[0].physical = physical;
    mappings[1].physical = physical + 3;
  }
  PathReason Result() {
    input.mappings = mappings;
    return Decide(input);
  }
};

struct Obstacle {
  const char* reason;
  void (*put)(Candidate&);
};

// Every reason that Decide() gives, the one that wins over all the following first. The three of the length
// exclude each other; each is put over the ones behind it.
constexpr Obstacle kObstacles[] = {
    {"policy-always-cow", [](Candidate& c) { c.input.policy = WritePolicy::kAlwaysCow; }},
    {"no-atomic-limits", [](Candidate& c) { c.input.limits.source = AtomicSource::kNone; }},
    {"several-ranges", [](Candidate& c) { c.input.several_ranges = true; }},
    {"length-not-power-of-two", [](Candidate& c) { c.input.length_bytes = 3 * kBlockBytes; }},
    {"below-unit-min", [](Candidate& c) { c.input.length_bytes = 2 * kBlockBytes; }},
    {"above-unit-max", [](Candidate& c) { c.input.length_bytes = 32 * kBlockBytes; }},
    {"device-refused", [](Candidate& c) { c.input.device_refused = true; }},
    {"metadata-change", [](Candidate& c) { c.input.metadata_change = true; }},
    {"barrier-unmet", [](Candidate& c) { c.input.barrier_unmet = true; }},
    {"mapping-damaged", [](Candidate& c) { c.input.mappings_known = MappingsKnown::kDamaged; }},
    {"unmapped",
     [](Candidate& c) {
       c.mappings[1].logical.count = 3;
       c.mappings.push_back({{6, 2}, MappingState::kHole, 0, 0, 0});
     }},
    {"unwritten", [](Candidate& c) { c.mappings[0].state = MappingState::kUnwritten; }},
    {"fragmented", [](Candidate& c) { ++c.mappings[1].physical; }},
    {"misaligned", [](Candidate& c) { c.MoveTo(kPlace + 9); }},  // and crosses the boundary
    {"straddles-boundary", [](Candidate& c) { c.MoveTo(kPlace + 8); }},
    {"read-outstanding", [](Candidate& c) { c.input.read_outstanding = true; }},
    {"not-opened", [](Candidate& c) { c.mappings[1].opened = LogEpoch(); }},
    {"unsettled", [](Candidate& c) { c.mappings[1].opened_by = kSettled + 6; }},
    {"in-place", [](Candidate&) {}},
};

// What becomes of a batch of candidates that all qualify, and `cow_sets` that do not.
const char* BatchReason(const std::vector<Extent>& candidates, size_t cow_sets) {
  const auto runs = MergeInPlace(candidates, Limits(AtomicSource::kHardware, 1, 16));
  return PathReasonName(InPlaceIsCheaper(runs.size(), cow_sets) ? PathReason::kInPlace
                                                                : PathReason::kCheaperPacked);
}

TEST(DecisionTest, EachReasonIsGivenForItsOwnObstacle) {
  for (const Obstacle& o : kObstacles) {
    Candidate c;
    o.put(c);
    EXPECT_STREQ(PathReasonName(c.Result()), o.reason);
  }
}

TEST(DecisionTest, OfSeveralReasonsTheFirstInTheTableIsGiven) {
  for (size_t first = 0; first < std::size(kObstacles); ++first) {
    for (size_t other = first + 1; other < std::size(kObstacles); ++other) {
      Candidate c;
      kObstacles[other].put(c);
      kObstacles[first].put(c);
      EXPECT_STREQ(PathReasonName(c.Result()), kObstacles[first].reason)
          << "over " << kObstacles[other].reason;
    }
    Candidate c;
    for (size_t i = std::size(kObstacles); i-- > first;) kObstacles[i].put(c);
    EXPECT_STREQ(PathReasonName(c.Result()), kObstacles[first].reason) << "over all that follow";
  }
}

TEST(DecisionTest, TheTableAndTheBatchRuleGiveEveryReasonThereIs) {
  std::set<std::string> given;
  for (const Obstacle& o : kObstacles) given.insert(o.reason);
  given.insert(BatchReason({{0, 1}, {10, 1}, {20, 1}}, 0));
  std::set<std::string> all;
  for (int i = 0; i < kPathReasonCount; ++i) {
    const auto reason = static_cast<PathReason>(i);
    all.insert(PathReasonName(reason));
    EXPECT_STRNE(PathReasonSentence(reason), "");
  }
  EXPECT_EQ(all.size(), 20u) << "two reasons have one name";
  EXPECT_EQ(given, all);
}

TEST(DecisionTest, LimitsCountOnlyIfTheHardwareOrTheOperatorPromisesThem) {
  const struct {
    AtomicSource source;
    const char* reason;
  } kCases[] = {{AtomicSource::kNone, "no-atomic-limits"},
                {AtomicSource::kFileSystem, "no-atomic-limits"},
                {AtomicSource::kHardware, "in-place"},
                {AtomicSource::kStated, "in-place"}};
  for (const auto& test : kCases) {
    Candidate c;
    c.input.limits.source = test.source;
    EXPECT_STREQ(PathReasonName(c.Result()), test.reason) << AtomicSourceName(test.source);
    EXPECT_STREQ(
        PathReasonName(DecideForever(c.input.policy, c.input.limits, false, kWriteBlocks * kBlockBytes)),
        test.reason)
        << AtomicSourceName(test.source);
  }
}

TEST(DecisionTest, LengthsFromUnitMinToUnitMaxQualifyBothIncluded) {
  for (uint64_t blocks = 1; blocks <= 40; ++blocks) {
    const bool qualifies = blocks == 4 || blocks == 8 || blocks == 16;
    EXPECT_EQ(DecideForever(WritePolicy::kAutomatic, Limits(AtomicSource::kStated, 4, 16), false,
                            blocks * kBlockBytes) == PathReason::kInPlace,
              qualifies)
        << blocks << " blocks";
  }
}

TEST(DecisionTest, HardwareOnlyPolicyDecidesAsAutomaticDoes) {
  for (const Obstacle& o : kObstacles) {
    Candidate c;
    c.input.policy = WritePolicy::kHardwareOnly;
    o.put(c);
    EXPECT_STREQ(PathReasonName(c.Result()), o.reason);
  }
}

TEST(DecisionTest, RecordThatOpensAtTheSettledMarkIsSettledAndTheNextIsNot) {
  Candidate c;
  c.mappings[0].opened_by = kSettled + 5;
  EXPECT_EQ(c.Result(), PathReason::kInPlace);
  c.mappings[0].opened_by = kSettled + 6;
  EXPECT_EQ(c.Result(), PathReason::kUnsettled);
}

TEST(DecisionTest, WhatIsNotOpenedAndWasMappedOfLateIsUnsettled) {
  Candidate c;
  c.mappings[0].opened = LogEpoch();
  EXPECT_EQ(c.Result(), PathReason::kNotOpened);
  c.mappings[0].lsn = kSettled + 1;
  EXPECT_EQ(c.Result(), PathReason::kUnsettled);
}

TEST(DecisionTest, PlaceThatEndsAtTheBoundaryDoesNotCrossIt) {
  Candidate c;
  c.input.limits.boundary_bytes = 16 * kBlockBytes;
  for (BlockCount offset = 0; offset < 64; offset += BlockCount(kWriteBlocks)) {
    c.MoveTo(kPlace + offset);
    EXPECT_EQ(c.Result(), PathReason::kInPlace) << offset;
  }
  c.input.limits.boundary_bytes = 4 * kBlockBytes;  // shorter than the write: it always crosses
  EXPECT_EQ(c.Result(), PathReason::kStraddlesBoundary);
}

TEST(DecideForeverTest, TellsOnlyWhatNeverChangesForARange) {
  const std::set<std::string> kForever = {"policy-always-cow",       "no-atomic-limits", "several-ranges",
                                          "length-not-power-of-two", "below-unit-min",   "above-unit-max"};
  for (const Obstacle& o : kObstacles) {
    Candidate c;
    o.put(c);
    EXPECT_STREQ(PathReasonName(DecideForever(c.input.policy, c.input.limits, c.input.several_ranges,
                                              c.input.length_bytes)),
                 kForever.contains(o.reason) ? o.reason : "in-place");
  }
}

TEST(BatchTest, UpToTwoPlacesGoInPlaceUnlessSomethingElseNeedsARecord) {
  EXPECT_STREQ(BatchReason({{4, 4}}, 0), "in-place");
  EXPECT_STREQ(BatchReason({{4, 4}, {64, 1}}, 0), "in-place");
  EXPECT_STREQ(BatchReason({{4, 4}, {64, 1}, {32, 1}}, 0), "cheaper-packed");
  EXPECT_STREQ(BatchReason({{4, 4}}, 1), "cheaper-packed");
  // Buddies count as one.
  EXPECT_STREQ(BatchReason({{4, 4}, {64, 1}, {65, 1}, {0, 4}}, 0), "in-place");
}

// ---- MergeInPlace ----

using Places = std::vector<std::pair<uint64_t, uint64_t>>;

Places Merge(const std::vector<Extent>& candidates, const AtomicLimits& limits) {
  Places places;
  for (const InPlaceRun& run : MergeInPlace(candidates, limits))
    places.push_back({run.extent.start.value(), run.extent.count.value()});
  return places;
}

TEST(MergeInPlaceTest, BuddiesMergeUpToTheLargestUnitAndNotBeyond) {
  const AtomicLimits limits = Limits(AtomicSource::kHardware, 1, 8);
  EXPECT_EQ(Merge({{0, 4}, {4, 2}, {6, 1}, {7, 1}}, limits), (Places{{0, 8}}));
  EXPECT_EQ(Merge({{7, 1}, {4, 2}, {0, 4}, {6, 1}}, limits), (Places{{0, 8}})) << "whatever the order";
  EXPECT_EQ(Merge({{0, 8}, {8, 8}}, limits), (Places{{0, 8}, {8, 8}}));
}

TEST(MergeInPlaceTest, NeighboursAtAMisalignedPlaceStayApart) {
  EXPECT_EQ(Merge({{1, 1}, {2, 1}}, Limits(AtomicSource::kHardware, 1, 8)), (Places{{1, 1}, {2, 1}}));
  EXPECT_EQ(Merge({{2, 2}, {4, 2}}, Limits(AtomicSource::kHardware, 1, 8)), (Places{{2, 2}, {4, 2}}));
}

TEST(MergeInPlaceTest, CandidatesOfUnequalLengthMakeNoPowerOfTwoAndStayApart) {
  EXPECT_EQ(Merge({{0, 2}, {2, 1}}, Limits(AtomicSource::kHardware, 1, 8)), (Places{{0, 2}, {2, 1}}));
}

TEST(MergeInPlaceTest, AGapKeepsCandidatesApart) {
  EXPECT_EQ(Merge({{0, 1}, {2, 1}, {3, 1}}, Limits(AtomicSource::kHardware, 1, 8)), (Places{{0, 1}, {2, 2}}));
}

TEST(MergeInPlaceTest, NeverMergesOverABoundary) {
  EXPECT_EQ(Merge({{0, 4}, {4, 4}, {8, 4}, {12, 4}}, Limits(AtomicSource::kHardware, 1, 16, 8)),
            (Places{{0, 8}, {8, 8}}));
}

// The fewest runs there can be: every way to cut the candidates, in order of place, is tried.
size_t FewestRuns(const std::vector<Extent>& sorted, const AtomicLimits& limits) {
  std::vector<size_t> fewest(sorted.size() + 1, SIZE_MAX);
  fewest[0] = 0;
  for (size_t end = 1; end <= sorted.size(); ++end) {
    for (size_t begin = 0; begin < end; ++begin) {
      bool adjacent = true;
      uint64_t blocks = 0;
      for (size_t i = begin; i < end; ++i) {
        adjacent &= i == begin || sorted[i - 1].end() == sorted[i].start;
        blocks += sorted[i].count.value();
      }
      const uint64_t start = sorted[begin].start.value();
      const uint64_t boundary = limits.boundary_bytes / kBlockBytes;
      const bool whole = std::has_single_bit(blocks) && start % blocks == 0 &&
                         blocks * kBlockBytes <= limits.unit_max_bytes &&
                         (boundary == 0 || start / boundary == (start + blocks - 1) / boundary);
      if (end - begin == 1 || (adjacent && whole)) fewest[end] = std::min(fewest[end], fewest[begin] + 1);
    }
  }
  return fewest.back();
}

TEST(MergeInPlaceTest, RandomCandidatesAreNeverSplitAndMergeIntoTheFewestRunsThatQualify) {
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const uint32_t max = 1u << random() % 6, boundary = random() % 2 ? max << random() % 3 : 0;
    const AtomicLimits limits = Limits(AtomicSource::kHardware, 1, max, boundary);
    std::vector<Extent> sorted;
    for (uint64_t at = 0; at < 96;) {
      uint64_t count = uint64_t{1} << random() % std::bit_width(max);
      while (at % count != 0) count /= 2;
      if (random() % 4 != 0) sorted.push_back({BlockNumber(at), BlockCount(count)});
      at += count;
    }
    std::vector<Extent> candidates = sorted;
    std::shuffle(candidates.begin(), candidates.end(), random);

    const std::vector<InPlaceRun> runs = MergeInPlace(candidates, limits);
    std::vector<int> seen(candidates.size(), 0);
    for (const InPlaceRun& run : runs) {
      BlockNumber at = run.extent.start;
      for (const size_t i : run.candidates) {
        ++seen[i];
        ASSERT_EQ(candidates[i].start, at) << "candidates out of order";
        at = candidates[i].end();
      }
      ASSERT_EQ(at, run.extent.end());
      ASSERT_TRUE(std::has_single_bit(run.extent.count.value()) && run.extent.start % run.extent.count == 0);
      ASSERT_LE(run.extent.count, BlockCount(max));
      if (boundary != 0) {
        ASSERT_EQ(run.extent.start / BlockCount(boundary), (run.extent.end() - 1) / BlockCount(boundary));
      }
    }
    EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
    EXPECT_EQ(runs.size(), FewestRuns(sorted, limits));
  }
}

}  // namespace
}  // namespace untorn
