// The log's end: what is durable comes back whole (promises 1 and 6), and nothing that is needed is overwritten.
#include "extent/log_writer.h"

#include <gtest/gtest.h>

#include <optional>
#include <utility>
#include <vector>

#include "tests/extent/open_volume.h"

namespace untorn {
namespace {

using LogWriterTest = VolumeTest;

TEST_F(LogWriterTest, TransactionOfSeveralRecordsSettlesWithItsLast) {
  std::vector<LogEntry> entries;
  for (uint64_t i = 0; i < 9000; ++i) entries.push_back(LogEntry::Hole(ObjectId{2}, {ObjectBlock(2 * i), 1}));
  entries.push_back(open_->NewData(kObject, {0, 1}, 'a'));
  const BlockCount blocks = LogWriter::BlocksFor(entries);
  LogAppend& append = open_->Send(std::move(entries));
  EXPECT_EQ(append.records, 2u);
  EXPECT_EQ(volume().log().blocks_used(), blocks);
  open_->Flush();
  open_->Durable(append);
  EXPECT_EQ(append.first + 1, append.last);
  EXPECT_EQ(open_->Lookup(ObjectId{2}, {0, 1}).at(0).lsn, append.last) << "of the first record, too";
  EXPECT_EQ(open_->Lookup(kObject, {0, 1}).at(0).lsn, append.last);
  const Lsn last = append.last;
  PowerCut();
  EXPECT_EQ(open_->Lookup(ObjectId{2}, {0, 1}).at(0).lsn, last);
  EXPECT_EQ(volume().counters().recovered_records, 2u);
}

TEST_F(LogWriterTest, ReservedRoomCountsAsUsedAndComesBackIfItIsNotUsed) {
  LogWriter& log = volume().log();
  const BlockCount all = volume().geometry().log.count;
  {
    LogReservation rest = *log.TryReserve(all);
    EXPECT_EQ(log.blocks_used(), all);
    EXPECT_FALSE(log.HasRoom(1));
    EXPECT_FALSE(log.TryReserve(1));
    LogAppend append;
    log.Begin(std::move(rest), {}, &append);
    EXPECT_EQ(append.blocks(), 1);
    EXPECT_EQ(log.blocks_used(), 1) << "what a commit does not need goes back at once";
    log.Encode(&append);
    EXPECT_EQ(append.bytes.size(), kBlockBytes);
  }
  { const LogReservation unused = *log.TryReserve(5); }
  EXPECT_EQ(log.blocks_used(), 1);
}

class LogWriterLanesTest : public VolumeTest {
 protected:
  // A commit in a lane, whose record the test does not write.
  void CommitInLane(uint64_t number) {
    LogAppend append;
    {
      Lock lock(open_->mutex());
      LogWriter& log = volume().log();
      log.BeginInLane(*log.TryReserve(1), {LogEntry::Hole(kObject, {ObjectBlock(number), 1})},
                      volume().geometry().log.end(), &append);
      log.Encode(&append);
    }
    open_->Durable(append);
    open_->CheckInvariants();
  }
};

TEST_F(LogWriterLanesTest, NextCommitOfTheRingBeginsWithAFold) {
  LogWriter& log = volume().log();
  CommitInLane(1);
  CommitInLane(2);
  EXPECT_EQ(log.blocks_used(), 1) << "kept for the fold";
  EXPECT_EQ(log.durable_lsn(), 2);
  LogAppend& append = open_->Send({LogEntry::Hole(kObject, {3, 1})});
  EXPECT_EQ(append.blocks(), 2);
  EXPECT_EQ(log.blocks_used(), 2);
  const Superblock sb = volume().superblock();
  const auto fold =
      DecodeRecord(append.bytes.span().first(kBlockBytes), sb.uuid, append.start_position, sb.geometry);
  ASSERT_TRUE(fold.ok()) << fold.status();
  EXPECT_EQ(fold->first_lsn, 1);
  EXPECT_EQ(fold->lsn, 2);
  EXPECT_EQ(fold->claim, 1);
  ASSERT_EQ(fold->entries.size(), 2u);
  EXPECT_EQ(fold->entries[1].lsn, 2);
  open_->Flush();
  open_->Durable(append);
  CommitInLane(4);
  EXPECT_EQ(log.blocks_used(), 3);
  PowerCut();
  EXPECT_EQ(volume().counters().recovered_records, 3u)
      << "of the fold and the record; the test wrote no other";
}

TEST_F(LogWriterLanesTest, CheckpointMakesAFoldNeedless) {
  CommitInLane(1);
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_EQ(volume().log().blocks_used(), 0);
  EXPECT_EQ(open_->Send({LogEntry::Hole(kObject, {3, 1})}).blocks(), 1);
}

TEST_F(LogWriterLanesTest, BlockOfTheRingIsKeptForTheFold) {
  LogWriter& log = volume().log();
  CommitInLane(1);
  std::optional<LogReservation> rest = log.TryReserve(volume().geometry().log.count - 1);
  ASSERT_TRUE(rest.has_value());
  EXPECT_FALSE(log.HasRoom(1));
  LogAppend append;
  log.Begin(*std::move(rest), {}, &append);
  EXPECT_EQ(append.blocks(), 2);
}

TEST_F(LogWriterLanesTest, LaneRecordHasRoomForSoManyCommits) {
  LogWriter& log = volume().log();
  const size_t bytes = EncodedBytes(LogEntry::Hole(kObject, {0, 1}));
  uint64_t commits = 0;
  for (; log.LaneRecordHasRoom(bytes, kLaneRecordBlocksMax); ++commits) CommitInLane(commits);
  EXPECT_EQ(commits, std::min<uint64_t>(kLaneEntryBytesMax / bytes, kCommitsInRecordMax));
  open_->Commit({LogEntry::Hole(kObject, {0, 1})});
  EXPECT_TRUE(log.LaneRecordHasRoom(bytes, 1)) << "the fold has them";
}

TEST_F(LogWriterLanesTest, FoldHasAsManyBlocksAsTheLaneRecordAndTheyAreKeptForIt) {
  LogWriter& log = volume().log();
  const size_t bytes = EncodedBytes(LogEntry::Hole(kObject, {0, 1}));
  uint64_t commits = 0;
  while (log.LaneRecordBlocks(bytes) < 3) CommitInLane(commits++);
  EXPECT_EQ(log.blocks_used(), 2);
  EXPECT_FALSE(log.LaneRecordHasRoom(bytes, 2));
  CommitInLane(commits++);
  EXPECT_EQ(log.blocks_used(), 3);
  LogAppend& append = open_->Send({LogEntry::Hole(kObject, {3, 1})});
  EXPECT_EQ(append.blocks(), 4);
  const Superblock sb = volume().superblock();
  const auto fold =
      DecodeRecord(append.bytes.span().first(3 * kBlockBytes), sb.uuid, append.start_position, sb.geometry);
  ASSERT_TRUE(fold.ok()) << fold.status();
  EXPECT_EQ(fold->entries.size(), commits);
  open_->Flush();
  open_->Durable(append);
  PowerCut();
  EXPECT_EQ(volume().counters().recovered_records, commits + 1);
}

TEST_F(LogWriterTest, LogSinceTheLastCheckpointIsNotOverwritten) {
  uint64_t commits = 0;
  while (volume().log().HasRoom(1)) {
    open_->Commit({LogEntry::SetInode({ObjectId{1 + commits}, commits, "o"})});
    ++commits;
  }
  EXPECT_EQ(BlockCount(commits), volume().geometry().log.count);
  PowerCut();
  EXPECT_EQ(volume().counters().recovered_records, commits);
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_TRUE(volume().log().HasRoom(volume().geometry().log.count));
  for (uint64_t i = 0; i < 10; ++i) open_->Commit({LogEntry::InodeGone(ObjectId{1 + i})});
  PowerCut();
  EXPECT_EQ(volume().counters().recovered_records, 10u);
  for (uint64_t i = 0; i < commits; ++i)
    EXPECT_EQ(open_->FindInode(ObjectId{1 + i}).has_value(), i >= 10) << i;
}

}  // namespace
}  // namespace untorn
