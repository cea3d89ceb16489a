// The free-space map: what may be allocated, and what the last checkpoint has in use. An allocation over a
// block in use breaks promises 1 and 3; a lost block breaks promise 7.
#include "extent/free_space.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "tests/extent/empty_store.h"
#include "tests/extent/memory_tree.h"

namespace untorn {
namespace {

constexpr BlockCount kTotal = 80000;  // two groups and a half

// The map's blocks as a checkpoint leaves them on the device.
class MapBlocks {
 public:
  absl::Status Load(FreeSpace& space, uint64_t group) {
    while (const auto at = space.NextToLoad(group)) {
      std::span<const std::byte> block;
      if (at->pointer) {
        const auto it = blocks.find(at->pointer.block);
        if (it == blocks.end()) return absl::NotFoundError("a node that was never written");
        block = it->second;
      }
      if (absl::Status s = space.LoadNode(*at, block, kTestUuid); !s.ok()) return s;
    }
    return absl::OkStatus();
  }
  absl::Status LoadAll(FreeSpace& space) {
    for (uint64_t g = 0; g <= GroupOf(space.prepared_end() - 1); ++g) {
      if (absl::Status s = Load(space, g); !s.ok()) return s;
    }
    return absl::OkStatus();
  }
  // Writes the changes; none of it may overwrite a block that the map of the root before still needs.
  BlockPointer Write(FreeSpace& space, const Superblock& before) {
    std::set<BlockNumber> needed;
    if (before.free_map) Collect(before.free_map.block, needed);
    const auto root = space.WriteChanges(
        kTestUuid, ++generation_, [&](BlockNumber place, std::span<const std::byte> bytes) {
          EXPECT_FALSE(needed.contains(place))
              << "block " << place << " of the last checkpoint is overwritten";
          EXPECT_GE(place, HeadOf(GroupOf(place)));
          EXPECT_LT(place, HeadOf(GroupOf(place)) + kHeadBlocks);
          blocks[place].assign(bytes.begin(), bytes.end());
          return absl::OkStatus();
        });
    EXPECT_TRUE(root.ok()) << root.status();
    return root.ok() ? *root : BlockPointer{};
  }

  std::map<BlockNumber, std::vector<std::byte>> blocks;

 private:
  void Collect(BlockNumber block, std::set<BlockNumber>& needed) {
    needed.insert(block);
    BlockHeader header;
    std::memcpy(&header, blocks.at(block).data(), sizeof(header));
    if (header.type != static_cast<uint16_t>(BlockType::kFreeMapTable)) return;
    for (uint64_t i = 0; i < kTableFanout; ++i) {
      FreeMapEntry entry;
      std::memcpy(&entry, blocks.at(block).data() + kHeaderBytes + i * sizeof(entry), sizeof(entry));
      if (entry.block != 0) Collect(entry.block, needed);
    }
  }
  Generation generation_ = 1;
};

class FreeSpaceTest : public testing::Test {
 protected:
  void LoadAll() { ASSERT_TRUE(map_.LoadAll(space_).ok()); }
  // A checkpoint with the changes made since the last one. What it frees goes back at once.
  void Checkpoint() {
    superblock_.free_map = map_.Write(space_, superblock_);
    superblock_.used_blocks = space_.used_base_blocks();
    space_.Install([&](Extent extent) { EXPECT_TRUE(space_.MarkFree(extent).ok()); });
  }
  Extent Take(BlockCount count) {
    const std::optional<Extent> extent = space_.Allocate(count, count, 1);
    EXPECT_TRUE(extent.has_value());
    return extent.value_or(Extent{});
  }
  // Blocks that the last checkpoint uses.
  Extent TakeIntoBase(BlockCount count) {
    LoadAll();
    const Extent extent = Take(count);
    EXPECT_TRUE(space_.SetBase(extent).ok());
    Checkpoint();
    return extent;
  }

