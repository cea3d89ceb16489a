// The superblock: the table in extent/superblock.h, which slot is in use, and what forbids opening (promise
// 9).
#include "extent/superblock.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <vector>

#include "extent/free_map_format.h"
#include "sim/simulated_device.h"

namespace untorn {
namespace {

constexpr BlockCount kTotal = 4096;

Superblock Full() {
  Superblock s;
  s.uuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  s.generation = 42;
  s.features = {0x100, 0x200, 0x300};
  s.geometry = Geometry::ForSize(kTotal);
  s.epoch = 7;
  s.checkpoint_lsn = 1000;
  s.checkpoint_position = 2000;
  s.checkpoint_checksum = 3000;
  s.durable_lsn = 1001;
  s.prepared_blocks = 3500;
  s.next_object = 77;
  s.tree = {{600, 601}, 9, 20000, 2};
  s.free_map = {272, 273};
  s.used_blocks = 900;
  return s;
}

using Block = std::vector<std::byte>;

Block Encode(const Superblock& s, int slot = 0) {
  Block block(kBlockBytes, std::byte{0xee});
  EncodeSuperblock(s, slot, block);
  return block;
}

uint64_t At(const Block& block, size_t offset) {
  uint64_t value;
  std::memcpy(&value, block.data() + offset, sizeof(value));
  return value;
}

void ExpectEqual(const Superblock& a, const Superblock& b) {
  EXPECT_EQ(a.uuid, b.uuid);
  EXPECT_EQ(a.generation, b.generation);
  EXPECT_EQ(a.features.compatible, b.features.compatible);
  EXPECT_EQ(a.features.read_only_compatible, b.features.read_only_compatible);
  EXPECT_EQ(a.features.incompatible, b.features.incompatible);
  EXPECT_EQ(a.geometry, b.geometry);
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.checkpoint_lsn, b.checkpoint_lsn);
  EXPECT_EQ(a.checkpoint_position, b.checkpoint_position);
  EXPECT_EQ(a.checkpoint_checksum, b.checkpoint_checksum);
  EXPECT_EQ(a.durable_lsn, b.durable_lsn);
  EXPECT_EQ(a.prepared_blocks, b.prepared_blocks);
  EXPECT_EQ(a.next_object, b.next_object);
  EXPECT_EQ(a.tree, b.tree);
  EXPECT_EQ(a.free_map, b.free_map);
  EXPECT_EQ(a.used_blocks, b.used_blocks);
}

TEST(SuperblockTest, LanesComeBackAndMustLieInTheDataArea) {
  Superblock s = Full();
  s.lanes.push_back({s.geometry.log.end(), 9});
  s.lanes.push_back({s.geometry.end() - 5, 5});
  const auto decoded = DecodeSuperblock(Encode(s), 0);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->lanes, s.lanes);
  s.lanes.push_back({s.geometry.end() - 5, 6});
  EXPECT_TRUE(absl::IsDataLoss(DecodeSuperblock(Encode(s), 0).status()));
}

TEST(SuperblockTest, ComesBackAsItWasFromEitherSlot) {
  for (const int slot : {0, 1}) {
    const auto decoded = DecodeSuperblock(Encode(Full(), slot), slot);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    ExpectEqual(*decoded, Full());
  }
}

TEST(SuperblockTest, FieldsAreWhereTheTableSaysAndTheRestIsZero) {
  const Superblock s = Full();
  const Block block = Encode(s, 1);
  EXPECT_EQ(At(block, 0) & 0xffffffffffff, uint64_t{kMagic} | uint64_t{1} << 32) << "magic and type";
  EXPECT_EQ(At(block, 24), 8u) << "own address";
  EXPECT_EQ(At(block, 32), s.generation.value());
  const uint64_t kFields[] = {0x100,
                              0x200,
                              0x300,
                              kTotal.value(),
                              s.geometry.log.start.value(),
                              s.geometry.log.count.value(),
                              7,
                              1000,
                              2000,
                              3000,
                              1001,
                              3500,
                              77,
                              600,
                              601,
                              9,
                              272,
                              273,
                              900,
                              20000,
                              2};
  size_t offset = 64;
  for (const uint64_t field : kFields) {
    EXPECT_EQ(At(block, offset), field) << "offset " << offset;
    offset += 8;
  }
  EXPECT_EQ(offset, 232u);
  for (; offset < kBlockBytes; ++offset) ASSERT_EQ(block[offset], std::byte{0}) << offset;
}

