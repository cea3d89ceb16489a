#include "extent/tree.h"

#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "tests/extent/memory_tree.h"

namespace untorn {
namespace {

constexpr uint64_t kEntries = 4000;

// Entry i of the test tree has this key: names so long that the tree has four levels.
std::string KeyAt(uint64_t i) {
  std::string number = std::to_string(10 * i + 100000);
  return NameKey(number + std::string(240, 'n'));
}

class TreeCursorTest : public testing::Test {
 protected:
  void SetUp() override {
    std::vector<TreeEdit> edits;
    for (uint64_t i = 0; i < kEntries; ++i) edits.push_back(SetPoint(KeyAt(i), NameValue(ObjectId{i + 1})));
    ASSERT_TRUE(tree_.Merge(std::move(edits)).ok());
    ASSERT_GE(tree_.Walk().height, 4);
    tree_.loads = 0;
  }

  // Does `step` until it no longer misses a node, loading what it misses.
  template <typename Step>
  WalkResult Do(TreeCursor& cursor, NodeCache& cache, Step step) {
    for (int misses = 0;; ++misses) {
      const WalkResult result = step();
      if (result != WalkResult::kMissing) return result;
      EXPECT_LT(misses, 100) << "the walk gets nowhere";
      if (misses == 100) return result;
      const auto node = tree_.Load(cursor.missing());
      EXPECT_TRUE(node.ok()) << node.status();
      if (!node.ok()) return result;
      cache.Insert(*node);
    }
  }

