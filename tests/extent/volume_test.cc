// Opening a volume: what is durable comes back (promise 3).
#include "extent/volume.h"

#include <gtest/gtest.h>

#include <mutex>

#include "tests/extent/open_volume.h"

namespace untorn {
namespace {

TEST_F(VolumeTest, EachOpeningBeginsANewEpochAndANewSuperblock) {
  const Superblock before = volume().superblock();
  PowerCut();
  EXPECT_EQ(volume().superblock().epoch, before.epoch + 1);
  EXPECT_EQ(volume().superblock().generation, before.generation + 1);
}

TEST_F(VolumeTest, OpenedReadOnlyItWritesNothing) {
  open_->Commit({open_->NewData(kObject, {3, 2}, 'a')});
  open_.reset();
  open_ = OpenVolume::Open(disk_, true);
  ASSERT_NE(open_, nullptr);
  EXPECT_EQ(open_->Lookup(kObject, {3, 2}).at(0).state, MappingState::kWritten);
  EXPECT_EQ(open_->device().counts().writes, 0u);
  EXPECT_EQ(open_->device().counts().flushes, 0u);
}

TEST_F(VolumeTest, EverythingDurableComesBackFromTheLogAndFromTheTree) {
  open_->Commit({LogEntry::SetInode({kObject, 12345, "one"}), LogEntry::Name("one", kObject)});
  const LogEntry a = open_->NewData(kObject, {0, 4}, 'a');
  open_->Commit({a});
  for (int round = 0; round < 4; ++round) {
    PowerCut();
    const auto mappings = open_->Lookup(kObject, {0, 6});
    ASSERT_EQ(mappings.size(), 2u);
    EXPECT_EQ(mappings[0].extent(), Place(a));
    EXPECT_EQ(mappings[1].state, MappingState::kHole);
    EXPECT_EQ(open_->FindInode(kObject), (Inode{kObject, 12345, "one"}));
    EXPECT_EQ(open_->FindName("one"), kObject);
    EXPECT_FALSE(open_->IsAllocatable(Place(a)));
    if (round == 1) {
      ASSERT_TRUE(open_->Checkpoint().ok());
      EXPECT_EQ(open_->Lookup(kObject, {0, 4}).at(0).lsn, 0) << "a checkpoint holds it";
      EXPECT_EQ(volume().log().blocks_used(), 0);
    }
  }
}

TEST_F(VolumeTest, ObjectNumbersAreNeverUsedTwice) {
  const ObjectId first = volume().NewObjectId();
  open_->Commit({LogEntry::SetInode({first, 0, "a"}), LogEntry::InodeGone(first)});
  PowerCut();
  const ObjectId second = volume().NewObjectId();
  EXPECT_GT(Value(second), Value(first));
  ASSERT_TRUE(open_->Checkpoint().ok());
  PowerCut();
  EXPECT_GT(Value(volume().NewObjectId()), Value(first));
}

TEST_F(VolumeTest, LostSuperblockWriteIsFoundByTheRecordsThatNameIt) {
  open_->Commit({open_->NewData(kObject, {0, 1}, 'a')});
  char before[2][kBlockBytes];
  for (int i : {0, 1}) disk_->Peek(ByteOffset(kSuperblockSlots[i]), before[i], kBlockBytes);
  ASSERT_TRUE(open_->Checkpoint().ok());
  open_->Commit({open_->NewData(kObject, {1, 1}, 'b')});
  open_.reset();
  for (int i : {0, 1}) disk_->Poke(ByteOffset(kSuperblockSlots[i]), before[i], kBlockBytes);
  SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
  std::mutex mu;
  IoPump pump(device, mu);
  EXPECT_TRUE(absl::IsDataLoss(Volume::Open(pump, true, 10).status())) << "promise 9";
}

TEST_F(VolumeTest, AStoreThatHasNoNumbersLeftIsOpenedForReadingOnly) {
  open_->Commit({LogEntry::SetInode({ObjectId{kNumberMax}, 0, "o"})});
  open_.reset();
  SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
  const auto open = [&](bool read_only) {
    std::mutex mu;
    IoPump pump(device, mu);
    return Volume::Open(pump, read_only, 10).status();
  };
  EXPECT_TRUE(absl::IsResourceExhausted(open(false))) << "object numbers";
  EXPECT_TRUE(open(true).ok());
  const Superblock before = *ReadSuperblocks(device).slots[0];
  using Change = void (*)(Superblock&);
  for (const Change use_up : {Change([](Superblock& s) { s.generation = Generation::Max(); }),
                              Change([](Superblock& s) { s.epoch = LogEpoch::Max(); }),
                              Change([](Superblock& s) { s.checkpoint_position = LogPosition::Max(); })}) {
    Superblock superblock = before;
    superblock.next_object = 2;
    use_up(superblock);
    for (int slot : {0, 1}) {
      char block[kBlockBytes];
      EncodeSuperblock(superblock, slot, std::as_writable_bytes(std::span(block)));
      disk_->Poke(ByteOffset(kSuperblockSlots[slot]), block, kBlockBytes);
    }
    EXPECT_TRUE(absl::IsResourceExhausted(open(false)));
    EXPECT_TRUE(open(true).ok());
  }
}

}  // namespace
}  // namespace untorn
