// The free-space map on disk has one bit for every block. The bits are in bitmap blocks under a tree of
// tables of fixed shape:
//
//     root table ─┬─ table ─┬─ bitmap
//                 │         └─ bitmap
//                 └─ table ── …
//
// Every node has two slots, in the head of the first group below it (extent/geometry.h). A checkpoint writes a changed
// node to the slot that is not in use. The entry of the parent then points to this slot. So writing the map allocates
// nothing.
//
// If a pointer is null, only blocks of the fixed areas are in use below the pointer.
//
// A bitmap block is a BlockHeader (type kFreeMapBitmap) and the bits of a group. Bit i of byte j is set if
// block 8 j + i of the group is in use. A table block is a BlockHeader (type kFreeMapTable) and entries of
// 24 bytes:
//     u64 block of the child's slot in use (0: null)
//     u64 the child's checksum
//     u64 blocks in use below the child
#ifndef UNTORN_EXTENT_FREE_MAP_FORMAT_H_
#define UNTORN_EXTENT_FREE_MAP_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "extent/block_header.h"
#include "extent/geometry.h"
#include "extent/types.h"

namespace untorn {

struct FreeMapEntry {
  BlockNumber block;
  uint64_t checksum = 0;
  BlockCount used_blocks;
  BlockPointer pointer() const { return {block, checksum}; }
};
static_assert(sizeof(FreeMapEntry) == 24);
inline constexpr uint64_t kTableFanout = (kBlockBytes - kHeaderBytes) / sizeof(FreeMapEntry);  // 168

// A head has two slots for each level that a map can have.
inline constexpr int kMapLevelsMax = static_cast<int>(kHeadBlocks.value() / 2);

// Counts the groups below a node of this level.
inline uint64_t GroupsBelow(int level) {
  uint64_t groups = 1;
  for (int l = 0; l < level; ++l) groups *= kTableFanout;
  return groups;
}

// Returns a slot (0 or 1) of a node. It is in the head of the first group below the node.
inline BlockNumber MapSlot(int level, uint64_t index, int slot) {
  return HeadOf(index * GroupsBelow(level)) + BlockCount(static_cast<uint64_t>(2 * level + slot));
}
// Says whether the block is one of the node's two slots.
inline bool IsMapSlot(int level, uint64_t index, BlockNumber block) {
  return block == MapSlot(level, index, 0) || block == MapSlot(level, index, 1);
}

// Says how many nodes each level has. Level 0 holds the bitmaps, and the last level holds the root table.
struct FreeMapShape {
  std::vector<uint64_t> nodes;  // by level

  static FreeMapShape ForGroups(uint64_t groups) {
    FreeMapShape shape;
    shape.nodes.push_back(groups);
    do {
      groups = (groups + kTableFanout - 1) / kTableFanout;
      shape.nodes.push_back(groups);
    } while (groups > 1);
    return shape;
  }
  int root_level() const { return static_cast<int>(nodes.size()) - 1; }
};

// Seals a node with this payload into `out` (kBlockBytes), for block `place`. Returns the pointer to the
// node.
BlockPointer EncodeFreeMapNode(BlockType type, const Uuid& uuid, BlockNumber place, Generation generation,
                               std::span<const std::byte> payload, std::span<std::byte> out);

// Verifies the node (level, index) that `pointer` leads to. The block must be a sound block of this store,
// and the one that the parent points to. Every pointer of a table must lead to a slot of the child.
//  kUnimplemented  the block is sound, but has another format version
absl::Status VerifyFreeMapNode(std::span<const std::byte> block, const Uuid& uuid, const FreeMapShape& shape,
                               int level, uint64_t index, BlockPointer pointer);

// Returns the kTableFanout entries of a table block.
std::vector<FreeMapEntry> TableEntries(std::span<const std::byte> block);

}  // namespace untorn

#endif  // UNTORN_EXTENT_FREE_MAP_FORMAT_H_
