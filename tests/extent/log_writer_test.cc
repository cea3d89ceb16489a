// The log's end: what is durable comes back whole (promises 1 and 6), and nothing that is needed is overwritten.
#include "extent/log_writer.h"

#include <gtest/gtest.h>

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
  const BlockCount all = volume().geometry().log_blocks;
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

TEST_F(LogWriterTest, LogSinceTheLastCheckpointIsNotOverwritten) {
  uint64_t commits = 0;
  while (volume().log().HasRoom(1)) {
    open_->Commit({LogEntry::SetInode({ObjectId{1 + commits}, commits, "o"})});
    ++commits;
  }
  EXPECT_EQ(BlockCount(commits), volume().geometry().log_blocks);
  PowerCut();
  EXPECT_EQ(volume().counters().recovered_records, commits);
  ASSERT_TRUE(open_->Checkpoint().ok());
  EXPECT_TRUE(volume().log().HasRoom(volume().geometry().log_blocks));
  for (uint64_t i = 0; i < 10; ++i) open_->Commit({LogEntry::InodeGone(ObjectId{1 + i})});
  PowerCut();
  EXPECT_EQ(volume().counters().recovered_records, 10u);
  for (uint64_t i = 0; i < commits; ++i)
    EXPECT_EQ(open_->FindInode(ObjectId{1 + i}).has_value(), i >= 10) << i;
}

}  // namespace
}  // namespace untorn
