// The superblock says where everything is, and what the last checkpoint holds.
//
// Two slots at fixed blocks hold copies of the superblock. The valid superblock with the higher generation
// is in use. A superblock is written only when all that it refers to has been flushed. The slot that is not
// in use is written and flushed first, and then the other slot. Nothing relies on the superblock before both
// slots are flushed. So a crash always leaves one whole slot, and one slot is enough. Between two writes,
// damage to one slot loses nothing.
//
// OFFSET  SIZE  DESCRIPTION
//      0    64  BlockHeader, type kSuperblock; generation: of this superblock
//     64     8  compatible feature bits: ignored where unknown
//     72     8  read-only compatible bits: unknown ones forbid writing
//     80     8  incompatible bits: unknown ones forbid opening
//     88     8  blocks in all
//     96     8  log: first block
//    104     8  log: blocks
//    112     8  log epoch
//    120     8  checkpoint: LSN of the last record it holds
//    128     8  checkpoint: log position after that record, in blocks since the store was made
//    136     8  checkpoint: checksum of that record (0 before the first)
//    144     8  LSN up to which the log was durable when this superblock was written
//    152     8  prepared blocks, from the beginning of the device on: only these are ever allocated
//    160     8  next object number
//    168     8  mapping tree: root block (0: empty)
//    176     8  mapping tree: root checksum
//    184     8  mapping tree: nodes
//    192     8  free-space map: root table block (0: nothing in use but the fixed areas)
//    200     8  free-space map: root table checksum
//    208     8  prepared blocks in use, the fixed areas among them
//    216     8  mapping tree: bytes of the entries of all leaves
//    224     8  mapping tree: levels
//    232     8  key of the checksums of data, drawn when the store was created
//    240   192  extents of lanes, in which recovery looks for records behind the checkpoint's (extent/lane_extents.h)
//    432     …  zero
#ifndef UNTORN_EXTENT_SUPERBLOCK_H_
#define UNTORN_EXTENT_SUPERBLOCK_H_

#include <array>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "device/device.h"
#include "extent/block_header.h"
#include "extent/geometry.h"
#include "extent/lane_extents.h"
#include "extent/tree.h"
#include "extent/types.h"

namespace untorn {

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
  uint64_t data_key = 0;  // extent/checksums.h
  LaneExtents lanes;
  bool operator==(const Superblock&) const = default;
};

// Encodes and seals the superblock into `block`, for slot 0 or 1.
void EncodeSuperblock(const Superblock& superblock, int slot, std::span<std::byte> block);
// Writes one slot, and flushes.
absl::Status WriteSuperblockSlot(Device& device, const Superblock& superblock, int slot);
// Verifies and decodes what was read from a slot.
//  kNotFound       the slot has no superblock (no magic), so the device is not a store
//  kDataLoss       the superblock is damaged
//  kUnimplemented  the superblock has another format version
absl::StatusOr<Superblock> DecodeSuperblock(std::span<const std::byte> block, int slot);

// Holds both slots of a device, and says which of them is in use.
struct SuperblockSlots {
  std::array<absl::StatusOr<Superblock>, 2> slots;
  int current = -1;  // -1: none is usable
};
SuperblockSlots ReadSuperblocks(Device& device);

// Returns the superblock in use, or the reason that forbids opening.
//  kInvalidArgument  the device is not an untorn store
//  kUnimplemented    another format version, or unknown feature bits that forbid this way of opening
//  kDataLoss         both slots are damaged, or the device ends before what it must have
absl::StatusOr<Superblock> UsableSuperblock(const SuperblockSlots& slots, const Device& device,
                                            bool for_writing);
// Returns kDataLoss if the device ends before so many blocks. A file has all blocks that were ever prepared.
absl::Status CheckNotCutShort(const Device& device, BlockCount blocks);

}  // namespace untorn

#endif  // UNTORN_EXTENT_SUPERBLOCK_H_
