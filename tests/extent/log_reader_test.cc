// Which records count when a store is opened: the rules in extent/log_reader.h, each on a log made by hand.
// They hold up promises 1 and 3, and 9 where something acknowledged cannot be read.
#include "extent/log_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"
#include "sim/simulated_device.h"
#include "tests/extent/test_checksums.h"

namespace untorn {
namespace {

constexpr BlockCount kTotal = 4096;
constexpr LogEpoch kEpoch = 3;
constexpr ObjectId kObject{5};

Superblock FreshSuperblock(BlockCount total_blocks) {
  Superblock s;
  s.uuid = {1, 1, 2, 3, 5, 8};
  s.generation = 20;
  s.geometry = Geometry::ForSize(total_blocks);
  s.epoch = kEpoch;
  s.prepared_blocks = BlocksBefore(s.geometry.log.end()) + 100;
  s.used_blocks = BlocksBefore(s.geometry.log.end());
  return s;
}

// A device with one block that cannot be read.
class BadBlockDevice : public Device {
 public:
  BadBlockDevice(Device& inner, BlockNumber block) : inner_(inner), block_(block) { info_ = inner.info(); }
  void Submit(absl::Span<IoRequest* const> requests) override { inner_.Submit(requests); }
  void Reap(bool wait, std::vector<IoRequest*>* completed) override {
    inner_.Reap(wait, completed);
    for (IoRequest* r : *completed) {
      const BlockNumber start = DeviceBlockAt(r->offset_bytes);
      if (start <= block_ && block_ < start + WholeBlocks(r->length_bytes()))
        r->status = absl::DataLossError("bad block");
    }
  }

 private:
  Device& inner_;
  const BlockNumber block_;
};

class LogReaderTest : public testing::Test {
 protected:
  LogReaderTest() { StartAt(0, 0); }

  // The log begins after record `lsn`, at `position`.
  void StartAt(Lsn lsn, LogPosition position) {
    superblock_.checkpoint_lsn = superblock_.durable_lsn = lsn;
    superblock_.checkpoint_position = position;
    superblock_.checkpoint_checksum = lsn == 0 ? 0 : 0xabcdef;
    next_ = LogRecord();
    next_.position = position;
    next_.epoch = kEpoch;
    next_.lsn = lsn + 1;
    next_.previous_checksum = superblock_.checkpoint_checksum;
    next_.superblock_generation = superblock_.generation;
    next_.prepared_blocks = superblock_.prepared_blocks;
  }

  // Writes data to `count` blocks and gives the entry that names it.
  LogEntry Data(BlockCount count = 1) {
    const BlockNumber physical = next_data_;
    next_data_ += count;
    std::vector<char> data(Bytes(count), static_cast<char>(physical.value()));
    disk_->Poke(ByteOffset(physical), data.data(), data.size());
    const iovec piece{data.data(), data.size()};
    return LogEntry::Map(kObject, {ObjectBlock(physical.value()), count}, physical,
                         DataChecksums::Of({&piece, 1}, superblock_.data_key), false);
  }
  // Data that did not arrive, or was overwritten in place since.
  LogEntry WrongData() {
    const LogEntry entry = Data();
    const std::vector<char> other(kSectorBytes, '!');
    disk_->Poke(ByteOffset(entry.physical) + 1024, other.data(), other.size());
    return entry;
  }
  // Entries that make a record of `blocks` blocks, without data.
  static std::vector<LogEntry> Filler(BlockCount blocks) {
    std::vector<LogEntry> entries;
    size_t bytes = 0;
    while (RecordBlocks(bytes) < blocks) {
      entries.push_back(LogEntry::Hole(kObject, {ObjectBlock(entries.size()), 1}));
      bytes += EncodedBytes(entries.back());
    }
    return entries;
  }

