#include "extent/superblock.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"

namespace untorn {
namespace {

// Has the fields after the header, in the order of the table in the header file.
struct Payload {
  uint64_t compatible, read_only_compatible, incompatible;
  BlockCount total_blocks;
  BlockNumber log_start;
  BlockCount log_blocks;
  LogEpoch epoch;
  Lsn checkpoint_lsn;
  LogPosition checkpoint_position;
  uint64_t checkpoint_checksum;
  Lsn durable_lsn;
  BlockCount prepared_blocks;
  uint64_t next_object;
  BlockNumber root_block;
  uint64_t root_checksum;
  BlockCount root_nodes;
  BlockNumber map_block;
  uint64_t map_checksum;
  BlockCount used_blocks;
  uint64_t leaf_bytes, tree_levels, data_key;
  PackedLaneExtents lanes;
};
static_assert(sizeof(Payload) == 22 * 8 + sizeof(PackedLaneExtents));
static_assert(kHeaderBytes + offsetof(Payload, epoch) == 112);
static_assert(kHeaderBytes + offsetof(Payload, root_block) == 168);
static_assert(kHeaderBytes + offsetof(Payload, used_blocks) == 208);

}  // namespace

void EncodeSuperblock(const Superblock& s, int slot, std::span<std::byte> block) {
  std::memset(block.data(), 0, block.size());
  BlockHeader header;
  header.type = static_cast<uint16_t>(BlockType::kSuperblock);
  header.uuid = s.uuid;
  header.address = kSuperblockSlots[slot].value();
  header.generation = s.generation.value();
  header.payload_bytes = sizeof(Payload);
  const Payload p{s.features.compatible,
                  s.features.read_only_compatible,
                  s.features.incompatible,
                  s.geometry.total_blocks,
                  s.geometry.log.start,
                  s.geometry.log.count,
                  s.epoch,
                  s.checkpoint_lsn,
                  s.checkpoint_position,
                  s.checkpoint_checksum,
                  s.durable_lsn,
                  s.prepared_blocks,
                  s.next_object,
                  s.tree.root.block,
                  s.tree.root.checksum,
                  s.tree.node_count,
                  s.free_map.block,
                  s.free_map.checksum,
                  s.used_blocks,
                  s.tree.leaf_bytes,
                  static_cast<uint64_t>(s.tree.levels),
                  s.data_key,
                  PackLaneExtents(s.lanes)};
  std::memcpy(block.data(), &header, sizeof(header));
  std::memcpy(block.data() + sizeof(header), &p, sizeof(p));
  SealBlock(block);
}

absl::Status WriteSuperblockSlot(Device& device, const Superblock& superblock, int slot) {
  AlignedBuffer block(kBlockBytes);
  EncodeSuperblock(superblock, slot, block.span());
  absl::Status s = WriteBlocking(device, ByteOffset(kSuperblockSlots[slot]), block.data(), kBlockBytes);
  return s.ok() ? FlushBlocking(device) : s;
}

absl::StatusOr<Superblock> DecodeSuperblock(std::span<const std::byte> block, int slot) {
  BlockHeader header;
  std::memcpy(&header, block.data(), sizeof(header));
  if (header.magic != kMagic) return absl::NotFoundError("no superblock");
  const std::string what = absl::StrCat("superblock slot ", slot);
  // The superblock itself says which store this is, so its own UUID is expected.
  if (absl::Status s = VerifyBlock(block, BlockType::kSuperblock, header.uuid, kSuperblockSlots[slot].value(),
                                   what.c_str());
      !s.ok()) {
    return s;
  }
  Payload p;
  std::memcpy(&p, block.data() + sizeof(header), sizeof(p));
  Superblock s;
  s.uuid = header.uuid;
  s.generation = Generation(header.generation);
  s.features = {.compatible = p.compatible,
                .read_only_compatible = p.read_only_compatible,
                .incompatible = p.incompatible};
  s.geometry = {p.total_blocks, {p.log_start, p.log_blocks}};
  s.epoch = p.epoch;
  s.data_key = p.data_key;
  s.checkpoint_lsn = p.checkpoint_lsn;
  s.checkpoint_position = p.checkpoint_position;
  s.checkpoint_checksum = p.checkpoint_checksum;
  s.durable_lsn = p.durable_lsn;
  s.prepared_blocks = p.prepared_blocks;
  s.next_object = p.next_object;
  s.tree = {{p.root_block, p.root_checksum}, p.root_nodes, p.leaf_bytes, static_cast<int>(p.tree_levels)};
  s.free_map = {p.map_block, p.map_checksum};
  s.used_blocks = p.used_blocks;
  const Geometry& g = s.geometry;
  if (!g.MakesSense()) {
    return absl::DataLossError(
        absl::StrCat(what, ": the layout makes no sense for ", g.total_blocks.value(), " blocks"));
  }
  if (!UnpackLaneExtents(p.lanes, g, &s.lanes)) {
    return absl::DataLossError(absl::StrCat(what, ": a lane lies outside of the data area"));
  }
  // A checksum does not say that the writer was right, so the fields are compared with each other.
  if (s.prepared_blocks > g.total_blocks || g.EndsInHead(s.prepared_blocks) ||
      BlockAfterFirst(s.prepared_blocks) < g.log.end() || s.used_blocks > s.prepared_blocks ||
      s.used_blocks < g.FixedBlocks(s.prepared_blocks) || s.durable_lsn < s.checkpoint_lsn ||
      s.generation == 0 || s.tree.root.block >= g.end() || s.tree.node_count > g.total_blocks ||
      s.tree.leaf_bytes > Bytes(s.tree.node_count) || p.tree_levels > kTreeLevelMax + 1 ||
      (s.tree.root && p.tree_levels == 0) || s.free_map.block >= g.end() || s.next_object == 0) {
    return absl::DataLossError(absl::StrCat(what, ": its fields contradict each other"));
  }
  return s;
}

SuperblockSlots ReadSuperblocks(Device& device) {
  SuperblockSlots result{{absl::UnknownError(""), absl::UnknownError("")}, -1};
  AlignedBuffer block(kBlockBytes);
  for (int i = 0; i < 2; ++i) {
    if (ByteOffset(kSuperblockSlots[i] + 1) > device.size_bytes()) {
      result.slots[i] = absl::NotFoundError("no superblock: the device is too small");
      continue;
    }
    absl::Status read = ReadBlocking(device, ByteOffset(kSuperblockSlots[i]), block.data(), kBlockBytes);
    result.slots[i] = read.ok() ? DecodeSuperblock(block.span(), i) : absl::StatusOr<Superblock>(read);
    if (!result.slots[i].ok()) continue;
    // With equal generations slot 0 is taken, as both slots hold the same.
    if (result.current < 0 || result.slots[i]->generation > result.slots[result.current]->generation)
      result.current = i;
  }
  return result;
}

absl::StatusOr<Superblock> UsableSuperblock(const SuperblockSlots& slots, const Device& device,
                                            bool for_writing) {
  // Another format version in either slot forbids opening, because that superblock may be the newer one.
  for (const auto& slot : slots.slots) {
    if (!slot.ok() && absl::IsUnimplemented(slot.status())) {
      return absl::UnimplementedError(
          absl::StrCat(device.info().path, ": ", std::string(slot.status().message())));
    }
  }
  if (slots.current < 0) {
    const absl::Status &a = slots.slots[0].status(), &b = slots.slots[1].status();
    // Only a device without any superblock is foreign. A slot that is damaged means a damaged store.
    if (absl::IsNotFound(a) && absl::IsNotFound(b)) {
      return absl::InvalidArgumentError(
          absl::StrCat(device.info().path, ": not an untorn store (no superblock)"));
    }
    return absl::DataLossError(absl::StrCat(device.info().path, ": no usable superblock: ",
                                            std::string(a.message()), "; ", std::string(b.message())));
  }
  const Superblock& s = *slots.slots[slots.current];
  if (const uint64_t unknown = s.features.incompatible & ~kKnownFeatures.incompatible) {
    return absl::UnimplementedError(
        absl::StrFormat("%s: uses features this version does not know (incompatible bits 0x%x)",
                        device.info().path, unknown));
  }
  if (const uint64_t unknown = s.features.read_only_compatible & ~kKnownFeatures.read_only_compatible;
      unknown && for_writing) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s: uses features this version can only read (read-only compatible bits 0x%x); open it read-only",
        device.info().path, unknown));
  }
  RETURN_IF_ERROR(
      CheckNotCutShort(device, device.info().needs_preparing ? s.prepared_blocks : s.geometry.total_blocks));
  return s;
}

absl::Status CheckNotCutShort(const Device& device, BlockCount blocks) {
  if (WholeBlocks(device.size_bytes()) >= blocks) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(device.info().path, ": cut short: the store has used ",
                                          Bytes(blocks), " bytes, and the device has ", device.size_bytes()));
}

}  // namespace untorn
