// Numbers of different meaning: what compiles, and what must not.
#include "base/strong_int.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <sstream>
#include <type_traits>

#include "absl/container/flat_hash_map.h"
#include "base/block_size.h"

namespace untorn {
namespace {

using Lsn = StrongInt<struct TestLsnTag, uint64_t>;

template <typename A, typename B>
concept CanAdd = requires(A a, B b) {
  a + b;
};
template <typename A, typename B>
concept CanSubtract = requires(A a, B b) {
  a - b;
};
template <typename A, typename B>
concept CanMultiply = requires(A a, B b) {
  a* b;
};
template <typename A, typename B>
concept CanCompare = requires(A a, B b) {
  a == b;
}
|| requires(A a, B b) { a < b; };

// ---- No variable converts ----

static_assert(!std::is_convertible_v<uint64_t, BlockCount>);
static_assert(!std::is_convertible_v<uint32_t, BlockCount>);
static_assert(!std::is_convertible_v<BlockCount, uint64_t>);
static_assert(!std::is_convertible_v<BlockCount, BlockNumber>);
static_assert(!std::is_constructible_v<BlockNumber, BlockCount>);
static_assert(!std::is_constructible_v<uint64_t, BlockCount>);
static_assert(!std::is_assignable_v<BlockCount&, uint64_t>);
static_assert(std::is_constructible_v<BlockCount, uint64_t>, "but it may be said");

// ---- Points and counts ----

static_assert(!CanAdd<BlockNumber, BlockNumber>);
static_assert(!CanAdd<BlockNumber, uint64_t>);
static_assert(!CanAdd<BlockCount, uint64_t>);
static_assert(!CanAdd<BlockCount, BlockNumber>);
static_assert(!CanAdd<Lsn, Lsn>);
static_assert(!CanSubtract<BlockNumber, ObjectBlock>);
static_assert(!CanSubtract<BlockCount, BlockNumber>);
static_assert(!CanMultiply<BlockNumber, uint64_t>);
static_assert(!CanMultiply<BlockCount, BlockCount>);
static_assert(!CanCompare<BlockNumber, ObjectBlock>);
static_assert(!CanCompare<BlockNumber, uint64_t>);
static_assert(std::is_same_v<decltype(BlockNumber() + BlockCount()), BlockNumber>);
static_assert(std::is_same_v<decltype(BlockNumber() - BlockCount()), BlockNumber>);
static_assert(std::is_same_v<decltype(BlockNumber() - BlockNumber()), BlockCount>);
static_assert(std::is_same_v<decltype(BlockCount() + BlockCount()), BlockCount>);
static_assert(std::is_same_v<decltype(BlockCount() - BlockCount()), BlockCount>);
static_assert(std::is_same_v<decltype(BlockCount() / BlockCount()), uint64_t>);
static_assert(std::is_same_v<decltype(BlockCount() % BlockCount()), BlockCount>);
static_assert(std::is_same_v<decltype(Lsn() - Lsn()), uint64_t>);

// ---- No cost ----

static_assert(sizeof(BlockNumber) == sizeof(uint64_t) && std::is_trivially_copyable_v<BlockNumber>);

struct Range {
  ObjectBlock start;
  BlockCount count;
  bool operator==(const Range&) const = default;
};

TEST(StrongIntTest, NewOneIsZero) { EXPECT_EQ(Range(), (Range{0, 0})); }

TEST(StrongIntTest, LiteralsConvert) {
  const Range range{3, 4};
  EXPECT_EQ(range.start + 2, 5);
  EXPECT_EQ(range.start + range.count - 1, 6);
  EXPECT_LT(range.count, 5);
  EXPECT_TRUE(range.count > 0 && 0 < range.count && range.start != 4);
}

TEST(StrongIntTest, PointsMoveByCountsAndAreCountsApart) {
  BlockNumber block = 10;
  block += 5;
  ++block;
  EXPECT_EQ(block, 16);
  EXPECT_EQ(block - BlockNumber(10), BlockCount(6));
  block -= BlockCount(6);
  --block;
  EXPECT_EQ(block, 9);
}

TEST(StrongIntTest, SequenceNumbersMoveByNumbers) {
  Lsn lsn = 7;
  const uint64_t records = 3;
  lsn += records;
  EXPECT_EQ(lsn, 10);
  EXPECT_EQ(lsn - 1, 9);
  EXPECT_EQ(lsn - Lsn(7), records);
}

TEST(StrongIntTest, CountsAreMultipliedAndShared) {
  const BlockCount count = 100;
  EXPECT_EQ(count * 3, 300);
  EXPECT_EQ(3 * count, 300);
  EXPECT_EQ(count / 8, 12);
  EXPECT_EQ(count / BlockCount(8), 12u);
  EXPECT_EQ(count % BlockCount(8), 4);
}

TEST(StrongIntTest, PointFallsInOnePieceOfThoseOfALength) {
  const BlockNumber block = 100;
  EXPECT_EQ(block / BlockCount(8), 12u);
  EXPECT_EQ(block % BlockCount(8), 4);
  EXPECT_EQ(block.RoundDown(8), 96);
  EXPECT_EQ(block.RoundUp(8), 104);
  EXPECT_EQ(BlockNumber(96).RoundUp(8), 96);
}

TEST(StrongIntTest, NumbersAreOrderedHashedAndPrinted) {
  const std::set<Lsn> sorted{Lsn(9), Lsn(2), Lsn(5)};
  EXPECT_EQ(*sorted.begin(), 2);
  EXPECT_LT(Lsn(9), Lsn::Max());
  absl::flat_hash_map<BlockNumber, int> by_block;
  by_block[4] = 1;
  by_block[5] = 2;
  EXPECT_EQ(by_block[5], 2);
  std::ostringstream text;
  text << Lsn(12);
  EXPECT_EQ(text.str(), "12");
}

TEST(BlockSizeTest, BytesAndBlocksAreConvertedByName) {
  EXPECT_EQ(Bytes(3), 3 * kBlockBytes);
  EXPECT_EQ(ByteOffset(BlockNumber(3)), 3 * kBlockBytes);
  EXPECT_EQ(BlocksFor(0), 0);
  EXPECT_EQ(BlocksFor(kBlockBytes + 1), 2);
  EXPECT_EQ(WholeBlocks(2 * kBlockBytes - 1), 1);
  EXPECT_EQ(ObjectBlockAt(2 * kBlockBytes - 1), 1);
  EXPECT_EQ(DeviceBlockAt(2 * kBlockBytes), 2);
  EXPECT_EQ(ObjectEnd(kBlockBytes), 1);
  EXPECT_EQ(ObjectEnd(kBlockBytes + 1), 2);
  EXPECT_EQ(BlockAfterFirst(5), 5);
  EXPECT_EQ(BlocksBefore(5), 5);
}

}  // namespace
}  // namespace untorn
