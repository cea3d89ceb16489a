// What recovery makes of records in lanes (promises 1, 3 and 9).
#include <gtest/gtest.h>

#include <vector>

#include "extent/log_reader.h"
#include "sim/simulated_device.h"

namespace untorn {
namespace {

constexpr BlockCount kTotal = kStoreBlocksMin;
constexpr LogEpoch kEpoch = 4;
constexpr ObjectId kObject{7};
constexpr Extent kLane = {1000, 16}, kOtherLane = {1100, 16};

class LogReaderLanesTest : public testing::Test {
 protected:
  LogReaderLanesTest() {
    superblock_.uuid = {1, 2, 3};
    superblock_.generation = 9;
    superblock_.geometry = Geometry::ForSize(kTotal);
    superblock_.epoch = kEpoch;
    superblock_.prepared_blocks = kTotal;
    superblock_.data_key = 0x5eed;
    superblock_.lanes.push_back(kLane);
  }

  // Data of one block for the commit, which is on the disk unless it is `missing`.
  LogEntry Data(Lsn lsn, bool missing = false) {
    const BlockNumber physical = next_data_;
    ++next_data_;
    std::vector<char> data(kBlockBytes, static_cast<char>(physical.value()));
    const iovec piece{data.data(), data.size()};
    LogEntry e = LogEntry::Map(kObject, {ObjectBlock(physical.value()), 1}, physical,
                               DataChecksums::Of({&piece, 1}, superblock_.data_key), false);
    e.lsn = lsn;
    if (!missing) disk_->Poke(ByteOffset(physical), data.data(), data.size());
    return e;
  }
  LogRecord Record(Lsn first, std::vector<LogEntry> entries) const {
    LogRecord record;
    record.epoch = kEpoch;
    record.first_lsn = first;
    record.lsn = entries.back().lsn;
    record.claim = record.lsn - 1;
    record.superblock_generation = superblock_.generation;
    record.prepared_blocks = superblock_.prepared_blocks;
    record.entries = std::move(entries);
    return record;
  }
  void PutInLane(BlockNumber block, LogRecord record) {
    record.lane_block = block;
    Put(record, block);
  }
  // Appends to the ring. The record names `lanes`.
  BlockNumber PutInRing(LogRecord record, std::vector<Extent> lanes = {kLane}) {
    const BlockNumber block = superblock_.geometry.LogBlock(position_);
    record.position = position_;
    ++position_;
    record.previous_checksum = previous_;
    for (Extent e : lanes) record.lanes.push_back(e);
    previous_ = Put(record, block);
    return block;
  }
  void Damage(BlockNumber block) {
    const std::vector<char> garbage(kSectorBytes, 'x');
    disk_->Poke(ByteOffset(block), garbage.data(), garbage.size());
  }
  LogTail Read() {
    SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
    absl::StatusOr<LogTail> tail = ReadLogTail(device, superblock_);
    EXPECT_TRUE(tail.ok()) << tail.status();
    // Every commit is handed out once, in order, with its own entries.
    Lsn lsn = superblock_.checkpoint_lsn;
    EXPECT_TRUE(ForEachRecord(device, superblock_, *tail, [&](const LogRecord& record, Lsn chain) {
                  EXPECT_EQ(record.lsn, ++lsn);
                  EXPECT_EQ(chain, lsn);
                  for (const LogEntry& e : record.entries) EXPECT_EQ(e.lsn, lsn);
                }).ok());
    EXPECT_EQ(lsn, tail->lsn);
    return *std::move(tail);
  }
  void ExpectEnd(Lsn lsn, Lsn ring_lsn) {
    const LogTail tail = Read();
    EXPECT_TRUE(tail.damage.ok()) << tail.damage;
    EXPECT_EQ(tail.lsn, lsn);
    EXPECT_EQ(tail.ring_lsn, ring_lsn);
    EXPECT_EQ(tail.position, position_);
  }
  void ExpectDamage() { EXPECT_TRUE(absl::IsDataLoss(Read().damage)); }