  struct Options {
    Lsn claim;
    bool last = true;
    LogEpoch epoch = kEpoch;
    Generation generation;  // 0: the superblock's
    BlockCount prepared;    // 0: the superblock's
  };
  // Appends a record. Returns its position.
  LogPosition Append(std::vector<LogEntry> entries, const Options& options) {
    LogRecord record = next_;
    record.claim = options.claim;
    record.last = options.last;
    record.epoch = options.epoch;
    if (options.generation != 0) record.superblock_generation = options.generation;
    if (options.prepared != 0) record.prepared_blocks = options.prepared;
    record.entries = std::move(entries);
    Put(record);
    return record.position;
  }
  LogPosition Append(std::vector<LogEntry> entries) { return Append(std::move(entries), Options()); }
  void Put(const LogRecord& record) {
    size_t bytes = 0;
    for (const LogEntry& e : record.entries) bytes += EncodedBytes(e);
    const BlockCount blocks = RecordBlocks(bytes);
    std::vector<std::byte> out(Bytes(blocks));
    next_.previous_checksum = EncodeRecord(record, superblock_.uuid, out);
    for (BlockCount i; i < blocks; ++i) {
      disk_->Poke(ByteOffset(BlockAt(record.position + i)), out.data() + Bytes(i), kBlockBytes);
    }
    next_.position = record.position + blocks;
    next_.lsn = record.lsn + 1;
  }
  BlockNumber BlockAt(LogPosition position) const { return superblock_.geometry.LogBlock(position); }
  void Tear(LogPosition position) {
    const std::vector<char> garbage(kSectorBytes, 'x');
    disk_->Poke(ByteOffset(BlockAt(position)) + 2048, garbage.data(), garbage.size());
  }

  LogTail Read() {
    SimulatedDevice simulated(disk_, {.size_bytes = disk_->size_bytes()});
    BadBlockDevice device(simulated, bad_block_);
    absl::StatusOr<LogTail> tail = ReadLogTail(device, superblock_);
    EXPECT_TRUE(tail.ok()) << tail.status();
    if (!tail.ok()) return {};
    // What holds for every tail.
    Lsn lsn = superblock_.checkpoint_lsn;
    LogPosition position = superblock_.checkpoint_position;
    for (const LogTail::Summary& s : tail->kept) {
      EXPECT_EQ(s.lsn, ++lsn);
      EXPECT_EQ(s.position, position);
      EXPECT_GE(s.chain_lsn, s.lsn);
      position += s.blocks;
    }
    EXPECT_EQ(tail->lsn, lsn);
    EXPECT_EQ(tail->position, position);
    EXPECT_TRUE(tail->kept.empty() || tail->kept.back().last);
    return *std::move(tail);
  }
  void ExpectKept(size_t kept, size_t dropped = 0) {
    const LogTail tail = Read();
    EXPECT_TRUE(tail.damage.ok()) << tail.damage;
    EXPECT_EQ(tail.kept.size(), kept);
    EXPECT_EQ(tail.dropped, dropped);
  }
  void ExpectDamage(size_t kept) {
    const LogTail tail = Read();
    EXPECT_TRUE(absl::IsDataLoss(tail.damage)) << tail.damage;
    EXPECT_EQ(tail.kept.size(), kept);
  }

