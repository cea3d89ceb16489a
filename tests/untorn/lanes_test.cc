// Commits in lanes: one write each, and nothing is lost with their records (promises 1, 3, 7 and 9).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "extent/log_format.h"
#include "extent/superblock.h"
#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr WriteOptions kSync = {.durability = Durability::kSync};
constexpr uint64_t kPage = 4096;

struct FoundRecord {
  BlockNumber block;
  LogRecord record;
};

class LanesTest : public testing::Test {
 protected:
  void Make(uint64_t size_bytes) {
    TestStoreOptions options;
    options.size_bytes = size_bytes;
    store_.emplace(options);
    ASSERT_TRUE(store_->is_open());
    a_ = *(*store_)->CreateObject("a");
    ASSERT_TRUE(IsOk((*store_)->Sync()));
  }
  // One durable write of a page. Each has a stamp of its own.
  void Write(uint64_t page, uint64_t bytes = kPage) {
    const std::vector<std::byte> data = Stamped(++stamp_, bytes);
    ASSERT_TRUE(IsOk(a_.Write(page * kPage, data, kSync)));
    if (expected_.size() < page * kPage + bytes) expected_.resize(page * kPage + bytes);
    std::memcpy(expected_.data() + page * kPage, data.data(), bytes);
  }
  void ExpectContent() {
    a_ = *(*store_)->OpenObject("a");
    ASSERT_EQ(*a_.Size(), expected_.size());
    EXPECT_TRUE(ReadAll(a_, 0, expected_.size()) == expected_);
  }
  // Makes a store, 20 durable writes and a kill. Returns the lane records, the oldest first.
  std::vector<FoundRecord> MakeTwentyWritesAndKill() {
    std::vector<FoundRecord> found;
    Make(64 << 20);
    for (uint64_t i = 0; i < 20; ++i) Write(i);
    a_ = Object();
    store_->Kill();
    ReadStore(&found);
    return found;
  }
  // Reads the superblock and all lane records of the newest log epoch, the oldest first. The store must be closed.
  Superblock ReadStore(std::vector<FoundRecord>* found) {
    SimulatedDevice device(store_->disk()->Clone(), {.size_bytes = store_->disk()->size_bytes()});
    const SuperblockSlots slots = ReadSuperblocks(device);
    const Superblock sb = *slots.slots[slots.current];
    AlignedBuffer block(kBlockBytes);
    for (BlockNumber at = sb.geometry.log.end(); at < sb.geometry.end(); ++at) {
      EXPECT_TRUE(IsOk(ReadBlocking(device, ByteOffset(at), block.data(), kBlockBytes)));
      absl::StatusOr<LogRecord> record =
          DecodeLaneRecord(block.span(), sb.uuid, sb.data_key, at, sb.geometry);
      if (record.ok() && record->epoch == sb.epoch) found->push_back({at, *std::move(record)});
    }
    std::sort(found->begin(), found->end(),
              [](const FoundRecord& x, const FoundRecord& y) { return x.record.lsn < y.record.lsn; });
    return sb;
  }
  void Damage(BlockNumber block) {
    const char garbage[16] = "rotten";
    store_->disk()->Poke(ByteOffset(block) + 100, garbage, sizeof garbage);
  }

  std::optional<TestStore> store_;
  Object a_;
  uint64_t stamp_ = 0;
  std::vector<std::byte> expected_;
};

TEST_F(LanesTest, DurableWriteThatIsAloneIsOneWriteAndNoFlush) {
  Make(64 << 20);
  for (uint64_t i = 0; i < 200; ++i) Write(i % 40);
  const Stats before = (*store_)->stats();
  const DeviceCounts counts = store_->counts();
  for (uint64_t i = 0; i < 20; ++i) Write(i);
  const Stats after = (*store_)->stats();
  EXPECT_GE(after.commits_in_lanes - before.commits_in_lanes, 19u);
  // One of the writes may go to the ring: data, record and flush.
  EXPECT_LE(store_->counts().writes - counts.writes, 21u);
  EXPECT_LE(store_->counts().flushes - counts.flushes, 1u);
  a_ = Object();
  store_->KillAndOpen();
  ExpectContent();
  EXPECT_EQ(store_->Fsck(), "");
}

TEST_F(LanesTest, NearlyAllDurableWritesGoToLanes) {
  Make(256 << 20);
  for (const uint64_t pages : {1, 4, 16}) {
    const Stats before = (*store_)->stats();
    for (uint64_t i = 0; i < 400; ++i) Write(i * pages % 800, pages * kPage);
    const Stats after = (*store_)->stats();
    EXPECT_GE(after.commits_in_lanes - before.commits_in_lanes, 380u) << pages << " pages";
  }
  a_ = Object();
  ASSERT_TRUE(IsOk(store_->Close()));
  ASSERT_TRUE(IsOk(store_->Open()));
  ExpectContent();
}