// ---- Damage ----

TEST(SuperblockTest, AnyFlippedBitIsFound) {
  Block block = Encode(Full());
  for (size_t bit = 0; bit < block.size() * 8; ++bit) {
    block[bit / 8] ^= std::byte{1} << bit % 8;
    const absl::Status status = DecodeSuperblock(block, 0).status();
    ASSERT_TRUE(bit < 32 ? absl::IsNotFound(status) : absl::IsDataLoss(status)) << "bit " << bit << status;
    block[bit / 8] ^= std::byte{1} << bit % 8;
  }
}

TEST(SuperblockTest, BlockWithoutMagicIsNoSuperblock) {
  EXPECT_TRUE(absl::IsNotFound(DecodeSuperblock(Block(kBlockBytes), 0).status()));
}

TEST(SuperblockTest, SuperblockInTheOtherSlotIsDataLoss) {
  EXPECT_TRUE(absl::IsDataLoss(DecodeSuperblock(Encode(Full(), 1), 0).status()));
}

TEST(SuperblockTest, SoundSuperblockOfAnotherFormatVersionIsUnimplemented) {
  Block block = Encode(Full());
  block[6] = std::byte{kFormatVersion + 1};
  SealBlock(block);
  EXPECT_TRUE(absl::IsUnimplemented(DecodeSuperblock(block, 0).status()));
}

TEST(SuperblockTest, FieldsThatContradictEachOtherAreDataLoss) {
  const std::pair<const char*, std::function<void(Superblock&)>> kCases[] = {
      {"generation 0", [](Superblock& s) { s.generation = 0; }},
      {"too small", [](Superblock& s) { s.geometry = Geometry::ForSize(kStoreBlocksMin - 1); }},
      {"too large", [](Superblock& s) { s.geometry.total_blocks = BlockCount::Max(); }},
      {"log in a head", [](Superblock& s) { --s.geometry.log.start; }},
      {"log beyond the end", [](Superblock& s) { s.geometry.log.start = BlockAfterFirst(kTotal); }},
      {"log too short", [](Superblock& s) { s.geometry.log.count = kLogBlocksMin - 1; }},
      {"log too long", [](Superblock& s) { s.geometry.log.count = kLogBlocksMax + 1; }},
      {"store ends in a head", [](Superblock& s) { s.geometry.total_blocks = kGroupBlocks + 1; }},
      {"prepared end in a head", [](Superblock& s) { s.prepared_blocks = kGroupBlocks + 1; }},
      {"less used than the fixed areas", [](Superblock& s) { s.used_blocks = 31; }},
      {"prepared beyond the end", [](Superblock& s) { s.prepared_blocks = kTotal + 1; }},
      {"fixed areas not prepared",
       [](Superblock& s) { s.prepared_blocks = BlocksBefore(s.geometry.log.end()) - 1; }},
      {"more used than prepared", [](Superblock& s) { s.used_blocks = s.prepared_blocks + 1; }},
      {"checkpoint not durable", [](Superblock& s) { s.durable_lsn = s.checkpoint_lsn - 1; }},
      {"root beyond the end", [](Superblock& s) { s.tree.root.block = BlockAfterFirst(kTotal); }},
      {"more nodes than blocks", [](Superblock& s) { s.tree.node_count = kTotal + 1; }},
      {"more in leaves than they hold", [](Superblock& s) { s.tree.leaf_bytes = 9 * kBlockBytes + 1; }},
      {"too many levels", [](Superblock& s) { s.tree.levels = 17; }},
      {"map root beyond the end", [](Superblock& s) { s.free_map.block = BlockAfterFirst(kTotal); }},
      {"no next object", [](Superblock& s) { s.next_object = 0; }},
  };
  for (const auto& [what, change] : kCases) {
    Superblock s = Full();
    change(s);
    EXPECT_TRUE(absl::IsDataLoss(DecodeSuperblock(Encode(s), 0).status())) << what;
  }
}

// ---- Slots ----

