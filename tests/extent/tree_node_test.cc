#include "extent/tree_node.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "tests/extent/entry_strings.h"

namespace untorn {
namespace {

constexpr Uuid kUuid = {1, 2, 3};
constexpr BlockNumber kAddress = 42;
using Block = std::vector<std::byte>;

struct Built {
  static Built Of(const TreeNode& node) {
    return {Block(node.block().begin(), node.block().end()), node.pointer()};
  }
  Block block = Block(kBlockBytes);
  BlockPointer pointer;
  absl::StatusOr<std::shared_ptr<const TreeNode>> Parse() const {
    return TreeNode::Parse(block, kUuid, pointer);
  }
  void Reseal() { pointer.checksum = SealBlock(block); }
  template <typename T>
  void Put(size_t at, T v) {
    std::memcpy(&block[at], &v, sizeof(v));
  }
};
constexpr size_t kLevelAt = 52, kCountAt = 54, kPayloadAt = 48;

Built Build(int level, const std::vector<EntryStrings>& entries) {
  TreeNodeBuilder builder(level);
  for (const EntryStrings& entry : entries) EXPECT_TRUE(builder.Add(*EntryOf(entry, level)));
  return Built::Of(*builder.Finish(kUuid, kAddress, 3));
}

std::string MappingAt(uint64_t physical) {
  return MappingValue(BlockNumber(physical), 1, MappingState::kWritten);
}

Built SmallLeaf() {
  return Build(0, {{MappingKey(ObjectId{1}, 5), MappingAt(70)},
                   {NameKey("a"), NameValue(ObjectId{1})},
                   {NameKey("ab"), NameValue(ObjectId{2})},
                   {NameKey("b"), NameValue(ObjectId{3})}});
}

void ExpectDataLoss(const Built& built, const std::string& words) {
  const auto node = built.Parse();
  ASSERT_EQ(node.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(std::string(node.status().message()).find(words), std::string::npos) << node.status();
}

TEST(TreeNodeTest, EntriesAreReadBack) {
  const auto node = SmallLeaf().Parse();
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_EQ((*node)->level(), 0);
  ASSERT_EQ((*node)->count(), 4);
  EXPECT_EQ((*node)->key(0), MappingKey(ObjectId{1}, 5));
  EXPECT_EQ((*node)->entry(0).mapping.mapping.physical, 70);
  EXPECT_EQ((*node)->key(2), NameKey("ab"));
  EXPECT_EQ((*node)->entry(2).value, NameValue(ObjectId{2}));
  EXPECT_EQ((*node)->key(3), NameKey("b"));
  EXPECT_EQ((*node)->pointer().block, kAddress);
}

TEST(TreeNodeTest, InternalNodeReadsItsChildren) {
  const BlockPointer child{7, 0x1122334455667788}, other{9, 5};
  const auto node =
      Build(2, {{MappingKey(ObjectId{3}, 1), ChildValue(child)}, {NameKey("k"), ChildValue(other)}}).Parse();
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_EQ((*node)->level(), 2);
  EXPECT_EQ((*node)->child(0), child);
  EXPECT_EQ((*node)->child(1), other);
  EXPECT_EQ((*node)->key(0), MappingKey(ObjectId{3}, 1));
}

TEST(TreeNodeTest, FloorIsTheLastKeyNotAbove) {
  const auto node = SmallLeaf().Parse();
  ASSERT_TRUE(node.ok());
  const auto floor = [&](const std::string& key) { return (*node)->Floor(key).index(); };
  EXPECT_EQ(floor(""), -1);
  EXPECT_EQ(floor(MappingKey(ObjectId{1}, 4)), -1);
  EXPECT_EQ(floor(MappingKey(ObjectId{1}, 5)), 0);
  EXPECT_EQ(floor(MappingKey(ObjectId{2}, 0)), 0);
  EXPECT_EQ(floor(InodeKey(ObjectId{2})), 0);
  EXPECT_EQ(floor(NameKey("a")), 1);
  EXPECT_EQ(floor(NameKey("aa")), 1);
  EXPECT_EQ(floor(NameKey("ab")), 2);
  EXPECT_EQ(floor(NameKey("azzz")), 2);
  EXPECT_EQ(floor("\xff"), 3);
}

// Many entries of all kinds, as a leaf has them.
std::vector<EntryStrings> ManyEntries(std::mt19937_64& random, size_t mappings, size_t names) {
  std::vector<EntryStrings> entries;
  uint64_t object = 1, at = 0;
  for (size_t i = 0; i < mappings; ++i) {
    if (random() % 20 == 0) object += 1 + random() % 300, at = 0;
    at += random() % 3 ? 0 : random() % 500;
    const uint64_t count = random() % 4 ? 1 : 1 + random() % 40;
    const auto state = random() % 5 ? MappingState::kWritten : MappingState::kUnwritten;
    entries.emplace_back(MappingKey(ObjectId{object}, ObjectBlock(at)),
                         MappingValue(BlockNumber(1 + random() % 2000000), BlockCount(count), state));
    at += count;
  }
  if (names == 0) return entries;
  entries.emplace_back(MappingKey(ObjectId{object}, ObjectBlock(at + 3)),
                       LostValue(77, MappingKey(ObjectId{object}, ObjectBlock(at + 5))));
  entries.emplace_back(MappingKey(ObjectId{object}, ObjectBlock(at + 5)), MappingAt(5));
  for (size_t i = 0; i < names; ++i) {
    entries.emplace_back(NameKey("key" + std::to_string(100 + i) + std::string(i % 7, 'x')),
                         NameValue(ObjectId{1 + random() % 99}));
  }
  return entries;
}

TEST(TreeNodeTest, EveryEntryIsFoundByItsNumberAndByItsKey) {
  std::mt19937_64 random(5);
  for (const auto& [mappings, names] : {std::pair(60, 0), std::pair(40, 60), std::pair(0, 150)}) {
    const std::vector<EntryStrings> entries = ManyEntries(random, mappings, names);
    const auto node = Build(0, entries).Parse();
    ASSERT_TRUE(node.ok()) << node.status();
    EXPECT_EQ(StringsOf(**node), entries);
    for (int i = 0; i < (*node)->count(); ++i) {
      ASSERT_EQ(StringsOf((*node)->entry(i), 0), entries[i]);
      const std::string& key = entries[i].first;
      ASSERT_EQ((*node)->Floor(key).index(), i);
      ASSERT_EQ(StringsOf((*node)->Floor(key).entry(), 0), entries[i]);
      // A key between this one and the next.
      const std::string above = NextKey(key);
      const bool is_next = i + 1 < (*node)->count() && entries[i + 1].first == above;
      ASSERT_EQ((*node)->Floor(above).index(), i + is_next);
    }
  }
}

TEST(TreeNodeTest, MappingOfOneBlockTakesFewBytes) {
  // 2^17 blocks of one object, at random in a store of 2^21 blocks: 8 GiB.
  std::mt19937_64 random(9);
  TreeNodeBuilder builder(0);
  for (uint64_t i = 0;; ++i) {
    const std::string key = MappingKey(ObjectId{1}, ObjectBlock(i)),
                      value = MappingAt(1 + random() % (1 << 21));
    const EntryStrings entry{key, value};
    if (!builder.Add(*EntryOf(entry, 0))) break;
  }
  EXPECT_GT(builder.count(), 310) << "five bytes, and eight of the checksum";
  EXPECT_GT(builder.used_bytes(), kBlockBytes - 14);
}

TEST(TreeNodeTest, BuilderFillsTheBlockToTheLastByte) {
  TreeNodeBuilder builder(0);
  const auto inode = [](uint64_t id, size_t name_bytes) {
    return EntryStrings{InodeKey(ObjectId{id}), InodeValue({ObjectId{id}, 1, std::string(name_bytes, 'n')})};
  };
  // Such an entry has 21 bytes besides the name, if the name is short.
  constexpr size_t kOther = 1 + 1 + 9 + 1 + 8, kName = 100;
  uint64_t id = 1;
  for (; kBlockBytes - builder.used_bytes() >= 2 * (kOther + kName); ++id) {
    ASSERT_TRUE(builder.Add(*EntryOf(inode(id, kName), 0)));
  }
  ASSERT_TRUE(builder.Add(*EntryOf(inode(id, kBlockBytes - builder.used_bytes() - 2 * kOther - kName), 0)));
  EXPECT_FALSE(builder.Add(*EntryOf(inode(id + 1, kName + 1), 0)));
  ASSERT_TRUE(builder.Add(*EntryOf(inode(id + 1, kName), 0)));
  EXPECT_EQ(builder.used_bytes(), kBlockBytes);
  EXPECT_FALSE(builder.Add(*EntryOf({NameKey("l"), NameValue(ObjectId{1})}, 0)));
  const Built built = Built::Of(*builder.Finish(kUuid, kAddress, 1));
  EXPECT_TRUE(builder.empty());
  EXPECT_EQ(builder.used_bytes(), kHeaderBytes);
  ASSERT_TRUE(built.Parse().ok()) << built.Parse().status();
  EXPECT_EQ((*built.Parse())->entry_bytes(), kBlockBytes - kHeaderBytes);
  EXPECT_EQ((*built.Parse())->count(), static_cast<int>(id) + 1);
}

TEST(TreeNodeTest, RunOfEntriesIsCopiedAsIfEachWereAdded) {
  std::mt19937_64 random(6);
  const std::vector<EntryStrings> entries = ManyEntries(random, 40, 60);
  const auto node = Build(0, entries).Parse();
  ASSERT_TRUE(node.ok()) << node.status();
  const int count = (*node)->count();
  for (const auto& [first, last] :
       {std::pair(1, count - 1), std::pair(3, 4), std::pair(10, 49), std::pair(39, 50), std::pair(45, 45)}) {
    TreeNodeBuilder one_by_one(0), run(0);
    // The run begins behind an entry that is not what it was: it has fewer blocks, or it is another one.
    NodeEntry begin = (*node)->entry(first);
    Mapping& m = begin.mapping.mapping;
    if (begin.has_mapping_key()) m = m.From(m.logical.end() - 1);
    ASSERT_TRUE(one_by_one.Add(begin) && run.Add(begin));
    for (int i = first + 1; i <= last; ++i) ASSERT_TRUE(one_by_one.Add(*EntryOf(entries[i], 0)));
    EXPECT_EQ(run.AddRun(**node, (*node)->At(first), (*node)->At(last)).index(), last);
    EXPECT_EQ(run.used_bytes(), one_by_one.used_bytes());
    // What follows is told from the same entry.
    const EntryStrings after{NameKey("z"), NameValue(ObjectId{1})};
    ASSERT_TRUE(run.Add(*EntryOf(after, 0)) && one_by_one.Add(*EntryOf(after, 0)));
    const auto node_of_run = run.Finish(kUuid, kAddress, 1), other = one_by_one.Finish(kUuid, kAddress, 1);
    EXPECT_EQ(node_of_run->pointer(), other->pointer());
    // The marks that were copied lead to the right entries.
    const std::vector<EntryStrings> all = StringsOf(*other);
    for (int i = 0; i < node_of_run->count(); ++i) {
      ASSERT_EQ(StringsOf(node_of_run->entry(i), 0), all[i]);
      ASSERT_EQ(node_of_run->Floor(all[i].first).index(), i);
    }
  }
  TreeNodeBuilder full(0);
  for (uint64_t id = 1; id <= 13; ++id) {
    ASSERT_TRUE(full.Add(*EntryOf({MappingKey(ObjectId{1}, ObjectBlock(2 * id)), MappingAt(9)}, 0)));
  }
  while (full.used_bytes() < 2500) {
    const auto at = static_cast<uint64_t>(full.count());
    const EntryStrings entry{MappingKey(ObjectId{1}, ObjectBlock(100 + at)), MappingAt(1 + random() % 99999)};
    ASSERT_TRUE(full.Add(*EntryOf(entry, 0)));
  }
  const auto names = Build(0, ManyEntries(random, 0, 150)).Parse();
  ASSERT_TRUE(full.Add((*names)->entry(2)));
  const int begun = full.count();
  const NodeReader last = full.AddRun(**names, (*names)->At(2), (*names)->At(151));
  EXPECT_GT(last.index(), 2);
  EXPECT_LT(last.index(), 151);
  EXPECT_EQ(full.count(), begun + last.index() - 2);
  EXPECT_FALSE(full.Add((*names)->entry(last.index() + 1))) << "as many as fit";
  EXPECT_EQ(StringsOf(full).back(), StringsOf(last.entry(), 0));
}

TEST(TreeNodeDeathTest, EntriesOutOfOrderAbort) {
  TreeNodeBuilder builder(0);
  const EntryStrings entry{MappingKey(ObjectId{1}, 5), MappingAt(9)};
  ASSERT_TRUE(builder.Add(*EntryOf(entry, 0)));
  EXPECT_DEATH((void)builder.Add(*EntryOf(entry, 0)), "out of order");
  const EntryStrings of_lower{MappingKey(ObjectId{1}, 9), MappingAt(9)};
  TreeNodeBuilder objects(0);
  ASSERT_TRUE(objects.Add(*EntryOf({MappingKey(ObjectId{2}, 5), MappingAt(9)}, 0)));
  EXPECT_DEATH((void)objects.Add(*EntryOf(of_lower, 0)), "an entry that no node may have");
  const EntryStrings a{NameKey("a"), NameValue(ObjectId{1})}, b{NameKey("b"), NameValue(ObjectId{1})};
  TreeNodeBuilder names(0);
  ASSERT_TRUE(names.Add(*EntryOf(b, 0)) && names.Add(*EntryOf(a, 0)));
  EXPECT_DEATH((void)names.Finish(kUuid, kAddress, 1), "built a bad tree node");
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

// A sealed node of `level` whose entries are these bytes.
Built OfBytes(int level, int count, const std::string& entries) {
  Built built = Build(0, {});
  built.Put<uint8_t>(kLevelAt, static_cast<uint8_t>(level));
  built.Put<uint16_t>(kCountAt, static_cast<uint16_t>(count));
  built.Put<uint32_t>(kPayloadAt, static_cast<uint32_t>(entries.size()));
  std::memcpy(&built.block[kHeaderBytes], entries.data(), entries.size());
  built.Reseal();
  return built;
}
// An entry whose key is not told by numbers.
std::string Other(const std::string& key, const std::string& value) {
  return std::string(1, '\0') + static_cast<char>(key.size()) + key + static_cast<char>(value.size()) + value;
}

TEST(TreeNodeTest, SealedButMisshapenNodesAreDataLoss) {
  const auto spoiled = [](auto change) {
    Built built = SmallLeaf();
    change(built);
    built.Reseal();
    return built;
  };
  ExpectDataLoss(spoiled([](Built& b) { b.Put<uint32_t>(kPayloadAt, 4033); }), "payload");
  ExpectDataLoss(spoiled([](Built& b) { b.Put<uint32_t>(kPayloadAt, 4032); }), "behind the last entry");
  ExpectDataLoss(spoiled([](Built& b) { b.Put<uint16_t>(kCountAt, 5); }), "entry 4 makes no sense");
  ExpectDataLoss(spoiled([](Built& b) { b.Put<uint16_t>(kCountAt, 3); }), "behind the last entry");
  ExpectDataLoss(spoiled([](Built& b) { b.block[kHeaderBytes] = std::byte{0x11}; }),
                 "entry 0 makes no sense");
  ExpectDataLoss(spoiled([](Built& b) { b.block[kLevelAt] = std::byte{16}; }), "level above 15");
  ExpectDataLoss(OfBytes(1, 0, ""), "internal node without entries");

  const std::string name = NameValue(ObjectId{1}), mapping("\x1b\x01\x00\x02", 4);
  EXPECT_TRUE(OfBytes(0, 2, mapping + Other(NameKey("a"), name)).Parse().ok());
  ExpectDataLoss(OfBytes(0, 2, Other(NameKey("b"), name) + Other(NameKey("a"), name)), "keys not ascending");
  ExpectDataLoss(OfBytes(0, 2, Other(NameKey("b"), name) + mapping), "keys not ascending");
  ExpectDataLoss(OfBytes(0, 1, Other("\x07what", name)), "a key of no key space");
  ExpectDataLoss(OfBytes(0, 1, Other(NameKey("a"), "1234567")), "an ill-formed value");
  ExpectDataLoss(OfBytes(0, 1, Other(NameKey("a"), NameValue(ObjectId::kNone))), "an ill-formed value");
  ExpectDataLoss(OfBytes(0, 1, Other(InodeKey(ObjectId{1}), "12345678")), "an ill-formed value");
  const std::string first = MappingKey(ObjectId{1}, 0);
  ExpectDataLoss(OfBytes(0, 1, Other(first, MappingAt(9))), "an ill-formed value");
  ExpectDataLoss(OfBytes(1, 1,
                         Other(first, "").substr(0, 19) + "\x02"
                                                          "12345678"),
                 "not told by numbers");
  // What is lost, beside what is not.
  const auto lost = [](uint64_t from, uint64_t to) {
    return Other(MappingKey(ObjectId{1}, ObjectBlock(from)),
                 LostValue(7, MappingKey(ObjectId{1}, ObjectBlock(to))));
  };
  const std::string at_5("\x1f\x01\x05\x00\x02", 5);
  EXPECT_TRUE(OfBytes(0, 3, mapping + lost(1, 5) + at_5).Parse().ok());
  ExpectDataLoss(OfBytes(0, 3, mapping + lost(1, 6) + at_5), "reaches into the following entry");
  ExpectDataLoss(OfBytes(0, 2, std::string("\x2b\x01\x00\x02", 4) + lost(1, 5)), "was mapped before");
}

TEST(TreeNodeTest, EmptyLeafIsSound) {
  const auto node = Build(0, {}).Parse();
  ASSERT_TRUE(node.ok()) << node.status();
  EXPECT_EQ((*node)->count(), 0);
  EXPECT_EQ((*node)->Floor("a").index(), -1);
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
      header.payload_bytes = static_cast<uint32_t>(random() % 40);
      header.by_type[0] = random() % 3;
      header.by_type[2] = random() % 4;
      std::memcpy(built.block.data(), &header, sizeof(header));
      built.pointer.block = kAddress;
    } else {
      built = round % 4 == 1
                  ? SmallLeaf()
                  : Build(1, {{NameKey("a"), ChildValue({1, 1})}, {NameKey("b"), ChildValue({2, 1})}});
      for (int change = random() % 3; change >= 0; --change) {
        built.block[48 + random() % 90] = static_cast<std::byte>(random());
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
      const NodeEntry entry = (*node)->entry(i);
      const NodeKey key = entry.key();
      for (const char c : std::string_view(key)) touched += c;
      for (const char c : entry.value) touched += c;
      EXPECT_EQ((*node)->Floor(key).index(), i);
      if ((*node)->level() > 0) {
        EXPECT_TRUE((*node)->child(i));
      }
    }
  }
  EXPECT_GT(parsed, 0) << touched;
}

}  // namespace
}  // namespace untorn
