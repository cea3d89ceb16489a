// Data that a transaction writes to the device before its commit. Nothing refers to it, so its space is back
// whatever happens (promises 6 and 7).
#include "store/spill.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "tests/store/store_testing.h"

namespace untorn::internal {
namespace {

class SpillTest : public StoreTest {
 protected:
  void BeginParts() override {
    StoreTest::BeginParts();
    spill_ = std::make_unique<Spill>(front());
    draft_ = ObjectDraft();
    draft_.state = object_;
    draft_.id = kId;
  }
  void EndParts() override {
    draft_ = ObjectDraft();
    spill_.reset();
    StoreTest::EndParts();
  }
  void TearDown() override { draft_ = ObjectDraft(); }

  // Whole blocks in memory.
  void Fill(BlockRange range, char value) {
    for (ObjectBlock b = range.start; b < range.end(); ++b) {
      DraftBlock& block = draft_.blocks[b];
      block.buffer = fork().pages().pool().New();
      std::memset(block.buffer.data(), value, kBlockBytes);
    }
  }
  absl::Status WriteBlocks() {
    const Unlocked unlocked(lock_);
    return spill_->WriteBlocks(draft_);
  }
  void Spilled(BlockRange range, char value) {
    Fill(range, value);
    const size_t before = draft_.blocks.size();
    const absl::Status written = WriteBlocks();
    ASSERT_TRUE(written.ok()) << written;
    ASSERT_EQ(before - draft_.blocks.size(), range.count.value());
  }
  bool Cut(BlockRange range) {
    const Unlocked unlocked(lock_);
    return spill_->Cut(draft_, range);
  }
  // The spilled blocks, as the device has them.
  std::string OnDeviceOf(BlockRange range) {
    std::string letters(range.count.value(), '.');
    for (const auto& [start, extent] : draft_.spilled) {
      for (BlockCount i = 0; i < extent.count; ++i) {
        if (start + i < range.start || start + i >= range.end()) continue;
        disk_->Peek(ByteOffset(extent.physical + i), &letters[(start + i - range.start).value()], 1);
      }
    }
    return letters;
  }
  std::vector<Hash128> HashesOf(char value, BlockCount blocks) {
    std::string bytes(kBlockBytes, value);
    const iovec piece = {bytes.data(), bytes.size()};
    return std::vector<Hash128>(blocks.value(), HashData({&piece, 1}, volume().data_key()));
  }