class SuperblockSlotsTest : public testing::Test {
 protected:
  void Put(int slot, Generation generation, FeatureBits features = {}) {
    Superblock s = Full();
    s.generation = generation;
    s.features = features;
    const Block block = Encode(s, slot);
    disk_->Poke(ByteOffset(kSuperblockSlots[slot]), block.data(), kBlockBytes);
  }
  void Damage(int slot, size_t offset) {
    const uint64_t at = ByteOffset(kSuperblockSlots[slot]) + offset / kSectorBytes * kSectorBytes;
    char sector[kSectorBytes];
    disk_->Peek(at, sector, kSectorBytes);
    sector[offset % kSectorBytes] ^= 1;
    disk_->Poke(at, sector, kSectorBytes);
  }
  absl::StatusOr<Superblock> Usable(bool for_writing = true) {
    SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
    return UsableSuperblock(ReadSuperblocks(device), device, for_writing);
  }
  int Current() {
    SimulatedDevice device(disk_, {.size_bytes = disk_->size_bytes()});
    return ReadSuperblocks(device).current;
  }

  std::shared_ptr<SimulatedDisk> disk_ = std::make_shared<SimulatedDisk>(Bytes(kTotal));
};

TEST_F(SuperblockSlotsTest, TheOneWithTheHigherGenerationIsInUse) {
  Put(0, 10);
  Put(1, 11);
  EXPECT_EQ(Current(), 1);
  Put(0, 12);
  EXPECT_EQ(Current(), 0);
  ASSERT_TRUE(Usable().ok());
  EXPECT_EQ(Usable()->generation, 12);
}

TEST_F(SuperblockSlotsTest, WhenTheNewerIsTornTheOlderIsInUse) {
  Put(0, 10);
  Put(1, 11);
  for (const size_t offset : {size_t{0}, size_t{70}, size_t{4000}}) {
    Put(1, 11);
    Damage(1, offset);
    EXPECT_EQ(Current(), 0) << "damaged at " << offset;
    EXPECT_TRUE(Usable().ok());
  }
}

TEST_F(SuperblockSlotsTest, WithoutAnySuperblockItIsNotAStore) {
  EXPECT_TRUE(absl::IsInvalidArgument(Usable().status()));
  disk_ = std::make_shared<SimulatedDisk>(4 * kBlockBytes);  // too short for the second slot
  EXPECT_TRUE(absl::IsInvalidArgument(Usable().status()));
}

TEST_F(SuperblockSlotsTest, WithoutASoundSuperblockAStoreIsDamaged) {
  Put(0, 10);
  Damage(0, 100);
  EXPECT_TRUE(absl::IsDataLoss(Usable().status())) << "one damaged, one empty";
  Put(1, 11);
  Damage(1, 100);
  EXPECT_TRUE(absl::IsDataLoss(Usable().status())) << "both damaged";
}

TEST_F(SuperblockSlotsTest, DeviceShorterThanTheStoreIsDataLoss) {
  Put(0, 10);
  Put(1, 11);
  auto shorter = std::make_shared<SimulatedDisk>(Bytes(kTotal - 1));
  for (const BlockNumber slot : kSuperblockSlots) {
    char block[kBlockBytes];
    disk_->Peek(ByteOffset(slot), block, kBlockBytes);
    shorter->Poke(ByteOffset(slot), block, kBlockBytes);
  }
  disk_ = shorter;
  EXPECT_TRUE(absl::IsDataLoss(Usable().status()));
}

TEST_F(SuperblockSlotsTest, UnknownFeatureBitsForbidWhatTheirKindSays) {
  Put(0, 10, {.compatible = 1});
  EXPECT_TRUE(Usable(true).ok());
  Put(0, 10, {.read_only_compatible = 1});
  EXPECT_TRUE(absl::IsUnimplemented(Usable(true).status()));
  EXPECT_TRUE(Usable(false).ok());
  Put(0, 10, {.incompatible = 1});
  EXPECT_TRUE(absl::IsUnimplemented(Usable(true).status()));
  EXPECT_TRUE(absl::IsUnimplemented(Usable(false).status()));
}

TEST_F(SuperblockSlotsTest, AnotherFormatVersionInEitherSlotForbidsOpening) {
  for (const int slot : {0, 1}) {
    Put(1 - slot, 20);
    Superblock s = Full();
    Block block = Encode(s, slot);
    block[6] = std::byte{9};
    SealBlock(block);
    disk_->Poke(ByteOffset(kSuperblockSlots[slot]), block.data(), kBlockBytes);
    EXPECT_TRUE(absl::IsUnimplemented(Usable(false).status()));
  }
}

}  // namespace
}  // namespace untorn
