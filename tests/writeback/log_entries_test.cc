// The entries that change sets have in the log. Their order is the order of a replay (promises 4 to 6); their
// bounds keep a commit within the room that was reserved for it.
#include "writeback/log_entries.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "extent/log_writer.h"
#include "tests/rounds.h"

namespace untorn {
namespace {

// A plan of change sets by copy-on-write, made by hand.
class PlanMaker {
 public:
  std::shared_ptr<ObjectState> Object(uint64_t id, std::string name = "o") {
    auto object = std::make_shared<ObjectState>();
    object->id = ObjectId{id};
    object->name = object->sent_name = std::move(name);
    return object;
  }
  ChangeSet& Add(BarrierEpoch epoch = 0, PathReason reason = PathReason::kUnmapped) {
    auto set = std::make_shared<ChangeSet>();
    set->epoch = epoch;
    plan_.sets.push_back({.set = set, .reason = reason});
    return *set;
  }
  static ObjectChange& Change(ChangeSet& set, const std::shared_ptr<ObjectState>& object) {
    ObjectChange& change = set.changes[object->id];
    change.object = object;
    return change;
  }
  // Data of the change set, and the piece for it.
  void AddData(ChangeSet& set, const std::shared_ptr<ObjectState>& object, BlockRange blocks,
               BlockNumber physical) {
    Change(set, object).data.Add(blocks);
    set.data_blocks += blocks.count;
    FrozenRange& range = ranges_.emplace_back();
    range.object = object.get();
    range.blocks = blocks;
    pieces_.push_back({&set, &range, blocks, physical, false});
  }
  BuiltEntries Build() { return BuildEntries(plan_, pieces_); }
  CowPieces& pieces() { return pieces_; }
  // The entries in words.
  std::string Text() {
    std::string text;
    for (const LogEntry& e : Build().entries) {
      switch (e.type) {
        case LogEntry::Type::kMap:
          text += "map " + std::to_string(e.logical.start.value()) + "@" + std::to_string(e.physical.value());
          break;
        case LogEntry::Type::kHole:
          text += "hole " + std::to_string(e.logical.start.value());
          break;
        case LogEntry::Type::kInode:
          text += "inode " + e.name + " " + std::to_string(e.size_bytes);
          break;
        case LogEntry::Type::kInodeGone:
          text += "inode gone";
          break;
        case LogEntry::Type::kName:
          text += "name " + e.name;
          break;
        case LogEntry::Type::kNameGone:
          text += "name gone " + e.name;
          break;
        case LogEntry::Type::kOpen:
          text += "open " + std::to_string(e.logical.start.value());
          break;
      }
      text += "; ";
    }
    return text;
  }

