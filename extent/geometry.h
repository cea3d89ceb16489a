// Says where everything is whose place does not come from the allocation of space.
//
//     group 0       superblock slots 0 and 8 | head | log | data …
//     other groups  head | data …
//
// The blocks of the device are divided into groups. The head of a group has places for nodes of the free-space map. So
// each place depends on the number of its group alone, and a store of another size has the same places. The log is one
// run of blocks, which the superblock names. It lies behind the head of group 0 when the store is created. It moves to a
// longer run when the store has grown.
#ifndef UNTORN_EXTENT_GEOMETRY_H_
#define UNTORN_EXTENT_GEOMETRY_H_

#include <array>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "extent/types.h"

namespace untorn {

inline constexpr std::array<BlockNumber, 2> kSuperblockSlots = {0, 8};
inline constexpr BlockCount kStoreBlocksMin = BlocksFor(8 << 20);
inline constexpr BlockCount kStoreBlocksMax{uint64_t{1} << 48};
inline constexpr BlockCount kLogBlocksMin = BlocksFor(1 << 20);
inline constexpr BlockCount kLogBlocksMax = BlocksFor(32 << 20);

// A group has one bitmap in the free-space map.
inline constexpr uint64_t kGroupBits = 31232;
inline constexpr BlockCount kGroupBlocks{kGroupBits};  // 122 MiB
// A head keeps the data behind it aligned for overwrites in place of 64 KiB.
inline constexpr BlockCount kHeadBlocks{16};

inline uint64_t GroupOf(BlockNumber block) { return block / kGroupBlocks; }
inline BlockNumber FirstBlockOf(uint64_t group) { return BlockAfterFirst(kGroupBlocks * group); }
// Returns where the head of a group begins.
inline BlockNumber HeadOf(uint64_t group) {
  return group == 0 ? BlockAfterFirst(kHeadBlocks) : FirstBlockOf(group);
}

struct Geometry {
  BlockCount total_blocks;
  Extent log;

  // Returns the geometry of a new store of which all blocks are prepared. The store may be a few blocks smaller.
  static Geometry ForSize(BlockCount total_blocks);
  // Returns how long the log of a store should be. The entries of a commit take up to a 64th of its data, and a commit
  // may take a quarter of the log.
  static BlockCount LogBlocksFor(BlockCount total_blocks, BlockCount prepared_blocks);
  // Says whether a store can have this geometry.
  bool MakesSense() const;

  BlockNumber end() const { return BlockAfterFirst(total_blocks); }
  // Says whether a head reaches beyond the first blocks of the device. Neither a store nor what is prepared ends so.
  static bool EndsInHead(BlockCount first) {
    const BlockCount rest = first % kGroupBlocks;
    return rest > 0 && rest < kHeadBlocks;
  }
  // Counts the groups. The last one may be cut short.
  uint64_t groups() const { return total_blocks.RoundUp(kGroupBlocks) / kGroupBlocks; }
  // Returns the block of the device that belongs to a log position.
  BlockNumber LogBlock(LogPosition position) const { return log.start + position % log.count; }

  // Says whether the extent lies where mapped extents and tree nodes lie: in one group, beside the fixed areas. Takes any
  // value, also one from a damaged block.
  bool InDataArea(Extent extent) const;
  // Returns the fixed areas of a group: superblocks, head, log.
  absl::InlinedVector<Extent, 2> FixedAreas(uint64_t group) const;
  // Calls `fn` for the fixed areas of the groups that begin among the first blocks of the device.
  void ForEachFixedArea(BlockCount first, absl::FunctionRef<void(Extent)> fn) const;
  // Counts the blocks of the fixed areas among the first blocks of the device.
  BlockCount FixedBlocks(BlockCount first) const;
  BlockCount DataBlocks() const { return total_blocks - FixedBlocks(total_blocks); }

  bool operator==(const Geometry&) const = default;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_GEOMETRY_H_