  Superblock superblock_ = EmptyStore(kTotal);
  FreeSpace space_{superblock_};
  MapBlocks map_;
};

// ---- Allocation ----

TEST_F(FreeSpaceTest, NothingIsAllocatedFromAGroupThatIsNotLoaded) {
  EXPECT_EQ(space_.Allocate(1, 1, 1), std::nullopt);
  EXPECT_EQ(space_.UnloadedGroupWithSpace(), 0u);
  ASSERT_TRUE(map_.Load(space_, 1).ok());
  const auto extent = space_.Allocate(8, 8, 8);
  ASSERT_TRUE(extent.has_value());
  EXPECT_EQ(GroupOf(extent->start), 1u);
}

TEST_F(FreeSpaceTest, ShortRunIsNotTakenWhileAGroupWithSpaceIsNotLoaded) {
  ASSERT_TRUE(map_.Load(space_, 0).ok());
  Take(kGroupBlocks - BlocksBefore(superblock_.geometry.log.end()));
  ASSERT_TRUE(space_.MarkFree({20000, 8}).ok());
  EXPECT_EQ(space_.Allocate(64, 1, 1), std::nullopt);
  EXPECT_EQ(space_.Allocate(64, 1, 1, 64, /*settle=*/true), (Extent{20000, 8}));
  ASSERT_TRUE(space_.MarkFree({20000, 8}).ok());
  EXPECT_EQ(space_.Allocate(8, 8, 8), (Extent{20000, 8}));
  ASSERT_TRUE(space_.MarkFree({20000, 8}).ok());
  ASSERT_TRUE(map_.Load(space_, 1).ok());
  EXPECT_EQ(space_.Allocate(64, 1, 1), (Extent{FirstBlockOf(1) + kHeadBlocks, 64}));
}

TEST_F(FreeSpaceTest, WhatIsLeftOfALongRunIsFoundAfterAllOfItWasLookedAt) {
  LoadAll();
  // At a multiple that there is none of: every part of the map is looked at.
  EXPECT_EQ(space_.Allocate(8, 8, 1 << 17), std::nullopt);
  BlockCount blocks = Take(5000).count;
  const auto far = space_.Allocate(1, 1, 1 << 16);  // the next search begins behind it
  ASSERT_TRUE(far.has_value());
  for (++blocks; const auto extent = space_.Allocate(1 << 20, 1, 1);) blocks += extent->count;
  EXPECT_EQ(blocks, superblock_.geometry.DataBlocks());
}

TEST_F(FreeSpaceTest, EmptyStoreHasAllButTheFixedAreasFree) {
  EXPECT_EQ(space_.free_blocks(), superblock_.geometry.DataBlocks());
  LoadAll();
  EXPECT_EQ(space_.free_blocks(), superblock_.geometry.DataBlocks());
  EXPECT_EQ(space_.UnloadedGroupWithSpace(), std::nullopt);
  BlockCount blocks;
  while (const auto extent = space_.Allocate(1 << 20, 1, 1)) {
    EXPECT_GE(extent->start, superblock_.geometry.log.end());
    EXPECT_LE(extent->end(), BlockAfterFirst(kTotal));
    blocks += extent->count;
  }
  EXPECT_EQ(blocks, superblock_.geometry.DataBlocks());
  EXPECT_EQ(space_.free_blocks(), 0);
}

TEST_F(FreeSpaceTest, OnlyPreparedBlocksAreAllocated) {
  superblock_.prepared_blocks = BlocksBefore(superblock_.geometry.log.end()) + 100;
  superblock_.used_blocks = superblock_.geometry.FixedBlocks(superblock_.prepared_blocks);
  FreeSpace space(superblock_);
  ASSERT_TRUE(map_.LoadAll(space).ok());
  const auto first = space.Allocate(1000, 1, 1);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(*first, (Extent{superblock_.geometry.log.end(), 100}));
  EXPECT_EQ(space.Allocate(1, 1, 1), std::nullopt);
  space.SetPrepared(superblock_.prepared_blocks + 50);
  EXPECT_EQ(space.free_blocks(), 50);
  EXPECT_EQ(space.Allocate(1000, 1, 1), (Extent{first->end(), 50}));
  space.SetPrepared(1);  // never back
  EXPECT_EQ(space.prepared_blocks(), superblock_.prepared_blocks + 50);
}

// A store that becomes smaller. Promise 7: what is withdrawn comes back whole.
TEST_F(FreeSpaceTest, WithdrawnBlocksAreNotAllocatedAndComeBack) {
  LoadAll();
  const BlockNumber end(50000);
  ASSERT_TRUE(space_.MarkBusy({end - 10, 30}).ok()) << "across the end";
  const BlockCount free = space_.free_blocks();
  space_.Withdraw(end);
  EXPECT_EQ(space_.WithdrawnInUse(), 20);
  EXPECT_EQ(space_.free_blocks() + space_.WithdrawnFree(), free);
  EXPECT_TRUE(space_.CheckInvariants().ok());
  BlockCount blocks;
  while (const auto extent = space_.Allocate(1 << 20, 1, 1)) {
    EXPECT_LE(extent->end(), end);
    blocks += extent->count;
  }
  EXPECT_EQ(blocks + space_.WithdrawnFree(), free);
  EXPECT_EQ(space_.free_blocks(), 0);
  EXPECT_FALSE(space_.Allocatable(end + 100));
  ASSERT_TRUE(space_.MarkFree({end - 5, 10}).ok());
  EXPECT_EQ(space_.free_blocks(), 5);
  EXPECT_EQ(space_.WithdrawnInUse(), 15);
  EXPECT_TRUE(space_.CheckInvariants().ok());
  space_.RestoreWithdrawn();
  EXPECT_TRUE(space_.CheckInvariants().ok());
  EXPECT_EQ(space_.Allocate(10, 10, 1), (Extent{end - 5, 10})) << "one run across the old end";
  EXPECT_TRUE(space_.Allocate(12000, 12000, 1).has_value());
}

TEST_F(FreeSpaceTest, DroppedGroupsAreForgottenByTheMapAndEmptyWhenTheyComeBack) {
  LoadAll();
  const BlockNumber end = FirstBlockOf(1) + 1000;
  ASSERT_TRUE(space_.MarkBusy({end + 40000, 10}).ok());
  ASSERT_TRUE(space_.SetBase({end + 40000, 10}).ok());
  Checkpoint();
  ASSERT_TRUE(space_.ClearBase({end + 40000, 10}).ok());
  Checkpoint();
  space_.Withdraw(end);
  ASSERT_EQ(space_.WithdrawnInUse(), 0);
  space_.DropWithdrawn();
  EXPECT_TRUE(space_.CheckInvariants().ok());
  EXPECT_EQ(space_.prepared_end(), end);
  Checkpoint();
  superblock_.prepared_blocks = space_.prepared_blocks();
  EXPECT_EQ(superblock_.used_blocks, superblock_.geometry.FixedBlocks(superblock_.prepared_blocks));
  FreeSpace reopened(superblock_);
  ASSERT_TRUE(map_.LoadAll(reopened).ok());
  EXPECT_EQ(reopened.free_blocks(), space_.free_blocks());
  // The slots of the dropped groups hold what they held, and nothing refers to them.
  reopened.SetPrepared(kTotal);
  ASSERT_TRUE(map_.LoadAll(reopened).ok());
  EXPECT_TRUE(reopened.CheckInvariants().ok());
  EXPECT_EQ(reopened.free_blocks(), superblock_.geometry.DataBlocks());
}

TEST_F(FreeSpaceTest, RunIsAlignedAndOfAtLeastTheMinimum) {
  LoadAll();
  Take(3);
  for (BlockCount alignment = 1; alignment <= 1024; alignment = alignment * 2) {
    const auto extent = space_.Allocate(alignment, alignment, alignment);
    ASSERT_TRUE(extent.has_value());
    EXPECT_EQ(extent->start % alignment, 0);
    EXPECT_EQ(extent->count, alignment);
  }
  EXPECT_EQ(space_.Allocate(kTotal, kTotal, 1), std::nullopt);
}

// ---- Base (invariants 1 and 2) ----

TEST_F(FreeSpaceTest, BlockInBaseIsNotAllocatableBeforeACheckpointWithoutItIsInstalled) {
  LoadAll();
  const Extent all = Take(100);
  ASSERT_TRUE(space_.SetBase(all).ok());
  Checkpoint();
  std::vector<Extent> rest;
  while (const auto extent = space_.Allocate(1 << 20, 1, 1)) rest.push_back(*extent);

  ASSERT_TRUE(space_.ClearBase({all.start + 10, 20}).ok());
  EXPECT_EQ(space_.Allocate(1, 1, 1), std::nullopt) << "the last durable checkpoint refers to it";
  superblock_.free_map = map_.Write(space_, superblock_);
  EXPECT_EQ(space_.Allocate(1, 1, 1), std::nullopt) << "the new superblock is not durable yet";
  std::vector<Extent> freed;
  space_.Install([&](Extent extent) { freed.push_back(extent); });
  EXPECT_EQ(freed, (std::vector<Extent>{{all.start + 10, 20}}));
  EXPECT_EQ(space_.Allocate(1, 1, 1), std::nullopt) << "freeing it is the caller's";
  ASSERT_TRUE(space_.MarkFree(freed[0]).ok());
  EXPECT_EQ(space_.Allocate(100, 1, 1), (Extent{all.start + 10, 20}));
}

TEST_F(FreeSpaceTest, WhatAChangeTakesBackIsNotFreed) {
  LoadAll();
  const Extent extent = Take(10);
  ASSERT_TRUE(space_.SetBase(extent).ok());
  Checkpoint();
  ASSERT_TRUE(space_.ClearBase(extent).ok());
  ASSERT_TRUE(space_.SetBase({extent.start, 5}).ok());  // dropped by one edit and mapped again by another
  map_.Write(space_, superblock_);
  std::vector<Extent> freed;
  space_.Install([&](Extent e) { freed.push_back(e); });
  EXPECT_EQ(freed, (std::vector<Extent>{{extent.start + 5, 5}}));
}

TEST_F(FreeSpaceTest, ACheckpointWithoutChangesWritesNothing) {
  LoadAll();
  ASSERT_TRUE(space_.SetBase(Take(1)).ok());
  Checkpoint();
  const BlockPointer root = superblock_.free_map;
  map_.blocks.clear();
  const auto again = space_.WriteChanges(kTestUuid, 9, [](BlockNumber, std::span<const std::byte>) {
    ADD_FAILURE() << "nothing has changed";
    return absl::OkStatus();
  });
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*again, root);
}

TEST_F(FreeSpaceTest, AnErrorOfTheWriteIsHandedOn) {
  LoadAll();
  ASSERT_TRUE(space_.SetBase(Take(1)).ok());
  EXPECT_TRUE(absl::IsInternal(
      space_
          .WriteChanges(kTestUuid, 2,
                        [](BlockNumber, std::span<const std::byte>) { return absl::InternalError(""); })
          .status()));
}

// ---- Contradictions (promise 9) ----

TEST_F(FreeSpaceTest, ContradictionsAreDataLossAndTheTotalsStayExact) {
  LoadAll();
  const Extent extent = Take(10);
  const BlockCount free = space_.free_blocks();
  EXPECT_TRUE(absl::IsDataLoss(space_.MarkBusy({extent.start - 1, 3}))) << "half of it is busy already";
  EXPECT_TRUE(absl::IsDataLoss(space_.MarkFree({extent.end(), 1})));
  EXPECT_TRUE(absl::IsDataLoss(space_.MarkFree({extent.end() - 1, 5}))) << "half of it is free already";
  EXPECT_EQ(space_.free_blocks(), free + 1);
  ASSERT_TRUE(space_.SetBase({extent.start, 4}).ok());
  EXPECT_TRUE(absl::IsDataLoss(space_.SetBase({extent.start + 3, 2})));
  EXPECT_TRUE(absl::IsDataLoss(space_.ClearBase({extent.start + 4, 2})));
  EXPECT_EQ(space_.used_base_blocks(), superblock_.used_blocks + 4);
}

// ---- Loading ----

TEST_F(FreeSpaceTest, ChangesToAGroupThatIsNotLoadedTakeEffectWhenItIs) {
  const BlockNumber start = superblock_.geometry.log.end(), border = BlockAfterFirst(kGroupBlocks);
  const BlockCount before = space_.free_blocks();
  ASSERT_TRUE(space_.MarkBusy({start, 50}).ok());
  ASSERT_TRUE(space_.MarkFree({start + 10, 5}).ok());
  ASSERT_TRUE(space_.MarkBusy({border - 3, 3}).ok());  // to the end of a group
  EXPECT_EQ(space_.free_blocks(), before - 48);
  LoadAll();
  EXPECT_EQ(space_.free_blocks(), before - 48);
  EXPECT_EQ(space_.Allocate(100, 100, 1), (Extent{start + 50, 100}));
  EXPECT_EQ(space_.free_blocks(), before - 148);
  std::set<BlockNumber> allocated;
  while (const auto extent = space_.Allocate(1 << 20, 1, 1)) {
    for (BlockNumber b = extent->start; b < extent->end(); ++b) allocated.insert(b);
  }
  EXPECT_EQ(BlockCount(allocated.size()), before - 148);
  for (BlockNumber b = start; b < start + 50; ++b) {
    EXPECT_EQ(allocated.contains(b), b >= start + 10 && b < start + 15) << b;
  }
  for (BlockNumber b = border - 3; b < border + kHeadBlocks; ++b) EXPECT_FALSE(allocated.contains(b));
}

// A checkpoint may take blocks for its nodes that records behind it have mapped and displaced.
TEST_F(FreeSpaceTest, WhatTheCheckpointUsesStaysInUseWhenTheLogIsReplayed) {
  const Extent extent = TakeIntoBase(10);
  FreeSpace reloaded(superblock_);
  const BlockCount free = reloaded.free_blocks();
  ASSERT_TRUE(reloaded.MarkBusy({extent.start + 2, 12}).ok());
  ASSERT_TRUE(reloaded.MarkFree({extent.start + 2, 12}).ok());
  ASSERT_TRUE(map_.LoadAll(reloaded).ok());
  EXPECT_EQ(reloaded.free_blocks(), free);
  EXPECT_TRUE(reloaded.CheckInvariants().ok()) << reloaded.CheckInvariants();
  for (BlockNumber b = extent.start; b < extent.end(); ++b) EXPECT_FALSE(reloaded.Allocatable(b));
  EXPECT_TRUE(reloaded.Allocatable(extent.end()));
}

TEST_F(FreeSpaceTest, ContradictionInAGroupThatIsNotLoadedLeavesTheTotalExact) {
  const Extent extent = TakeIntoBase(10);
  FreeSpace reloaded(superblock_);
  const BlockCount free = reloaded.free_blocks();
  EXPECT_TRUE(reloaded.MarkBusy({extent.start, 20}).ok()) << "nobody can tell yet";
  ASSERT_TRUE(map_.LoadAll(reloaded).ok());
  EXPECT_EQ(reloaded.free_blocks(), free - 10);
}

TEST_F(FreeSpaceTest, FullGroupIsNotLoadedToAllocate) {
  LoadAll();
  const Extent full{FirstBlockOf(1) + kHeadBlocks, kGroupBlocks - kHeadBlocks};
  ASSERT_TRUE(space_.MarkBusy(full).ok());
  ASSERT_TRUE(space_.SetBase(full).ok());
  Checkpoint();
  FreeSpace reloaded(superblock_);
  ASSERT_TRUE(map_.Load(reloaded, 0).ok());
  EXPECT_EQ(reloaded.UnloadedGroupWithSpace(), 2u);
  ASSERT_TRUE(map_.Load(reloaded, 2).ok());
  EXPECT_EQ(reloaded.UnloadedGroupWithSpace(), std::nullopt);
  ASSERT_TRUE(reloaded.MarkFree({full.start + 5, 1}).ok());
  EXPECT_EQ(reloaded.UnloadedGroupWithSpace(), 1u) << "a record freed a block of it";
}

TEST_F(FreeSpaceTest, AStoreOfMillionsOfBlocksIsReloadedThroughTwoLevelsOfTables) {
  constexpr BlockCount kHuge = 400 * kGroupBlocks + 77;
  Superblock superblock = EmptyStore(kHuge);
  ASSERT_EQ(FreeMapShape::ForGroups(Geometry::ForSize(kHuge).groups()).root_level(), 2);
  FreeSpace space(superblock);
  const std::vector<Extent> used = {
      {FirstBlockOf(1) - 2, 2}, {FirstBlockOf(200) + kHeadBlocks + 1, 30}, {BlockAfterFirst(kHuge) - 5, 5}};
  for (const Extent& extent : used) {
    for (BlockNumber b = extent.start; b < extent.end(); ++b) {
      ASSERT_TRUE(map_.Load(space, GroupOf(b)).ok());
    }
    ASSERT_TRUE(space.MarkBusy(extent).ok());
    ASSERT_TRUE(space.SetBase(extent).ok());
  }
  superblock.free_map = map_.Write(space, superblock);
  superblock.used_blocks = space.used_base_blocks();
  EXPECT_EQ(superblock.used_blocks, superblock.geometry.FixedBlocks(kHuge) + 37);

  FreeSpace reloaded(superblock);
  for (const uint64_t group :
       {uint64_t{0}, uint64_t{1}, uint64_t{199}, uint64_t{200}, uint64_t{399}, uint64_t{400}}) {
    ASSERT_TRUE(map_.Load(reloaded, group).ok()) << group;
  }
  for (const Extent& extent : used) {
    EXPECT_FALSE(reloaded.InBase(extent.start - 1));
    for (BlockNumber b = extent.start; b < extent.end(); ++b) EXPECT_TRUE(reloaded.InBase(b)) << b;
  }
  EXPECT_EQ(reloaded.free_blocks(), kHuge - superblock.used_blocks);
}

// ---- Damage (promise 9) ----

class FreeSpaceDamageTest : public FreeSpaceTest {
 protected:
  void SetUp() override {
    LoadAll();
    ASSERT_TRUE(space_.SetBase(Take(10)).ok());
    Checkpoint();
  }
  absl::Status Reload() {
    FreeSpace reloaded(superblock_);
    return map_.LoadAll(reloaded);
  }
};

TEST_F(FreeSpaceDamageTest, AnyFlippedByteOfAnyNodeIsDataLoss) {
  ASSERT_TRUE(Reload().ok());
  for (auto& [place, block] : map_.blocks) {
    for (size_t at = 0; at < block.size(); at += 61) {
      block[at] ^= std::byte{0x10};
      EXPECT_TRUE(absl::IsDataLoss(Reload())) << "block " << place << " byte " << at;
      block[at] ^= std::byte{0x10};
    }
  }
}

TEST_F(FreeSpaceDamageTest, AnOlderVersionOfANodeInItsSlotIsDataLoss) {
  const auto old_blocks = map_.blocks;
  for (int i = 0; i < 2; ++i) {  // two more checkpoints: back to the same slots
    ASSERT_TRUE(space_.SetBase(Take(1)).ok());
    Checkpoint();
  }
  ASSERT_TRUE(Reload().ok());
  for (const auto& [place, block] : old_blocks) {
    const auto now = map_.blocks.at(place);
    map_.blocks[place] = block;
    EXPECT_TRUE(absl::IsDataLoss(Reload())) << "block " << place;
    map_.blocks[place] = now;
  }
}

TEST_F(FreeSpaceDamageTest, ATableThatPointsOutsideItsChildsSlotsIsDataLoss) {
  auto& root = map_.blocks.at(superblock_.free_map.block);
  FreeMapEntry entry;
  std::memcpy(&entry, root.data() + kHeaderBytes, sizeof(entry));
  ++entry.block, ++entry.block;
  std::memcpy(root.data() + kHeaderBytes, &entry, sizeof(entry));
  superblock_.free_map.checksum = SealBlock(root);
  EXPECT_TRUE(absl::IsDataLoss(Reload()));
}

TEST_F(FreeSpaceDamageTest, ABitmapThatMarksFixedAreasFreeIsDataLoss) {
  auto& root = map_.blocks.at(superblock_.free_map.block);
  FreeMapEntry entry;
  std::memcpy(&entry, root.data() + kHeaderBytes, sizeof(entry));
  auto& bitmap = map_.blocks.at(entry.block);
  const uint64_t data_start = superblock_.geometry.log.end().value();
  for (const auto& [block, outside] :
       {std::pair{uint64_t{0}, true}, {data_start - 1, true}, {data_start, false}}) {
    const auto flip_and_seal = [&, block = block] {
      bitmap[kHeaderBytes + block / 8] ^= std::byte{1} << block % 8;
      entry.checksum = SealBlock(bitmap);
      std::memcpy(root.data() + kHeaderBytes, &entry, sizeof(entry));
      superblock_.free_map.checksum = SealBlock(root);
    };
    flip_and_seal();
    EXPECT_EQ(absl::IsDataLoss(Reload()), outside) << "block " << block;
    flip_and_seal();
    EXPECT_TRUE(Reload().ok());
  }
}

// ---- Against a model that knows every block by itself ----

class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) {
    superblock_.prepared_blocks = Geometry::ForSize(kTotal - BlockCount(random_() % 30000)).total_blocks;
    superblock_.used_blocks = superblock_.geometry.FixedBlocks(superblock_.prepared_blocks);
    busy_.assign(kTotal.value(), false);
    superblock_.geometry.ForEachFixedArea(
        kTotal, [&](Extent area) { ForEachBlock(area, [&](uint64_t b) { busy_[b] = true; }); });
    base_ = installed_ = busy_;
    Reopen();
  }

  void CheckInvariants() {
    const absl::Status checked = space_->CheckInvariants();
    ASSERT_TRUE(checked.ok()) << checked;
  }

  void Step() {
    const uint64_t kind = random_() % 100;
    if (kind < 40) {
      Allocate();
    } else if (kind < 60) {
      Free();
    } else if (kind < 75) {
      ChangeBase(true);
    } else if (kind < 88) {
      ChangeBase(false);
    } else if (kind < 94) {
      Checkpoint();
    } else if (kind < 97) {
      const BlockCount more = std::min(kTotal, space_->prepared_blocks() + BlockCount(random_() % 2000));
      if (!Geometry::EndsInHead(more)) space_->SetPrepared(more);
      ASSERT_TRUE(map_.LoadAll(*space_).ok());
      superblock_.used_blocks = space_->used_base_blocks();
      superblock_.prepared_blocks = space_->prepared_blocks();
    } else {
      CheckTotals();
      if (!changed_) Reopen();
    }
  }

  void CheckTotals() {
    BlockCount busy, base;
    for (uint64_t b = 0; b < space_->prepared_blocks().value(); ++b) {
      busy += BlockCount(busy_[b]);
      base += BlockCount(base_[b]);
      ASSERT_EQ(space_->InBase(BlockNumber(b)), base_[b]) << "block " << b;
    }
    ASSERT_EQ(space_->free_blocks(), space_->prepared_blocks() - busy);
    ASSERT_EQ(space_->used_base_blocks(), base);
  }

  void Checkpoint() {
    superblock_.free_map = map_.Write(*space_, superblock_);
    superblock_.used_blocks = space_->used_base_blocks();
    std::vector<bool> freed(kTotal.value(), false);
    std::vector<Extent> extents;
    space_->Install([&](Extent extent) { extents.push_back(extent); });
    for (const Extent& extent : extents) {
      ForEachBlock(extent, [&](uint64_t b) { freed[b] = true; });
      ASSERT_TRUE(space_->MarkFree(extent).ok());
    }
    for (uint64_t b = 0; b < kTotal.value(); ++b) {
      ASSERT_EQ(freed[b], installed_[b] && !base_[b]) << "block " << b;
      if (freed[b]) busy_[b] = false;
    }
    installed_ = base_;
    changed_ = false;
  }

 private:
  // A crash: what no checkpoint holds is free again. Log records mark it busy while nothing is loaded. Of what the
  // checkpoint holds, records may have mapped and displaced some before.
  void Reopen() {
    space_ = std::make_unique<FreeSpace>(superblock_);
    for (uint64_t b = 0; b < kTotal.value(); ++b) {
      if (busy_[b] && !installed_[b] && random_() % 2) busy_[b] = false;
    }
    for (uint64_t b = superblock_.geometry.log.end().value(); b < kTotal.value(); ++b) {
      const bool displaced = installed_[b] && BlockNumber(b) < space_->prepared_end() && random_() % 16 == 0;
      if (busy_[b] && (!installed_[b] || displaced)) {
        ASSERT_TRUE(space_->MarkBusy({BlockNumber(b), 1}).ok());
      }
      if (displaced) {
        ASSERT_TRUE(space_->MarkFree({BlockNumber(b), 1}).ok());
      }
    }
    ASSERT_TRUE(map_.LoadAll(*space_).ok());
    CheckTotals();
  }

  void Allocate() {
    const uint64_t alignment = uint64_t{1} << random_() % 8;
    const uint64_t want = 1 + random_() % (random_() % 8 ? 200 : 20000), min = 1 + random_() % want;
    uint64_t longest = 0;  // aligned, within one group
    const uint64_t prepared = space_->prepared_blocks().value();
    for (uint64_t start = 0; start < prepared; start += alignment) {
      if (busy_[start]) continue;
      const uint64_t group_end = (GroupOf(BlockNumber(start)) + 1) * kGroupBits;
      const uint64_t end = std::min({start + want, group_end, prepared});
      uint64_t n = 1;
      while (start + n < end && !busy_[start + n]) ++n;
      longest = std::max(longest, n);
      if (longest == want) break;
    }
    const uint64_t enough = random_() % 2 ? want : 1 + random_() % want;
    const std::optional<Extent> extent =
        space_->Allocate(BlockCount(want), BlockCount(min), BlockCount(alignment), BlockCount(enough));
    if (!extent) {
      ASSERT_LT(longest, min) << "want " << want << " min " << min << " alignment " << alignment;
      return;
    }
    const uint64_t count = extent->count.value();
    ASSERT_GE(count, std::min(longest, std::max(min, enough)))
        << "want " << want << " min " << min << " alignment " << alignment << " enough " << enough;
    ASSERT_LE(count, longest);
    ASSERT_GE(count, min);
    ASSERT_EQ(extent->start % BlockCount(alignment), 0);
    ASSERT_GE(extent->start, superblock_.geometry.log.end());
    ASSERT_LE(extent->end(), space_->prepared_end());
    ForEachBlock(*extent, [&](uint64_t b) {
      ASSERT_FALSE(installed_[b] || base_[b]) << "block " << b << " is in base";
      ASSERT_FALSE(busy_[b]);
      busy_[b] = true;
    });
  }

  template <typename Fn>
  static void ForEachBlock(Extent extent, Fn fn) {
    for (BlockNumber b = extent.start; b < extent.end(); ++b) fn(b.value());
  }

  // A run of data blocks for which `good` holds.
  template <typename Fn>
  Extent Find(Fn good) {
    const uint64_t data = superblock_.geometry.log.end().value(), total = kTotal.value();
    uint64_t start = data + random_() % (total - data), steps = 0;
    while (!good(start) && ++steps < total) start = start + 1 < total ? start + 1 : data;
    const uint64_t most = 1 + random_() % 300;
    uint64_t count = 0;
    while (count < most && start + count < total && good(start + count)) ++count;
    return {BlockNumber(start), BlockCount(count)};
  }

  void Free() {
    const Extent extent = Find([&](uint64_t b) { return busy_[b] && !base_[b] && !installed_[b]; });
    if (extent.count == 0) return;
    ASSERT_TRUE(space_->MarkFree(extent).ok());
    ForEachBlock(extent, [&](uint64_t b) { busy_[b] = false; });
  }

  void ChangeBase(bool set) {
    const Extent extent = Find([&](uint64_t b) {
      return busy_[b] && base_[b] != set && superblock_.geometry.InDataArea({BlockNumber(b), 1});
    });
    if (extent.count == 0) return;
    ASSERT_TRUE((set ? space_->SetBase(extent) : space_->ClearBase(extent)).ok());
    ForEachBlock(extent, [&](uint64_t b) { base_[b] = set; });
    changed_ = true;
  }

  std::mt19937_64 random_;
  Superblock superblock_ = EmptyStore(kTotal);
  MapBlocks map_;
  std::unique_ptr<FreeSpace> space_;
  std::vector<bool> busy_, base_, installed_;
  bool changed_ = false;  // base, since the last checkpoint
};

TEST(FreeSpaceModelTest, RandomUseAllocatesAndFreesWhatTheModelSays) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Model model(seed);
    for (int step = 0; step < 300; ++step) {
      model.Step();
      model.CheckInvariants();
      if (testing::Test::HasFatalFailure()) FAIL() << "at step " << step;
    }
    model.Checkpoint();
    model.CheckTotals();
  }
}

}  // namespace
}  // namespace untorn
