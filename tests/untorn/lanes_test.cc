// Commits in lanes: one write each, and nothing is lost with their records (promises 1, 3, 7 and 9).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <utility>
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
    AlignedBuffer bytes(Bytes(kLaneRecordBlocksMax));
    for (BlockNumber at = sb.geometry.log.end(); at < sb.geometry.end(); ++at) {
      EXPECT_TRUE(IsOk(ReadBlocking(device, ByteOffset(at), bytes.data(), kBlockBytes)));
      const BlockCount blocks = PeekLaneRecordBlocks(bytes.span().first(kBlockBytes), sb.uuid, at);
      if (blocks == 0 || blocks > sb.geometry.end() - at) continue;
      EXPECT_TRUE(IsOk(ReadBlocking(device, ByteOffset(at), bytes.data(), Bytes(blocks))));
      absl::StatusOr<LogRecord> record =
          DecodeLaneRecord(bytes.span().first(Bytes(blocks)), sb.uuid, sb.data_key, at, sb.geometry);
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

// A transaction of scattered pages has an entry for each, so its lane records soon take several blocks. So does the fold.
TEST_F(LanesTest, LaneRecordsOfSeveralBlocksAndTheirFoldsSurviveKillsAndCuts) {
  constexpr uint64_t kPages = 800, kOfATransaction = 16;
  const uint64_t seed = TestSeed(1);
  std::mt19937_64 rng(seed);
  Make(256 << 20);
  for (uint64_t page = 0; page < kPages; page += 8) Write(page, 8 * kPage);
  BlockCount longest, longest_outside;
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    uint64_t commits = 1 + rng() % 30;
    // The last commit of the log may rot beside a cut, and is the only one that this costs.
    const bool in_flight = round % 4 == 0;
    for (; commits > 0; --commits) {
      Transaction transaction = (*store_)->Begin();
      std::vector<std::pair<uint64_t, std::vector<std::byte>>> writes;
      for (uint64_t i = 0; i < kOfATransaction; ++i) {
        const uint64_t page = rng() % kPages;
        writes.emplace_back(page, Stamped(++stamp_, kPage));
        ASSERT_TRUE(IsOk(transaction.Write(a_, page * kPage, writes.back().second)));
      }
      const bool cut = in_flight && commits == 1;
      if (cut) store_->device().CutAfter(1 + rng() % 3);
      const absl::Status s = transaction.Commit();
      if (cut && !s.ok()) break;
      ASSERT_TRUE(IsOk(s));
      for (const auto& [page, data] : writes)
        std::copy(data.begin(), data.end(), expected_.begin() + page * kPage);
    }
    a_ = Object();
    if (in_flight) {
      store_->Crash(static_cast<int>(rng() % 1001));
    } else {
      rng() % 2 == 0 ? store_->Kill() : store_->Crash();
    }
    std::vector<FoundRecord> found;
    ReadStore(&found);
    for (const FoundRecord& f : found) longest = std::max(longest, f.record.blocks);
    if (!found.empty()) longest_outside = std::max(longest_outside, found.back().record.blocks);
    EXPECT_EQ(store_->Fsck(), "");
    // A second cut may come while the fold of the opening is written.
    if (const absl::Status opened = store_->Open(store_->options().open, rng() % 2 == 0 ? 1 + rng() % 12 : 0);
        !opened.ok()) {
      store_->Crash(static_cast<int>(rng() % 1001));
      ASSERT_TRUE(IsOk(store_->Open()));
    } else if (store_->device().cut()) {
      store_->CrashAndOpen();
    }
    if (in_flight) {
      // The commit that was in flight may be there.
      a_ = *(*store_)->OpenObject("a");
      const auto now = ReadAll(a_, 0, expected_.size());
      uint64_t changed = 0;
      for (uint64_t page = 0; page < kPages; ++page) {
        changed += std::memcmp(now.data() + page * kPage, expected_.data() + page * kPage, kPage) != 0;
      }
      EXPECT_TRUE(changed == 0 || (changed > 8 && changed <= kOfATransaction)) << changed;
      expected_ = now;
    }
    ExpectContent();
  }
  EXPECT_GE(longest, 4);
  EXPECT_GE(longest_outside, 2) << "the opening's fold had several blocks";
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
