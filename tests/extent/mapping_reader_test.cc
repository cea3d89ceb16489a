// Lookups through the deltas and the tree: what durable records and checkpoints say, and damage (promise 9).
#include "extent/mapping_reader.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/extent/open_volume.h"

namespace untorn {
namespace {

using MappingReaderTest = VolumeTest;

TEST_F(MappingReaderTest, MappingAppearsOnlyWhenItsRecordIsDurable) {
  const LogEntry entry = open_->NewData(kObject, {3, 2}, 'a');
  LogAppend& append = open_->Send({entry});
  EXPECT_EQ(open_->Lookup(kObject, {3, 2}).at(0).state, MappingState::kHole);
  EXPECT_EQ(volume().log().durable_lsn(), 0);
  open_->Flush();
  open_->Durable(append);
  const Mapping m = open_->Lookup(kObject, {0, 10}).at(1);
  EXPECT_EQ(m.logical, (BlockRange{3, 2}));
  EXPECT_EQ(m.state, MappingState::kWritten);
  EXPECT_EQ(m.physical, entry.physical);
  EXPECT_EQ(m.lsn, 1);
  EXPECT_EQ(volume().log().durable_lsn(), 1);
  EXPECT_EQ(volume().log().settled().once, 0);
}

TEST_F(MappingReaderTest, NamesComeInByteOrderWhateverLayerHasThem) {
  open_->Commit({LogEntry::Name("b", ObjectId{1}), LogEntry::Name("d", ObjectId{2}),
                 LogEntry::Name("e", ObjectId{3}), LogEntry::Name("e\xff", ObjectId{4})});
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({LogEntry::NameGone("d"), LogEntry::Name("a", ObjectId{5}), LogEntry::Name("c", ObjectId{6}),
                 LogEntry::Name("e", ObjectId{7}), LogEntry::NameGone("nothing")});
  using Names = std::vector<std::pair<std::string, ObjectId>>;
  EXPECT_EQ(open_->Names(), (Names{{"a", ObjectId{5}},
                                   {"b", ObjectId{1}},
                                   {"c", ObjectId{6}},
                                   {"e", ObjectId{7}},
                                   {"e\xff", ObjectId{4}}}));
  EXPECT_EQ(open_->FindName("d"), std::nullopt);
}

TEST_F(MappingReaderTest, WhatACheckpointWroteIsLookedUpWithoutReading) {
  const auto write = [&](uint64_t step) {
    std::vector<LogEntry> entries;
    for (uint64_t i = 0; i < 300; i += step)
      entries.push_back(open_->NewData(kObject, {ObjectBlock(2 * i), 1}, 'a'));
    open_->Commit(std::move(entries));
  };
  write(1);
  ASSERT_TRUE(open_->Checkpoint().ok());
  write(2);
  const uint64_t reads = open_->io_counts().reads;
  ASSERT_TRUE(open_->Checkpoint().ok()) << "nor does the next one read them";
  for (uint64_t i = 0; i < 300; ++i) EXPECT_EQ(open_->Lookup(kObject, {ObjectBlock(2 * i), 1}).size(), 1u);
  EXPECT_EQ(open_->io_counts().reads, reads);
}

TEST_F(MappingReaderTest, DamagedTreeNodeIsDataLoss) {
  open_->Commit({open_->NewData(kObject, {0, 1}, 'a')});
  ASSERT_TRUE(open_->Checkpoint().ok());
  const BlockNumber root = volume().superblock().tree.root.block;
  char sector[kSectorBytes];
  disk_->Peek(ByteOffset(root), sector, kSectorBytes);
  sector[100] ^= 1;
  disk_->Poke(ByteOffset(root), sector, kSectorBytes);
  Reopen();
  Mappings mappings;
  EXPECT_TRUE(absl::IsDataLoss(open_->Find([&](MissingNodes* missing) {
    return volume().mappings().Lookup(kObject, {0, 1}, &mappings, missing);
  })));
}

// One checkpoint has written several leaves, one behind the other.
class MappingReaderOnNeighboursTest : public VolumeTest {
 protected:
  void SetUp() override {
    VolumeTest::SetUp();
    std::vector<LogEntry> entries;
    for (uint64_t i = 0; i < 1200; ++i) {
      entries.push_back(open_->NewData(kObject, {ObjectBlock(200 * i), 1}, 'a'));
      if (entries.size() == 400) open_->Commit(std::exchange(entries, {}));
    }
    ASSERT_TRUE(open_->Checkpoint().ok());
    {
      Lock lock(open_->mutex());
      const auto root = volume().mappings().ReadNode(lock, volume().superblock().tree.root);
      ASSERT_TRUE(root.ok()) << root.status();
      for (int i = (*root)->count(); i-- > 0;) leaves_.push_back((*root)->child(i));
    }
    ASSERT_GE(leaves_.size(), 4u);
    Reopen();
  }
  absl::Status Load() {
    Lock lock(open_->mutex());
    return volume().mappings().LoadNodes(lock, leaves_);
  }
  bool IsCached(const BlockPointer& leaf) {
    const Lock lock(open_->mutex());
    return volume().mappings().node_cache().Find(leaf) != nullptr;
  }

