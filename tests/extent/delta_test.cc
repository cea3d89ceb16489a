// The overlay of durable records: the invariants of extent/delta.h. A wrong mapping breaks promise 3, an
// extent reported displaced while something refers to it breaks promise 1.
#include "extent/delta.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "extent/tree_keys.h"
#include "tests/extent/test_checksums.h"

namespace untorn {
namespace {

using testing::HasSubstr;

constexpr ObjectId kObject{7};

LogEntry Write(BlockRange range, BlockNumber physical, bool reserved = false, ObjectId object = kObject) {
  return TestMap(object, range, physical, MappingState::kWritten, reserved);
}
LogEntry Preallocate(BlockRange range, BlockNumber physical, ObjectId object = kObject) {
  return TestMap(object, range, physical, MappingState::kUnwritten);
}

using DisplacedBlocks = std::map<BlockNumber, Lsn>;  // by physical block: the LSN that had mapped it

DisplacedBlocks Displaced(std::vector<std::pair<uint64_t, uint64_t>> block_and_lsn) {
  DisplacedBlocks blocks;
  for (const auto& [block, lsn] : block_and_lsn) blocks[BlockNumber(block)] = Lsn(lsn);
  return blocks;
}

// Applies an entry; what it displaces, block by block.
DisplacedBlocks Apply(Delta& delta, const LogEntry& entry, Lsn lsn) {
  DisplacedBlocks blocks;
  const absl::Status applied = delta.Apply(entry, lsn, [&](Extent extent, Lsn mapped_by) {
    EXPECT_GT(extent.count, 0);
    for (BlockNumber b = extent.start; b < extent.end(); ++b) {
      EXPECT_TRUE(blocks.insert({b, mapped_by}).second) << "block " << b << " is displaced twice";
    }
  });
  EXPECT_TRUE(applied.ok()) << applied;
  return blocks;
}

Mappings Pieces(const Delta& delta, BlockRange range, ObjectId object = kObject) {
  Mappings pieces;
  delta.Visit(
      object, range, [&](const Mapping& m) { pieces.push_back(m); }, [](BlockRange) {});
  return pieces;
}

// ---- Ownership (invariants 3 and 4) ----

TEST(DeltaTest, WriteOverAWriteDisplacesExactlyThePartItCovers) {
  Delta delta;
  EXPECT_TRUE(Apply(delta, Write({0, 10}, 100), 1).empty());
  EXPECT_EQ(Apply(delta, Write({4, 3}, 200), 2), Displaced({{104, 1}, {105, 1}, {106, 1}}));
  EXPECT_EQ(Apply(delta, LogEntry::Hole(kObject, {6, 3}), 3), Displaced({{202, 2}, {107, 1}, {108, 1}}));
  EXPECT_TRUE(Apply(delta, Write({6, 3}, 300), 4).empty()) << "a hole has no extent";
}

TEST(DeltaTest, WriteIntoBlocksThatALayerBelowReservedDoesNotOwnThem) {
  Delta delta;
  EXPECT_TRUE(Apply(delta, Write({4, 4}, 500, true), 1).empty());
  EXPECT_TRUE(Apply(delta, Write({0, 16}, 900), 2).empty())
      << "the checkpoint that drops the layer's mapping frees them";
}

TEST(DeltaTest, WriteIntoBlocksReservedInThisDeltaOwnsThem) {
  Delta delta;
  Apply(delta, Preallocate({0, 8}, 500), 1);
  EXPECT_TRUE(Apply(delta, Write({2, 2}, 502, true), 2).empty()) << "the extent stays mapped";
  const Mappings pieces = Pieces(delta, {0, 8});
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].state, MappingState::kUnwritten);
  EXPECT_EQ(pieces[1].state, MappingState::kWritten);
  EXPECT_EQ(pieces[1].physical, 502);
  EXPECT_EQ(pieces[2].state, MappingState::kUnwritten);
  EXPECT_EQ(Apply(delta, LogEntry::Hole(kObject, {0, 8}), 3),
            Displaced({{500, 1}, {501, 1}, {502, 2}, {503, 2}, {504, 1}, {505, 1}, {506, 1}, {507, 1}}));
}

