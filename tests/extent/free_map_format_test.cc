// The nodes of the free-space map: what a reader may believe of one. A node that is taken for another lets
// blocks in use be overwritten, which breaks promises 1, 3 and 9.
#include "extent/free_map_format.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/extent/memory_tree.h"

namespace untorn {
namespace {

class FreeMapNodeTest : public testing::Test {
 protected:
  // Three bitmaps under one table.
  const FreeMapShape shape_ = FreeMapShape::ForGroups(3);
  std::vector<std::byte> block_ = std::vector<std::byte>(kBlockBytes);

  BlockPointer Table(const std::vector<FreeMapEntry>& entries) {
    return EncodeFreeMapNode(BlockType::kFreeMapTable, kTestUuid, MapSlot(1, 0, 0), 1,
                             std::as_bytes(std::span(entries)), block_);
  }
  BlockPointer Bitmap() {
    const std::vector<std::byte> bits(kBlockBytes - kHeaderBytes);
    return EncodeFreeMapNode(BlockType::kFreeMapBitmap, kTestUuid, MapSlot(0, 1, 1), 1, bits, block_);
  }
  absl::Status Verify(int level, uint64_t index, BlockPointer pointer) const {
    return VerifyFreeMapNode(block_, kTestUuid, shape_, level, index, pointer);
  }
};

std::vector<FreeMapEntry> NoChildren() { return std::vector<FreeMapEntry>(kTableFanout); }

bool Says(const absl::Status& status, const std::string& words) {
  return absl::IsDataLoss(status) && std::string(status.message()).find(words) != std::string::npos;
}

TEST_F(FreeMapNodeTest, SoundNodesAreAccepted) {
  EXPECT_TRUE(Verify(0, 1, Bitmap()).ok());
  std::vector<FreeMapEntry> entries = NoChildren();
  entries[0] = {MapSlot(0, 0, 1), 7, 5};
  entries[2] = {MapSlot(0, 2, 0), 8, 6};
  EXPECT_TRUE(Verify(1, 0, Table(entries)).ok());
  EXPECT_EQ(TableEntries(block_)[2].used_blocks, 6);
}

TEST_F(FreeMapNodeTest, NodeOfAnOlderCheckpointIsStale) {
  BlockPointer pointer = Bitmap();
  ++pointer.checksum;
  EXPECT_TRUE(Says(Verify(0, 1, pointer), "stale"));
}

TEST_F(FreeMapNodeTest, NodeOfAnotherKindOrPlaceIsRefused) {
  const BlockPointer bitmap = Bitmap();
  EXPECT_TRUE(absl::IsDataLoss(Verify(1, 0, bitmap)));
  EXPECT_TRUE(absl::IsDataLoss(Verify(0, 1, {bitmap.block + 1, bitmap.checksum})));
  block_[kHeaderBytes] ^= std::byte{1};
  EXPECT_TRUE(absl::IsDataLoss(Verify(0, 1, bitmap)));
}

TEST_F(FreeMapNodeTest, TablePointsOnlyToSlotsOfItsChildren) {
  // The slot of another child, a block outside the map, and a child that the store has not.
  for (const auto& [index, place] : std::vector<std::pair<uint64_t, BlockNumber>>{
           {0, MapSlot(0, 1, 0)}, {1, MapSlot(0, 1, 0) - 1}, {3, MapSlot(0, 2, 1) + 1}}) {
    std::vector<FreeMapEntry> entries = NoChildren();
    entries[index] = {place, 7, 5};
    EXPECT_TRUE(Says(Verify(1, 0, Table(entries)), "entry " + std::to_string(index) + " points to block"))
        << index;
  }
}

}  // namespace
}  // namespace untorn