  MissingNodes leaves_;  // the last one first
};

TEST_F(MappingReaderOnNeighboursTest, NodesThatLieTogetherAreReadTogether) {
  leaves_.push_back(leaves_.front());
  const uint64_t reads = open_->io_counts().reads;
  EXPECT_TRUE(Load().ok());
  EXPECT_EQ(open_->io_counts().reads, reads + 1);
  for (const BlockPointer& leaf : leaves_) EXPECT_TRUE(IsCached(leaf));
}

TEST_F(MappingReaderOnNeighboursTest, NodesAreReadAloneIfTheyCannotBeReadTogether) {
  open_->device().FailAfter(IoOp::kRead, 1, absl::DataLossError("medium error"));
  const uint64_t reads = open_->io_counts().reads;
  EXPECT_TRUE(Load().ok()) << "the block that cannot be read may be none of the nodes";
  EXPECT_EQ(open_->io_counts().reads, reads + 1 + leaves_.size());
  for (const BlockPointer& leaf : leaves_) EXPECT_TRUE(IsCached(leaf));
}

// Promise 9.
TEST_F(MappingReaderOnNeighboursTest, DamagedNodeKeepsNoOtherFromTheCache) {
  const char zeros[kBlockBytes] = {};
  disk_->Poke(ByteOffset(leaves_[1].block), zeros, sizeof(zeros));
  EXPECT_TRUE(absl::IsDataLoss(Load()));
  for (size_t i = 0; i < leaves_.size(); ++i) EXPECT_EQ(IsCached(leaves_[i]), i != 1);
}

// Every second block of an object is mapped, so that its mappings take four leaves.
class MappingReaderOnLeavesTest : public VolumeTest {
 protected:
  MappingReaderOnLeavesTest() { disk_ = std::make_shared<SimulatedDisk>(4 * kSmallest); }
  void SetUp() override {
    VolumeTest::SetUp();
    std::vector<LogEntry> entries;
    for (uint64_t i = 0; i < 4200; ++i) {
      entries.push_back(open_->NewData(kObject, {ObjectBlock(2 * i), 1}, 'a'));
      if (entries.size() < 400 && i + 1 < 4200) continue;
      open_->Commit(std::exchange(entries, {}));
      if (i == 399) Reopen();  // the store learns of the object's number
      ASSERT_TRUE(open_->Checkpoint().ok());
    }
    Lock lock(open_->mutex());
    const auto root = volume().mappings().ReadNode(lock, volume().superblock().tree.root);
    ASSERT_TRUE(root.ok()) << root.status();
    ASSERT_GE((*root)->count(), 3);
    first_ = (*root)->entry(1).mapping.mapping.logical.start.value();
    limit_ = (*root)->entry(2).mapping.mapping.logical.start.value();
    leaf_ = (*root)->child(1).block;
  }

  uint64_t first_ = 0, limit_ = 0;  // the blocks of the second leaf
  BlockNumber leaf_;
};

// A leaf begins, for its parent, where the leaf before it ends: also if its first mapping is gone.
TEST_F(MappingReaderOnLeavesTest, LookupEndsWithItsRangeWhereTheNextLeafHasLostItsBeginning) {
  for (uint64_t gone = first_ - 6; gone <= first_ + 6; gone += 2) {
    SCOPED_TRACE(gone);
    std::shared_ptr<SimulatedDisk> disk = disk_->Clone();
    auto open = OpenVolume::Open(disk);
    ASSERT_NE(open, nullptr);
    open->Commit({LogEntry::Hole(kObject, {ObjectBlock(gone), 1})});
    ASSERT_TRUE(open->Checkpoint().ok());
    // OpenVolume::Lookup() checks that the mappings cover the range, and nothing else.
    const Mappings found = open->Lookup(kObject, {ObjectBlock(gone - 1), 2});
    for (const Mapping& m : found) EXPECT_EQ(m.state, MappingState::kHole);
  }
}

// Promise 9: only a range that meets lost keys is told of them.
TEST_F(MappingReaderOnLeavesTest, LookupIsToldOfWhatIsLostInItsRangeAndOfNothingElse) {
  const uint64_t first = first_, limit = limit_;
  const char zeros[kBlockBytes] = {};
  disk_->Poke(ByteOffset(leaf_), zeros, sizeof(zeros));
  Reopen();
  open_->Commit({LogEntry::Hole(kObject, {ObjectBlock(first), 5}),
                 open_->NewData(kObject, {ObjectBlock(first + 8), 2}, 'b')});
  ASSERT_TRUE(open_->Checkpoint().ok());
  const auto look = [&](uint64_t start, uint64_t count) {
    Mappings found;
    return open_->Find([&](MissingNodes* missing) {
      return volume().mappings().Lookup(kObject, {ObjectBlock(start), BlockCount(count)}, &found, missing);
    });
  };
  for (const auto& [start, count] : {std::pair<uint64_t, uint64_t>{first - 1, 2},
                                     {first, 5},
                                     {first - 3, 8},
                                     {first + 8, 2},
                                     {limit, 3},
                                     {0, first}}) {
    EXPECT_TRUE(look(start, count).ok()) << start - first << "+" << count << ": " << look(start, count);
  }
  for (const auto& [start, count] : {std::pair<uint64_t, uint64_t>{first - 1, 7},
                                     {first, 6},
                                     {first + 5, 1},
                                     {first + 7, 2},
                                     {first + 9, 2},
                                     {limit - 1, 1},
                                     {0, limit}}) {
    EXPECT_TRUE(absl::IsDataLoss(look(start, count))) << start - first << "+" << count;
  }
}

}  // namespace
}  // namespace untorn
