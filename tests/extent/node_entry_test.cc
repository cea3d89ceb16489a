#include "extent/node_entry.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <initializer_list>
#include <random>
#include <vector>

#include "tests/extent/entry_strings.h"

namespace untorn {
namespace {

using Bytes = std::vector<std::byte>;

Bytes BytesOf(std::initializer_list<int> values) {
  Bytes bytes;
  for (int v : values) bytes.push_back(static_cast<std::byte>(v));
  return bytes;
}

NodeEntry MappingAt(uint64_t object, uint64_t start, uint64_t count, uint64_t physical,
                    MappingState state = MappingState::kWritten, uint64_t opened = 0) {
  Mapping m{{ObjectBlock(start), BlockCount(count)}, state, BlockNumber(physical)};
  m.opened = LogEpoch(opened);
  return NodeEntry::OfMapping(ObjectId{object}, WithTestChecksums(m));
}
// Appends the checksums of `count` blocks from `physical` on.
void PutChecksums(Bytes& bytes, uint64_t physical, uint64_t count) {
  const std::byte* const first = TestChecksums(BlockNumber(physical)).bytes();
  bytes.insert(bytes.end(), first, first + count * kChecksumBytes);
}

Bytes Encode(const std::vector<NodeEntry>& entries, int level) {
  Bytes bytes;
  NodeEntryBase base;
  for (const NodeEntry& entry : entries) {
    Bytes one(EntryBytesMax(entry));
    one.resize(static_cast<size_t>(EncodeEntry(entry, level, base, one.data()) - one.data()));
    bytes.insert(bytes.end(), one.begin(), one.end());
    base.Pass(entry);
  }
  return bytes;
}

// What a reader finds, and whether it got to the end.
std::pair<std::vector<EntryStrings>, bool> Read(const Bytes& bytes, int level) {
  std::vector<EntryStrings> entries;
  NodeReader reader(bytes.data(), level, 0, bytes.size());
  while (reader.Next()) {
    EXPECT_EQ(reader.index(), static_cast<int>(entries.size()));
    entries.push_back(StringsOf(reader.entry(), level));
  }
  return {entries, reader.at_end()};
}

TEST(NodeEntryTest, NumbersAreToldFromTheEntryBefore) {
  const std::string name = NameKey("n");
  const std::vector<NodeEntry> entries = {
      MappingAt(1, 0, 1, 100),                           // tag, object, distance 100
      MappingAt(1, 1, 2, 90, MappingState::kUnwritten),  // right behind, 11 blocks back
      MappingAt(1, 300, 16, 92),                         // a gap of 297, a count that does not fit the tag
      MappingAt(3, 7, 15, 108),                          // another object: its gap is from 0
      MappingAt(3, 22, 1, 123, MappingState::kWritten, 300),  // opened in log epoch 300
      NodeEntry::OfPoint(name, "v"),
  };
  const Bytes bytes = Encode(entries, 0);
  Bytes expected;
  const auto put = [&](std::initializer_list<int> values) {
    const Bytes more = BytesOf(values);
    expected.insert(expected.end(), more.begin(), more.end());
  };
  put({0x13, 1, 0xc8, 1});
  PutChecksums(expected, 100, 1);
  put({0x29, 0, 0x15});
  put({0x05, 0xa9, 0x02, 16, 0});
  PutChecksums(expected, 92, 16);
  put({0xf7, 2, 7, 0});
  PutChecksums(expected, 108, 15);
  put({0x19, 0xac, 0x02, 0});
  PutChecksums(expected, 123, 1);
  put({0, 2, 3, 'n', 1, 'v'});
  EXPECT_EQ(bytes, expected);
  const auto [read, at_end] = Read(bytes, 0);
  EXPECT_TRUE(at_end);
  ASSERT_EQ(read.size(), entries.size());
  for (size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(read[i], StringsOf(entries[i], 0)) << i;
}

TEST(NodeEntryTest, ChildrenAreToldAsMappingsOfOneBlock) {
  const std::string name = NameKey("n");
  const std::vector<NodeEntry> entries = {
      NodeEntry::OfChild(MappingKey(ObjectId{1}, 0), {BlockNumber(64), 0x0807060504030201}),
      NodeEntry::OfChild(MappingKey(ObjectId{1}, 5), {BlockNumber(65), 1}),
      NodeEntry::OfChild(name, {BlockNumber(60), 2}),
  };
  const Bytes bytes = Encode(entries, 1);
  EXPECT_EQ(bytes, BytesOf({0x03, 1, 0x80, 1,   1,  2, 3, 4, 5, 6, 7, 8,  //
                            0x05, 4, 0,    1,   0,  0, 0, 0, 0, 0, 0,     //
                            0,    2, 3,    'n', 11, 2, 0, 0, 0, 0, 0, 0, 0}));
  const auto [read, at_end] = Read(bytes, 1);
  EXPECT_TRUE(at_end);
  ASSERT_EQ(read.size(), 3u);
  for (size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(read[i], StringsOf(entries[i], 1)) << i;
}

TEST(NodeEntryTest, LargestNumbersTakeTheMostBytes) {
  const NodeEntry first = MappingAt(1, 0, 1, 1);
  const uint64_t most = kWrittenEntryBlocksMax.value();
  for (const NodeEntry& last : {MappingAt(kNumberMax, kObjectEnd.value() - UINT32_MAX, UINT32_MAX,
                                          UINT64_MAX / 2 - UINT32_MAX, MappingState::kUnwritten),
                                MappingAt(kNumberMax, kObjectEnd.value() - most, most, UINT64_MAX / 2 - most,
                                          MappingState::kWritten, kNumberMax)}) {
    for (const auto& entries : {std::vector{last}, std::vector{first, last}}) {
      const Bytes bytes = Encode(entries, 0);
      EXPECT_LE(bytes.size(), entries.size() * (kNumberEntryBytesMax + most * kChecksumBytes));
      const auto [read, at_end] = Read(bytes, 0);
      EXPECT_TRUE(at_end);
      ASSERT_FALSE(read.empty());
      EXPECT_EQ(read.back(), StringsOf(last, 0));
    }
  }
  const NodeEntry child = NodeEntry::OfChild(MappingKey(ObjectId{kNumberMax}, kObjectEnd - 1),
                                             {BlockNumber::Max() - 1, UINT64_MAX});
  EXPECT_LE(Encode({child}, 1).size(), kNumberEntryBytesMax);
  EXPECT_EQ(Read(Encode({child}, 1), 1).first.at(0), StringsOf(child, 1));
}

TEST(NodeEntryTest, BytesThatAreNoEntryAreRefused) {
  const struct {
    const char* why;
    int level;
    Bytes bytes;
  } cases[] = {
      {"no object", 0, BytesOf({0x11, 2})},
      {"object 0", 0, BytesOf({0x13, 0, 2})},
      {"the object does not follow", 0, BytesOf({0x13, 1})},
      {"no gap", 0, BytesOf({0x17, 1, 0, 2})},
      {"block 0", 0, BytesOf({0x13, 1, 0})},
      {"an extent before block 0", 0, BytesOf({0x13, 1, 1})},
      {"a count that fits the tag", 0, BytesOf({0x03, 1, 15, 2})},
      {"a count of 0", 0, BytesOf({0x03, 1, 0, 2})},
      {"a varint with a needless byte", 0, BytesOf({0x13, 0x81, 0x00, 2})},
      {"a varint without an end", 0, BytesOf({0x13, 0x81})},
      {"a varint beyond 64 bits", 0,
       BytesOf({0x13, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02})},
      {"checksums beyond the end", 0, BytesOf({0x13, 1, 2, 1, 2, 3, 4, 5, 6, 7})},
      {"a log epoch beyond all numbers", 0,
       BytesOf({0x1b, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 2, 1, 2, 3, 4, 5, 6, 7, 8})},
      {"a tag with other bits", 0, BytesOf({0x02, 1, 3, 'n', 1, 'v'})},
      {"an empty key", 0, BytesOf({0, 0, 1, 'v'})},
      {"a key beyond the end", 0, BytesOf({0, 3, 3, 'n'})},
      {"a value beyond the end", 0, BytesOf({0, 2, 3, 'n', 2, 'v'})},
      {"a child with a state", 1, BytesOf({0x0b, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8})},
      {"a child with a count", 1, BytesOf({0x13, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8})},
      {"a checksum beyond the end", 1, BytesOf({0x03, 1, 2, 1, 2, 3, 4, 5, 6, 7})},
  };
  for (const auto& [why, level, bytes] : cases) {
    NodeReader reader(bytes.data(), level, 0, bytes.size());
    EXPECT_FALSE(reader.Next()) << why;
    EXPECT_FALSE(reader.at_end()) << why;
  }
  // More written blocks than one entry has.
  Bytes many = BytesOf({0x03, 1, 63, 2});
  PutChecksums(many, 1, 63);
  EXPECT_EQ(Read(many, 0).first.size(), 0u);
  many[2] = std::byte{62};
  EXPECT_EQ(Read(many, 0).first.size(), 1u);
  // The last block of an object, and the one behind it.
  const NodeEntry last = MappingAt(1, kObjectEnd.value() - 1, 1, 9, MappingState::kUnwritten);
  Bytes bytes = Encode({last}, 0);
  EXPECT_EQ(Read(bytes, 0).first.size(), 1u);
  bytes[0] ^= std::byte{0x30};  // a count of 2
  EXPECT_EQ(Read(bytes, 0).first.size(), 0u);
}

// Whatever a reader accepts is encoded as the same bytes, so no entry has two encodings.
TEST(NodeEntryTest, RandomBytesThatAreEntriesAreTheirOnlyEncoding) {
  std::mt19937_64 random(11);
  size_t read = 0;
  for (int round = 0; round < 300000; ++round) {
    const int level = static_cast<int>(random() % 2);
    Bytes bytes(1 + random() % 80);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() % 3 ? random() % 20 : random());
    NodeReader reader(bytes.data(), level, 0, bytes.size());
    NodeEntryBase base;
    while (reader.Next()) {
      ++read;
      const NodeEntry& entry = reader.entry();
      // A child's key that is a mapping's is told by numbers; a node with another is refused as a whole.
      if (!entry.has_mapping_key() && IsMappingKey(entry.other_key)) break;
      Bytes again(EntryBytesMax(entry));
      again.resize(static_cast<size_t>(EncodeEntry(entry, level, base, again.data()) - again.data()));
      ASSERT_EQ(again, Bytes(&bytes[reader.begin()], &bytes[0] + reader.next()));
      base.Pass(entry);
    }
  }
  EXPECT_GT(read, 10000u);
}

}  // namespace
}  // namespace untorn
