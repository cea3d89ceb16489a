// Checkpoints: what they settle and free, and that one which fails loses nothing.
#include "extent/checkpoint.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/extent/open_volume.h"
#include "tests/extent/test_checksums.h"

namespace untorn {
namespace {

using CheckpointTest = VolumeTest;

TEST_F(CheckpointTest, SuperblockSettlesAllThatIsDurableWhenItIsWritten) {
  open_->Commit({open_->NewData(kObject, {0, 4}, 'a')});
  const LogEntry b = open_->NewData(kObject, {8, 4}, 'b');
  open_->Commit({b});
  EXPECT_EQ(volume().log().settled().once, 1);
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_EQ(volume().log().settled().once, 2);
  open_->Commit({open_->NewData(kObject, {20, 1}, 'c')});
  PowerCut();
  EXPECT_EQ(volume().log().settled().once, 3) << "opening wrote a superblock";
}

TEST_F(CheckpointTest, RemovedObjectsSpaceComesBackWithTheCheckpoint) {
  const BlockCount free = volume().space().free_blocks();
  open_->Commit({LogEntry::SetInode({kObject, 1, "a"}), LogEntry::Name("a", kObject),
                 open_->NewData(kObject, {0, 100}, 'a'), open_->NewData(kObject, {500, 30}, 'a')});
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_LT(volume().space().free_blocks(), free - 130);
  open_->Commit({LogEntry::InodeGone(kObject), LogEntry::NameGone("a")});
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_EQ(volume().space().free_blocks(), free) << "and that of the tree";
}

TEST_F(CheckpointTest, WriteIntoReservedBlocksKeepsThemOnceThroughACheckpoint) {
  const absl::StatusOr<Extent> extent = open_->Allocate(8);
  ASSERT_TRUE(extent.ok());
  const BlockCount free = volume().space().free_blocks();
  open_->Commit({TestMap(kObject, {0, 8}, extent->start, MappingState::kUnwritten)});
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({open_->Data(kObject, {2, 3}, extent->start + 2, 'a', true)});
  for (int round = 0; round < 2; ++round) {
    PowerCut();
    const auto mappings = open_->Lookup(kObject, {0, 8});
    ASSERT_EQ(mappings.size(), 3u);
    EXPECT_EQ(mappings[1].state, MappingState::kWritten);
    for (const Mapping& m : mappings)
      EXPECT_EQ(m.physical, extent->start + (m.logical.start - ObjectBlock(0)));
    EXPECT_FALSE(open_->IsAllocatable(*extent));
    ASSERT_TRUE(open_->Checkpoint().ok());
  }
  EXPECT_EQ(volume().space().free_blocks(), free - 1) << "but for the tree's node";
}

class CheckpointOfManyGroupsTest : public VolumeTest {
 protected:
  CheckpointOfManyGroupsTest() { disk_ = std::make_shared<SimulatedDisk>(20 * Bytes(kGroupBlocks)); }
};

TEST_F(CheckpointOfManyGroupsTest, NodesGoToALongRunHoweverFarItIs) {
  std::vector<LogEntry> entries;
  for (uint64_t i = 0; i < 1200; ++i) {
    entries.push_back(open_->NewData(kObject, {ObjectBlock(200 * i), 1}, 'a'));
    if (entries.size() == 400) open_->Commit(std::exchange(entries, {}));
  }
  {
    Lock lock(open_->mutex());
    SpaceLedger& space = volume().space();
    // One free block is left of each long run, but for those of the last two groups.
    std::vector<Extent> runs;
    while (true) {
      const absl::StatusOr<Extent> run =
          space.Allocate(lock, {.want_blocks = kGroupBlocks, .min_blocks = 1024});
      if (!run.ok()) break;
      runs.push_back(*run);
    }
    for (const Extent& run : runs) {
      const bool stays = GroupOf(run.start) >= 18;
      ASSERT_TRUE(space.ReturnUnused(stays ? run : Extent{run.start + run.count / 2, 1}).ok());
    }
    space.free_space().SetCursor(FirstBlockOf(0));
  }
  ASSERT_TRUE(open_->Checkpoint().ok());
  Lock lock(open_->mutex());
  const auto root = volume().mappings().ReadNode(lock, volume().superblock().tree.root);
  ASSERT_TRUE(root.ok()) << root.status();
  ASSERT_GE((*root)->count(), 4);
  for (int i = 1; i < (*root)->count(); ++i)
    EXPECT_EQ((*root)->child(i).block, (*root)->child(0).block + BlockCount(static_cast<uint64_t>(i)));
}

// Promise 9: only what is damaged for good, on a device that reads elsewhere, is given up.
TEST_F(CheckpointTest, NodeCountsAsLostOnlyIfTheDeviceFailsTwiceAndReadsElsewhere) {
  std::vector<LogEntry> entries;
  // Gaps of two bytes, so that there is a leaf below the root.
  for (uint64_t i = 0; i < 1200; ++i) {
    entries.push_back(open_->NewData(kObject, {ObjectBlock(200 * i), 1}, 'a'));
    if (entries.size() == 400) open_->Commit(std::exchange(entries, {}));
  }
  ASSERT_TRUE(open_->Checkpoint().ok());
  const BlockNumber place = open_->Lookup(kObject, {200, 1}).at(0).physical;
  Reopen();
  // Reads of this checkpoint: the root, then the leaf. A leaf that fails once is read again.
  open_->Commit({open_->NewData(kObject, {201, 1}, 'b')});
  open_->device().FailAfter(IoOp::kRead, 2, absl::DataLossError("medium error"));
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_EQ(open_->Lookup(kObject, {200, 1}).at(0).physical, place);
  Reopen();
  open_->Commit({open_->NewData(kObject, {201, 1}, 'c')});
  open_->device().FailAfter(IoOp::kRead, 2, absl::DataLossError("medium error"), 1000);
  const absl::Status failed = open_->Checkpoint();
  EXPECT_TRUE(absl::IsInternal(failed)) << failed << ": the device is gone, and nothing may be given up";
  Reopen();
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_EQ(open_->Lookup(kObject, {200, 1}).at(0).physical, place);
}

// Promise 9: a store whose only leaf is damaged goes on, and can be opened again, however often that happens.
TEST_F(CheckpointTest, SuperblockIsAcceptedAfterLeavesWereLost) {
  for (uint64_t round = 0; round < 5; ++round) {
    SCOPED_TRACE(round);
    std::vector<LogEntry> entries;
    for (uint64_t i = 0; i < 90; ++i) {
      entries.push_back(open_->NewData(kObject, {ObjectBlock(1000 * round + 2 * i), 1}, 'a'));
    }
    open_->Commit(std::move(entries));
    Reopen();  // the store learns of the object's number
    ASSERT_TRUE(open_->Checkpoint().ok());
    const char zeros[kBlockBytes] = {};
    disk_->Poke(ByteOffset(volume().superblock().tree.root.block), zeros, sizeof(zeros));
    Reopen();
    std::vector<LogEntry> scattered;
    for (uint64_t i = 0; i < 30; ++i) {
      scattered.push_back(open_->NewData(kObject, {ObjectBlock(1000 * round + 6 * i), 1}, 'b'));
    }
    open_->Commit(std::move(scattered));
    ASSERT_TRUE(open_->Checkpoint().ok());
    Reopen();
    EXPECT_EQ(open_->Lookup(kObject, {ObjectBlock(1000 * round + 6), 1}).at(0).state, MappingState::kWritten);
  }
}

TEST_F(CheckpointTest, CheckpointThatFailsAtAnyOperationLosesNothing) {
  for (uint64_t i = 0; i < 200; ++i) {
    open_->Commit({open_->NewData(ObjectId{1 + i}, {ObjectBlock(i), 1}, 'a'),
                   LogEntry::SetInode({ObjectId{1 + i}, i, "o"})});
  }
  ASSERT_TRUE(open_->Checkpoint().ok());
  for (uint64_t i = 0; i < 200; i += 3) {
    open_->Commit(
        {open_->NewData(ObjectId{1 + i}, {ObjectBlock(i), 1}, 'b'), LogEntry::InodeGone(ObjectId{300 + i})});
  }
  std::map<uint64_t, Extent> places;
  for (uint64_t i = 0; i < 200; ++i)
    places[i] = open_->Lookup(ObjectId{1 + i}, {ObjectBlock(i), 1}).at(0).extent();
  open_.reset();
  std::mt19937_64 random(5);
  for (const IoOp op : {IoOp::kWrite, IoOp::kFlush, IoOp::kRead}) {
    bool failed = true;
    for (uint64_t nth = 1; failed; ++nth) {
      ASSERT_LT(nth, 100u);
      auto disk = disk_->Clone();
      auto open = OpenVolume::Open(disk, false, 1, nth);
      ASSERT_NE(open, nullptr);
      open->device().FailAfter(op, nth, absl::InternalError("broken"));
      failed = !open->Checkpoint().ok();
      disk->Crash(random);
      open.reset();
      open = OpenVolume::Open(disk);
      ASSERT_NE(open, nullptr) << "operation " << nth;
      for (const auto& [i, place] : places) {
        ASSERT_EQ(open->Lookup(ObjectId{1 + i}, {ObjectBlock(i), 1}).at(0).extent(), place)
            << "operation " << nth;
      }
    }
  }
}

}  // namespace
}  // namespace untorn
