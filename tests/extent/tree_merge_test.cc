// What single merges do. tree_merge_model_test.cc compares thousands of random ones with a model.
#include "extent/tree_merge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/extent/memory_tree.h"

namespace untorn {
namespace {

constexpr BlockCount kWhole = kObjectBlocksMax;

// The mappings of a tree as text: "object:[start,end)@physical", u after unwritten ones.
std::string Mappings(MemoryTree& tree) {
  std::string text;
  for (const auto& [key, value] : tree.Walk().entries) {
    const auto entry = ParseMapping(key, value);
    if (!entry) continue;
    const Mapping& m = entry->mapping;
    absl::StrAppend(&text, text.empty() ? "" : " ", Value(entry->object), ":[", m.logical.start.value(), ",",
                    m.logical.end().value(), ")@", m.physical.value(),
                    m.state == MappingState::kUnwritten ? "u" : "");
  }
  return text;
}

MemoryTree TreeOf(std::vector<TreeEdit> edits) {
  MemoryTree tree;
  EXPECT_TRUE(tree.Merge(std::move(edits)).ok());
  return tree;
}

std::string LongName(uint64_t i) { return std::to_string(i + 10000) + std::string(240, 'n'); }
TreeEdit Name(uint64_t i) { return SetPoint(NameKey(LongName(i)), NameValue(ObjectId{i + 1})); }

// `count` names 0, step, 2 * step…, in nodes packed full.
MemoryTree TreeOfNames(uint64_t count, uint64_t step = 1) {
  std::vector<TreeEdit> edits;
  for (uint64_t i = 0; i < count; ++i) edits.push_back(Name(i * step));
  return TreeOf(std::move(edits));
}

TEST(TreeMergeTest, NoEditsKeepTheRoot) {
  MemoryTree tree = TreeOfNames(100);
  const TreeRoot before = tree.root;
  ASSERT_TRUE(tree.Merge({}).ok());
  EXPECT_EQ(tree.root, before);
  EXPECT_TRUE(tree.written.empty());
  EXPECT_TRUE(tree.retired.empty());
}

// A store that becomes smaller: nodes behind its new end get another place.
TEST(TreeMergeTest, NodesThatMustMoveAreWrittenAnewAndOtherLeavesStay) {
  MemoryTree tree = TreeOfNames(3000);
  const auto before = tree.Walk();
  ASSERT_GT(before.height, 2);
  // About half of the leaves.
  tree.moves_from = tree.root.root.block - BlockCount(before.nodes.size() / 2);
  ASSERT_TRUE(tree.Merge({}).ok());
  const auto after = tree.Walk();
  EXPECT_TRUE(after.entries == before.entries);
  const BlockNumber first_new = *tree.written.begin();
  for (const BlockNumber block : after.nodes)
    EXPECT_TRUE(block < *tree.moves_from || block >= first_new) << block;
  uint64_t stayed = 0;
  for (const BlockNumber block : after.nodes) stayed += before.nodes.contains(block);
  EXPECT_GT(stayed, before.nodes.size() / 4);
  EXPECT_EQ(tree.root.node_count.value(), after.nodes.size());
}

TEST(TreeMergeTest, DamagedNodesThatMustMoveStayWhereTheyAre) {
  MemoryTree tree = TreeOfNames(300);
  const BlockNumber leaf = *tree.Walk().nodes.begin();
  tree.moves_from = leaf;
  tree.blocks.erase(leaf);
  tree.cached.erase(leaf);
  const TreeRoot before = tree.root;
  ASSERT_TRUE(tree.Merge({}).ok());
  EXPECT_FALSE(tree.retired.contains(leaf));
  EXPECT_EQ(tree.root.node_count, before.node_count);
  // The root itself.
  tree.blocks.erase(tree.root.root.block);
  tree.cached.erase(tree.root.root.block);
  const TreeRoot damaged = tree.root;
  ASSERT_TRUE(tree.Merge({}).ok());
  EXPECT_EQ(tree.root, damaged);
}

TEST(TreeMergeTest, HolesInAnEmptyTreeLeaveItEmpty) {
  MemoryTree tree;
  ASSERT_TRUE(tree.Merge({PunchHole(1, {0, kWhole}), ErasePoint(InodeKey(ObjectId{1}))}).ok());
  EXPECT_EQ(tree.root, TreeRoot{});
  EXPECT_TRUE(tree.written.empty());
}

TEST(TreeMergeTest, RemovingEverythingLeavesTheEmptyTree) {
  MemoryTree tree =
      TreeOf({MapRange(1, {0, 10}, 50), SetPoint(InodeKey(ObjectId{1}), InodeValue({ObjectId{1}, 1, "a"}))});
  ASSERT_TRUE(tree.Merge({PunchHole(1, {0, kWhole}), ErasePoint(InodeKey(ObjectId{1}))}).ok());
  EXPECT_EQ(tree.root, TreeRoot{});
  EXPECT_TRUE(tree.blocks.empty());
  EXPECT_EQ(tree.removed, std::vector<Extent>({{50, 10}}));
}

TEST(TreeMergeTest, EditInsideAnEntrySplitsIt) {
  MemoryTree tree = TreeOf({MapRange(1, {0, 60}, 1000)});
  ASSERT_TRUE(tree.Merge({MapRange(1, {10, 5}, 7000)}).ok());
  EXPECT_EQ(Mappings(tree), "1:[0,10)@1000 1:[10,15)@7000 1:[15,60)@1015");
  EXPECT_EQ(tree.removed, std::vector<Extent>({{1010, 5}}));
}

TEST(TreeMergeTest, SeveralEditsSplitOneEntry) {
  MemoryTree tree = TreeOf({MapRange(1, {0, 100}, 1000, MappingState::kUnwritten)});
  ASSERT_TRUE(tree.Merge({PunchHole(1, {10, 10}), MapRange(1, {30, 10}, 7000)}).ok());
  EXPECT_EQ(Mappings(tree), "1:[0,10)@1000u 1:[20,30)@1020u 1:[30,40)@7000 1:[40,100)@1040u");
  EXPECT_EQ(tree.removed, std::vector<Extent>({{1010, 10}, {1030, 10}}));
}

TEST(TreeMergeTest, EditAcrossEntriesAndGapsReplacesThemOnce) {
  MemoryTree tree = TreeOf({MapRange(1, {0, 10}, 100), MapRange(1, {20, 10}, 200), MapRange(1, {40, 10}, 300),
                            MapRange(2, {0, 10}, 400)});
  ASSERT_TRUE(tree.Merge({MapRange(1, {5, 40}, 1000)}).ok());
  EXPECT_EQ(Mappings(tree), "1:[0,5)@100 1:[5,45)@1000 1:[45,50)@305 2:[0,10)@400");
  EXPECT_EQ(tree.removed, std::vector<Extent>({{105, 5}, {200, 10}, {300, 5}}));
}

TEST(TreeMergeTest, AdjacentEditsEachTakeTheirPart) {
  MemoryTree tree = TreeOf({MapRange(1, {0, 30}, 100)});
  ASSERT_TRUE(
      tree.Merge({MapRange(1, {0, 10}, 500), PunchHole(1, {10, 10}), MapRange(1, {20, 10}, 700)}).ok());
  EXPECT_EQ(Mappings(tree), "1:[0,10)@500 1:[20,30)@700");
  EXPECT_EQ(tree.removed, std::vector<Extent>({{100, 10}, {110, 10}, {120, 10}}));
}

TEST(TreeMergeTest, ContiguousMappingsOfOneStateBecomeOneEntry) {
  MemoryTree tree = TreeOf({MapRange(1, {0, 10}, 100)});
  ASSERT_TRUE(tree.Merge({MapRange(1, {10, 10}, 110), MapRange(1, {20, 5}, 120, MappingState::kUnwritten),
                          MapRange(2, {25, 5}, 125)})
                  .ok());
  EXPECT_EQ(Mappings(tree), "1:[0,20)@100 1:[20,25)@120u 2:[25,30)@125");
  EXPECT_TRUE(tree.removed.empty());
}

TEST(TreeMergeTest, MappingTooLongForOneEntryBecomesSeveral) {
  constexpr uint64_t kEntryMax = std::numeric_limits<uint32_t>::max();
  MemoryTree tree = TreeOf({MapRange(1, {7, BlockCount(2 * kEntryMax + 3)}, 100, MappingState::kUnwritten)});
  EXPECT_EQ(tree.Walk().entries.size(), 3u);
  ASSERT_TRUE(tree.Merge({PunchHole(1, {ObjectBlock(kEntryMax), 20})}).ok());
  // The last two are joined: they fit one entry now.
  EXPECT_EQ(Mappings(tree), absl::StrCat("1:[7,", kEntryMax, ")@100u 1:[", kEntryMax + 20, ",",
                                         2 * kEntryMax + 10, ")@", kEntryMax + 113, "u"));
  EXPECT_EQ(tree.removed,
            std::vector<Extent>({{BlockNumber(kEntryMax + 93), 7}, {BlockNumber(kEntryMax + 100), 13}}));
  ASSERT_TRUE(tree.Merge({PunchHole(1, {0, kWhole})}).ok());
  EXPECT_EQ(tree.root, TreeRoot{});
}

TEST(TreeMergeTest, EntriesOfWrittenBlocksFillALeafWithTheirChecksums) {
  const uint64_t most = kWrittenEntryBlocksMax.value();
  MemoryTree tree = TreeOf({MapRange(1, {0, BlockCount(8 * most)}, 100)});
  EXPECT_EQ(tree.root.node_count, 1) << "eight of the longest entries";
  EXPECT_EQ(tree.Walk().entries.size(), 8u);
  // A part of an entry keeps the checksums of its blocks.
  ASSERT_TRUE(tree.Merge({PunchHole(1, {10, 3}), MapRange(1, {70, 2}, 9000)}).ok());
  for (const auto& [key, value] : tree.Walk().entries) {
    EXPECT_TRUE(HasTestChecksums(ParseMapping(key, value)->mapping));
  }
}

TEST(TreeMergeTest, OpenMappingsAreNotJoinedWithOthers) {
  std::vector<TreeEdit> edits = {MapRange(1, {0, 2}, 100), MapRange(1, {2, 2}, 102),
                                 MapRange(1, {4, 2}, 104)};
  edits[1].mapping.opened = LogEpoch(7);
  MemoryTree tree = TreeOf(std::move(edits));
  EXPECT_EQ(Mappings(tree), "1:[0,2)@100 1:[2,4)@102 1:[4,6)@104");
  // Closed, the mapping is one with its neighbours again.
  ASSERT_TRUE(tree.Merge({MapRange(1, {2, 2}, 102)}).ok());
  EXPECT_EQ(Mappings(tree), "1:[0,6)@100");
}

TEST(TreeMergeTest, LastBlockOfTheLargestObjectIsMapped) {
  MemoryTree tree = TreeOf({MapRange(1, {kObjectEnd - 1, 1}, 9)});
  EXPECT_EQ(Mappings(tree), absl::StrCat("1:[", (kWhole - 1).value(), ",", kWhole.value(), ")@9"));
  ASSERT_TRUE(tree.Merge({PunchHole(1, {kObjectEnd - 1, kWhole})}).ok());
  EXPECT_EQ(tree.root, TreeRoot{});
}

TEST(TreeMergeTest, HoleOverManyLeavesRemovesThemAndKeepsTheOthers) {
  std::vector<TreeEdit> edits;
  for (uint64_t object = 1; object <= 3; ++object) {
    for (uint64_t i = 0; i < 5000; ++i)
      edits.push_back(MapRange(object, {ObjectBlock(2 * i), 1}, BlockNumber(object * 100000 + 3 * i)));
  }
  MemoryTree tree = TreeOf(std::move(edits));
  const BlockCount nodes_before = tree.root.node_count;
  ASSERT_TRUE(tree.Merge({PunchHole(2, {0, kWhole})}).ok());
  EXPECT_EQ(tree.removed.size(), 5000u);
  EXPECT_EQ(tree.Walk().entries.size(), 10000u);
  EXPECT_EQ(BlockCount(tree.Walk().nodes.size()), tree.root.node_count);
  EXPECT_LE(tree.root.node_count, nodes_before * 2 / 3 + 3);
  EXPECT_LE(tree.written.size(), 10u);
}

TEST(TreeMergeTest, OneEditInAFullTreeRewritesOnlyItsPath) {
  for (const uint64_t at : {uint64_t{1}, uint64_t{3001}, uint64_t{7999}}) {
    MemoryTree tree = TreeOfNames(4000, 2);
    const int height = tree.Walk().height;
    ASSERT_GE(height, 4);
    const BlockCount nodes_before = tree.root.node_count;
    tree.loads = 0;
    ASSERT_TRUE(tree.Merge({Name(at)}).ok());
    EXPECT_LE(tree.loads, static_cast<uint64_t>(height) + 2);
    EXPECT_LE(tree.written.size(), static_cast<size_t>(2 * height + 1));
    EXPECT_EQ(tree.root.node_count,
              nodes_before - BlockCount(tree.retired.size()) + BlockCount(tree.written.size()));
    EXPECT_EQ(tree.Walk().entries.size(), 4001u);
  }
}

TEST(TreeMergeTest, AppendingKeepsNodesFull) {
  MemoryTree tree;
  for (uint64_t i = 0; i < 2000; ++i) ASSERT_TRUE(tree.Merge({Name(i)}).ok());
  const auto contents = tree.Walk();
  EXPECT_EQ(contents.entries.size(), 2000u);
  EXPECT_GT(contents.leaf_bytes, contents.leaves * kBlockBytes * 9 / 10);
}

TEST(TreeMergeTest, ShrinkingTreeLosesHeight) {
  MemoryTree tree = TreeOfNames(4000);
  for (const auto& [begin, end] : {std::pair{0, 1999}, std::pair{2001, 4000}}) {
    std::vector<TreeEdit> edits;
    for (int i = begin; i < end; ++i) edits.push_back(ErasePoint(NameKey(LongName(i))));
    ASSERT_TRUE(tree.Merge(std::move(edits)).ok());
    EXPECT_EQ(BlockCount(tree.Walk().nodes.size()), tree.root.node_count);
  }
  EXPECT_EQ(tree.Walk().entries.size(), 2u);
  EXPECT_EQ(tree.root.node_count, 1);
}

// All but the last child of each level go: what stays is a chain of kept nodes with one child each.
TEST(TreeMergeTest, KeptChainOfSingleChildrenCollapsesToItsLeaf) {
  MemoryTree tree;
  uint64_t names = 0;
  auto is_chain = [&] {  // the last child of the root has one child, and so on
    auto node = *tree.Load(tree.root.root);
    if (node->level() < 3) return false;
    for (node = *tree.Load(node->child(node->count() - 1)); node->level() > 0;
         node = *tree.Load(node->child(0))) {
      if (node->count() > 1) return false;
    }
    return true;
  };
  do {
    ASSERT_TRUE(tree.Merge({Name(names++)}).ok());
    ASSERT_LT(names, 20000u);
  } while (!is_chain());
  auto leaf = *tree.Load(tree.root.root);
  while (leaf->level() > 0) leaf = *tree.Load(leaf->child(leaf->count() - 1));
  const auto before = tree.Walk();
  std::vector<TreeEdit> edits;
  for (uint64_t i = 0; i + leaf->count() < names; ++i) edits.push_back(ErasePoint(NameKey(LongName(i))));
  ASSERT_TRUE(tree.Merge(std::move(edits)).ok());
  EXPECT_EQ(tree.root, (TreeRoot{leaf->pointer(), 1, leaf->entry_bytes(), 1}));
  EXPECT_TRUE(tree.written.empty());
  EXPECT_EQ(tree.retired.size(), before.nodes.size() - 1);
}

TEST(TreeMergeTest, DeviceThatFailsAtANodeOnThePathLeavesTheOldTree) {
  MemoryTree tree = TreeOfNames(4000);
  auto node = *tree.Load(tree.root.root);
  while (node->level() > 0) {
    tree.fails_at = node->pointer().block;
    const TreeRoot before = tree.root;
    EXPECT_EQ(tree.Merge({Name(0)}).code(), absl::StatusCode::kInternal);
    EXPECT_EQ(tree.root, before);
    tree.fails_at.reset();
    node = *tree.Load(node->child(0));
  }
  EXPECT_TRUE(tree.Merge({Name(0)}).ok());
}

TEST(TreeMergeTest, DamageOffThePathIsNotTouched) {
  MemoryTree tree = TreeOfNames(4000);
  auto node = *tree.Load(tree.root.root);
  while (node->level() > 0) node = *tree.Load(node->child(node->count() - 1));
  tree.blocks[node->pointer().block][3000] ^= std::byte{4};
  EXPECT_TRUE(tree.Merge({Name(0)}).ok());
}

// The leaves under the root of a tree of two levels.
std::vector<BlockPointer> Leaves(MemoryTree& tree) {
  const auto root = *tree.Load(tree.root.root);
  EXPECT_EQ(root->level(), 1);
  std::vector<BlockPointer> leaves;
  for (int i = 0; i < root->count(); ++i) leaves.push_back(root->child(i));
  return leaves;
}

// Objects 1 to 10 with 500 mappings each.
MemoryTree TreeOfMappings() {
  std::vector<TreeEdit> edits;
  for (uint64_t object = 1; object <= 10; ++object) {
    for (uint64_t i = 0; i < 500; ++i)
      edits.push_back(MapRange(object, {ObjectBlock(i * 10), 1}, BlockNumber(object * 10000 + i * 7)));
  }
  return TreeOf(std::move(edits));
}

TEST(TreeMergeTest, DamagedSiblingIsNotAbsorbed) {
  MemoryTree tree = TreeOfMappings();
  const std::vector<BlockPointer> leaves = Leaves(tree);
  ASSERT_GE(leaves.size(), 4u);
  tree.blocks[leaves[2].block][3000] ^= std::byte{4};
  // Of the leaf before it all but one mapping go, and of that before it nothing.
  const auto before = *tree.Load(leaves[1]);
  const TreeRoot old_root = tree.root;
  std::vector<TreeEdit> edits;
  for (int i = 1; i < before->count(); ++i) {
    const MappingEntry entry = before->entry(i).mapping;
    edits.push_back(PunchHole(Value(entry.object), entry.mapping.logical));
  }
  ASSERT_TRUE(tree.Merge(std::move(edits)).ok());
  const std::vector<BlockPointer> after = Leaves(tree);
  ASSERT_EQ(after.size(), leaves.size());
  EXPECT_EQ(after[2], leaves[2]);
  EXPECT_EQ((*tree.Load(after[1]))->count(), 1);
  EXPECT_EQ(tree.root.node_count, old_root.node_count);
  EXPECT_LT(tree.root.leaf_bytes, old_root.leaf_bytes);
}

TEST(TreeMergeTest, DamagedLeafInsideAHoleGoesAndWhatItMappedIsNotReported) {
  MemoryTree tree = TreeOfMappings();
  const std::vector<BlockPointer> leaves = Leaves(tree);
  const auto damaged = *tree.Load(leaves[1]);
  const MappingEntry first = damaged->entry(0).mapping, last = damaged->entry(damaged->count() - 1).mapping;
  tree.blocks[leaves[1].block][3000] ^= std::byte{4};
  std::vector<TreeEdit> edits;
  for (uint64_t object = Value(first.object); object <= Value(last.object); ++object)
    edits.push_back(PunchHole(object, {0, kWhole}));
  ASSERT_LT(first.object, last.object);
  ASSERT_TRUE(tree.Merge(edits).ok());
  for (const auto& [key, value] : tree.Walk().entries) {
    EXPECT_FALSE(ParseLost(key, value)) << "the holes of both objects cover all of it";
  }

  tree = TreeOf([&] {
    std::vector<TreeEdit> one;
    for (uint64_t i = 0; i < 5000; ++i)
      one.push_back(MapRange(1, {ObjectBlock(i * 10), 1}, BlockNumber(10000 + i * 7)));
    return one;
  }());
  const std::vector<BlockPointer> of_one = Leaves(tree);
  const auto of_damaged = static_cast<size_t>((*tree.Load(of_one[1]))->count());
  tree.blocks[of_one[1].block][3000] ^= std::byte{4};
  ASSERT_TRUE(tree.Merge({PunchHole(1, {0, kWhole})}).ok());
  EXPECT_FALSE(tree.retired.contains(of_one[1].block)) << "a repair may want it";
  EXPECT_EQ(tree.removed.size() + of_damaged, 5000u);
  EXPECT_EQ(tree.root, TreeRoot{});
}

// What each block of object 1 is mapped to, by the entries of a tree: nullopt where that is lost.
std::map<uint64_t, std::optional<BlockNumber>> Blocks(MemoryTree& tree, uint64_t blocks) {
  std::map<uint64_t, std::optional<BlockNumber>> found;
  for (const auto& [key, value] : tree.Walk().entries) {
    if (const auto lost = ParseLost(key, value)) {
      for (uint64_t i = 0; i < blocks; ++i) {
        if (lost->Cover(MappingKey(ObjectId{1}, ObjectBlock(i)))) {
          EXPECT_TRUE(found.try_emplace(i, std::nullopt).second);
        }
      }
    } else if (const auto entry = ParseMapping(key, value)) {
      const Mapping& m = entry->mapping;
      for (BlockCount i; i < m.logical.count; ++i) {
        EXPECT_TRUE(found.try_emplace((m.logical.start + i).value(), m.physical + i).second);
      }
    }
  }
  return found;
}

// Promise 9: what is written or given back among the keys of a damaged leaf is so, and what was lost there is told.
TEST(TreeMergeTest, EditsInADamagedLeafCountAndTheRestOfItIsLost) {
  constexpr uint64_t kBlocks = 4500;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 rng(seed);
    std::vector<TreeEdit> all;
    for (uint64_t i = 0; i < kBlocks; i += 3) {
      all.push_back(MapRange(1, {ObjectBlock(i), 1}, BlockNumber(1000000 + i * 48271 % 8388593)));
    }
    all.push_back(SetPoint(InodeKey(ObjectId{1}), InodeValue({ObjectId{1}, 1, "a"})));
    MemoryTree tree = TreeOf(std::move(all));
    std::map<uint64_t, std::optional<BlockNumber>> model = Blocks(tree, kBlocks);
    const std::vector<BlockPointer> leaves = Leaves(tree);
    const size_t at = rng() % (leaves.size() - 1);
    const uint64_t first = (*tree.Load(leaves[at]))->entry(0).mapping.mapping.logical.start.value();
    const uint64_t limit = (*tree.Load(leaves[at + 1]))->entry(0).mapping.mapping.logical.start.value();
    tree.blocks[leaves[at].block][3000] ^= std::byte{4};
    for (uint64_t round = 0; round < 12; ++round) {
      std::vector<TreeEdit> edits;
      // The first edit falls into the damage.
      uint64_t next = round == 0 ? first + rng() % (limit - first) : rng() % 600;
      if (round == 0) {
        for (uint64_t i = first; i < limit; ++i) model[i] = std::nullopt;
      }
      for (uint64_t n = 1 + rng() % 30; n > 0 && next < kBlocks; --n) {
        const uint64_t count = std::min<uint64_t>(1 + rng() % (round % 3 == 2 ? 60 : 3), kBlocks - next);
        const BlockNumber physical(100000 + 10000 * round + 2 * next);
        const bool hole = rng() % 3 == 0;
        for (uint64_t i = 0; i < count; ++i) {
          if (hole) {
            model.erase(next + i);
          } else {
            model[next + i] = physical + BlockCount(i);
          }
        }
        const BlockRange range{ObjectBlock(next), BlockCount(count)};
        edits.push_back(hole ? PunchHole(1, range) : MapRange(1, range, physical));
        next += count + (rng() % 2 == 0 ? 0 : rng() % 200);
      }
      const absl::Status merged = tree.Merge(std::move(edits));
      ASSERT_TRUE(merged.ok()) << merged;
      EXPECT_FALSE(tree.retired.contains(leaves[at].block)) << "a repair may want it";
      ASSERT_TRUE(Blocks(tree, kBlocks) == model) << "round " << round;
    }
  }
}

TEST(TreeMergeTest, WhatEditsSetOrEraseAmongLostInodesAndNamesIsSo) {
  MemoryTree tree = TreeOf([] {
    std::vector<TreeEdit> edits;
    for (uint64_t i = 1; i <= 20; ++i) edits.push_back(MapRange(i, {0, 1}, BlockNumber(100 * i)));
    for (uint64_t i = 1; i <= 20; ++i)
      edits.push_back(SetPoint(InodeKey(ObjectId{i}), InodeValue({ObjectId{i}, 1, "n"})));
    edits.push_back(SetPoint(NameKey("n"), NameValue(ObjectId{1})));
    return edits;
  }());
  const BlockNumber damaged = tree.root.root.block;
  tree.blocks[damaged][3000] ^= std::byte{4};
  const std::string longest = NameKey(std::string(255, 'q'));
  ASSERT_TRUE(
      tree.Merge({MapRange(3, {0, 2}, 9000), PunchHole(5, {0, kWhole}), ErasePoint(InodeKey(ObjectId{5})),
                  SetPoint(InodeKey(ObjectId{7}), InodeValue({ObjectId{7}, 2, "m"})),
                  ErasePoint(NameKey("k")), SetPoint(longest, NameValue(ObjectId{7}))})
          .ok());
  std::map<std::string, std::string> entries;
  std::vector<LostEntries> lost;
  const MemoryTree::Contents contents = tree.Walk();
  for (const auto& [key, value] : contents.entries) {
    const auto part = ParseLost(key, value);
    if (!part) {
      entries[key] = value;
      continue;
    }
    EXPECT_EQ(part->node, damaged);
    lost.push_back(*part);
  }
  EXPECT_EQ(entries.size(), 3u);
  const auto is_lost = [&](const std::string& key) {
    return std::any_of(lost.begin(), lost.end(), [&](const LostEntries& part) { return part.Cover(key); });
  };
  for (const std::string& known : {MappingKey(ObjectId{3}, 0), MappingKey(ObjectId{3}, 1),
                                   MappingKey(ObjectId{5}, 0), MappingKey(ObjectId{5}, 1 << 20),
                                   InodeKey(ObjectId{5}), InodeKey(ObjectId{7}), NameKey("k"), longest}) {
    EXPECT_FALSE(is_lost(known)) << known;
  }
  for (const std::string& unknown :
       {MappingKey(ObjectId{1}, 0), MappingKey(ObjectId{3}, 2), MappingKey(ObjectId{4}, 0),
        MappingKey(ObjectId{6}, 0), MappingKey(ObjectId{900}, 0), InodeKey(ObjectId{1}),
        InodeKey(ObjectId{6}), InodeKey(ObjectId{8}), NameKey("a"), NameKey("k\x01"), NameKey("n"),
        NameKey(std::string(254, 'q')), NameKey(std::string(254, 'q') + "r"), NameKey("zz")}) {
    EXPECT_TRUE(is_lost(unknown)) << unknown;
  }
}

TEST(TreeMergeTest, NothingOfAnObjectIsLostThatTheOldTreeDidNotKnow) {
  MemoryTree tree =
      TreeOf({MapRange(1, {0, 1}, 100), SetPoint(InodeKey(ObjectId{1}), InodeValue({ObjectId{1}, 1, "n"}))});
  tree.blocks[tree.root.root.block][3000] ^= std::byte{4};
  tree.next_object = ObjectId{2};
  ASSERT_TRUE(tree.Merge({MapRange(1, {5, 1}, 300), MapRange(2, {5, 1}, 400),
                          SetPoint(InodeKey(ObjectId{2}), InodeValue({ObjectId{2}, 1, "m"}))})
                  .ok());
  for (const auto& [key, value] : tree.Walk().entries) {
    const auto lost = ParseLost(key, value);
    if (!lost) continue;
    for (const std::string& known :
         {MappingKey(ObjectId{2}, 4), MappingKey(ObjectId{2}, 6), MappingKey(ObjectId{3}, 0),
          InodeKey(ObjectId{2}), InodeKey(ObjectId{3})}) {
      EXPECT_FALSE(lost->Cover(known));
    }
  }
}

// Each mapping comes right before the one of the merge before, so the marks of the leaf move again and again.
TEST(TreeMergeTest, MarksStayNearWhenMappingsComeInDescendingOrder) {
  MemoryTree tree;
  for (uint64_t i = 700; i > 0; --i) {
    const uint64_t physical = 1 + i * 48271 % 1000003;
    ASSERT_TRUE(tree.Merge({MapRange(1, {ObjectBlock(3 * i), 1}, BlockNumber(physical))}).ok());
  }
  EXPECT_EQ(tree.Walk().entries.size(), 700u);
}

TEST(TreeMergeTest, DamagedRootOfAnyHeightGivesWay) {
  for (const uint64_t mappings : {10u, 5000u}) {
    MemoryTree tree = TreeOf([&] {
      std::vector<TreeEdit> edits;
      for (uint64_t i = 0; i < mappings; ++i)
        edits.push_back(MapRange(1, {ObjectBlock(i * 10), 1}, BlockNumber(10000 + i * 7)));
      return edits;
    }());
    tree.blocks[tree.root.root.block][3000] ^= std::byte{4};
    ASSERT_TRUE(tree.Merge({MapRange(1, {55, 2}, 500)}).ok());
    const auto blocks = Blocks(tree, 100);
    EXPECT_EQ(blocks.size(), 100u);
    EXPECT_EQ(blocks.at(55), BlockNumber(500));
    EXPECT_EQ(blocks.at(57), std::nullopt);
    EXPECT_EQ(tree.root.levels, 1);
  }
}

// Walks a tree of which one leaf cannot be read.
struct WalkAroundDamage {
  MemoryTree& tree;
  BlockNumber damaged;
  std::map<std::string, std::string> entries = {};
  std::optional<std::string> first = std::nullopt, limit = std::nullopt;  // of the damaged leaf