 private:
  Plan plan_;
  std::deque<FrozenRange> ranges_;
  CowPieces pieces_;
};

TEST(LogEntriesTest, MetadataComesBeforeDataBarrierEpochByBarrierEpoch) {
  PlanMaker plan;
  const auto object = plan.Object(1);
  ChangeSet& first = plan.Add(0);
  plan.AddData(first, object, {0, 4}, 40);
  ChangeSet& second = plan.Add(0);
  second.names["n"] = ObjectId{1};
  PlanMaker::Change(second, object).holes.Add({100, 4});
  PlanMaker::Change(second, object).placed.push_back({{200, 2}, 70, MappingState::kWritten, {{1, 2}, 3}});
  PlanMaker::Change(second, object).name = "n";
  plan.AddData(second, object, {8, 4}, 48);
  ChangeSet& third = plan.Add(1);
  plan.AddData(third, object, {0, 4}, 60);
  PlanMaker::Change(third, object).holes.Add({8, 4});
  EXPECT_EQ(plan.Text(),
            "name n; hole 100; map 200@70; inode n 0; map 0@40; map 8@48; "
            "hole 8; map 0@60; ")
      << "promise 5: the later barrier epoch's hole must not come before the data that it covers";
}

TEST(LogEntriesTest, PiecesInAnyOrderFindTheirEntries) {
  PlanMaker plan;
  const auto object = plan.Object(1);
  plan.AddData(plan.Add(0), object, {0, 4}, 40);
  plan.AddData(plan.Add(1), object, {4, 4}, 44);
  std::swap(plan.pieces()[0], plan.pieces()[1]);
  const BuiltEntries built = plan.Build();
  ASSERT_EQ(built.entries.size(), 2u);
  EXPECT_EQ(built.entries[0].physical, 40) << "the earlier barrier epoch first";
  EXPECT_EQ(built.of_piece, (absl::InlinedVector<size_t, 1>{1, 0}));
}

TEST(LogEntriesTest, PiecesThatContinueOneAnotherInTheObjectAndOnTheDeviceShareAnEntry) {
  PlanMaker plan;
  const auto object = plan.Object(1), other = plan.Object(2);
  plan.AddData(plan.Add(0), object, {0, 4}, 40);
  plan.AddData(plan.Add(0), object, {4, 1}, 44);
  plan.AddData(plan.Add(0), object, {5, 1}, 46);  // elsewhere on the device
  plan.AddData(plan.Add(0), object, {7, 1}, 47);  // elsewhere in the object
  plan.AddData(plan.Add(0), other, {8, 1}, 48);
  plan.AddData(plan.Add(0), other, {9, 1}, 49);
  plan.pieces()[5].into_unwritten = true;
  plan.AddData(plan.Add(1), other, {10, 1}, 50);
  plan.AddData(plan.Add(1), other, {11, kMapEntryBlocksMax}, 51);
  EXPECT_EQ(plan.Text(), "map 0@40; map 5@46; map 7@47; map 8@48; map 9@49; map 10@50; map 11@51; ");
  EXPECT_EQ(plan.Build().entries[0].logical, (BlockRange{0, 5}));
  EXPECT_EQ(plan.Build().of_piece, (absl::InlinedVector<size_t, 1>{0, 0, 1, 2, 3, 4, 5, 6}));
}

TEST(LogEntriesTest, PiecesThatOthersSeparateHaveEntriesOfTheirOwn) {
  PlanMaker plan;
  const auto object = plan.Object(1), other = plan.Object(2);
  plan.AddData(plan.Add(0), object, {0, 1}, 40);
  plan.AddData(plan.Add(0), object, {1, 1}, 41);
  plan.AddData(plan.Add(1), other, {0, 1}, 60);
  std::swap(plan.pieces()[1], plan.pieces()[2]);
  EXPECT_EQ(plan.Build().of_piece, (absl::InlinedVector<size_t, 1>{0, 2, 1}))
      << "hashed together, the entry of the first would get the third's data without the first's";
}

TEST(LogEntriesTest, WhatGoesInPlaceHasNoEntry) {
  PlanMaker plan;
  const auto object = plan.Object(1);
  PlanMaker::Change(plan.Add(0, PathReason::kInPlace), object).data.Add({0, 4});
  plan.AddData(plan.Add(0), object, {8, 4}, 48);
  EXPECT_EQ(plan.Text(), "map 8@48; ");
}

TEST(LogEntriesTest, PieceIntoUnwrittenBlocksSaysThatTheyWereReserved) {
  PlanMaker plan;
  const auto object = plan.Object(1);
  plan.AddData(plan.Add(0), object, {0, 4}, 40);
  plan.pieces()[0].into_unwritten = true;
  EXPECT_TRUE(plan.Build().entries.at(0).into_unwritten);
}

TEST(LogEntriesTest, RemovedObjectIsOneEntryBesidesItsName) {
  PlanMaker plan;
  const auto object = plan.Object(1);
  ChangeSet& set = plan.Add(0);
  set.names["o"] = std::nullopt;
  PlanMaker::Change(set, object).holes.Add({0, kObjectBlocksMax});
  PlanMaker::Change(set, object).set_size_bytes = 0;
  PlanMaker::Change(set, object).removed = true;
  EXPECT_EQ(plan.Text(), "name gone o; inode gone; ");
}

TEST(LogEntriesTest, SizeIsRecordedOnceAndOnlyIfItChanges) {
  PlanMaker plan;
  const auto object = plan.Object(1);
  ObjectChange& large = PlanMaker::Change(plan.Add(0), object);
  large.grow_to_bytes = 8000;
  ObjectChange& small = PlanMaker::Change(plan.Add(0), object);
  small.grow_to_bytes = 4000;
  EXPECT_EQ(plan.Text(), "inode o 8000; ");
  EXPECT_EQ(large.recorded_size_bytes, 8000u);
  EXPECT_EQ(small.recorded_size_bytes, std::nullopt);
  EXPECT_EQ(object->sent_size_bytes, 8000u);
  EXPECT_EQ(object->durable_size_bytes, 0u) << "not yet";
}

TEST(LogEntriesTest, TruncateAndGrowthBehindItAreRecordedInTheirOrder) {
  PlanMaker plan;
  const auto object = plan.Object(1);
  object->sent_size_bytes = 8000;
  PlanMaker::Change(plan.Add(0), object).set_size_bytes = 100;
  PlanMaker::Change(plan.Add(1), object).grow_to_bytes = 500;
  EXPECT_EQ(plan.Text(), "inode o 100; inode o 500; ");
}

TEST(LogEntriesTest, NameThatAnEarlierOneGaveIsKeptByTheNextRecordOfTheObject) {
  PlanMaker plan;
  const auto object = plan.Object(1, "old");
  PlanMaker::Change(plan.Add(0), object).name = "new";
  PlanMaker::Change(plan.Add(0), object).grow_to_bytes = 10;
  EXPECT_EQ(plan.Text(), "inode new 0; inode new 10; ");
}

TEST(LogEntriesTest, HashesAreOfThePiecesOwnBlocks) {
  BufferPool pool;
  PlanMaker plan;
  const auto object = plan.Object(1);
  plan.AddData(plan.Add(0), object, {10, 5}, 40);
  FrozenRange& range = const_cast<FrozenRange&>(*plan.pieces()[0].from);
  std::string bytes;
  for (char value = 'a'; value < 'f'; ++value) {
    range.buffers.push_back(pool.New());
    std::memset(range.buffers.back().data(), value, kBlockBytes);
    bytes += std::string(kBlockBytes, value);
  }
  // The range went to two places.
  plan.pieces()[0].blocks = {10, 2};
  plan.pieces().push_back({plan.pieces()[0].set, &range, {12, 3}, 90, false});
  BuiltEntries built = plan.Build();
  HashPieces(plan.pieces(), built.of_piece, 9, &built.entries);
  const auto hash_of = [&](uint64_t block, uint64_t count) {
    const iovec part = {bytes.data() + block * kBlockBytes, count * kBlockBytes};
    return DataChecksums::Of({&part, 1}, 9);
  };
  EXPECT_EQ(built.entries[0].data, hash_of(0, 2));
  EXPECT_EQ(built.entries[1].data, hash_of(2, 3));
}

TEST(LogEntriesTest, HashOfASharedEntryIsOfAllItsPieces) {
  BufferPool pool;
  PlanMaker plan;
  const auto object = plan.Object(1);
  std::string bytes;
  std::vector<BufferRef> gaps;  // so that some buffers are apart in memory
  for (uint64_t n = 0; n < 4; ++n) {
    plan.AddData(plan.Add(0), object, {ObjectBlock(10 + 2 * n), 2}, BlockNumber(40 + 2 * n));
    FrozenRange& range = const_cast<FrozenRange&>(*plan.pieces()[n].from);
    for (uint64_t b = 0; b < 2; ++b) {
      range.buffers.push_back(pool.New());
      if ((n + b) % 2 == 0) gaps.push_back(pool.New());
      std::memset(range.buffers.back().data(), static_cast<int>('a' + 2 * n + b), kBlockBytes);
      bytes += std::string(kBlockBytes, static_cast<char>('a' + 2 * n + b));
    }
  }
  BuiltEntries built = plan.Build();
  ASSERT_EQ(built.entries.size(), 1u);
  HashPieces(plan.pieces(), built.of_piece, 9, &built.entries);
  const iovec all = {bytes.data(), bytes.size()};
  EXPECT_EQ(built.entries[0].data, DataChecksums::Of({&all, 1}, 9))
      << "promise 1: recovery hashes what lies on the device";
}

// ---- Bounds ----

class RandomPlan {
 public:
  explicit RandomPlan(uint64_t seed) : random_(seed) {
    for (uint64_t id = 1; id <= 1 + Below(3); ++id) objects_.push_back(plan_.Object(id, Name()));
    const bool huge = Below(40) == 0;  // of several records
    for (uint64_t n = 1 + Below(6), epoch = 0; n > 0; --n) {
      if (Below(4) == 0) ++epoch;
      ChangeSet& set = plan_.Add(BarrierEpoch(epoch));
      for (uint64_t names = Below(3); names > 0; --names) {
        set.names[Name()] = Below(2) ? std::optional(ObjectId{1}) : std::nullopt;
      }
      for (const auto& object : objects_) {
        if (Below(3) > 0) AddChange(set, object, huge);
      }
      bytes_max_ += LogBytesMax(set);
    }
  }
  uint64_t bytes_max() const { return bytes_max_; }
  std::vector<LogEntry> Entries() { return plan_.Build().entries; }

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  std::string Name() { return std::string(Below(8) ? 1 + Below(kNameBytesMax) : kNameBytesMax, 'n'); }
  void AddChange(ChangeSet& set, const std::shared_ptr<ObjectState>& object, bool huge) {
    ObjectChange& change = PlanMaker::Change(set, object);
    if (Below(8) == 0) change.removed = true;
    if (Below(4) == 0) change.name = Name();
    if (Below(4) == 0) change.set_size_bytes = Below(1 << 20);
    if (Below(2) == 0) change.grow_to_bytes = Below(1 << 20);
    for (uint64_t n = Below(4); n > 0; --n)
      change.holes.Add({ObjectBlock(Below(1000)), BlockCount(1 + Below(100))});
    for (uint64_t n = Below(4); n > 0; --n)
      change.placed.push_back(
          {{ObjectBlock(Below(1000)), 1}, BlockNumber(Below(1000)), MappingState::kWritten, {{1}, 2}});
    // At worst every block has a place of its own.
    uint64_t at = 0;
    for (uint64_t n = huge ? 7000 : Below(60); n > 0; --n) {
      const uint64_t count = Below(3) ? 1 : 1 + Below(30);
      plan_.AddData(set, object, {ObjectBlock(at), BlockCount(count)}, BlockNumber(100 + at));
      at += count + Below(2);
    }
  }

