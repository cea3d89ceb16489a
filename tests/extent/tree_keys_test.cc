#include "extent/tree_keys.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace untorn {
namespace {

constexpr ObjectId kObject{0x0102030405060708};

TEST(TreeKeysTest, KeysAreBigEndianBytes) {
  EXPECT_EQ(MappingKey(kObject, 0x0a0b),
            std::string("\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\x0a\x0b", 17));
  EXPECT_EQ(InodeKey(kObject), "\x02\x01\x02\x03\x04\x05\x06\x07\x08");
  EXPECT_EQ(NameKey("abc"),
            "\x03"
            "abc");
}

TEST(TreeKeysTest, ByteOrderIsNumericOrder) {
  const uint64_t numbers[] = {
      1, 2, 127, 128, 255, 256, 65535, 1 << 20, uint64_t{1} << 40, (kObjectEnd - 1).value()};
  for (const uint64_t a : numbers) {
    for (const uint64_t b : numbers) {
      EXPECT_EQ(MappingKey(kObject, ObjectBlock(a)) < MappingKey(kObject, ObjectBlock(b)), a < b);
      EXPECT_EQ(MappingKey(ObjectId{a}, 9) < MappingKey(ObjectId{b}, 3), a < b || (a == b && 9 < 3));
      EXPECT_LT(MappingKey(ObjectId{a}, ObjectBlock(b)), InodeKey(ObjectId{b}));
      EXPECT_LT(InodeKey(ObjectId{a}), NameKey("\x01"));
    }
  }
}

TEST(TreeKeysTest, InodeAndNameAreReadBack) {
  for (const bool preallocated : {false, true}) {
    const Inode inode{kObject, kObjectBytesMax, std::string(255, 'n'), preallocated};
    EXPECT_EQ(ParseInode(InodeKey(kObject), InodeValue(inode)), inode);
  }
  EXPECT_EQ(ParseName(NameKey("x"), NameValue(kObject)), std::pair(std::string("x"), kObject));
}

TEST(TreeKeysTest, LostKeysAreReadBackAndTakenForNothingElse) {
  for (const std::string& limit :
       {std::string(), MappingKey(kObject, 7), InodeKey(kObject), NameKey("a seven")}) {
    const std::string key = MappingKey(kObject, 5), value = LostValue(42, limit);
    const auto lost = ParseLost(key, value);
    ASSERT_TRUE(lost);
    EXPECT_EQ(lost->first, key);
    EXPECT_EQ(lost->limit, limit);
    EXPECT_EQ(lost->node, 42);
    EXPECT_TRUE(IsWellFormed(key, value));
    EXPECT_FALSE(ParseName(key, value));
    EXPECT_FALSE(lost->Cover(MappingKey(kObject, 4)));
    EXPECT_TRUE(lost->Cover(MappingKey(kObject, 6)));
    EXPECT_EQ(lost->Cover(MappingKey(kObject, 7)), limit != MappingKey(kObject, 7));
    EXPECT_EQ(lost->Cover(NameKey("zz")), limit.empty());
  }
  EXPECT_FALSE(ParseInode(InodeKey(kObject), LostValue(42, "")));
  EXPECT_FALSE(ParseName(NameKey("a"), LostValue(42, "")));
  EXPECT_FALSE(ParseLost(NameKey("b"), LostValue(42, NameKey("a")))) << "it ends before it begins";
  EXPECT_FALSE(ParseLost(NameKey("b"), LostValue(0, "")));
  EXPECT_FALSE(ParseLost(NameKey("b"), LostValue(42, NameKey(std::string(300, 'c'))))) << "it ends at no key";
  EXPECT_FALSE(ParseLost("\x07", LostValue(42, "")));
}

TEST(TreeKeysTest, NextKeyIsTheLeastThatIsWellFormed) {
  EXPECT_EQ(NextKey(MappingKey(kObject, 5)), MappingKey(kObject, 6));
  EXPECT_EQ(NextKey(MappingKey(kObject, kObjectEnd - 1)), MappingKey(ObjectId{Value(kObject) + 1}, 0));
  EXPECT_EQ(NextKey(InodeKey(kObject)), InodeKey(ObjectId{Value(kObject) + 1}));
  EXPECT_EQ(NextKey(NameKey("a")), NameKey("a\x01"));
  const std::string longest(255, 'a');
  EXPECT_EQ(NextKey(NameKey(longest)), NameKey(std::string(254, 'a') + "b"));
  EXPECT_EQ(NextKey(NameKey("a" + std::string(254, '\xff'))), NameKey("b"));
  EXPECT_EQ(NextKey(NameKey(std::string(255, '\xff'))), "") << "there is none";
  for (const KeySpace space : {KeySpace::kMapping, KeySpace::kInode, KeySpace::kName}) {
    EXPECT_EQ(KeySpaceOf(FirstKeyOf(space)), space);
  }
}

TEST(TreeKeysTest, KeysOutsideTheirSpaceAreRefused) {
  EXPECT_EQ(KeySpaceOf(MappingKey(kObject, kObjectEnd - 1)), KeySpace::kMapping);
  EXPECT_EQ(KeySpaceOf(InodeKey(kObject)), KeySpace::kInode);
  EXPECT_EQ(KeySpaceOf(NameKey(std::string(255, 'a'))), KeySpace::kName);
  EXPECT_FALSE(KeySpaceOf(""));
  EXPECT_FALSE(KeySpaceOf(std::string(9, '\0')));
  EXPECT_FALSE(
      KeySpaceOf("\x04"
                 "abcdefgh"));
  EXPECT_FALSE(KeySpaceOf(MappingKey(kObject, kObjectEnd)));
  EXPECT_FALSE(KeySpaceOf(MappingKey(ObjectId::kNone, 1)));
  EXPECT_FALSE(KeySpaceOf(MappingKey(kObject, 1) + "x"));
  EXPECT_FALSE(KeySpaceOf(InodeKey(ObjectId::kNone)));
  EXPECT_FALSE(KeySpaceOf(InodeKey(kObject).substr(0, 8)));
  EXPECT_FALSE(KeySpaceOf(NameKey("")));
  EXPECT_FALSE(KeySpaceOf(NameKey(std::string(256, 'a'))));
  EXPECT_FALSE(KeySpaceOf(NameKey(std::string("a\0b", 3))));
}

TEST(TreeKeysTest, IllFormedValuesAreRefused) {
  EXPECT_FALSE(ParseInode(InodeKey(kObject), "1234567"));
  EXPECT_FALSE(ParseInode(InodeKey(kObject), InodeValue({kObject, 1, ""})));
  EXPECT_FALSE(ParseInode(InodeKey(kObject), InodeValue({kObject, kObjectBytesMax + 1, "a"})));
  EXPECT_FALSE(ParseInode(InodeKey(kObject), InodeValue({kObject, 1, std::string(256, 'a')})));
  EXPECT_FALSE(ParseName(NameKey("a"), NameValue(ObjectId::kNone)));
  EXPECT_FALSE(ParseName(NameKey("a"), "1234567"));
}

TEST(TreeKeysTest, EntriesOfAnotherSpaceAreRefused) {
  EXPECT_FALSE(IsWellFormed(MappingKey(kObject, 5), NameValue(kObject))) << "a mapping is told by numbers";
  EXPECT_FALSE(ParseInode(NameKey("abcdefgh"), InodeValue({kObject, 1, "a"})));
  EXPECT_FALSE(ParseName(InodeKey(kObject), NameValue(kObject)));
}

TEST(TreeKeysTest, RandomBytesNeverCrash) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string key(random() % 20, '\0'), value(random() % 20, '\0');
    for (char& c : key) c = static_cast<char>(random());
    for (char& c : value) c = static_cast<char>(random());
    if (!key.empty()) key[0] = static_cast<char>(random() % 5);
    if (const auto inode = ParseInode(key, value)) {
      EXPECT_EQ(InodeValue(*inode), value);
    }
    if (const auto name = ParseName(key, value)) {
      EXPECT_EQ(NameKey(name->first), key);
    }
  }
}

}  // namespace
}  // namespace untorn
