// Log records as bytes: the table in extent/log_format.h, and promise 9 for whatever else the bytes may be.
#include "extent/log_format.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "tests/extent/test_checksums.h"

namespace untorn {
namespace {

constexpr Uuid kUuid = {9, 8, 7};
constexpr BlockNumber kDataStart = 288;
constexpr BlockCount kTotal = 4096;
constexpr Extent kDataArea{kDataStart, BlockAfterFirst(kTotal) - kDataStart};
const Geometry kGeometry = Geometry::ForSize(kTotal);

LogRecord Record(std::vector<LogEntry> entries) {
  LogRecord r;
  r.position = 1234;
  r.epoch = 5;
  r.lsn = 40;
  r.previous_checksum = 0x1122334455667788;
  r.claim = 38;
  r.superblock_generation = 17;
  r.prepared_blocks = 2000;
  r.entries = std::move(entries);
  return r;
}

std::vector<std::byte> Encode(const LogRecord& record) {
  size_t bytes = 0;
  for (const LogEntry& e : record.entries) bytes += EncodedBytes(e);
  std::vector<std::byte> out(Bytes(RecordBlocks(bytes)), std::byte{0xee});
  EncodeRecord(record, kUuid, out);
  return out;
}

absl::StatusOr<LogRecord> Decode(std::span<const std::byte> bytes, LogPosition position = 1234) {
  return DecodeRecord(bytes, kUuid, position, kGeometry);
}

template <typename T>
T At(const std::vector<std::byte>& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

void ExpectEqual(const LogEntry& a, const LogEntry& b) {
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.object, b.object);
  EXPECT_EQ(a.logical, b.logical);
  EXPECT_EQ(a.state, b.state);
  EXPECT_EQ(a.into_unwritten, b.into_unwritten);
  EXPECT_EQ(a.physical, b.physical);
  EXPECT_EQ(a.data, b.data);
  EXPECT_EQ(a.opened, b.opened);
  EXPECT_EQ(a.size_bytes, b.size_bytes);
  EXPECT_EQ(a.preallocated, b.preallocated);
  EXPECT_EQ(a.name, b.name);
}

void ExpectRoundTrip(const LogRecord& record) {
  const std::vector<std::byte> bytes = Encode(record);
  EXPECT_EQ(PeekRecordBlocks({bytes.data(), kBlockBytes}, kUuid, record.position), WholeBlocks(bytes.size()));
  const auto decoded = Decode(bytes, record.position);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->position, record.position);
  EXPECT_EQ(decoded->epoch, record.epoch);
  EXPECT_EQ(decoded->lsn, record.lsn);
  EXPECT_EQ(decoded->previous_checksum, record.previous_checksum);
  EXPECT_EQ(decoded->claim, record.claim);
  EXPECT_EQ(decoded->superblock_generation, record.superblock_generation);
  EXPECT_EQ(decoded->prepared_blocks, record.prepared_blocks);
  EXPECT_EQ(decoded->last, record.last);
  EXPECT_EQ(decoded->settling, record.settling);
  EXPECT_EQ(decoded->blocks, WholeBlocks(bytes.size()));
  EXPECT_EQ(decoded->checksum, At<uint64_t>(bytes, 40));
  ASSERT_EQ(decoded->entries.size(), record.entries.size());
  for (size_t i = 0; i < record.entries.size(); ++i) ExpectEqual(decoded->entries[i], record.entries[i]);
}

std::vector<LogEntry> OneOfEach() {
  return {
      TestMap(ObjectId{3}, {100, 8}, 300),
      TestMap(ObjectId{3}, {108, 2}, 400, MappingState::kWritten, true),
      TestMap(ObjectId{3}, {110, 100}, 500, MappingState::kUnwritten),
      LogEntry::Hole(ObjectId{4}, {0, kObjectBlocksMax}),
      LogEntry::SetInode({ObjectId{5}, 1234567, "an object"}),
      LogEntry::SetInode({ObjectId{6}, 1, "another object", true}),
      LogEntry::InodeGone(ObjectId{6}),
      LogEntry::Name("a", ObjectId{7}),
      LogEntry::NameGone(std::string(255, 'z')),
      LogEntry::Open(ObjectId{3}, WithTestChecksums({{200, 3}, MappingState::kWritten, 600}), LogEpoch(5)),
  };
}

TEST(LogFormatTest, EveryTypeOfEntryComesBackAsItWas) {
  ExpectRoundTrip(Record(OneOfEach()));
  for (const LogEntry& e : OneOfEach()) ExpectRoundTrip(Record({e}));
}

TEST(LogFormatTest, FlagsComeBackAsTheyWere) {
  LogRecord settling = Record({});
  settling.settling = true;
  ExpectRoundTrip(settling);
  LogRecord first = Record(OneOfEach());
  first.last = false;
  ExpectRoundTrip(first);
}

TEST(LogFormatTest, FieldsAreWhereTheTableSaysAndTheRestIsZero) {
  const std::vector<std::byte> bytes =
      Encode(Record({LogEntry::Map(ObjectId{3}, {100, 2}, 300, {{11, 12}, 13}, true),
                     LogEntry::SetInode({ObjectId{5}, 77, "abc"})}));
  ASSERT_EQ(bytes.size(), kBlockBytes);
  EXPECT_EQ(At<uint32_t>(bytes, 0), kMagic);
  EXPECT_EQ(At<uint16_t>(bytes, 4), 2);
  EXPECT_EQ(At<uint64_t>(bytes, 24), 1234u);
  EXPECT_EQ(At<uint64_t>(bytes, 32), 5u);
  EXPECT_EQ(At<uint64_t>(bytes, 64), 40u);
  EXPECT_EQ(At<uint64_t>(bytes, 72), 0x1122334455667788u);
  EXPECT_EQ(At<uint64_t>(bytes, 80), 38u);
  EXPECT_EQ(At<uint64_t>(bytes, 88), 17u);
  EXPECT_EQ(At<uint64_t>(bytes, 96), 2000u);
  EXPECT_EQ(At<uint32_t>(bytes, 104), 2u);
  EXPECT_EQ(At<uint16_t>(bytes, 108), 1u);
  EXPECT_EQ(At<uint16_t>(bytes, 110), 0u) << "repeats nothing";
  for (size_t i = 112; i < 304; ++i) ASSERT_EQ(bytes[i], std::byte{0}) << "names no lane: " << i;
  EXPECT_EQ(At<uint8_t>(bytes, 304), 1);
  EXPECT_EQ(At<uint8_t>(bytes, 305), 40) << "low byte of the LSN";
  EXPECT_EQ(At<uint16_t>(bytes, 306), 0x8001);
  EXPECT_EQ(At<uint32_t>(bytes, 308), 2u);
  EXPECT_EQ(At<uint64_t>(bytes, 312), 3u);
  EXPECT_EQ(At<uint64_t>(bytes, 320), 100u);
  EXPECT_EQ(At<uint64_t>(bytes, 328), 300u);
  EXPECT_EQ(At<uint64_t>(bytes, 336), 13u) << "check";
  EXPECT_EQ(At<uint64_t>(bytes, 344), 11u);
  EXPECT_EQ(At<uint64_t>(bytes, 352), 12u);
  EXPECT_EQ(At<uint8_t>(bytes, 360), 3);
  EXPECT_EQ(At<uint16_t>(bytes, 362), 3) << "name length";
  EXPECT_EQ(At<uint64_t>(bytes, 368), 5u);
  EXPECT_EQ(At<uint64_t>(bytes, 376), 77u);
  EXPECT_EQ(At<uint64_t>(bytes, 384), 0x636261u) << "name, padded";
  for (size_t i = 392; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], std::byte{0}) << i;
}