// Found by the fsck fuzzer: taken as it was, the blocks below would be freed twice.
TEST(DeltaTest, WriteIntoBlocksAsReservedThatAreMappedOtherwiseIsAContradiction) {
  const auto says = [&](BlockRange range, BlockNumber physical) {
    Delta delta;
    Apply(delta, Preallocate({4, 3}, 500), 1);
    Apply(delta, Write({8, 1}, 600), 2);
    Apply(delta, LogEntry::Hole(kObject, {9, 1}), 3);
    const absl::Status status = delta.Apply(Write(range, physical, true), 4, [](Extent, Lsn) {});
    EXPECT_TRUE(absl::IsDataLoss(status));
    return std::string(status.message());
  };
  EXPECT_THAT(says({2, 4}, 100), HasSubstr("blocks 4 to 5 of object 7"));
  EXPECT_THAT(says({2, 4}, 100), HasSubstr("from 102 on, but the store has unwritten blocks from 500 on"));
  EXPECT_THAT(says({8, 1}, 600), HasSubstr("has written them at 600"));
  EXPECT_THAT(says({9, 1}, 700), HasSubstr("has a hole there"));
}

TEST(DeltaTest, WriteIntoBlocksReservedPartlyHerePartlyBelowOwnsOnlyItsOwnPart) {
  Delta delta;
  Apply(delta, Preallocate({4, 4}, 504), 1);  // the layer below has {0, 4} at 500 and {8, 4} at 508
  EXPECT_TRUE(Apply(delta, Write({2, 8}, 502, true), 2).empty());
  for (const Mapping& m : Pieces(delta, {2, 8})) {
    EXPECT_EQ(m.physical, BlockNumber(500) + (m.logical.start - ObjectBlock(0)));
    EXPECT_EQ(m.state, MappingState::kWritten);
    EXPECT_EQ(m.lsn, 2);
  }
  EXPECT_EQ(Apply(delta, LogEntry::InodeGone(kObject), 3),
            Displaced({{504, 2}, {505, 2}, {506, 2}, {507, 2}}));
}

TEST(DeltaTest, RemovedObjectDisplacesAllItOwnsAndHidesAllThatLiesBelow) {
  Delta delta;
  Apply(delta, Write({3, 1}, 100), 1);
  Apply(delta, Write({3, 1}, 200, false, ObjectId{8}), 1);
  Apply(delta, LogEntry::SetInode({kObject, 4096, "a"}), 1);
  EXPECT_EQ(Apply(delta, LogEntry::InodeGone(kObject), 2), Displaced({{100, 1}}));
  const Mappings pieces = Pieces(delta, {0, kObjectBlocksMax});
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].state, MappingState::kHole);
  EXPECT_EQ(pieces[0].logical, (BlockRange{0, kObjectBlocksMax}));
  ASSERT_NE(delta.FindInode(kObject), nullptr);
  EXPECT_FALSE(delta.FindInode(kObject)->has_value());
  EXPECT_EQ(Pieces(delta, {3, 1}, ObjectId{8}).size(), 1u) << "the other object is as it was";
}

// ---- Inodes and names ----

TEST(DeltaTest, InodesAndNamesTellUnknownFromGone) {
  Delta delta;
  EXPECT_TRUE(delta.empty());
  EXPECT_EQ(delta.FindInode(kObject), nullptr);
  EXPECT_EQ(delta.FindName("a"), nullptr);
  Apply(delta, LogEntry::SetInode({kObject, 123, "a"}), 1);
  Apply(delta, LogEntry::Name("a", kObject), 1);
  ASSERT_NE(delta.FindInode(kObject), nullptr);
  EXPECT_EQ(*delta.FindInode(kObject), (Inode{kObject, 123, "a"}));
  EXPECT_EQ(*delta.FindName("a"), kObject);
  Apply(delta, LogEntry::NameGone("a"), 2);
  ASSERT_NE(delta.FindName("a"), nullptr);
  EXPECT_FALSE(delta.FindName("a")->has_value());
  EXPECT_EQ(delta.entries(), 2u);
}

