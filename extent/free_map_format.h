// The free-space map on disk has one bit for every block. The bits are in bitmap blocks under a tree of
// tables of fixed shape:
//
//     root table ─┬─ table ─┬─ bitmap
//                 │         └─ bitmap
//                 └─ table ── …
//
// Every node has two slots at fixed places. A checkpoint writes a changed node to the slot that is not in
// use. The entry of the parent then points to this slot. So writing the map allocates nothing.
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
#include "extent/types.h"

namespace untorn {

inline constexpr uint64_t kGroupBits = (kBlockBytes - kHeaderBytes) * 8;
inline constexpr BlockCount kGroupBlocks{kGroupBits};  // 32256: 126 MiB
struct FreeMapEntry {
  BlockNumber block;
  uint64_t checksum = 0;
  BlockCount used_blocks;
  BlockPointer pointer() const { return {block, checksum}; }
};
static_assert(sizeof(FreeMapEntry) == 24);
inline constexpr uint64_t kTableFanout = (kBlockBytes - kHeaderBytes) / sizeof(FreeMapEntry);  // 168

// Says how many nodes each level has. Level 0 holds the bitmaps, and the last level holds the root table.
struct FreeMapShape {
  std::vector<uint64_t> nodes;  // by level

  static FreeMapShape ForBlocks(BlockCount total_blocks) {
    FreeMapShape shape;
    uint64_t n = total_blocks.RoundUp(kGroupBlocks) / kGroupBlocks;
    shape.nodes.push_back(n);
    do {
      n = (n + kTableFanout - 1) / kTableFanout;
      shape.nodes.push_back(n);
    } while (n > 1);
    return shape;
  }
  int root_level() const { return static_cast<int>(nodes.size()) - 1; }
  // Counts the slots of all levels.
  BlockCount blocks() const {
    uint64_t n = 0;
    for (uint64_t level : nodes) n += 2 * level;
    return BlockCount(n);
  }
  // Returns the distance of a node's slot (0 or 1) from the start of the map.
  BlockCount Slot(int level, uint64_t index, int slot) const {
    uint64_t n = 0;
    for (int l = 0; l < level; ++l) n += 2 * nodes[l];
    return BlockCount(n + 2 * index + slot);
  }
  // Says whether `block` is one of the node's two slots in a map that starts at `map_start`.
  bool IsSlot(int level, uint64_t index, BlockNumber map_start, BlockNumber block) const {
    const BlockNumber slot0 = map_start + Slot(level, index, 0);
    return block == slot0 || block == slot0 + 1;
  }
};

// Seals a node with this payload into `out` (kBlockBytes), for block `place`. Returns the pointer to the
// node.
BlockPointer EncodeFreeMapNode(BlockType type, const Uuid& uuid, BlockNumber place, Generation generation,
                               std::span<const std::byte> payload, std::span<std::byte> out);

// Verifies the node (level, index) that `pointer` leads to. The block must be a sound block of this store,
// and the one that the parent points to. Every pointer of a table must lead to a slot of the child.
//  kUnimplemented  the block is sound, but has another format version
absl::Status VerifyFreeMapNode(std::span<const std::byte> block, const Uuid& uuid, const FreeMapShape& shape,
                               BlockNumber map_start, int level, uint64_t index, BlockPointer pointer);

// Returns the kTableFanout entries of a table block.
std::vector<FreeMapEntry> TableEntries(std::span<const std::byte> block);

}  // namespace untorn

#endif  // UNTORN_EXTENT_FREE_MAP_FORMAT_H_