TEST(LogFormatTest, RandomRecordsOfAnyLengthComeBackAsTheyWere) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t n) { return random() % n; };
    LogRecord record = Record({});
    record.position = LogPosition(random());
    record.last = below(2);
    size_t bytes = 0;
    for (uint64_t n = below(seed % 20 == 0 ? 8000 : 100); n > 0; --n) {
      std::string name(1 + below(255), 'n');
      for (char& c : name) c = static_cast<char>(1 + below(255));
      const ObjectId object{1 + random() % kNumberMax};
      const auto blocks_below = [&](BlockCount n) { return BlockCount(below(n.value())); };
      const ObjectBlock start = ObjectBlock(0) + blocks_below(kObjectBlocksMax);
      const BlockNumber physical = kDataStart + blocks_below(kDataArea.count);
      LogEntry e;
      const BlockRange mapped{start,
                              1 + blocks_below(std::min(kDataArea.end() - physical, kObjectEnd - start))};
      const BlockRange written{start, std::min(mapped.count, 1 + blocks_below(kMapEntryBlocksMax))};
      BlockChecksums checksums(written.count.value());
      for (uint64_t& checksum : checksums) checksum = random();
      switch (below(8)) {
        case 0:
          e = LogEntry::Unwritten(object, mapped, physical);
          break;
        case 6:
          e = LogEntry::Map(object, written, physical, {checksums, random()}, below(2));
          break;
        case 7: {
          Mapping m{written, MappingState::kWritten, physical};
          m.checksums = ChecksumsRef(checksums);
          e = LogEntry::Open(object, m, record.epoch);
          break;
        }
        case 1:
          e = LogEntry::Hole(object, {start, 1 + blocks_below(kObjectEnd - start)});
          break;
        case 2:
          e = LogEntry::SetInode({object, below(kObjectBytesMax + 1), name});
          break;
        case 3:
          e = LogEntry::InodeGone(object);
          break;
        case 4:
          e = LogEntry::Name(name, object);
          break;
        default:
          e = LogEntry::NameGone(name);
      }
      ASSERT_EQ(EncodedBytes(e) % 8, 0u);
      if (bytes + EncodedBytes(e) > kRecordEntryBytesMax) break;
      bytes += EncodedBytes(e);
      record.entries.push_back(std::move(e));
    }
    ExpectRoundTrip(record);
  }
}

