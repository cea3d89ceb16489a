// A set of blocks as runs, against a set of blocks.
#include "cow/range_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

namespace untorn {
namespace {

std::vector<BlockRange> Runs(const RangeSet& set) {
  std::vector<BlockRange> runs;
  set.ForEach([&](BlockRange r) { runs.push_back(r); });
  return runs;
}

TEST(RangeSetTest, RangesThatTouchOrOverlapBecomeOneRun) {
  RangeSet set;
  set.Add({10, 5});
  set.Add({20, 5});
  EXPECT_EQ(set.runs(), 2u);
  set.Add({15, 5});
  EXPECT_EQ(Runs(set), (std::vector<BlockRange>{{10, 15}}));
  set.Add({5, 30});
  EXPECT_EQ(Runs(set), (std::vector<BlockRange>{{5, 30}}));
  set.Add({7, 1});
  EXPECT_EQ(Runs(set), (std::vector<BlockRange>{{5, 30}}));
}

TEST(RangeSetTest, RemovingTheMiddleLeavesBothEnds) {
  RangeSet set;
  set.Add({0, 100});
  set.Remove({40, 20});
  EXPECT_EQ(Runs(set), (std::vector<BlockRange>{{0, 40}, {60, 40}}));
  EXPECT_TRUE(set.Contains(39));
  EXPECT_FALSE(set.Contains(40));
  EXPECT_FALSE(set.Contains(59));
  EXPECT_TRUE(set.Contains(60));
}

TEST(RangeSetTest, RemovingOverSeveralRunsCutsTheOutermost) {
  RangeSet set;
  for (uint64_t start = 0; start < 100; start += 10) set.Add({ObjectBlock(start), 5});
  set.Remove({12, 50});
  EXPECT_EQ(Runs(set), (std::vector<BlockRange>{{0, 5}, {10, 2}, {62, 3}, {70, 5}, {80, 5}, {90, 5}}));
  set.clear();
  EXPECT_TRUE(set.empty());
}

TEST(RangeSetTest, AsLargeAsAnObject) {
  RangeSet set;
  set.Add({0, kObjectBlocksMax});
  set.Remove({kObjectEnd - 1, 1});
  EXPECT_EQ(Runs(set), (std::vector<BlockRange>{{0, kObjectBlocksMax - 1}}));
}

TEST(RangeSetTest, RandomChangesLeaveTheBlocksThatTheModelHasInTheFewestRuns) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const uint64_t blocks = 20 + random() % 2000, length_max = 1 + random() % 60;
    const uint64_t add_percent = 30 + random() % 50;
    RangeSet set;
    std::set<ObjectBlock> model;
    const auto random_range = [&] {
      return BlockRange{ObjectBlock(random() % blocks), BlockCount(1 + random() % length_max)};
    };
    for (int step = 0; step < 400; ++step) {
      const BlockRange range = random_range();
      const uint64_t kind = random() % 100;
      if (kind < 2) {
        RangeSet other;
        for (int i = 0; i < 5; ++i) {
          const BlockRange r = random_range();
          other.Add(r);
          for (ObjectBlock b = r.start; b < r.end(); ++b) model.insert(b);
        }
        set.AddAll(other);
      } else if (kind < add_percent) {
        set.Add(range);
        for (ObjectBlock b = range.start; b < range.end(); ++b) model.insert(b);
      } else {
        set.Remove(range);
        model.erase(model.lower_bound(range.start), model.lower_bound(range.end()));
      }
      std::vector<BlockRange> expected;
      for (const ObjectBlock b : model) {
        if (!expected.empty() && expected.back().end() == b) {
          ++expected.back().count;
        } else {
          expected.push_back({b, 1});
        }
      }
      ASSERT_EQ(Runs(set), expected) << "step " << step;
      ASSERT_EQ(set.runs(), expected.size());
      ASSERT_EQ(set.empty(), model.empty());
      const ObjectBlock b(random() % blocks);
      ASSERT_EQ(set.Contains(b), model.contains(b));
    }
  }
}

}  // namespace
}  // namespace untorn
