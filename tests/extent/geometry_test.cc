// Where the fixed areas are, and what lies beside them. A place that counts as data and is not would let data overwrite
// metadata, which breaks promises 1 and 3.
#include "extent/geometry.h"

#include <gtest/gtest.h>

#include <set>

#include "extent/free_map_format.h"

namespace untorn {
namespace {

TEST(GeometryTest, ForEverySizeTheFixedAreasAreApartAndOfThisNumber) {
  for (const BlockCount total : {kStoreBlocksMin, BlockCount(20000), kGroupBlocks, kGroupBlocks + 15,
                                 kGroupBlocks + 16, 5 * kGroupBlocks - 1}) {
    Geometry g = Geometry::ForSize(total);
    ASSERT_TRUE(g.MakesSense()) << total;
    EXPECT_LE(total - g.total_blocks, kHeadBlocks);
    for (const BlockNumber log_start : {g.log.start, g.end() - g.log.count}) {
      g.log.start = log_start;
      if (!g.MakesSense()) continue;  // the log would reach into another group
      std::set<BlockNumber> fixed;
      g.ForEachFixedArea(g.total_blocks, [&](Extent area) {
        for (BlockNumber b = area.start; b < area.end(); ++b) EXPECT_TRUE(fixed.insert(b).second) << b;
      });
      for (const BlockNumber slot : kSuperblockSlots) EXPECT_TRUE(fixed.contains(slot));
      BlockCount before;
      for (BlockNumber b; b < g.end(); ++b) {
        ASSERT_EQ(g.FixedBlocks(BlocksBefore(b)), before) << b;
        ASSERT_EQ(g.InDataArea({b, 1}), !fixed.contains(b)) << b;
        before += BlockCount(fixed.contains(b) ? uint64_t{1} : uint64_t{0});
      }
      EXPECT_EQ(g.DataBlocks(), g.total_blocks - before);
    }
  }
}

TEST(GeometryTest, WhatReachesOutOfAGroupOrIntoTheLogIsNoData) {
  Geometry g = Geometry::ForSize(3 * kGroupBlocks);
  g.log.start = FirstBlockOf(1) + 1000;
  EXPECT_TRUE(g.InDataArea({FirstBlockOf(1) + 16, 984}));
  EXPECT_FALSE(g.InDataArea({FirstBlockOf(1) + 16, 985})) << "into the log";
  EXPECT_FALSE(g.InDataArea({FirstBlockOf(1) + 15, 2})) << "out of the head";
  EXPECT_TRUE(g.InDataArea({FirstBlockOf(2) - 1, 1}));
  EXPECT_FALSE(g.InDataArea({FirstBlockOf(2) - 1, 2})) << "into the next group";
  EXPECT_FALSE(g.InDataArea({g.end() - 1, 2}));
  EXPECT_FALSE(g.InDataArea({g.end(), 1}));
  EXPECT_FALSE(g.InDataArea({BlockNumber::Max(), BlockCount::Max()}));
  EXPECT_FALSE(g.InDataArea({FirstBlockOf(1) + 16, BlockCount::Max()}));
}

TEST(GeometryTest, EveryNodeOfTheMapHasItsOwnPlaceInTheHeadOfAGroup) {
  const FreeMapShape shape = FreeMapShape::ForGroups(2 * kTableFanout * kTableFanout + 1);
  ASSERT_EQ(shape.root_level(), 3);
  std::set<BlockNumber> slots(kSuperblockSlots.begin(), kSuperblockSlots.end());
  for (int level = 0; level <= shape.root_level(); ++level) {
    for (uint64_t index = 0; index < shape.nodes[level]; ++index) {
      for (int slot : {0, 1}) {
        const BlockNumber place = MapSlot(level, index, slot);
        EXPECT_TRUE(slots.insert(place).second) << place;
        EXPECT_GE(place, HeadOf(GroupOf(place)));
        EXPECT_LT(place, HeadOf(GroupOf(place)) + kHeadBlocks);
        EXPECT_LE(GroupOf(place), index * GroupsBelow(level))
            << "the head is prepared before what the node describes";
      }
    }
  }
}

TEST(GeometryTest, HeadHasPlacesForEveryLevelOfTheLargestStore) {
  const FreeMapShape largest = FreeMapShape::ForGroups(Geometry::ForSize(kStoreBlocksMax).groups());
  EXPECT_LE(largest.root_level() + 1, kMapLevelsMax);
}

}  // namespace
}  // namespace untorn