TEST_F(LanesTest, CommitsOfManySizesSurviveKillsCutsAndCheckpoints) {
  Make(32 << 20);
  const uint64_t seed = TestSeed(1);
  std::mt19937_64 rng(seed);
  for (int round = 0; round < 40; ++round) {
    for (uint64_t n = rng() % 30; n > 0; --n) {
      switch (rng() % 8) {
        case 0:
          ASSERT_TRUE(IsOk((*store_)->CreateObject(std::to_string(++stamp_))));
          ASSERT_TRUE(IsOk((*store_)->Sync()));
          break;
        case 1:
          ASSERT_TRUE(IsOk((*store_)->Checkpoint()));
          break;
        default:
          Write(rng() % 64, kPage << rng() % 5);
      }
    }
    a_ = Object();
    if (rng() % 2 == 0) {
      store_->KillAndOpen();
    } else {
      store_->CrashAndOpen();
    }
    ASSERT_TRUE(store_->is_open()) << "seed " << seed << ", round " << round;
    if (expected_.empty()) {
      a_ = *(*store_)->OpenObject("a");
    } else {
      ExpectContent();
    }
  }
}

TEST_F(LanesTest, OlderLaneRecordThatRotsCostsNothing) {
  const std::vector<FoundRecord> found = MakeTwentyWritesAndKill();
  ASSERT_GE(found.size(), 3u);
  Damage(found[found.size() - 2].block);
  Damage(found[found.size() - 3].block);
  ASSERT_TRUE(IsOk(store_->Open()));
  ExpectContent();
}

TEST_F(LanesTest, NewestLaneRecordThatRotsCostsOnlyItsOwnCommit) {
  const std::vector<FoundRecord> found = MakeTwentyWritesAndKill();
  ASSERT_GE(found.size(), 3u);
  Damage(found.back().block);
  ASSERT_TRUE(IsOk(store_->Open()));
  expected_.resize(19 * kPage);
  ExpectContent();
}

TEST_F(LanesTest, LastRecordOfTheRingThatRotsIsDamage) {
  Make(64 << 20);
  for (uint64_t i = 0; i < 20; ++i) Write(i);
  ASSERT_TRUE(IsOk((*store_)->CreateObject("b")));
  ASSERT_TRUE(IsOk((*store_)->Sync()));
  for (uint64_t i = 0; i < 5; ++i) Write(i);
  a_ = Object();
  store_->Kill();
  std::vector<FoundRecord> found;
  const Superblock sb = ReadStore(&found);
  // The record of "b" is the last in the ring. Find it by what the newest lane record repeats.
  const Lsn ring_lsn = found.back().record.first_lsn - 1;
  std::optional<BlockNumber> ring_block;
  SimulatedDevice device(store_->disk()->Clone(), {.size_bytes = store_->disk()->size_bytes()});
  AlignedBuffer block(kBlockBytes);
  for (LogPosition at = sb.checkpoint_position; at < sb.checkpoint_position + 60; ++at) {
    ASSERT_TRUE(IsOk(ReadBlocking(device, ByteOffset(sb.geometry.LogBlock(at)), block.data(), kBlockBytes)));
    const absl::StatusOr<LogRecord> record = DecodeRecord(block.span(), sb.uuid, at, sb.geometry);
    if (record.ok() && record->lsn == ring_lsn) ring_block = sb.geometry.LogBlock(at);
  }
  ASSERT_TRUE(ring_block.has_value());
  Damage(*ring_block);
  EXPECT_TRUE(Fails(store_->Open(), absl::StatusCode::kDataLoss));
  EXPECT_NE(store_->Fsck(), "");
}

// This is why there are three lanes.
TEST_F(LanesTest, TornCommitBesideARottenRecordOfTheOneBeforeCostsOneMore) {
  const std::vector<FoundRecord> found = MakeTwentyWritesAndKill();
  ASSERT_GE(found.size(), 3u);
  Damage(found.back().block);
  Damage(found[found.size() - 2].block);
  ASSERT_TRUE(IsOk(store_->Open()));
  expected_.resize(18 * kPage);
  ExpectContent();
}

TEST_F(LanesTest, LanesGiveTheirBlocksBackWhenSpaceIsShort) {
  Make(16 << 20);
  for (uint64_t i = 0; i < 20; ++i) Write(i);
  EXPECT_GT((*store_)->stats().commits_in_lanes, 0u);
  // What the statistics call free can be written.
  const uint64_t free = (*store_)->stats().space_free;
  const std::vector<std::byte> filler = Stamped(++stamp_, 64 << 10);
  Object b = *(*store_)->CreateObject("b");
  uint64_t written = 0;
  while (b.Write(written, filler).ok()) written += filler.size();
  EXPECT_GE(written + (384 << 10), free) << "the tree takes the rest, and the lanes had more than that";
  ASSERT_TRUE(IsOk((*store_)->Sync()));
  for (uint64_t i = 0; i < 5; ++i) Write(i);
  a_ = b = Object();
  store_->KillAndOpen();
  ExpectContent();
}

}  // namespace
}  // namespace untorn
