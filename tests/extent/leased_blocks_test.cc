// Which blocks leases keep from being free. A block that is freed too early breaks promise 2 of a reader in another process; a
// block that never comes back breaks promise 7.
#include "extent/leased_blocks.h"

#include <gtest/gtest.h>

#include <iostream>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "tests/extent/empty_store.h"

namespace untorn {
namespace {

constexpr BlockCount kTotal = 80000;  // two groups and a half

class LeasedBlocksTest : public testing::Test {
 protected:
  LeasedBlocksTest() : space_(EmptyStore(kTotal)), leased_(space_) {}

  void Load(uint64_t group) {
    while (const auto at = space_.NextToLoad(group)) {
      ASSERT_TRUE(space_.LoadNode(*at, {}, kTestUuid).ok());
    }
  }
  // A checkpoint that has other blocks. What the one before had comes back, but for what leases keep.
  void Checkpoint(const std::set<BlockNumber>& next) {
    for (BlockNumber b : next) {
      if (base_.contains(b)) continue;
      ASSERT_TRUE(space_.MarkBusy({b, 1}).ok()) << b.value();
      ASSERT_TRUE(space_.SetBase({b, 1}).ok());
    }
    for (BlockNumber b : base_) {
      if (next.contains(b)) continue;
      ASSERT_TRUE(space_.ClearBase({b, 1}).ok());
    }
    // While it is made, the one before is the last durable one.
    for (BlockNumber b : base_) ASSERT_TRUE(Durable(b)) << b.value();
    ASSERT_TRUE(space_
                    .WriteChanges(kTestUuid, ++generation_,
                                  [](BlockNumber, std::span<const std::byte>) { return absl::OkStatus(); })
                    .ok());
    space_.Install(
        [&](Extent extent) { EXPECT_TRUE(leased_.Keep(extent, [&](Extent run) { Free(run); }).ok()); });
    base_ = next;
  }
  bool Durable(BlockNumber b) {
    const auto bits = space_.DurableBase(GroupOf(b));
    const uint64_t bit = (b % kGroupBlocks).value();
    return ((*bits)[bit / 64] >> (bit % 64) & 1) != 0;
  }
  void Free(Extent run) { EXPECT_TRUE(space_.MarkFree(run).ok()); }
  bool LeaseUses(BlockNumber b) const {
    for (const auto& [generation, used] : leases_) {
      if (used.contains(b)) return true;
    }
    return false;
  }

  Generation generation_ = 1;
  FreeSpace space_;
  LeasedBlocks leased_;
  std::set<BlockNumber> base_;
  std::map<Generation, std::set<BlockNumber>> leases_;
};

TEST_F(LeasedBlocksTest, DisplacedBlocksAreFreeOnceNoLeaseUsesThem) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 rng(seed);
    for (uint64_t g = 0; g <= GroupOf(space_.prepared_end() - 1); ++g) Load(g);
    // Around the borders of a group and of words.
    std::vector<BlockNumber> places;
    for (int i = 0; i < 300; ++i) places.push_back(FirstBlockOf(1) - 200 + BlockCount(uint64_t(i)));
    for (int i = 0; i < 100; ++i) places.push_back(FirstBlockOf(2) + kHeadBlocks + BlockCount(uint64_t(i)));
    std::erase_if(places, [&](BlockNumber b) { return !EmptyStore(kTotal).geometry.InDataArea({b, 1}); });
    for (int step = 0; step < 60; ++step) {
      const uint64_t kind = rng() % 4;
      if (kind < 2) {
        std::set<BlockNumber> next;
        for (BlockNumber b : places) {
          const bool was = base_.contains(b);
          if (rng() % 4 == 0 ? !was && space_.Allocatable(b) : was) next.insert(b);
        }
        Checkpoint(next);
      } else if (kind == 2 && leases_.size() < 3) {
        leased_.Begin(generation_);
        leases_[generation_] = base_;
      } else if (!leases_.empty()) {
        const auto ended = std::next(leases_.begin(), static_cast<long>(rng() % leases_.size()));
        leased_.End(ended->first, [&](Extent run) { Free(run); });
        leases_.erase(ended);
      }
      BlockCount kept;
      for (BlockNumber b : places) {
        const bool used = base_.contains(b), leased = LeaseUses(b);
        ASSERT_EQ(space_.Allocatable(b), !used && !leased) << "block " << b.value() << ", seed " << seed;
        ASSERT_EQ(leased_.Uses({b, 1}), leased) << "block " << b.value() << ", seed " << seed;
        if (leased && !used) ++kept;
      }
      ASSERT_EQ(leased_.kept(), kept);
    }
    while (!leases_.empty()) {
      leased_.End(leases_.begin()->first, [&](Extent run) { Free(run); });
      leases_.erase(leases_.begin());
    }
    EXPECT_TRUE(leased_.empty());
    EXPECT_EQ(leased_.kept(), BlockCount(0));
    Checkpoint({});
  }
}

TEST_F(LeasedBlocksTest, AllOfAGroupThatIsNotLoadedCountsAsUsed) {
  Load(0);
  leased_.Begin(generation_);
  const BlockNumber in_next = FirstBlockOf(1) + kHeadBlocks + 5;
  EXPECT_TRUE(leased_.Uses({in_next, 1}));
  Load(1);
  leased_.GroupLoaded(1);
  EXPECT_FALSE(leased_.Uses({in_next, 1}));
  // An extent may reach into the next group.
  EXPECT_TRUE(leased_.Uses({FirstBlockOf(2) - 1, 1 + kHeadBlocks + 1}));
}

TEST_F(LeasedBlocksTest, BlockThatIsDisplacedTwiceIsDamage) {
  Load(1);
  const Extent extent{FirstBlockOf(1) + kHeadBlocks + 5, 3};
  ASSERT_TRUE(space_.MarkBusy(extent).ok());
  ASSERT_TRUE(space_.SetBase(extent).ok());
  space_.Install([](Extent) {});
  leased_.Begin(generation_);
  const auto never = [](Extent) { ADD_FAILURE() << "a leased block is free"; };
  EXPECT_TRUE(leased_.Keep(extent, never).ok());
  EXPECT_TRUE(absl::IsDataLoss(leased_.Keep({extent.start + 1, 1}, never)));
}

}  // namespace
}  // namespace untorn