// ---- Rewrites that only wait for a settled mapping ----

TEST(DeltaTest, RewritesOfTheSameRangeAreCountedUpTo255) {
  Delta delta;
  for (uint64_t i = 0; i < 300; ++i) {
    Apply(delta, Write({4, 2}, BlockNumber(100 + 2 * i)), Lsn(i + 1));
    ASSERT_EQ(Pieces(delta, {4, 2}).at(0).unsettled_rewrites, std::min<uint64_t>(i, 255));
  }
}

TEST(DeltaTest, RewritesAreCountedAnewForAnotherRangeAHoleAndAPart) {
  Delta delta;
  Apply(delta, Write({4, 2}, 100), 1);
  Apply(delta, Write({4, 2}, 102), 2);
  EXPECT_EQ(Pieces(delta, {4, 2}).at(0).unsettled_rewrites, 1);
  EXPECT_EQ(Pieces(delta, {4, 1}).at(0).unsettled_rewrites, 0);
  EXPECT_EQ(Pieces(delta, {0, 8}).at(0).unsettled_rewrites, 1);
  Apply(delta, Write({4, 3}, 104), 3);
  EXPECT_EQ(Pieces(delta, {4, 3}).at(0).unsettled_rewrites, 0);
  Apply(delta, Write({4, 3}, 108), 4);
  Apply(delta, LogEntry::Hole(kObject, {4, 3}), 5);
  Apply(delta, Write({4, 3}, 112), 6);
  EXPECT_EQ(Pieces(delta, {4, 3}).at(0).unsettled_rewrites, 0);
}

// ---- Against a model that knows every block by itself ----

constexpr uint64_t kObjects = 3;
constexpr BlockCount kBlocks = 64;

// The layers below have every block of every object reserved, unwritten, at this place.
BlockNumber PlaceBelow(uint64_t object, ObjectBlock block) {
  return BlockNumber(10000 * object) + (block - ObjectBlock(0));
}

struct Cell {
  MappingState state = MappingState::kHole;
  BlockNumber physical;
  Lsn lsn;
  bool owned = true;
};

class DeltaModel {
 public:
  explicit DeltaModel(uint64_t seed) : random_(seed) {}

  void Step(Lsn lsn) {
    const uint64_t object = 1 + Below(kObjects);
    const BlockRange range = RandomRange(20);
    const uint64_t kind = Below(100);
    if (kind < 35) {
      MapFresh(object, range, MappingState::kWritten, lsn);
    } else if (kind < 55) {
      MapFresh(object, range, MappingState::kUnwritten, lsn);
    } else if (kind < 80) {
      WriteReserved(object, range, lsn);
    } else if (kind < 98) {
      Do(object, range, LogEntry::Hole(ObjectId{object}, range), lsn, {});
    } else {
      Do(object, {0, kBlocks}, LogEntry::InodeGone(ObjectId{object}), lsn, {});
    }
  }

  void CheckVisit() {
    const uint64_t object = 1 + Below(kObjects);
    const BlockRange range = RandomRange(kBlocks);
    ObjectBlock at = range.start;
    delta_.Visit(
        ObjectId{object}, range,
        [&](const Mapping& m) {
          ASSERT_EQ(m.logical.start, at);
          ASSERT_GT(m.logical.count, 0);
          for (; at < m.logical.end(); ++at) CheckCell(object, at, m);
        },
        [&](BlockRange gap) {
          ASSERT_EQ(gap.start, at);
          ASSERT_GT(gap.count, 0);
          for (; at < gap.end(); ++at) ASSERT_FALSE(cells_.contains({object, at}));
        });
    ASSERT_EQ(at, range.end());
  }