  void Walk(BlockPointer pointer, std::string_view from, std::optional<std::string_view> to) {
    if (pointer.block == damaged) {
      EXPECT_FALSE(first.has_value());
      first = from;
      if (to) limit = std::string(*to);
      return;
    }
    const auto node = *tree.Load(pointer);
    EXPECT_GE(std::string_view(node->key(0)), from);
    EXPECT_TRUE(!to || std::string_view(node->key(node->count() - 1)) < *to);
    if (node->level() == 0) {
      for (auto& [key, value] : StringsOf(*node)) entries[key] = value;
      return;
    }
    for (int i = 0; i < node->count(); ++i) {
      const bool is_last = i + 1 == node->count();
      const auto next = is_last ? std::nullopt : std::optional(node->key(i + 1));
      Walk(node->child(i), node->key(i), is_last ? to : next);
    }
  }
};

TEST(TreeMergeTest, RangeOfADamagedNodeNeverGrowsOverKeysThatWereAnothers) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 rng(seed);
    MemoryTree tree = TreeOfNames(1500);
    std::vector<BlockNumber> leaves;
    for (const auto& [block, bytes] : tree.blocks) {
      if (bytes[offsetof(BlockHeader, by_type)] == std::byte{0}) leaves.push_back(block);
    }
    const BlockNumber damaged = leaves[rng() % leaves.size()];
    WalkAroundDamage before{tree, damaged};
    before.Walk(tree.root.root, "", std::nullopt);
    ASSERT_TRUE(before.first.has_value());
    tree.blocks[damaged][3000] ^= std::byte{4};
    std::map<std::string, std::string> model = before.entries;
    for (int round = 0; round < 8; ++round) {
      // A run of names goes, most often right behind the damage, and some come.
      std::map<std::string, TreeEdit> edits;
      auto it = rng() % 2 && before.limit ? model.lower_bound(*before.limit)
                                          : model.lower_bound(Name(rng() % 1500).key);
      for (uint64_t n = 1 + rng() % 40; n > 0 && it != model.end(); --n, ++it)
        edits.try_emplace(it->first, ErasePoint(it->first));
      for (uint64_t n = rng() % 3; n > 0; --n) {
        TreeEdit edit = Name(rng() % 1500);
        if (edit.key >= *before.first && (!before.limit || edit.key < *before.limit)) continue;
        edits.try_emplace(edit.key, edit);
      }
      std::vector<TreeEdit> list;
      for (auto& [key, edit] : edits) {
        if (edit.value) {
          model[key] = *edit.value;
        } else {
          model.erase(key);
        }
        list.push_back(std::move(edit));
      }
      ASSERT_TRUE(tree.Merge(std::move(list)).ok());
      WalkAroundDamage after{tree, damaged};
      after.Walk(tree.root.root, "", std::nullopt);
      ASSERT_TRUE(after.entries == model);
      if (tree.root.root.block == damaged) break;  // all others are gone
      ASSERT_EQ(after.first, before.first);
      if (before.limit && model.lower_bound(*before.limit) != model.end()) {
        ASSERT_EQ(after.limit, before.limit);
      }
    }
  }
}

