// Where copy-on-write ranges go. A block without a place, or two in one, would break promise 1; the alignment
// is what later overwrites in place live on.
#include "writeback/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <map>
#include <random>
#include <set>
#include <tuple>

namespace untorn {
namespace {

// Free space that keeps books, and fails a test that breaks its contract.
class FakeSpace {
 public:
  explicit FakeSpace(uint64_t blocks) : free_(blocks, true) {}

  void Occupy(uint64_t block) { free_[block] = false; }

  absl::StatusOr<Extent> Allocate(const AllocationRequest& request) {
    const uint64_t want = request.want_blocks.value(), min = request.min_blocks.value();
    const uint64_t alignment = request.alignment_blocks.value();
    EXPECT_TRUE(min >= 1 && want >= min && std::has_single_bit(alignment));
    ++allocations;
    Extent best;
    for (uint64_t start = 0; start < free_.size(); start += alignment) {
      uint64_t n = 0;
      while (n < want && n < run_max && start + n < free_.size() && free_[start + n]) ++n;
      if (BlockCount(n) > best.count) best = {BlockNumber(start), BlockCount(n)};
      if (n == want) break;
    }
    if (best.count < BlockCount(min)) return absl::ResourceExhaustedError("no such run");
    for (BlockNumber b = best.start; b < best.end(); ++b) {
      free_[b.value()] = false;
      taken.insert(b);
    }
    return best;
  }
  absl::Status Return(Extent extent) {
    EXPECT_GT(extent.count, 0);
    for (BlockNumber b = extent.start; b < extent.end(); ++b) {
      EXPECT_EQ(taken.erase(b), 1u) << "block " << b << " is given back but was not taken";
      free_[b.value()] = true;
      ++returned;
    }
    return absl::OkStatus();
  }
  absl::StatusOr<PlacedPieces> Place(std::vector<LayoutItem> items, BlockCount align_max) {
    return Layout(absl::MakeSpan(items), align_max)
        .Place([this](const AllocationRequest& request) { return Allocate(request); },
               [this](Extent extent) { return Return(extent); });
  }

  uint64_t run_max = UINT64_MAX;  // the longest run it hands out
  std::set<BlockNumber> taken;    // and not given back
  uint64_t returned = 0, allocations = 0;