// ---- Damage (promise 9) ----

TEST(LogFormatTest, AnyFlippedBitIsDataLoss) {
  std::vector<std::byte> bytes = Encode(Record(OneOfEach()));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= std::byte{1} << bit % 8;
    ASSERT_TRUE(absl::IsDataLoss(Decode(bytes).status())) << "bit " << bit;
    bytes[bit / 8] ^= std::byte{1} << bit % 8;
  }
}

TEST(LogFormatTest, RecordOfAnotherStoreOrPlaceIsDataLossAndNoBeginning) {
  const std::vector<std::byte> bytes = Encode(Record(OneOfEach()));
  EXPECT_TRUE(absl::IsDataLoss(Decode(bytes, 1235).status()));
  EXPECT_EQ(PeekRecordBlocks({bytes.data(), kBlockBytes}, kUuid, 1235), 0);
  EXPECT_TRUE(absl::IsDataLoss(DecodeRecord(bytes, Uuid{1}, 1234, kGeometry).status()));
  EXPECT_EQ(PeekRecordBlocks({bytes.data(), kBlockBytes}, Uuid{1}, 1234), 0);
}

TEST(LogFormatTest, WhatIsNoRecordIsNoBeginning) {
  const std::vector<std::byte> zeros(kBlockBytes), ones(kBlockBytes, std::byte{0xff});
  EXPECT_EQ(PeekRecordBlocks(zeros, kUuid, 0), 0);
  EXPECT_EQ(PeekRecordBlocks(ones, kUuid, LogPosition::Max()), 0);
  std::vector<std::byte> bytes = Encode(Record(OneOfEach()));
  bytes[4] = std::byte{3};  // a tree node
  EXPECT_EQ(PeekRecordBlocks({bytes.data(), kBlockBytes}, kUuid, 1234), 0);
  bytes = Encode(Record(OneOfEach()));
  for (const uint32_t payload : {uint32_t{0}, uint32_t{47}, uint32_t{64 * kBlockBytes}, ~uint32_t{0}}) {
    std::memcpy(bytes.data() + 48, &payload, 4);
    EXPECT_EQ(PeekRecordBlocks({bytes.data(), kBlockBytes}, kUuid, 1234), 0) << payload;
  }
}

