#include "extent/tree_node.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace untorn {
namespace {

constexpr Uuid kUuid = {1, 2, 3};
constexpr BlockNumber kAddress = 42;
using Block = std::vector<std::byte>;

struct Built {
  Block block = Block(kBlockBytes);
  BlockPointer pointer;
  absl::StatusOr<std::shared_ptr<const TreeNode>> Parse() const {
    return TreeNode::Parse(block, kUuid, pointer);
  }
  void Reseal() { pointer.checksum = SealBlock(block); }
  void Put16(size_t at, uint16_t v) { std::memcpy(&block[at], &v, 2); }
};

Built Build(int level, const std::vector<std::pair<std::string, std::string>>& entries) {
  TreeNodeBuilder builder(level);
  for (const auto& [key, value] : entries) builder.Add(key, value);
  Built built;
  built.pointer = builder.Finish(kUuid, kAddress, 3, built.block);
  return built;
}

Built SmallLeaf() { return Build(0, {{"a", "1"}, {"ab", ""}, {"b", "333"}}); }

void ExpectDataLoss(const Built& built, const std::string& words) {
  const auto node = built.Parse();
  ASSERT_EQ(node.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(std::string(node.status().message()).find(words), std::string::npos) << node.status();
}

TEST(TreeNodeTest, EntriesAreReadBack) {
  const auto node = SmallLeaf().Parse();
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_EQ((*node)->level(), 0);
  ASSERT_EQ((*node)->count(), 3);
  EXPECT_EQ((*node)->key(1), "ab");
  EXPECT_EQ((*node)->value(1), "");
  EXPECT_EQ((*node)->key(2), "b");
  EXPECT_EQ((*node)->value(2), "333");
  EXPECT_EQ((*node)->pointer().block, kAddress);
}

TEST(TreeNodeTest, InternalNodeReadsItsChildren) {
  const BlockPointer child{7, 0x1122334455667788};
  const auto node = Build(2, {{"k", ChildValue(child)}}).Parse();
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_EQ((*node)->level(), 2);
  EXPECT_EQ((*node)->child(0), child);
}

TEST(TreeNodeTest, FloorIsTheLastKeyNotAbove) {
  const auto node = SmallLeaf().Parse();
  ASSERT_TRUE(node.ok());
  EXPECT_EQ((*node)->FloorIndex(""), -1);
  EXPECT_EQ((*node)->FloorIndex("a"), 0);
  EXPECT_EQ((*node)->FloorIndex("aa"), 0);
  EXPECT_EQ((*node)->FloorIndex("ab"), 1);
  EXPECT_EQ((*node)->FloorIndex("azzz"), 1);
  EXPECT_EQ((*node)->FloorIndex("\xff"), 2);
}

TEST(TreeNodeTest, BuilderFillsTheBlockToTheLastByte) {
  TreeNodeBuilder builder(0);
  const size_t room = kBlockBytes - kHeaderBytes - 6;
  EXPECT_TRUE(builder.Fits("k", std::string(room - 1, 'v')));
  EXPECT_FALSE(builder.Fits("k", std::string(room, 'v')));
  builder.Add("k", std::string(room - 1, 'v'));
  EXPECT_EQ(builder.used_bytes(), kBlockBytes);
  EXPECT_FALSE(builder.Fits("l", ""));
  Built built;
  built.pointer = builder.Finish(kUuid, kAddress, 1, built.block);
  EXPECT_TRUE(builder.empty());
  EXPECT_EQ(builder.used_bytes(), kHeaderBytes);
  ASSERT_TRUE(built.Parse().ok()) << built.Parse().status();
  EXPECT_EQ((*built.Parse())->value(0).size(), room - 1);
}

TEST(TreeNodeTest, TakeEmptiesTheBuilder) {
  TreeNodeBuilder builder(0);
  builder.Add("a", "1");
  builder.Add("b", "2");
  const auto entries = builder.Take();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[1], std::pair(std::string("b"), std::string("2")));
  EXPECT_TRUE(builder.empty());
  EXPECT_EQ(builder.used_bytes(), kHeaderBytes);
}

TEST(TreeNodeTest, RunOfEntriesIsCopiedAsIfEachWereAdded) {
  std::vector<std::pair<std::string, std::string>> entries;
  for (int i = 0; i < 60; ++i) {
    entries.emplace_back("key" + std::to_string(100 + i), std::string(1 + i * 7 % 40, 'v'));
  }
  Built sorted = Build(0, entries);
  // The same entries, but elsewhere in the block: as another program may have put them.
  Built scattered = sorted;
  std::fill(scattered.block.begin() + kHeaderBytes, scattered.block.end(), std::byte{0});
  size_t at = kHeaderBytes + 2 * entries.size();
  for (size_t n = 0; n < entries.size(); ++n) {
    const size_t i = n * 7 % entries.size();
    const auto& [key, value] = entries[i];
    scattered.Put16(kHeaderBytes + 2 * i, static_cast<uint16_t>(at));
    scattered.Put16(at, static_cast<uint16_t>(key.size()));
    scattered.Put16(at + 2, static_cast<uint16_t>(value.size()));
    std::memcpy(&scattered.block[at + 4], (key + value).data(), key.size() + value.size());
    at += 4 + key.size() + value.size();
  }
  scattered.Reseal();
  for (const Built* from : {&sorted, &scattered}) {
    const auto node = from->Parse();
    ASSERT_TRUE(node.ok()) << node.status();
    for (const auto& [first, last] : {std::pair(0, 60), std::pair(3, 4), std::pair(10, 59)}) {
      TreeNodeBuilder one_by_one(0), run(0);
      one_by_one.Add("a", "before");
      run.Add("a", "before");
      for (int i = first; i < last; ++i) one_by_one.Add(entries[i].first, entries[i].second);
      EXPECT_EQ(run.AddRun(**node, first, last), last - first);
      EXPECT_EQ(run.used_bytes(), one_by_one.used_bytes());
      EXPECT_EQ(run.Seal(kUuid, kAddress, 1), one_by_one.Seal(kUuid, kAddress, 1));
    }
    TreeNodeBuilder full(0);
    full.Add("a", std::string(3000, 'v'));
    const int added = full.AddRun(**node, 0, 60);
    EXPECT_GT(added, 0);
    EXPECT_LT(added, 60);
    EXPECT_FALSE(full.Fits(entries[added].first, entries[added].second)) << "as many as fit";
    EXPECT_EQ(full.key(full.count() - 1), entries[added - 1].first);
  }
}

TEST(TreeNodeDeathTest, KeysOutOfOrderAbort) {
  TreeNodeBuilder builder(0);
  builder.Add("b", "");
  EXPECT_DEATH(builder.Add("b", ""), "out of order");
}

TEST(TreeNodeTest, AnyFlippedBitIsDataLoss) {
  Built built = SmallLeaf();
  for (size_t bit = 0; bit < kBlockBytes * 8; bit += 13) {
    built.block[bit / 8] ^= std::byte{1} << bit % 8;
    EXPECT_EQ(built.Parse().status().code(), absl::StatusCode::kDataLoss) << "bit " << bit;
    built.block[bit / 8] ^= std::byte{1} << bit % 8;
  }
}

TEST(TreeNodeTest, OtherVersionOfTheSameBlockIsDataLoss) {
  Built built = SmallLeaf();
  built.pointer.checksum ^= 1;
  ExpectDataLoss(built, "another version of the node");
}

TEST(TreeNodeTest, ShortBlockIsDataLoss) {
  const Built built = SmallLeaf();
  for (const size_t size : {size_t{0}, size_t{63}, size_t{64}, size_t{4095}}) {
    EXPECT_EQ(TreeNode::Parse(std::span(built.block).first(size), kUuid, built.pointer).status().code(),
              absl::StatusCode::kDataLoss);
  }
}

TEST(TreeNodeTest, SealedButMisshapenNodesAreDataLoss) {
  Built built = SmallLeaf();
  built.Put16(64, 70);  // beyond the offsets, but its lengths are not: zeros, an empty key before "ab"
  built.Reseal();
  EXPECT_TRUE(built.Parse().ok());
  built.Put16(64, 69);
  built.Reseal();
  ExpectDataLoss(built, "entry outside the block");
  built.Put16(64, 4093);
  built.Reseal();
  ExpectDataLoss(built, "entry outside the block");

  built = SmallLeaf();
  std::swap_ranges(&built.block[64], &built.block[66], &built.block[66]);
  built.Reseal();
  ExpectDataLoss(built, "keys not ascending");

  built = SmallLeaf();
  built.Put16(54, 3000);
  built.Reseal();
  ExpectDataLoss(built, "more offsets than fit");

  built = SmallLeaf();
  built.block[52] = std::byte{1};
  built.Reseal();
  ExpectDataLoss(built, "bad child pointer");

  built = Build(1, {{"a", ChildValue({1, 1})}});
  built.block[52] = std::byte{16};
  built.Reseal();
  ExpectDataLoss(built, "level above 15");

  built = Build(1, {{"a", std::string(16, '\0').replace(0, 1, "x")}});
  built.block[kBlockBytes - 16] = std::byte{0};
  built.Reseal();
  ExpectDataLoss(built, "bad child pointer");

  built = Build(1, {{"a", ChildValue({1, 1})}});
  built.Put16(54, 0);
  built.Reseal();
  ExpectDataLoss(built, "internal node without entries");
}

TEST(TreeNodeTest, EmptyLeafIsSound) {
  const auto node = Build(0, {}).Parse();
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_EQ((*node)->count(), 0);
  EXPECT_EQ((*node)->FloorIndex("a"), -1);
}

// Whatever passes Parse can be read whole; the sanitizers tell if that leaves the block.
TEST(TreeNodeTest, SealedRandomBytesAreRefusedOrReadable) {
  std::mt19937_64 random(7);
  size_t touched = 0;
  int parsed = 0;
  for (int round = 0; round < 5000; ++round) {
    Built built;
    if (round % 2 == 0) {
      for (size_t i = kHeaderBytes; i < kBlockBytes; ++i) built.block[i] = static_cast<std::byte>(random());
      BlockHeader header;
      header.type = static_cast<uint16_t>(BlockType::kTreeNode);
      header.uuid = kUuid;
      header.address = kAddress.value();
      header.payload_bytes = kBlockBytes - kHeaderBytes;
      header.by_type[0] = random() % 3;
      header.by_type[2] = random() % 4;
      std::memcpy(built.block.data(), &header, sizeof(header));
      built.pointer.block = kAddress;
    } else {
      built = round % 4 == 1 ? SmallLeaf() : Build(1, {{"a", ChildValue({1, 1})}, {"b", ChildValue({2, 1})}});
      for (int change = random() % 3; change >= 0; --change) {
        const size_t places[] = {48 + random() % 32, kBlockBytes - 1 - random() % 60};
        built.block[places[random() % 2]] = static_cast<std::byte>(random());
      }
    }
    built.Reseal();
    const auto node = built.Parse();
    if (!node.ok()) {
      EXPECT_EQ(node.status().code(), absl::StatusCode::kDataLoss);
      continue;
    }
    ++parsed;
    for (int i = 0; i < (*node)->count(); ++i) {
      for (const char c : (*node)->key(i)) touched += c;
      for (const char c : (*node)->value(i)) touched += c;
      EXPECT_EQ((*node)->FloorIndex((*node)->key(i)), i);
      if ((*node)->level() > 0) {
        EXPECT_TRUE((*node)->child(i));
      }
    }
  }
  EXPECT_GT(parsed, 0) << touched;
}

}  // namespace
}  // namespace untorn