TEST(TreeMergeTest, ChildThatIsNotWhatItsParentSaysIsLost) {
  MemoryTree tree = TreeOfNames(4000);
  const auto root = *tree.Load(tree.root.root);
  TreeNodeBuilder builder(root->level());
  for (int i = 0; i < root->count(); ++i) {
    ASSERT_TRUE(builder.Add(NodeEntry::OfChild(root->key(i), root->child(i == 0 ? 1 : i))));
  }
  const std::shared_ptr<const TreeNode> node = builder.Finish(kTestUuid, 99, 1);
  tree.root.root = node->pointer();
  ASSERT_TRUE(tree.WriteNode(node).ok());
  ASSERT_TRUE(tree.Merge({Name(0)}).ok());
  const MemoryTree::Contents contents = tree.Walk();
  const auto lost = ParseLost(contents.entries[1].first, contents.entries[1].second);
  ASSERT_TRUE(lost) << "behind the name that was set";
  EXPECT_EQ(lost->limit, root->key(1));
}

// Damage behind a right checksum: written by a bug, or made on purpose.
TEST(TreeMergeTest, SealedDamageIsMergedOrRefusedButNeverAborts) {
  std::mt19937_64 random(3);
  std::vector<TreeEdit> edits;
  for (uint64_t i = 0; i < 1500; ++i)
    edits.push_back(MapRange(1, {ObjectBlock(3 * i), 2}, BlockNumber(1000 + 5 * i)));
  for (uint64_t i = 0; i < 20; ++i) edits.push_back(Name(i));
  const MemoryTree sound = TreeOf(std::move(edits));
  int merged = 0, lost = 0;
  for (int round = 0; round < 3000; ++round) {
    MemoryTree tree = sound;
    const auto root = *tree.Load(tree.root.root);
    ASSERT_EQ(root->level(), 1);
    std::vector<std::byte>& root_block = tree.blocks[tree.root.root.block];
    auto spoil = [&](std::vector<std::byte>& block) {
      uint32_t used;
      std::memcpy(&used, &block[offsetof(BlockHeader, payload_bytes)], sizeof(used));
      const size_t at = kHeaderBytes + random() % (random() % 2 ? 20 : used);
      block[at] = random() % 2 ? block[at] ^ std::byte{1} : static_cast<std::byte>(random());
    };
    if (round % 3 == 0) {
      spoil(root_block);
    } else {
      const int which = random() % root->count();
      const BlockPointer before = root->child(which);
      BlockPointer after = before;
      spoil(tree.blocks[before.block]);
      after.checksum = SealBlock(tree.blocks[before.block]);
      TreeNodeBuilder builder(1);
      for (int i = 0; i < root->count(); ++i) {
        ASSERT_TRUE(builder.Add(NodeEntry::OfChild(root->key(i), i == which ? after : root->child(i))));
      }
      const auto new_root = builder.Finish(kTestUuid, tree.root.root.block, 1);
      std::copy(new_root->block().begin(), new_root->block().end(), root_block.begin());
    }
    tree.root.root.checksum = SealBlock(root_block);
    const absl::Status status = tree.Merge(
        {PunchHole(1, {ObjectBlock(random() % 4500), BlockCount(1 + random() % 1500)}), Name(random() % 40)});
    if (!status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      continue;
    }
    ++merged;
    for (const BlockNumber block : tree.written) {
      uint64_t checksum;
      std::memcpy(&checksum, &tree.blocks[block][offsetof(BlockHeader, checksum)], sizeof(checksum));
      const auto node = *tree.Load({block, checksum});
      for (NodeReader at = node->reader(); at.Next();) lost += at.entry().lost().has_value();
    }
  }
  EXPECT_GT(merged, 100);
  EXPECT_GT(lost, 50);
}

TEST(TreeMergeTest, ErrorOfTheSinkIsHandedOn) {
  for (uint64_t allowed = 0; allowed < 20; ++allowed) {
    MemoryTree tree = TreeOfNames(1000);
    const auto before = tree.Walk();
    tree.allocations_left = allowed;
    std::vector<TreeEdit> edits;
    for (uint64_t i = 1000; i < 2000; ++i) edits.push_back(Name(i));
    EXPECT_EQ(tree.Merge(std::move(edits)).code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(tree.Walk().entries, before.entries);
  }
}

TEST(TreeMergeDeathTest, WrongEditsAbort) {
  MemoryTree tree;
  EXPECT_DEATH((void)tree.Merge({Name(1), Name(0)}), "out of order");
  EXPECT_DEATH((void)tree.Merge({MapRange(1, {0, 10}, 5), MapRange(1, {9, 1}, 50)}), "overlap");
  EXPECT_DEATH((void)tree.Merge({MapRange(1, {0, 10}, 0)}), "ill-formed");
  EXPECT_DEATH((void)tree.Merge({ErasePoint(MappingKey(ObjectId{1}, 0))}), "range edits are for mappings");
}

}  // namespace
}  // namespace untorn