  std::shared_ptr<SimulatedDisk> disk_ = std::make_shared<SimulatedDisk>(Bytes(kTotal));
  Superblock superblock_ = FreshSuperblock(kTotal);
  LogRecord next_;
  BlockNumber next_data_ = 400;
  BlockNumber bad_block_ = BlockNumber::Max();
};

// ---- Rule 1: the chain ----

TEST_F(LogReaderTest, EmptyLogLeavesTheCheckpoint) {
  StartAt(17, 33);
  const LogTail tail = Read();
  EXPECT_TRUE(tail.damage.ok());
  EXPECT_TRUE(tail.kept.empty());
  EXPECT_EQ(tail.lsn, 17);
  EXPECT_EQ(tail.position, 33);
  EXPECT_EQ(tail.checksum, 0xabcdefu);
  EXPECT_EQ(tail.prepared_blocks, superblock_.prepared_blocks);
}

TEST_F(LogReaderTest, ChainIsFollowedToItsEnd) {
  StartAt(17, 33);
  Append({Data()});
  Append({Data(3), Data()});
  Append(Filler(5));
  Append({});
  const LogTail tail = Read();
  ASSERT_EQ(tail.kept.size(), 4u);
  EXPECT_EQ(tail.dropped, 0u);
  EXPECT_EQ(tail.lsn, 21);
  EXPECT_EQ(tail.position, 33 + 1 + 1 + 5 + 1);
  EXPECT_EQ(tail.checksum, next_.previous_checksum);
  EXPECT_EQ(tail.kept[2].blocks, 5);
}

TEST_F(LogReaderTest, RecordThatDoesNotNameTheOneBeforeItEndsTheLog) {
  Append({Data()});
  next_.previous_checksum ^= 1;
  Append({Data()});
  Append({Data()});
  ExpectKept(1);
}

TEST_F(LogReaderTest, RecordThatSkipsAnLsnEndsTheLog) {
  Append({Data()});
  ++next_.lsn;
  Append({Data()});
  ExpectKept(1);
}

TEST_F(LogReaderTest, FirstRecordMustNameTheCheckpointsLast) {
  StartAt(17, 33);
  next_.previous_checksum = 0;
  Append({Data()});
  ExpectKept(0);
}

TEST_F(LogReaderTest, TornRecordEndsTheLog) {
  for (const BlockCount torn_block : {BlockCount(0), BlockCount(1), BlockCount(2)}) {
    disk_ = std::make_shared<SimulatedDisk>(Bytes(kTotal));
    StartAt(0, 0);
    Append({Data()});
    Append({Data()});
    const LogPosition position = Append(Filler(3));
    Tear(position + torn_block);
    ExpectKept(2);
  }
}

TEST_F(LogReaderTest, RecordsOfTheLapBeforeEndTheLog) {
  const BlockCount ring = superblock_.geometry.log.count;
  for (BlockCount i; i < ring; ++i) Append({});
  StartAt(Lsn(ring.value()), LogPosition(0) + ring);
  Append({Data()});
  ExpectKept(1);
}

TEST_F(LogReaderTest, RingIsReadOverItsEndUpToAFullLap) {
  const BlockCount ring = superblock_.geometry.log.count;
  StartAt(9, LogPosition(0) + 3 * ring - 3);
  Append({Data()});
  Append(Filler(5));  // two blocks before the ring's end, three behind it
  Append({Data()});
  ExpectKept(3);
  uint64_t records = 3;
  while (next_.position + 5 <= superblock_.checkpoint_position + ring) {
    Append(Filler(5));
    ++records;
  }
  while (next_.position < superblock_.checkpoint_position + ring) {
    Append({});
    ++records;
  }
  const LogTail tail = Read();
  EXPECT_TRUE(tail.damage.ok());
  EXPECT_EQ(tail.kept.size(), records);
  EXPECT_EQ(tail.position, superblock_.checkpoint_position + ring);
}

TEST_F(LogReaderTest, RingLongerThanTheReadersChunkIsReadOverItsEnd) {
  constexpr BlockCount kLarge = 64 * 700;
  disk_ = std::make_shared<SimulatedDisk>(Bytes(kLarge));
  superblock_ = FreshSuperblock(kLarge);
  const BlockCount ring = superblock_.geometry.log.count;
  ASSERT_EQ(ring, 700);
  next_data_ = superblock_.geometry.log.end();
  StartAt(9, LogPosition(0) + 5 * ring - 190);
  for (int i = 0; i < 11; ++i) Append(Filler(60));
  ExpectKept(11);
}

// ---- Rule 2: epochs ----

TEST_F(LogReaderTest, RecordOfAnotherEpochBeyondTheDurableLsnEndsTheLog) {
  Append({Data()});
  Append({Data()}, {.epoch = kEpoch - 1});
  Append({Data()});
  ExpectKept(1);
}

TEST_F(LogReaderTest, RecordsOfEarlierEpochsUpToTheDurableLsnCount) {
  Append({Data()}, {.epoch = 1});
  Append({Data()}, {.epoch = 2});
  Append({Data()});
  superblock_.durable_lsn = 2;
  ExpectKept(3);
}

TEST_F(LogReaderTest, RecordsOfAnEarlierEpochUpToTheDurableLsnMustBeThere) {
  Append({Data()}, {.epoch = 1});
  Tear(Append({Data()}, {.epoch = 2}));
  superblock_.durable_lsn = 2;
  ExpectDamage(1);
}

// ---- Rule 3: hashes and claims ----

TEST_F(LogReaderTest, WrongHashBeyondTheClaimDropsTheRecordAndWhatFollows) {
  Append({Data()});
  Append({Data(), WrongData()});
  Append({Data()});
  ExpectKept(1, 2);
}

TEST_F(LogReaderTest, HashIsNotComparedUpToTheClaim) {
  Append({WrongData()});  // overwritten in place since
  Append({WrongData()});
  Append({Data()}, {.claim = 2});
  ExpectKept(3);
}

TEST_F(LogReaderTest, HighestClaimOfTheChainCountsWhateverRecordHasIt) {
  Append({WrongData()});
  Append({WrongData()});
  Append({}, {.claim = 2});
  Append({WrongData()}, {.claim = 1});
  ExpectKept(3, 1);
}

TEST_F(LogReaderTest, ClaimOfARecordThatIsDroppedStillVouches) {
  Append({WrongData()});
  Append({WrongData()}, {.claim = 1});  // it chains on the first, so it was sent when that was durable
  ExpectKept(1, 1);
}

TEST_F(LogReaderTest, HashIsNotComparedUpToTheSuperblocksDurableLsn) {
  Append({WrongData()});
  Append({WrongData()});
  superblock_.durable_lsn = 1;
  ExpectKept(1, 1);
}

TEST_F(LogReaderTest, HashIsComparedForWrittenExtentsOnly) {
  Append({TestMap(kObject, {0, 50}, 1000, MappingState::kUnwritten), LogEntry::Hole(kObject, {60, 5}),
          LogEntry::SetInode({kObject, 1, "a"}), LogEntry::Name("a", kObject)});
  ExpectKept(1);
}

TEST_F(LogReaderTest, DataThatCannotBeReadCountsAsDataThatDidNotArrive) {
  const LogEntry data = Data();
  Append({data});
  SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
  AlignedBuffer bytes(kBlockBytes);
  IoRequest write;
  write.op = IoOp::kWrite;
  write.offset_bytes = ByteOffset(data.physical);
  write.iov = {{bytes.data(), kBlockBytes}};
  IoRequest* pointer = &write;
  device.Submit(absl::MakeConstSpan(&pointer, 1));
  const SimulatedDisk::Landing shorn = {.lands = true, .sectors = std::vector<bool>(8), .shorn = true};
  disk_ = disk_->AfterCut(std::span(&shorn, 1));
  const LogTail tail = Read();
  EXPECT_TRUE(tail.kept.empty());
  EXPECT_EQ(tail.dropped, 1u);
  std::vector<IoRequest*> completed;
  device.Reap(/*wait=*/true, &completed);
}

TEST_F(LogReaderTest, ReadThatFailsOnceIsTriedAgain) {
  Append({Data()});
  for (uint64_t nth = 1; nth < 10; ++nth) {
    SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
    device.FailAfter(IoOp::kRead, nth, absl::DataLossError("EIO"));
    const auto tail = ReadLogTail(device, superblock_);
    ASSERT_TRUE(tail.ok()) << tail.status();
    EXPECT_EQ(tail->kept.size(), 1u) << "read " << nth;
  }
}

TEST_F(LogReaderTest, DeviceThatReadsNoMoreIsNotALogThatEnds) {
  Append({Data()});
  for (const uint64_t nth : {1, 2, 3, 4}) {
    SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
    device.FailAfter(IoOp::kRead, nth, absl::DataLossError("EIO"), UINT64_MAX);
    EXPECT_TRUE(absl::IsInternal(ReadLogTail(device, superblock_).status())) << "read " << nth;
  }
}

TEST_F(LogReaderTest, DeviceThatFailsOtherwiseIsAnError) {
  Append({Data()});
  for (const uint64_t nth : {1, 2}) {
    SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
    device.FailAfter(IoOp::kRead, nth, absl::InternalError("gone"));
    EXPECT_TRUE(absl::IsInternal(ReadLogTail(device, superblock_).status())) << "read " << nth;
  }
}

// ---- Rule 4: transactions (promise 6) ----

TEST_F(LogReaderTest, TransactionCountsOnlyWithItsLastRecord) {
  Append({Data()});
  Append({Data()}, {.last = false});
  Append({Data()}, {.last = false});
  ExpectKept(1, 2);
  Append({Data()});
  const LogTail tail = Read();
  ASSERT_EQ(tail.kept.size(), 4u);
  EXPECT_EQ(tail.kept[0].chain_lsn, 1);
  for (int i = 1; i < 4; ++i) EXPECT_EQ(tail.kept[i].chain_lsn, 4);
}

TEST_F(LogReaderTest, WrongHashInAnyRecordOfATransactionDropsAllOfIt) {
  for (int wrong = 0; wrong < 3; ++wrong) {
    disk_ = std::make_shared<SimulatedDisk>(Bytes(kTotal));
    StartAt(0, 0);
    Append({Data()});
    for (int i = 0; i < 3; ++i) Append({i == wrong ? WrongData() : Data()}, {.last = i == 2});
    Append({Data()});
    ExpectKept(1, 4);
  }
}

TEST_F(LogReaderTest, RecordsComeWithTheLsnOfTheirTransactionsLast) {
  Append({Data()});
  Append({Data()}, {.last = false});
  Append({Data(), Data()});
  Append({WrongData()});
  SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
  const auto tail = ReadLogTail(device, superblock_);
  ASSERT_TRUE(tail.ok());
  std::vector<std::pair<uint64_t, uint64_t>> seen;
  size_t entries = 0;
  ASSERT_TRUE(ForEachRecord(device, superblock_, *tail, [&](const LogRecord& record, Lsn chain_lsn) {
                seen.push_back({record.lsn.value(), chain_lsn.value()});
                entries += record.entries.size();
              }).ok());
  EXPECT_EQ(seen, (std::vector<std::pair<uint64_t, uint64_t>>{{1, 1}, {2, 3}, {3, 3}}));
  EXPECT_EQ(entries, 4u);
}

// ---- Rule 5: damage, not the end (promise 9) ----

TEST_F(LogReaderTest, UnreadableRecordThatTheSuperblockVouchesForIsDamage) {
  Append({Data()});
  Tear(Append({Data()}));
  superblock_.durable_lsn = 2;
  ExpectDamage(1);
}

TEST_F(LogReaderTest, UnreadableRecordThatALaterOneVouchesForIsDamage) {
  Append({Data()});
  Tear(Append(Filler(3)) + 1);
  Append({Data()});
  Append({Data()}, {.claim = 2});
  ExpectDamage(1);
}

TEST_F(LogReaderTest, UnreadableRecordThatNobodyVouchesForIsTheEnd) {
  Append({Data()});
  Tear(Append({Data()}));
  Append({Data()}, {.claim = 1});
  Append({Data()}, {.claim = 1});
  ExpectKept(1);
}

TEST_F(LogReaderTest, RecordOfAnotherEpochVouchesForNothing) {
  Append({Data()});
  Tear(Append({Data()}));
  Append({Data()}, {.claim = 2, .epoch = kEpoch - 1});
  ExpectKept(1);
}

TEST_F(LogReaderTest, RecordThatNamesANewerSuperblockIsDamage) {
  Append({Data()});
  Append({Data()}, {.generation = superblock_.generation + 1});
  ExpectDamage(1);
}

TEST_F(LogReaderTest, RecordBehindAGapThatNamesANewerSuperblockIsDamage) {
  Tear(Append({Data()}));
  Append({Data()}, {.generation = superblock_.generation + 1});
  ExpectDamage(0);
}

// The superblock that is lost was written when the store was opened: so the epoch is newer too.
TEST_F(LogReaderTest, RecordOfANewerEpochThatNamesANewerSuperblockIsDamage) {
  Append({Data()});
  Append({Data()}, {.epoch = kEpoch + 1, .generation = superblock_.generation + 1});
  ExpectDamage(1);
  Tear(Append({Data()}));
  Append({Data()}, {.epoch = kEpoch + 1, .generation = superblock_.generation + 1});
  ExpectDamage(1);
}

// The superblock contradicts the log: opened again, the store would write into an epoch that has records already.
TEST_F(LogReaderTest, RecordOfANewerEpochThatNamesTheSameSuperblockIsDamage) {
  Append({Data()});
  Append({Data()}, {.epoch = kEpoch + 1});
  ExpectDamage(1);
  Tear(Append({Data()}));
  Append({Data()}, {.epoch = kEpoch + 1});
  ExpectDamage(1);
}

// With the superblock a checkpoint is lost, and the log went on over what was before it.
TEST_F(LogReaderTest, RecordOnALaterRoundOfTheRingThatNamesANewerSuperblockIsDamage) {
  const Superblock before = superblock_;
  StartAt(50, before.checkpoint_position + before.geometry.log.count);
  Append({Data()}, {.epoch = kEpoch + 1, .generation = before.generation + 1});
  superblock_ = before;
  ExpectDamage(0);
}

// One sector of the log that cannot be read any more after a power cut.
TEST_F(LogReaderTest, UnreadableSectorHidesNothingElse) {
  Append({Data()});
  Append({Data()});
  bad_block_ = BlockAt(next_.position);
  ExpectKept(2);
}

TEST_F(LogReaderTest, RecordThatNamesAnOlderSuperblockCounts) {
  Append({Data()}, {.generation = superblock_.generation - 1});
  ExpectKept(1);
}

// ---- Prepared space ----

TEST_F(LogReaderTest, MostPreparedThatTheSuperblockOrAKeptRecordNamesCounts) {
  const BlockCount before = superblock_.prepared_blocks;
  Append({Data()}, {.prepared = before + 50});
  Append({Data()}, {.prepared = before + 20});
  EXPECT_EQ(Read().prepared_blocks, before + 50);
  Append({WrongData()}, {.prepared = before + 90});
  EXPECT_EQ(Read().prepared_blocks, before + 50) << "that of a record that is dropped does not count";
  superblock_.prepared_blocks = before + 60;
  EXPECT_EQ(Read().prepared_blocks, before + 60);
}

// ---- All rules together ----

TEST_F(LogReaderTest, RandomLogsAreKeptUpToTheFirstFault) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    disk_ = std::make_shared<SimulatedDisk>(Bytes(kTotal));
    superblock_ = FreshSuperblock(kTotal);
    next_data_ = 400;
    StartAt(Lsn(random() % 100), LogPosition(random() % 1000));
    const Lsn first = next_.lsn;