  std::shared_ptr<SimulatedDisk> disk_ = std::make_shared<SimulatedDisk>(Bytes(kTotal));
  Superblock superblock_;
  LogPosition position_;
  uint64_t previous_ = 0;
  BlockNumber next_data_ = 1500;

 private:
  uint64_t Put(const LogRecord& record, BlockNumber block) {
    std::vector<std::byte> out(kBlockBytes);
    const uint64_t checksum = EncodeRecord(record, superblock_.uuid, out, superblock_.data_key);
    disk_->Poke(ByteOffset(block), out.data(), out.size());
    return checksum;
  }
};

TEST_F(LogReaderLanesTest, NewestLaneRecordHasAllCommitsSinceTheRing) {
  PutInRing(Record(1, {Data(1)}));
  PutInLane(1003, Record(2, {Data(2)}));
  PutInLane(1007, Record(2, {Data(2), Data(3), Data(4)}));
  PutInLane(1001, Record(2, {Data(2), Data(3)}));
  ExpectEnd(4, 1);
}

TEST_F(LogReaderLanesTest, LanesOfTheSuperblockServeAnEmptyRing) {
  superblock_.checkpoint_lsn = superblock_.durable_lsn = 30;
  PutInLane(1003, Record(29, {Data(29), Data(30), Data(31)}));
  ExpectEnd(31, 30);
}

TEST_F(LogReaderLanesTest, FoldBringsTheRingUpToDate) {
  PutInRing(Record(1, {Data(1)}));
  PutInLane(1003, Record(2, {Data(2), Data(3)}));
  PutInRing(Record(2, {Data(2), Data(3)}));
  PutInRing(Record(4, {Data(4)}));
  ExpectEnd(4, 4);
  PutInLane(1004, Record(5, {Data(5)}));
  ExpectEnd(5, 4);
}

TEST_F(LogReaderLanesTest, FoldOfWhatTheCheckpointHasLeadsOn) {
  // The checkpoint began behind commit 3, and its superblock came after the fold.
  superblock_.checkpoint_lsn = superblock_.durable_lsn = 3;
  PutInRing(Record(2, {Data(2), Data(3)}));
  PutInRing(Record(4, {Data(4)}));
  ExpectEnd(4, 4);
}

TEST_F(LogReaderLanesTest, RecordBehindADamagedOneNamesLanesToo) {
  superblock_.lanes.clear();
  // Both were in flight together, so neither claims the other.
  LogRecord first = Record(1, {Data(1)}), second = Record(2, {Data(2)});
  first.claim = second.claim = 0;
  const BlockNumber block = PutInRing(first);
  PutInRing(second);
  PutInLane(1003, Record(3, {Data(3)}));
  ExpectEnd(3, 2);
  Damage(block);
  ExpectDamage();
}

TEST_F(LogReaderLanesTest, LaneRecordMayRepeatWhatAFoldHas) {
  PutInRing(Record(1, {Data(1)}));
  PutInRing(Record(2, {Data(2), Data(3)}));
  PutInLane(1003, Record(2, {Data(2), Data(3), Data(4)}));
  ExpectEnd(4, 3);
}

TEST_F(LogReaderLanesTest, CommitWhoseDataIsMissingEndsTheLogInsideItsRecord) {
  PutInRing(Record(1, {Data(1)}));
  PutInLane(1003, Record(2, {Data(2), Data(3), Data(4, true)}));
  ExpectEnd(3, 1);
  EXPECT_EQ(Read().dropped, 1u);
}

TEST_F(LogReaderLanesTest, FoldIsKeptInPartWhereDataIsMissing) {
  PutInRing(Record(1, {Data(1)}));
  const LogPosition behind_first = position_;
  // Commit 3 was in flight when the fold was made. So the fold claims only commit 2.
  PutInRing(Record(2, {Data(2), Data(3, true)}));
  position_ = behind_first;
  ExpectEnd(2, 1);
}

TEST_F(LogReaderLanesTest, TornFoldLeavesTheLaneRecord) {
  PutInRing(Record(1, {Data(1)}));
  PutInLane(1003, Record(2, {Data(2), Data(3)}));
  const LogPosition behind_first = position_;
  Damage(PutInRing(Record(2, {Data(2), Data(3)})));
  PutInRing(Record(4, {Data(4)}));
  position_ = behind_first;
  ExpectEnd(3, 1);
}

TEST_F(LogReaderLanesTest, LaneRecordBehindAMissingOneIsDamage) {
  PutInRing(Record(1, {Data(1)}));
  PutInLane(1003, Record(3, {Data(3), Data(4)}));
  ExpectDamage();
}

TEST_F(LogReaderLanesTest, LaneRecordIsAClaimForTheRing) {
  PutInRing(Record(1, {Data(1)}));
  const BlockNumber second = PutInRing(Record(2, {Data(2)}));
  PutInLane(1003, Record(3, {Data(3)}));
  ExpectEnd(3, 2);
  Damage(second);
  ExpectDamage();
}

TEST_F(LogReaderLanesTest, ClaimOfALaneRecordSparesTheComparison) {
  PutInRing(Record(1, {Data(1, true)}));
  PutInLane(1003, Record(2, {Data(2, true), Data(3)}));
  ExpectEnd(3, 1);
}

TEST_F(LogReaderLanesTest, OnlyTheNamedExtentsAreLookedAt) {
  PutInRing(Record(1, {Data(1)}), {kLane, kOtherLane});
  PutInRing(Record(2, {Data(2)}), {kOtherLane});
  PutInLane(1003, Record(3, {Data(3)}));
  ExpectEnd(2, 2);
  PutInLane(1103, Record(3, {Data(3)}));
  ExpectEnd(3, 2);
}

TEST_F(LogReaderLanesTest, LanesOfAnEarlierLogEpochAreGivenUp) {
  superblock_.durable_lsn = 1;
  LogRecord old = Record(1, {Data(1)});
  old.epoch = kEpoch - 1;
  PutInRing(old, {kOtherLane});
  PutInLane(1003, Record(2, {Data(2)}));
  ExpectEnd(2, 1);
}

TEST_F(LogReaderLanesTest, LaneRecordOfAnEarlierLogEpochDoesNotCount) {
  PutInRing(Record(1, {Data(1)}));
  LogRecord old = Record(2, {Data(2)});
  old.epoch = kEpoch - 1;
  PutInLane(1003, old);
  ExpectEnd(1, 1);
}

TEST_F(LogReaderLanesTest, LaneRecordThatNamesANewerSuperblockIsDamage) {
  for (const bool by_epoch : {false, true}) {
    LogRecord newer = Record(1, {Data(1)});
    if (by_epoch) newer.epoch = kEpoch + 1;
    if (!by_epoch) newer.superblock_generation = superblock_.generation + 1;
    PutInLane(1003, newer);
    EXPECT_TRUE(Read().superblock_lost);
  }
}

TEST_F(LogReaderLanesTest, LaneRecordInAnotherPlaceOrWithoutTheKeyIsNone) {
  LogRecord record = Record(1, {Data(1)});
  record.lane_block = 1003;
  std::vector<std::byte> out(kBlockBytes);
  EncodeRecord(record, superblock_.uuid, out, superblock_.data_key);
  disk_->Poke(ByteOffset(BlockNumber(1004)), out.data(), out.size());
  EncodeRecord(record, superblock_.uuid, out, superblock_.data_key + 1);
  disk_->Poke(ByteOffset(BlockNumber(1003)), out.data(), out.size());
  ExpectEnd(0, 0);
}

TEST_F(LogReaderLanesTest, NewestNumbersInLanesAreFound) {
  LogRecord newer = Record(1, {Data(1)});
  newer.epoch = kEpoch + 3;
  newer.superblock_generation = 77;
  PutInLane(1003, newer);
  SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
  const absl::StatusOr<LogNewest> newest = NewestInLog(device, superblock_);
  ASSERT_TRUE(newest.ok());
  EXPECT_EQ(newest->epoch, kEpoch + 3);
  EXPECT_EQ(newest->superblock_generation, 77);
}

}  // namespace
}  // namespace untorn