  void CheckInvariants() {
    const absl::Status checked = delta_.CheckInvariants();
    ASSERT_TRUE(checked.ok()) << checked;
  }

  // Edits() says what Visit() says, sorted, and never two things of one block (invariant 2).
  void CheckEdits() {
    const auto source = delta_.Edits();
    std::string last;
    std::map<uint64_t, ObjectBlock> end;  // by object
    size_t cells = 0;
    const TreeEdit* before = nullptr;
    while (const TreeEdit* edit = source->Next()) {
      ASSERT_LT(last, edit->SortKey());
      if (before != nullptr) {
        ASSERT_EQ(before->SortKey(), last) << "an edit lives until the next call but one";
      }
      before = edit;
      last = edit->SortKey();
      if (!edit->is_range) continue;  // an inode that is gone
      const uint64_t object = Value(edit->object);
      const Mapping& m = edit->mapping;
      ASSERT_EQ(edit->SortKey(), MappingKey(edit->object, m.logical.start));
      ASSERT_GE(m.logical.start, end[object]);
      end[object] = m.logical.end();
      for (ObjectBlock b = m.logical.start; b < std::min(ObjectBlock(0) + kBlocks, m.logical.end());
           ++b, ++cells)
        CheckCell(object, b, m);
    }
    ASSERT_EQ(source->Next(), nullptr);
    ASSERT_EQ(cells, cells_.size());
  }

  void CheckExtents() {
    std::map<BlockNumber, int> expected, found;
    for (const auto& [at, cell] : cells_) {
      if (cell.state != MappingState::kHole) ++expected[cell.physical];
    }
    delta_.ForEachExtent([&](Extent e) {
      for (BlockNumber b = e.start; b < e.end(); ++b) ++found[b];
    });
    ASSERT_EQ(found, expected);
    BlockCount mapped;
    for (const auto& [at, cell] : cells_) {
      if (cell.state != MappingState::kHole && cell.owned) ++mapped;
    }
    ASSERT_EQ(delta_.mapped_blocks(), mapped);
  }

 private:
  using Place = std::pair<uint64_t, ObjectBlock>;  // object, block

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  // Of at most so many blocks.
  BlockRange RandomRange(BlockCount most) {
    const BlockCount start(Below(kBlocks.value()));
    return {ObjectBlock(0) + start, BlockCount(1 + Below(std::min(kBlocks - start, most).value()))};
  }

  void CheckCell(uint64_t object, ObjectBlock block, const Mapping& m) {
    const auto it = cells_.find({object, block});
    ASSERT_NE(it, cells_.end()) << "object " << object << " block " << block;
    ASSERT_EQ(m.state, it->second.state) << "object " << object << " block " << block;
    ASSERT_EQ(m.lsn, it->second.lsn);
    if (m.state != MappingState::kHole) {
      ASSERT_EQ(m.physical + (block - m.logical.start), it->second.physical);
      ASSERT_TRUE(HasTestChecksums(m.Part({block, 1})));
    }
  }

  void MapFresh(uint64_t object, BlockRange range, MappingState state, Lsn lsn) {
    if (Below(2)) ++next_place_;  // else adjacent to the extent before it
    const BlockNumber physical = next_place_;
    next_place_ += range.count;
    Do(object, range, TestMap(ObjectId{object}, range, physical, state, false), lsn,
       [&](ObjectBlock b) { return physical + (b - range.start); });
  }

