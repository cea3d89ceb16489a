// The lanes of the log: which blocks they take, in what order, and which they give back (promises 1 and 9).
#include "extent/lanes.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "tests/extent/open_volume.h"

namespace untorn {
namespace {

class LanesTest : public VolumeTest {
 protected:
  Lanes& lanes() { return volume().lanes(); }
  void SetUp() override {
    VolumeTest::SetUp();
    Lock lock(open_->mutex());
    ASSERT_TRUE(volume().space().LoadGroups(lock, {volume().geometry().log.end(), 1}).ok());
  }
  // Says that two writes to the ring name the extents.
  void NameTwice() {
    for (int i = 0; i < 2; ++i) lanes().RingNames(lanes().extents());
  }
  void Take() {
    Lock lock(open_->mutex());
    lanes().TakeExtents(1, 1);
    NameTwice();
  }
  std::optional<Extent> Place(BlockCount blocks, BlockCount alignment = 1) {
    Lock lock(open_->mutex());
    const auto placed = lanes().Place(blocks, alignment, 1, volume().log().last_lsn() + 1);
    EXPECT_TRUE(placed.ok()) << placed.status();
    return placed.ok() ? *placed : std::nullopt;
  }
  // Makes a record of the ring durable.
  void Commit() { open_->Commit({LogEntry::Hole(kObject, {0, 1})}); }
  // Places data, whose record the test leaves out, and makes the LSN durable in the ring.
  std::optional<Extent> PlaceAndCommit(BlockCount blocks, BlockCount alignment = 1) {
    const std::optional<Extent> extent = Place(blocks, alignment);
    Commit();
    Lock lock(open_->mutex());
    NameTwice();
    return extent;
  }
  BlockCount Free() {
    Lock lock(open_->mutex());
    return volume().space().free_blocks();
  }
};

TEST_F(LanesTest, ExtentsHaveASmallShareOfTheStore) {
  const BlockCount before = Free();
  Take();
  BlockCount taken;
  for (Extent e : lanes().extents()) taken += e.count;
  EXPECT_EQ(lanes().extents().size(), 2 * kLanes);
  EXPECT_EQ(before - Free(), taken);
  EXPECT_LE(taken * 32, volume().geometry().DataBlocks());
  EXPECT_EQ(lanes().blocks(), taken);
  Take();
  EXPECT_EQ(before - Free(), taken) << "nothing is missing";
}

TEST_F(LanesTest, LanesAreUsedInTurnAndEachDataFollowsTheDataBefore) {
  Take();
  std::vector<Extent> placed;
  for (int i = 0; i < 6; ++i) {
    const std::optional<Extent> extent = PlaceAndCommit(2);
    ASSERT_TRUE(extent.has_value());
    placed.push_back(*extent);
  }
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(placed[i].start, lanes().extents().begin()[i].start);
    EXPECT_EQ(placed[i + 3].start, placed[i].end()) << "the data goes over the record";
  }
}

TEST_F(LanesTest, NewestLaneRecordsAreNotOverwritten) {
  Take();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Place(2).has_value());
  EXPECT_FALSE(Place(2).has_value()) << "none of the three is durable";
  Commit();
  EXPECT_FALSE(Place(2).has_value()) << "nothing claims it";
  Commit();
  EXPECT_FALSE(Place(2).has_value()) << "nothing claims a newer commit";
  Commit();
  EXPECT_TRUE(Place(2).has_value());
}

TEST_F(LanesTest, ExtentIsUsedOnlyWhenTwoWritesOfTheRingNameIt) {
  {
    Lock lock(open_->mutex());
    lanes().TakeExtents(1, 1);
    lanes().SuperblockNames();
  }
  EXPECT_FALSE(Place(1).has_value());
  Commit();
  EXPECT_FALSE(Place(1).has_value());
  Commit();
  EXPECT_TRUE(Place(1).has_value());
}

TEST_F(LanesTest, SuperblockOfACheckpointCountsAsTwoWrites) {
  {
    Lock lock(open_->mutex());
    lanes().TakeExtents(1, 1);
  }
  Commit();
  {
    Lock lock(open_->mutex());
    lanes().SuperblockNames();
  }
  EXPECT_TRUE(Place(1).has_value());
}

// What an earlier recovery has dropped may still be in the ring. Only a record of the ring overwrites it.
TEST_F(LanesTest, CheckpointBeforeAnyRecordOfTheRingAllowsNoLane) {
  ASSERT_TRUE(open_->Checkpoint().ok());
  {
    Lock lock(open_->mutex());
    lanes().TakeExtents(1, 1);
  }
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_FALSE(Place(1).has_value());
}

TEST_F(LanesTest, NothingIsTakenWhereTheFreeSpaceMapIsNotInMemory) {
  Reopen();
  Lock lock(open_->mutex());
  lanes().TakeExtents(1, 1);
  EXPECT_TRUE(lanes().extents().empty());
}

TEST_F(LanesTest, LaneMovesToTheNextExtentAndGivesTheRestBack) {
  Take();
  const BlockCount size = lanes().extents().front().count;
  const BlockCount free = Free();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(PlaceAndCommit(size - 3).has_value());
  EXPECT_EQ(Free(), free);
  const std::optional<Extent> moved = PlaceAndCommit(size - 3);
  ASSERT_TRUE(moved.has_value());
  EXPECT_EQ(Free(), free + 3) << "two blocks, and the record that nobody needs";
  EXPECT_EQ(lanes().extents().size(), 2 * kLanes - 1);
}

TEST_F(LanesTest, DataIsAlignedAndWhatIsLeftOutComesBack) {
  Take();
  ASSERT_TRUE(PlaceAndCommit(1).has_value());
  ASSERT_TRUE(PlaceAndCommit(1).has_value());
  ASSERT_TRUE(PlaceAndCommit(1).has_value());
  const BlockCount free = Free();
  const std::optional<Extent> aligned = PlaceAndCommit(4, 4);
  ASSERT_TRUE(aligned.has_value());
  EXPECT_EQ(aligned->start % 4, 0);
  EXPECT_EQ(Free(), free + 3);
}

TEST_F(LanesTest, GivesAllBackButTheNewestRecords) {
  const BlockCount before = Free();
  Take();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(PlaceAndCommit(1).has_value());
  {
    Lock lock(open_->mutex());
    ASSERT_TRUE(lanes().GiveBack().ok());
  }
  EXPECT_EQ(lanes().blocks(), 0);
  EXPECT_TRUE(lanes().extents().empty());
  EXPECT_EQ(Free(), before - 3 - 2) << "the data of three commits, and two records";
  Commit();
  EXPECT_EQ(Free(), before - 3 - 1);
  Commit();
  EXPECT_EQ(Free(), before - 3);
}

}  // namespace
}  // namespace untorn