  MemoryTree tree_;
};

TEST_F(TreeCursorTest, WalksAllEntriesInOrderWhateverTheCacheKeeps) {
  for (const size_t limit : {size_t{0}, size_t{1}, size_t{2}, size_t{5}, size_t{100000}}) {
    NodeCache cache(limit);
    TreeCursor cursor(cache, tree_.root);
    WalkResult at = Do(cursor, cache, [&] { return cursor.SeekFloor(KeyAt(0)); });
    for (uint64_t i = 0; i < kEntries; ++i) {
      ASSERT_EQ(at, WalkResult::kAtEntry) << "limit " << limit << " entry " << i;
      ASSERT_EQ(cursor.entry().key(), KeyAt(i));
      ASSERT_EQ(cursor.entry().value, NameValue(ObjectId{i + 1}));
      at = Do(cursor, cache, [&] { return cursor.Next(); });
    }
    EXPECT_EQ(at, WalkResult::kEnd);
    EXPECT_EQ(cursor.Next(), WalkResult::kEnd);
    EXPECT_LE(cache.size(), std::max<size_t>(limit, 1));
  }
}

TEST_F(TreeCursorTest, WholeWalkLoadsEachNodeOnceEvenWithACacheOfOne) {
  NodeCache cache(1);
  TreeCursor cursor(cache, tree_.root);
  WalkResult at = Do(cursor, cache, [&] { return cursor.Seek(""); });
  while (at == WalkResult::kAtEntry) at = Do(cursor, cache, [&] { return cursor.Next(); });
  EXPECT_EQ(BlockCount(tree_.loads), tree_.root.node_count);
}

TEST_F(TreeCursorTest, SeekFindsTheFirstEntryNotBelow) {
  for (const size_t limit : {size_t{1}, size_t{100000}}) {
    NodeCache cache(limit);
    TreeCursor cursor(cache, tree_.root);
    for (uint64_t step = 0; step < kEntries; ++step) {
      const uint64_t i = step * 1237 % kEntries;
      ASSERT_EQ(Do(cursor, cache, [&] { return cursor.Seek(KeyAt(i)); }), WalkResult::kAtEntry);
      EXPECT_EQ(cursor.entry().key(), KeyAt(i));
      const std::string above = KeyAt(i) + "a";
      const WalkResult at = Do(cursor, cache, [&] { return cursor.Seek(above); });
      if (i + 1 == kEntries) {
        EXPECT_EQ(at, WalkResult::kEnd);
      } else {
        ASSERT_EQ(at, WalkResult::kAtEntry);
        EXPECT_EQ(cursor.entry().key(), KeyAt(i + 1));
      }
    }
  }
}

TEST_F(TreeCursorTest, SeekFloorFindsTheLastEntryNotAbove) {
  for (const size_t limit : {size_t{1}, size_t{100000}}) {
    NodeCache cache(limit);
    TreeCursor cursor(cache, tree_.root);
    for (uint64_t i = 1; i < kEntries; i += 7) {
      ASSERT_EQ(Do(cursor, cache, [&] { return cursor.SeekFloor(KeyAt(i)); }), WalkResult::kAtEntry);
      EXPECT_EQ(cursor.entry().key(), KeyAt(i));
      const std::string below = KeyAt(i).substr(0, 240);
      ASSERT_EQ(Do(cursor, cache, [&] { return cursor.SeekFloor(below); }), WalkResult::kAtEntry);
      EXPECT_EQ(cursor.entry().key(), KeyAt(i - 1));
    }
    ASSERT_EQ(Do(cursor, cache, [&] { return cursor.SeekFloor("\xff"); }), WalkResult::kAtEntry);
    EXPECT_EQ(cursor.entry().key(), KeyAt(kEntries - 1));
  }
}

TEST_F(TreeCursorTest, BelowTheFirstEntryNoLeafIsNeededToSayThatThereIsNone) {
  for (const size_t limit : {size_t{1}, size_t{100000}}) {
    NodeCache cache(limit);
    TreeCursor cursor(cache, tree_.root);
    tree_.loads = 0;
    ASSERT_EQ(Do(cursor, cache, [&] { return cursor.SeekFloor("\x01"); }), WalkResult::kNoFloor);
    EXPECT_EQ(cursor.next_key().value(), KeyAt(0));
    EXPECT_EQ(tree_.loads, 1u) << "the root says it";
    ASSERT_EQ(Do(cursor, cache, [&] { return cursor.Next(); }), WalkResult::kAtEntry);
    EXPECT_EQ(cursor.entry().key(), KeyAt(0));
    ASSERT_EQ(Do(cursor, cache, [&] { return cursor.Next(); }), WalkResult::kAtEntry);
    EXPECT_EQ(cursor.entry().key(), KeyAt(1));
    ASSERT_EQ(Do(cursor, cache, [&] { return cursor.Seek("\x01"); }), WalkResult::kAtEntry);
    EXPECT_EQ(cursor.entry().key(), KeyAt(0));
    ASSERT_EQ(Do(cursor, cache, [&] { return cursor.SeekFloor(KeyAt(7)); }), WalkResult::kAtEntry);
    EXPECT_EQ(cursor.entry().key(), KeyAt(7));
  }
}

TEST_F(TreeCursorTest, AbandonedSeekDoesNotMisleadTheFollowingOne) {
  NodeCache cache(1);
  TreeCursor cursor(cache, tree_.root);
  for (uint64_t i = 0; i + 1 < kEntries; ++i) {
    const std::string above = KeyAt(i) + "a";
    for (int loads = 0; loads < 3 && cursor.Seek(above) == WalkResult::kMissing; ++loads) {
      cache.Insert(*tree_.Load(cursor.missing()));
    }
    const uint64_t other = (i * 911) % kEntries;
    ASSERT_EQ(Do(cursor, cache, [&] { return cursor.SeekFloor(KeyAt(other)); }), WalkResult::kAtEntry);
    EXPECT_EQ(cursor.entry().key(), KeyAt(other));
    ASSERT_EQ(Do(cursor, cache, [&] { return cursor.Seek(above); }), WalkResult::kAtEntry);
    EXPECT_EQ(cursor.entry().key(), KeyAt(i + 1));
  }
}

TEST_F(TreeCursorTest, MissingNodeStaysMissingUntilItIsLoaded) {
  NodeCache cache(10);
  TreeCursor cursor(cache, tree_.root);
  EXPECT_EQ(cursor.Seek("a"), WalkResult::kMissing);
  EXPECT_EQ(cursor.missing(), tree_.root.root);
  EXPECT_EQ(cursor.Seek("a"), WalkResult::kMissing);
  EXPECT_EQ(cursor.missing(), tree_.root.root);
}

TEST_F(TreeCursorTest, NodeThatIsNotWhatItsParentSaysIsDamage) {
  const auto root = *tree_.Load(tree_.root.root);
  // A sound root whose first entry points at the second child.
  TreeNodeBuilder builder(root->level());
  for (int i = 0; i < root->count(); ++i) {
    ASSERT_TRUE(builder.Add(NodeEntry::OfChild(root->key(i), root->child(i == 0 ? 1 : i))));
  }
  const auto node = builder.Finish(kTestUuid, 99, 1);
  const BlockPointer pointer = node->pointer();
  ASSERT_TRUE(tree_.WriteNode(node).ok());
  NodeCache cache(100);
  TreeCursor cursor(cache, {pointer, tree_.root.node_count});
  EXPECT_EQ(Do(cursor, cache, [&] { return cursor.Seek(KeyAt(0)); }), WalkResult::kDamaged);
  EXPECT_EQ(cursor.damage().code(), absl::StatusCode::kDataLoss);
  // The same with a child of a wrong level.
  TreeNodeBuilder skewed(root->level() + 2);
  ASSERT_TRUE(skewed.Add(NodeEntry::OfChild(root->key(0), tree_.root.root)));
  const auto skewed_node = skewed.Finish(kTestUuid, 98, 1);
  const BlockPointer skewed_pointer = skewed_node->pointer();
  ASSERT_TRUE(tree_.WriteNode(skewed_node).ok());
  TreeCursor skewed_cursor(cache, {skewed_pointer, tree_.root.node_count});
  EXPECT_EQ(Do(skewed_cursor, cache, [&] { return skewed_cursor.SeekFloor(KeyAt(0)); }),
            WalkResult::kDamaged);
  EXPECT_EQ(Do(skewed_cursor, cache, [&] { return skewed_cursor.Next(); }), WalkResult::kDamaged);
}

TEST(TreeCursorOnMappingsTest, MappingThatReachesIntoTheFollowingNodeIsDamage) {
  MemoryTree tree;
  NodeCache cache(100);
  const auto node = [&](BlockNumber number, int level, std::vector<EntryStrings> entries) {
    TreeNodeBuilder builder(level);
    for (const EntryStrings& entry : entries) EXPECT_TRUE(builder.Add(*EntryOf(entry, level)));
    const std::shared_ptr<const TreeNode> made = builder.Finish(kTestUuid, number, 1);
    cache.Insert(made);
    return made->pointer();
  };
  const std::string first = MappingKey(ObjectId{1}, 0), second = MappingKey(ObjectId{1}, 8),
                    third = MappingKey(ObjectId{1}, 16);
  for (const BlockCount count : {BlockCount(8), BlockCount(9)}) {
    const auto at = [&](BlockNumber physical) {
      return MappingValue(physical, count, MappingState::kWritten);
    };
    const BlockPointer left = node(10, 0, {{first, at(100)}}), middle = node(11, 0, {{second, at(200)}}),
                       right = node(12, 0, {{third, at(300)}});
    // The leaf in the middle is the last of its parent: what follows is told further up.
    const BlockPointer lower = node(13, 1, {{first, ChildValue(left)}, {second, ChildValue(middle)}}),
                       beside = node(14, 1, {{third, ChildValue(right)}});
    const BlockPointer root = node(15, 2, {{first, ChildValue(lower)}, {third, ChildValue(beside)}});
    for (const std::string& key : {first, second}) {
      TreeCursor cursor(cache, {root, 6});
      EXPECT_EQ(cursor.SeekFloor(key), count == 8 ? WalkResult::kAtEntry : WalkResult::kDamaged);
      if (count == 9) {
        EXPECT_TRUE(absl::StrContains(cursor.damage().message(), "reaches into the following"))
            << cursor.damage();
      }
    }
    TreeCursor cursor(cache, {root, 6});
    EXPECT_EQ(cursor.SeekFloor(third), WalkResult::kAtEntry) << "nothing follows";
  }
}

TEST(TreeCursorOnNothingTest, EmptyTreeIsAtItsEnd) {
  NodeCache cache(1);
  TreeCursor cursor(cache, TreeRoot{});
  EXPECT_EQ(cursor.Seek("a"), WalkResult::kEnd);
  EXPECT_EQ(cursor.SeekFloor("a"), WalkResult::kEnd);
  EXPECT_EQ(cursor.Next(), WalkResult::kEnd);
}

TEST(TreeCursorOnNothingTest, EmptyRootLeafIsAtItsEnd) {
  TreeNodeBuilder builder(0);
  const std::shared_ptr<const TreeNode> node = builder.Finish(kTestUuid, 5, 1);
  const BlockPointer pointer = node->pointer();
  NodeCache cache(1);
  cache.Insert(node);
  TreeCursor cursor(cache, {pointer, 1});
  EXPECT_EQ(cursor.SeekFloor("a"), WalkResult::kEnd);
  EXPECT_EQ(cursor.Seek("a"), WalkResult::kEnd);
}

std::shared_ptr<const TreeNode> LeafAt(BlockNumber block_number, const std::string& key) {
  TreeNodeBuilder builder(0);
  EXPECT_TRUE(builder.Add(NodeEntry::OfPoint(NameKey(key), NameValue(ObjectId{1}))));
  return builder.Finish(kTestUuid, block_number, 1);
}

TEST(NodeCacheTest, DropsTheLeastRecentlyUsed) {
  NodeCache cache(2);
  const auto a = LeafAt(1, "a"), b = LeafAt(2, "b"), c = LeafAt(3, "c");
  cache.Insert(a);
  cache.Insert(b);
  EXPECT_EQ(cache.Find(a->pointer()), a);
  cache.Insert(c);
  EXPECT_EQ(cache.size(), 2u);
  EXPECT_EQ(cache.Find(b->pointer()), nullptr);
  EXPECT_EQ(cache.Find(a->pointer()), a);
  EXPECT_EQ(cache.Find(c->pointer()), c);
  EXPECT_EQ(cache.hits(), 3u);
  EXPECT_EQ(cache.misses(), 1u);
}

TEST(NodeCacheTest, OldNodeOfAReusedBlockIsNotFound) {
  NodeCache cache(2);
  const auto before = LeafAt(1, "a"), after = LeafAt(1, "b");
  cache.Insert(before);
  EXPECT_EQ(cache.Find(after->pointer()), nullptr);
  cache.Insert(after);
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(cache.Find(after->pointer()), after);
  EXPECT_EQ(cache.Find(before->pointer()), nullptr);
  cache.Erase(1);
  cache.Erase(1);
  EXPECT_EQ(cache.size(), 0u);
}

}  // namespace
}  // namespace untorn