  // Over the blocks from `range`'s first that are reserved as one run on the device.
  void WriteReserved(uint64_t object, BlockRange range, Lsn lsn) {
    const auto place = [&](ObjectBlock b) -> std::optional<BlockNumber> {
      const auto it = cells_.find({object, b});
      if (it == cells_.end()) return PlaceBelow(object, b);
      if (it->second.state != MappingState::kUnwritten) return std::nullopt;
      return it->second.physical;
    };
    const std::optional<BlockNumber> physical = place(range.start);
    if (!physical) return;
    BlockCount count = 1;
    while (count < range.count && place(range.start + count) == *physical + count) ++count;
    range.count = count;
    std::map<ObjectBlock, bool> owned;
    for (ObjectBlock b = range.start; b < range.end(); ++b) {
      const auto it = cells_.find({object, b});
      owned[b] = it != cells_.end() && it->second.owned;
    }
    const LogEntry entry = TestMap(ObjectId{object}, range, *physical, MappingState::kWritten, true);
    EXPECT_EQ(Apply(delta_, entry, lsn), DisplacedBlocks{});
    for (ObjectBlock b = range.start; b < range.end(); ++b) {
      cells_[{object, b}] = {MappingState::kWritten, *physical + (b - range.start), lsn, owned[b]};
    }
  }

  // `physical` by block; none: a hole.
  void Do(uint64_t object, BlockRange range, const LogEntry& entry, Lsn lsn,
          const std::function<BlockNumber(ObjectBlock)>& physical) {
    DisplacedBlocks expected;
    for (ObjectBlock b = range.start; b < range.end(); ++b) {
      const auto it = cells_.find({object, b});
      if (it != cells_.end() && it->second.state != MappingState::kHole && it->second.owned)
        expected[it->second.physical] = it->second.lsn;
    }
    ASSERT_EQ(Apply(delta_, entry, lsn), expected);
    for (ObjectBlock b = range.start; b < range.end(); ++b) {
      cells_[{object, b}] = physical ? Cell{entry.state, physical(b), lsn} : Cell{.lsn = lsn};
    }
  }

  std::mt19937_64 random_;
  Delta delta_;
  BlockNumber next_place_ = 1'000'000;
  std::map<Place, Cell> cells_;
};

TEST(DeltaModelTest, RandomRecordsMapAndDisplaceWhatTheModelSays) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    DeltaModel model(seed);
    for (Lsn lsn = 1; lsn <= 150; ++lsn) {
      model.Step(lsn);
      model.CheckVisit();
      model.CheckInvariants();
      if (lsn % 10 == 0u) {
        model.CheckEdits();
        model.CheckExtents();
      }
      if (testing::Test::HasFailure()) return;
    }
  }
}

TEST(DeltaTest, EditsAreMappingsThenInodesThenNamesAsTheTreeSortsThem) {
  Delta delta;
  Apply(delta, LogEntry::Name("b", kObject), 1);
  Apply(delta, LogEntry::NameGone("a"), 1);
  Apply(delta, LogEntry::SetInode({kObject, 5, "b"}), 1);
  Apply(delta, LogEntry::InodeGone(ObjectId{3}), 1);
  Apply(delta, Write({4, 1}, 100), 1);
  const auto source = delta.Edits();
  std::vector<TreeEdit> edits;
  while (const TreeEdit* edit = source->Next()) edits.push_back(*edit);
  ASSERT_EQ(edits.size(), 6u);
  for (size_t i = 1; i < edits.size(); ++i) EXPECT_LT(edits[i - 1].SortKey(), edits[i].SortKey());
  EXPECT_EQ(edits[0].mapping.state, MappingState::kHole);
  EXPECT_EQ(edits[0].mapping.logical, (BlockRange{0, kObjectBlocksMax}));
  EXPECT_EQ(edits[1].mapping.physical, 100);
  EXPECT_EQ(edits[2].key, InodeKey(ObjectId{3}));
  EXPECT_FALSE(edits[2].value.has_value());
  EXPECT_EQ(edits[3].value, InodeValue({kObject, 5, "b"}));
  EXPECT_FALSE(edits[4].value.has_value());
  EXPECT_EQ(edits[5].value, NameValue(kObject));
}

}  // namespace
}  // namespace untorn