 private:
  std::vector<bool> free_;
};

LayoutItem Item(size_t source, uint64_t object, BlockRange blocks, BarrierEpoch epoch = 0) {
  return {epoch, ObjectId{object}, blocks, source};
}

// Where each block of each item went: every one of them once, on blocks that are taken, none shared.
using Places = std::map<std::pair<size_t, ObjectBlock>, BlockNumber>;
Places CheckedPlaces(const std::vector<LayoutItem>& items, const PlacedPieces& placed,
                     const FakeSpace& space) {
  Places places;
  std::set<BlockNumber> used;
  for (const PlacedPiece& piece : placed) {
    EXPECT_GT(piece.blocks.count, 0);
    for (BlockCount i; i < piece.blocks.count; ++i) {
      EXPECT_TRUE(places.insert({{piece.source, piece.blocks.start + i}, piece.physical + i}).second)
          << "block " << piece.blocks.start + i << " of item " << piece.source << " is placed twice";
      EXPECT_TRUE(used.insert(piece.physical + i).second) << "two blocks at " << piece.physical + i;
    }
  }
  size_t wanted = 0;
  for (const LayoutItem& item : items) {
    wanted += item.blocks.count.value();
    for (ObjectBlock b = item.blocks.start; b < item.blocks.end(); ++b) {
      EXPECT_TRUE(places.contains({item.source, b})) << "block " << b << " of item " << item.source;
    }
  }
  EXPECT_EQ(places.size(), wanted);
  EXPECT_EQ(used, space.taken) << "what is not used is given back";
  return places;
}

TEST(LayoutTest, NothingToPlaceAllocatesNothing) {
  FakeSpace space(16);
  const auto placed = space.Place({}, 16);
  ASSERT_TRUE(placed.ok());
  EXPECT_TRUE(placed->empty());
  EXPECT_EQ(space.allocations, 0u);
}

TEST(LayoutTest, ScatteredItemsOfABatchAreOneRunWithEachPowerOfTwoAligned) {
  const std::vector<LayoutItem> items = {Item(0, 1, {7, 1}),  Item(1, 2, {40, 8}), Item(2, 1, {100, 4}),
                                         Item(3, 3, {9, 2}),  Item(4, 2, {3, 3}),  Item(5, 9, {1, 1}),
                                         Item(6, 4, {16, 8}), Item(7, 5, {0, 5})};
  FakeSpace space(256);
  space.Occupy(0);
  const auto placed = space.Place(items, 16);
  ASSERT_TRUE(placed.ok());
  const auto places = CheckedPlaces(items, *placed, space);
  EXPECT_EQ(space.allocations, 1u);
  EXPECT_EQ(space.returned, 0u);
  EXPECT_EQ(*space.taken.rbegin() - *space.taken.begin() + 1, 32);
  for (const LayoutItem& item : items) {
    if (!std::has_single_bit(item.blocks.count.value())) continue;
    EXPECT_EQ(places.at({item.source, item.blocks.start}) % item.blocks.count, 0) << "item " << item.source;
  }
}

TEST(LayoutTest, AlignmentStopsAtTheLargestWorthHaving) {
  FakeSpace space(256);
  for (uint64_t b = 0; b < 4; ++b) space.Occupy(b);
  const std::vector<LayoutItem> items = {Item(0, 1, {0, 64})};
  const auto placed = space.Place(items, 4);
  ASSERT_TRUE(placed.ok());
  EXPECT_EQ(CheckedPlaces(items, *placed, space).at({0, ObjectBlock(0)}), 4);
}

TEST(LayoutTest, ItemsThatFollowOneAnotherInTheirObjectDoSoOnTheDevice) {
  const std::vector<LayoutItem> items = {Item(0, 1, {6, 2}), Item(1, 2, {0, 1}), Item(2, 1, {0, 4}),
                                         Item(3, 1, {4, 2})};
  FakeSpace space(64);
  const auto placed = space.Place(items, 16);
  ASSERT_TRUE(placed.ok());
  const auto places = CheckedPlaces(items, *placed, space);
  const BlockNumber start = places.at({2, ObjectBlock(0)});
  EXPECT_EQ(start % 8, 0) << "as one item of 8 blocks";
  for (uint64_t b = 0; b < 8; ++b) {
    EXPECT_EQ(places.at({b < 4 ? 2u : b < 6 ? 3u : 0u, ObjectBlock(b)}), start + BlockCount(b));
  }
}

TEST(LayoutTest, OneBlockInTwoGroupsHasAPlaceInEach) {
  const std::vector<LayoutItem> items = {Item(0, 1, {4, 4}, 1), Item(1, 1, {4, 4}, 2), Item(2, 1, {8, 1}, 2)};
  FakeSpace space(64);
  const auto placed = space.Place(items, 16);
  ASSERT_TRUE(placed.ok());
  CheckedPlaces(items, *placed, space);
}

TEST(LayoutTest, SmallRunsAreFilledOneAfterAnotherWhenThereIsNoLongerOne) {
  for (const uint64_t run_max : {1u, 2u, 3u, 5u, 7u}) {
    FakeSpace space(256);
    space.run_max = run_max;
    const std::vector<LayoutItem> items = {Item(0, 1, {0, 16}), Item(1, 2, {8, 8}), Item(2, 3, {5, 11}),
                                           Item(3, 4, {2, 1})};
    const auto placed = space.Place(items, 16);
    ASSERT_TRUE(placed.ok()) << placed.status();
    CheckedPlaces(items, *placed, space);
  }
}

TEST(LayoutTest, WithoutAnAlignedRunAnItemGoesAnywhere) {
  FakeSpace space(40);
  for (uint64_t b = 0; b < 40; b += 8) space.Occupy(b);
  const std::vector<LayoutItem> items = {Item(0, 1, {0, 8}), Item(1, 1, {32, 8})};
  const auto placed = space.Place(items, 8);
  ASSERT_TRUE(placed.ok()) << placed.status();
  CheckedPlaces(items, *placed, space);
}

TEST(LayoutTest, TheRestOfARunThatIsOfNoUseIsGivenBack) {
  FakeSpace space(64);
  space.run_max = 6;  // of each run of 6, an item that is aligned to 4 uses 4
  const std::vector<LayoutItem> items = {Item(0, 1, {0, 4}), Item(1, 1, {8, 4}), Item(2, 1, {16, 4})};
  const auto placed = space.Place(items, 16);
  ASSERT_TRUE(placed.ok());
  const auto places = CheckedPlaces(items, *placed, space);
  EXPECT_GT(space.returned, 0u);
  for (const LayoutItem& item : items) EXPECT_EQ(places.at({item.source, item.blocks.start}) % 4, 0);
}

TEST(LayoutTest, TheAllocatorsErrorIsHandedOn) {
  FakeSpace full(4);
  EXPECT_TRUE(absl::IsResourceExhausted(full.Place({Item(0, 1, {0, 5})}, 4).status()));
  LayoutItem items[] = {Item(0, 1, {0, 1})};
  const auto damaged = Layout(absl::MakeSpan(items), 4)
                           .Place([](const AllocationRequest&) { return absl::DataLossError(""); },
                                  [](Extent) { return absl::OkStatus(); });
  EXPECT_TRUE(absl::IsDataLoss(damaged.status()));
}

// Items that do not overlap within an object and group, as the change sets of one barrier epoch.
std::vector<LayoutItem> RandomItems(std::mt19937_64& random) {
  std::vector<LayoutItem> items;
  for (uint64_t group = 0; group < 1 + random() % 3; ++group) {
    for (uint64_t object = 1; object <= 1 + random() % 4; ++object) {
      uint64_t at = random() % 20;
      for (uint64_t n = random() % 8; n > 0; --n) {
        const uint64_t count = random() % 2 ? 1 + random() % 20 : uint64_t{1} << random() % 5;
        items.push_back(
            Item(items.size(), object, {ObjectBlock(at), BlockCount(count)}, BarrierEpoch(group)));
        at += count + (random() % 2 ? random() % 10 : 0);
      }
    }
  }
  std::shuffle(items.begin(), items.end(), random);
  return items;
}

TEST(LayoutTest, RandomItemsInFragmentedSpaceAreEachPlacedOnceAndTheRestIsGivenBack) {
  for (uint64_t seed = 1; seed <= 250; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const std::vector<LayoutItem> items = RandomItems(random);
    uint64_t wanted = 0;
    for (const LayoutItem& item : items) wanted += item.blocks.count.value();
    FakeSpace space(4096);
    if (random() % 2) space.run_max = 1 + random() % 40;
    const uint64_t occupied_percent = random() % 70;
    uint64_t left = 4096;
    for (uint64_t b = 0; b < 4096; ++b) {
      if (left > wanted && random() % 100 < occupied_percent) {
        space.Occupy(b);
        --left;
      }
    }
    const auto placed = space.Place(items, BlockCount(uint64_t{1} << random() % 6));
    ASSERT_TRUE(placed.ok()) << placed.status();
    CheckedPlaces(items, *placed, space);
  }
}

TEST(LayoutTest, RandomItemsInOpenSpaceAreOneRunAndLonePowersOfTwoAreAligned) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const std::vector<LayoutItem> items = RandomItems(random);
    FakeSpace space(8192);
    for (uint64_t b = random() % 100; b > 0; --b) space.Occupy(b);
    const BlockCount align_max(uint64_t{1} << random() % 6);
    const auto placed = space.Place(items, align_max);
    ASSERT_TRUE(placed.ok()) << placed.status();
    const auto places = CheckedPlaces(items, *placed, space);
    EXPECT_EQ(space.allocations, items.empty() ? 0u : 1u);
    EXPECT_EQ(space.returned, 0u);
    std::set<std::tuple<BarrierEpoch, ObjectId, ObjectBlock>> starts, ends;
    for (const LayoutItem& item : items) {
      starts.insert({item.epoch, item.object, item.blocks.start});
      ends.insert({item.epoch, item.object, item.blocks.end()});
    }
    for (const LayoutItem& item : items) {
      const bool alone = !ends.contains({item.epoch, item.object, item.blocks.start}) &&
                         !starts.contains({item.epoch, item.object, item.blocks.end()});
      if (!alone || !std::has_single_bit(item.blocks.count.value())) continue;
      EXPECT_EQ(places.at({item.source, item.blocks.start}) % std::min(item.blocks.count, align_max), 0);
    }
  }
}

}  // namespace
}  // namespace untorn
