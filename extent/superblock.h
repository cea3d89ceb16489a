// The superblock: where everything is, and what the last checkpoint holds.
//
// Two slots at fixed blocks hold copies of it: the valid one with the higher generation is in use. A superblock
// is written only when all it refers to has been flushed, first to the slot not in use, then, that one flushed,
// to the other; and nothing relies on it before both are flushed. So whatever a crash leaves, one slot is whole
// and is enough; and between two writes damage to one slot loses nothing.
//
// OFFSET  SIZE  DESCRIPTION
//      0    64  BlockHeader, type kSuperblock; generation: of this superblock
//     64     8  compatible feature bits: ignored where unknown
//     72     8  read-only compatible bits: unknown ones forbid writing
//     80     8  incompatible bits: unknown ones forbid opening
//     88     8  blocks in all
//     96     8  log: first block
//    104     8  log: blocks
//    112     8  free-space map: first block
//    120     8  data area: first block
//    128     8  epoch of the log
//    136     8  checkpoint: LSN of the last record it holds
//    144     8  checkpoint: log position after that record, in blocks since the store was made
//    152     8  checkpoint: checksum of that record (0 before the first)
//    160     8  LSN up to which the log was durable when this superblock was written
//    168     8  prepared blocks: those before it may be allocated
//    176     8  next object number
//    184     8  mapping tree: root block (0: empty)
//    192     8  mapping tree: root checksum
//    200     8  mapping tree: nodes
//    208     8  free-space map: root table block (0: nothing in use but the fixed areas)
//    216     8  free-space map: root table checksum
//    224     8  blocks in use, the fixed areas among them
//    232     8  mapping tree: bytes of the entries of all leaves, with their offsets
//    240     8  mapping tree: levels
//    248     …  zero
#ifndef UNTORN_EXTENT_SUPERBLOCK_H_
#define UNTORN_EXTENT_SUPERBLOCK_H_

#include <array>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "device/device.h"
#include "extent/block_header.h"
#include "extent/tree.h"
#include "extent/types.h"

namespace untorn {

inline constexpr std::array<BlockNumber, 2> kSuperblockSlots = {0, 8};
inline constexpr BlockCount kStoreBlocksMin = BlocksFor(8 << 20);
inline constexpr BlockCount kStoreBlocksMax{uint64_t{1} << 48};
inline constexpr BlockCount kLogBlocksMin = BlocksFor(1 << 20);
inline constexpr BlockCount kLogBlocksMax = BlocksFor(32 << 20);

// Where the fixed areas are. A function of the store's size alone.
struct Geometry {
  BlockCount total_blocks;
  BlockNumber log_start;
  BlockCount log_blocks;
  BlockNumber map_start;
  BlockNumber data_start;

  static Geometry ForSize(BlockCount total_blocks);
  Extent data_area() const { return {data_start, end() - data_start}; }
  BlockNumber end() const { return BlockAfterFirst(total_blocks); }
  // Where the position of the log is on the device.
  BlockNumber LogBlock(LogPosition position) const { return log_start + position % log_blocks; }
  // Where mapped extents and tree nodes lie. Takes any value: also what a damaged block says.
  bool InDataArea(Extent extent) const {
    return extent.start >= data_start && extent.start <= end() && extent.count <= end() - extent.start;
  }
  bool operator==(const Geometry&) const = default;
};

struct FeatureBits {
  uint64_t compatible = 0, read_only_compatible = 0, incompatible = 0;
  bool operator==(const FeatureBits&) const = default;
};
inline constexpr FeatureBits kKnownFeatures{};

struct Superblock {
  Uuid uuid{};
  Generation generation;
  FeatureBits features;
  Geometry geometry;
  LogEpoch epoch;
  Lsn checkpoint_lsn;
  LogPosition checkpoint_position;
  uint64_t checkpoint_checksum = 0;
  Lsn durable_lsn;
  BlockCount prepared_blocks;  // from the device's beginning on
  uint64_t next_object = 1;
  TreeRoot tree;
  BlockPointer free_map;
  BlockCount used_blocks;
  bool operator==(const Superblock&) const = default;
};

// Into a sealed block for slot 0 or 1.
void EncodeSuperblock(const Superblock& superblock, int slot, std::span<std::byte> block);
// Writes one slot, and flushes.
absl::Status WriteSuperblockSlot(Device& device, const Superblock& superblock, int slot);
// Verifies and decodes what was read from a slot.
//  kNotFound        no superblock at all (no magic): not a store
//  kDataLoss        damaged
//  kUnimplemented   another format version
absl::StatusOr<Superblock> DecodeSuperblock(std::span<const std::byte> block, int slot);

// Both slots of a device, and which of them is in use.
struct SuperblockSlots {
  std::array<absl::StatusOr<Superblock>, 2> slots;
  int current = -1;  // -1: none is usable
};
SuperblockSlots ReadSuperblocks(Device& device);

// The superblock in use, with everything checked that forbids opening.
//  kInvalidArgument  not an untorn store
//  kUnimplemented    another format version; unknown feature bits that forbid this way of opening
//  kDataLoss         both slots damaged; device smaller than the store
absl::StatusOr<Superblock> UsableSuperblock(const SuperblockSlots& slots, const DeviceInfo& device,
                                            bool for_writing);

}  // namespace untorn

#endif  // UNTORN_EXTENT_SUPERBLOCK_H_