  std::mt19937_64 random_;
  PlanMaker plan_;
  std::vector<std::shared_ptr<ObjectState>> objects_;
  uint64_t bytes_max_ = 0;
};

TEST(LogBoundsTest, BoundsHoldForRandomChangeSets) {
  size_t longest = 0;
  for (int seed = 1; seed <= Rounds(5000); ++seed) {
    RandomPlan plan(static_cast<uint64_t>(seed));
    const std::vector<LogEntry> entries = plan.Entries();
    uint64_t bytes = 0;
    for (const LogEntry& e : entries) bytes += EncodedBytes(e);
    ASSERT_LE(bytes, plan.bytes_max()) << "seed " << seed;
    ASSERT_LE(LogWriter::BlocksFor(entries), LogBlocksMax(plan.bytes_max())) << "seed " << seed;
    longest = std::max(longest, bytes);
  }
  EXPECT_GT(longest, 2 * kRecordEntryBytesMax) << "none took several records";
}

TEST(LogBoundsTest, BoundOfBlocksHoldsWhereEachRecordEndsEarly) {
  // Entries of the longest names: the one that no longer fits wastes the most.
  for (uint64_t n = 1; n < 4000; n += 7) {
    const std::vector<LogEntry> entries(n, LogEntry::Name(std::string(kNameBytesMax, 'n'), ObjectId{1}));
    ASSERT_LE(LogWriter::BlocksFor(entries), LogBlocksMax(n * EncodedBytes(entries[0]))) << n << " entries";
  }
}

TEST(LogBoundsTest, LongestNameFitsTheBoundOfOneEntry) {
  const Inode inode = {ObjectId{1}, 1, std::string(kNameBytesMax, 'n')};
  EXPECT_LE(EncodedBytes(LogEntry::SetInode(inode)), kNamedEntryBytesMax);
  EXPECT_LE(EncodedBytes(LogEntry::Name(inode.name, inode.id)), kNamedEntryBytesMax);
}

}  // namespace
}  // namespace untorn