TEST(LogFormatTest, SoundRecordWhoseFieldsMakeNoSenseIsDataLoss) {
  const auto map = [](BlockRange logical, BlockNumber physical, MappingState state = MappingState::kWritten,
                      ObjectId object = ObjectId{1}) {
    return TestMap(object, logical, physical, state, false);
  };
  const std::pair<const char*, std::vector<LogEntry>> kEntries[] = {
      {"object 0", {map({0, 1}, 300, MappingState::kWritten, ObjectId::kNone)}},
      {"object number too large", {LogEntry::InodeGone(ObjectId{kNumberMax + 1})}},
      {"no blocks", {map({0, 0}, 300)}},
      {"unwritten blocks into unwritten ones", {[&] {
         LogEntry e = map({0, 1}, 300, MappingState::kUnwritten);
         e.into_unwritten = true;
         return e;
       }()}},
      {"more written blocks than an entry names", {map({0, kMapEntryBlocksMax + 1}, 300)}},
      {"state hole", {map({0, 1}, 300, MappingState::kHole)}},
      {"state unknown", {map({0, 1}, 300, static_cast<MappingState>(3))}},
      {"beyond the object's end", {map({kObjectEnd - 1, 2}, 300)}},
      {"in the fixed areas", {map({0, 1}, kDataStart - 1)}},
      {"beyond the store's end", {map({0, 2}, kDataArea.end() - 1)}},
      {"far beyond it", {map({0, 1}, BlockNumber::Max())}},
      {"hole of no blocks", {LogEntry::Hole(ObjectId{1}, {5, 0})}},
      {"hole that overflows", {LogEntry::Hole(ObjectId{1}, {5, BlockCount::Max()})}},
      {"size too large", {LogEntry::SetInode({ObjectId{1}, kObjectBytesMax + 1, "a"})}},
      {"object without a name", {LogEntry::SetInode({ObjectId{1}, 0, ""})}},
      {"empty name", {LogEntry::Name("", ObjectId{1})}},
      {"name too long", {LogEntry::Name(std::string(256, 'a'), ObjectId{1})}},
      {"name with NUL", {LogEntry::NameGone(std::string("a\0b", 3))}},
      {"name of no object", {LogEntry::Name("a", ObjectId::kNone)}},
      {"no object gone", {LogEntry::InodeGone(ObjectId::kNone)}},
  };
  for (const auto& [what, entries] : kEntries) {
    EXPECT_TRUE(absl::IsDataLoss(Decode(Encode(Record(entries))).status())) << what;
  }

  const std::pair<const char*, std::function<void(LogRecord&)>> kFields[] = {
      {"claims itself", [](LogRecord& r) { r.claim = r.lsn; }},
      {"LSN 0", [](LogRecord& r) { r.lsn = r.claim = 0; }},
      {"more prepared than there is", [](LogRecord& r) { r.prepared_blocks = kTotal + 1; }},
  };
  for (const auto& [what, change] : kFields) {
    LogRecord record = Record(OneOfEach());
    change(record);
    EXPECT_TRUE(absl::IsDataLoss(Decode(Encode(record)).status())) << what;
  }

  const std::tuple<const char*, size_t, uint32_t> kBytes[] = {
      {"fewer entries than bytes", 104, 9},    {"more entries than bytes", 104, 11},
      {"absurdly many entries", 104, ~0u},     {"entry type 0", kRecordHeaderBytes, 0},
      {"entry type 8", kRecordHeaderBytes, 8}, {"payload beyond the record", 48, kBlockBytes},
      {"payload too short", 48, 16},           {"payload cuts an entry", 48, kRecordHeaderBytes - 64 + 44},
  };
  for (const auto& [what, offset, value] : kBytes) {
    std::vector<std::byte> bytes = Encode(Record(OneOfEach()));
    std::memcpy(bytes.data() + offset, &value, offset == kRecordHeaderBytes ? 1 : 4);
    SealBlock(bytes);
    EXPECT_TRUE(absl::IsDataLoss(Decode(bytes).status())) << what;
  }
}

// A record of the commits 45 to 300, which are the most that a record can have.
LogRecord Repeating() {
  LogRecord record = Record({LogEntry::Hole(ObjectId{4}, {1, 1}), LogEntry::Hole(ObjectId{4}, {2, 1}),
                             LogEntry::Hole(ObjectId{4}, {3, 1})});
  record.first_lsn = 45;
  record.lsn = 300;
  record.entries[0].lsn = 45;
  record.entries[1].lsn = 255;
  record.entries[2].lsn = 300;
  record.by_opening = true;
  record.lanes.push_back({kDataStart, 9});
  record.lanes.push_back({kDataStart + 16, kLaneExtentBlocksMax});
  return record;
}