  std::unique_ptr<Spill> spill_;
  ObjectDraft draft_;
};

TEST_F(SpillTest, WholeBlocksGoToOneExtentWithItsHashes) {
  Spilled({4, 20}, 'a');
  EXPECT_TRUE(draft_.blocks.empty());
  ASSERT_EQ(draft_.spilled.size(), 1u);
  const auto& [start, extent] = *draft_.spilled.begin();
  EXPECT_EQ(start, 4);
  EXPECT_EQ(extent.count, 20);
  EXPECT_EQ(extent.hashes, HashesOf('a', 20));
  EXPECT_EQ(OnDeviceOf({4, 20}), std::string(20, 'a'));
  EXPECT_EQ(OnDevice({0, 30}), std::string(30, '.')) << "nothing refers to it";
}

TEST_F(SpillTest, BlockOfWhichPartsAreKnownStaysInMemory) {
  Fill({0, 3}, 'a');
  draft_.blocks[1].written = {{0, 10}};
  EXPECT_TRUE(WriteBlocks().ok());
  EXPECT_EQ(draft_.blocks.size(), 1u);
  EXPECT_TRUE(draft_.blocks.contains(1));
  EXPECT_EQ(OnDeviceOf({0, 3}), "a.a");
}

TEST_F(SpillTest, ExtentIsNoLongerThanAnEntryCanName) {
  MakeStore({.size_bytes = 64 << 20});
  Spilled({0, kMapEntryBlocksMax + 3}, 'a');
  for (const auto& [start, extent] : draft_.spilled) EXPECT_LE(extent.count, kMapEntryBlocksMax);
  EXPECT_EQ(OnDeviceOf({0, kMapEntryBlocksMax + 3}), std::string((kMapEntryBlocksMax + 3).value(), 'a'));
}

TEST_F(SpillTest, WhatIsSpilledAgainTakesThePlaceOfWhatWas) {
  const BlockCount free_blocks = volume().space().free_blocks();
  Spilled({0, 10}, 'a');
  Spilled({3, 2}, 'b');
  EXPECT_EQ(OnDeviceOf({0, 10}), "aaabbaaaaa");
  EXPECT_EQ(volume().space().free_blocks(), free_blocks - 10);
}

TEST_F(SpillTest, CutGivesTheSpaceBackAndLeavesBothEnds) {
  const BlockCount free_blocks = volume().space().free_blocks();
  Spilled({0, 10}, 'a');
  EXPECT_TRUE(Cut({4, 3})) << "it is in two parts";
  EXPECT_EQ(OnDeviceOf({0, 10}), "aaaa...aaa");
  EXPECT_EQ(volume().space().free_blocks(), free_blocks - 7);
  EXPECT_EQ(draft_.spilled.at(0).hashes, HashesOf('a', 4));
  EXPECT_EQ(draft_.spilled.at(7).hashes, HashesOf('a', 3));
  EXPECT_FALSE(Cut({2, 4}));
  EXPECT_FALSE(Cut({0, kObjectBlocksMax}));
  EXPECT_TRUE(draft_.spilled.empty());
  EXPECT_EQ(volume().space().free_blocks(), free_blocks);
}

TEST_F(SpillTest, SpilledBlockComesBackIntoMemoryToBeChanged) {
  Spilled({0, 10}, 'a');
  {
    const Unlocked unlocked(lock_);
    absl::StatusOr<bool> loaded = spill_->Load(draft_, 10);
    ASSERT_TRUE(loaded.ok());
    EXPECT_FALSE(*loaded) << "it was never spilled";
    loaded = spill_->Load(draft_, 9);
    ASSERT_TRUE(loaded.ok());
    EXPECT_TRUE(*loaded);
  }
  ASSERT_TRUE(draft_.blocks.contains(9));
  EXPECT_TRUE(draft_.blocks.at(9).whole());
  EXPECT_EQ(draft_.blocks.at(9).buffer.data()[kBlockBytes - 1], std::byte{'a'});
}

TEST_F(SpillTest, ReservationsKeepTheTreeEntriesOfTheExtentsAndNoBlocks) {
  Spilled({0, 10}, 'a');
  Spilled({20, 10}, 'b');
  EXPECT_EQ(spill_->space().blocks(), 0) << "they are allocated";
  EXPECT_GE(spill_->space().tree_entries(), draft_.spilled.size());
  EXPECT_EQ(volume().space().reserved().blocks, 0);
  spill_->space().Release();
}

TEST_F(SpillTest, LackOfSpaceIsToldAndTheRestStaysInMemory) {
  const BlockCount free_blocks = volume().space().free_blocks();
  Fill({0, free_blocks}, 'a');
  EXPECT_TRUE(absl::IsResourceExhausted(WriteBlocks()));
  EXPECT_FALSE(parts().health.failed());
  BlockCount spilled;
  for (const auto& [start, extent] : draft_.spilled) spilled += extent.count;
  EXPECT_EQ(spilled + BlockCount(draft_.blocks.size()), free_blocks);
  EXPECT_GT(draft_.blocks.size(), 0u);
  EXPECT_EQ(volume().space().free_blocks(), free_blocks - spilled);
  EXPECT_EQ(volume().space().reserved().blocks, 0);
  spill_->space().Release();
}

TEST_F(SpillTest, FailedWriteFailsTheStore) {
  Fill({0, 4}, 'a');
  simulated().FailAfter(IoOp::kWrite, 1, absl::InternalError("the disk has gone"));
  EXPECT_TRUE(absl::IsFailedPrecondition(WriteBlocks()));
  EXPECT_TRUE(parts().health.failed()) << "promise 8";
}

}  // namespace
}  // namespace untorn::internal