    struct Written {
      bool last, wrong;
      Lsn claim;
      LogPosition position;
    };
    std::vector<Written> records;
    Lsn claim = superblock_.durable_lsn;
    for (size_t i = 0, count = random() % 20; i < count; ++i) {
      std::vector<LogEntry> entries = Filler(BlockCount(1 + random() % 4));
      const bool wrong = random() % 12 == 0, last = random() % 4 != 0;
      if (random() % 2) entries.push_back(Data(BlockCount(1 + random() % 3)));
      if (wrong) entries.push_back(WrongData());
      if (i > 0 && random() % 4 == 0) claim = std::max(claim, first + random() % i);
      records.push_back({last, wrong, claim, Append(std::move(entries), {.claim = claim, .last = last})});
    }
    size_t readable = records.size();
    if (!records.empty() && random() % 2) {
      readable = random() % records.size();
      Tear(records[readable].position);
    }

    // Of the records behind the gap the last has the highest claim.
    const bool damaged = readable + 1 < records.size() && records.back().claim >= first + readable;
    Lsn vouched = readable > 0 ? records[readable - 1].claim : superblock_.durable_lsn;
    // A claim counts too if the record before it is torn.
    if (readable + 1 < records.size()) vouched = records.back().claim;
    size_t kept = 0;
    while (kept < readable && (first + kept <= vouched || !records[kept].wrong)) ++kept;
    while (kept > 0 && !records[kept - 1].last) --kept;

    const LogTail tail = Read();
    EXPECT_EQ(tail.kept.size(), kept);
    EXPECT_EQ(tail.dropped, readable - kept);
    EXPECT_EQ(absl::IsDataLoss(tail.damage), damaged) << tail.damage;
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace untorn