TEST(LogFormatTest, RecordThatRepeatsTellsTheCommitOfEachEntryAndNamesLanes) {
  const LogRecord record = Repeating();
  const auto decoded = Decode(Encode(record));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->first_lsn, 45);
  EXPECT_EQ(decoded->lsn, 300);
  ASSERT_EQ(decoded->entries.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(decoded->entries[i].lsn, record.entries[i].lsn) << i;
  EXPECT_TRUE(decoded->by_opening);
  EXPECT_EQ(decoded->lanes, record.lanes);
}

TEST(LogFormatTest, LaneRecordNeedsTheKeyAndItsBlock) {
  LogRecord record = Repeating();
  record.lane_block = kDataStart + 5;
  std::vector<std::byte> bytes(kBlockBytes);
  EncodeRecord(record, kUuid, bytes, /*data_key=*/77);
  const auto decode = [&](uint64_t key, BlockNumber at) {
    return DecodeLaneRecord(bytes, kUuid, key, at, kGeometry);
  };
  const auto decoded = decode(77, kDataStart + 5);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->first_lsn, 45);
  EXPECT_EQ(decoded->lane_block, kDataStart + 5);
  EXPECT_TRUE(absl::IsDataLoss(decode(78, kDataStart + 5).status()));
  EXPECT_TRUE(absl::IsDataLoss(decode(77, kDataStart + 6).status()));
  EXPECT_TRUE(absl::IsDataLoss(Decode(bytes).status())) << "it is no record of the ring";
}

TEST(LogFormatTest, RepeatedCommitsAndLanesThatMakeNoSenseAreDataLoss) {
  const std::tuple<const char*, size_t, uint16_t> kBytes[] = {
      {"more commits than a record can have", 110, 256},
      {"as many commits as LSNs", 64, 255},
      {"the first entry is of the last commit", kRecordHeaderBytes + 1, 44},
      {"the last entry is of the first commit", kRecordHeaderBytes + 64 + 1, 45},
      {"a lane without blocks", 112, 0},
      {"a lane that is too long", 112, 257},
      {"a lane outside of the data area", 118, 0xffff},
  };
  for (const auto& [what, offset, value] : kBytes) {
    std::vector<std::byte> bytes = Encode(Repeating());
    std::memcpy(bytes.data() + offset, &value, offset > kRecordHeaderBytes ? 1 : 2);
    SealBlock(bytes);
    EXPECT_TRUE(absl::IsDataLoss(Decode(bytes).status())) << what;
  }
}

TEST(LogFormatTest, RandomPayloadUnderAValidChecksumNeverDecodesToNonsense) {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<std::byte> bytes = Encode(Record(OneOfEach()));
    for (int n = 1 + random() % 4; n > 0; --n)
      bytes[48 + random() % 600] = static_cast<std::byte>(random() % 9);
    SealBlock(bytes);
    const auto decoded = Decode(bytes);
    if (!decoded.ok()) {
      EXPECT_TRUE(absl::IsDataLoss(decoded.status())) << "seed " << seed;
      continue;
    }
    for (const LogEntry& e : decoded->entries) {
      if (e.type != LogEntry::Type::kMap) continue;
      EXPECT_GE(e.physical, kDataStart) << "seed " << seed;
      EXPECT_LE(e.physical + e.logical.count, kDataArea.end()) << "seed " << seed;
    }
  }
}

// ---- Hash ----

TEST(LogFormatTest, ChecksumsOfPiecesAreThoseOfTheWhole) {
  std::mt19937_64 random(1);
  std::vector<char> data(5 * kBlockBytes);
  for (char& c : data) c = static_cast<char>(random());
  const iovec whole{data.data(), data.size()};
  const DataChecksums hash = DataChecksums::Of({&whole, 1}, 1);
  std::vector<iovec> pieces;
  for (size_t at = 0; at < data.size(); at += 1024) pieces.push_back({data.data() + at, 1024});
  EXPECT_EQ(DataChecksums::Of(pieces, 1), hash);
  std::swap(pieces[1], pieces[2]);
  EXPECT_NE(DataChecksums::Of(pieces, 1), hash);
  EXPECT_NE(DataChecksums::Of({&whole, 1}, 2), hash) << "another store's key";
  data[777] ^= 1;
  const DataChecksums changed = DataChecksums::Of({&whole, 1}, 1);
  EXPECT_NE(changed.blocks[0], hash.blocks[0]);
  EXPECT_NE(changed.check, hash.check);
  EXPECT_EQ(changed.blocks[1], hash.blocks[1]);
}

}  // namespace
}  // namespace untorn
