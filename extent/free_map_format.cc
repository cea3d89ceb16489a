#include "extent/free_map_format.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace untorn {

BlockPointer EncodeFreeMapNode(BlockType type, const Uuid& uuid, BlockNumber place, Generation generation,
                               std::span<const std::byte> payload, std::span<std::byte> out) {
  std::memset(out.data(), 0, kBlockBytes);
  BlockHeader header;
  header.type = static_cast<uint16_t>(type);
  header.uuid = uuid;
  header.address = place.value();
  header.generation = generation.value();
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  std::memcpy(out.data(), &header, sizeof(header));
  std::memcpy(out.data() + kHeaderBytes, payload.data(), payload.size());
  return {place, SealBlock(out)};
}

absl::Status VerifyFreeMapNode(std::span<const std::byte> block, const Uuid& uuid, const FreeMapShape& shape,
                               int level, uint64_t index, BlockPointer pointer) {
  const bool bitmap = level == 0;
  const char* what = bitmap ? "free-space bitmap" : "free-space table";
  RETURN_IF_ERROR(VerifyBlock(block, bitmap ? BlockType::kFreeMapBitmap : BlockType::kFreeMapTable, uuid,
                              pointer.block.value(), what));
  // The block is sound, but the slot may hold what an older checkpoint wrote there.
  BlockHeader header;
  std::memcpy(&header, block.data(), sizeof(header));
  if (header.checksum != pointer.checksum) {
    return absl::DataLossError(
        absl::StrCat(what, " at block ", pointer.block.value(), ": stale: not the one its parent points to"));
  }
  if (bitmap) return absl::OkStatus();
  const std::vector<FreeMapEntry> entries = TableEntries(block);
  for (uint64_t i = 0; i < kTableFanout; ++i) {
    const uint64_t child = index * kTableFanout + i;
    const BlockNumber place = entries[i].block;
    // A pointer that leads elsewhere is damage, even if a sound node is there.
    if (place == 0) continue;
    if (child < shape.nodes[level - 1] && IsMapSlot(level - 1, child, place)) continue;
    return absl::DataLossError(absl::StrCat(what, " at block ", pointer.block.value(), ": entry ", i,
                                            " points to block ", place.value(),
                                            ", which is not a slot of its child"));
  }
  return absl::OkStatus();
}

std::vector<FreeMapEntry> TableEntries(std::span<const std::byte> block) {
  std::vector<FreeMapEntry> entries(kTableFanout);
  std::memcpy(entries.data(), block.data() + kHeaderBytes, kTableFanout * sizeof(FreeMapEntry));
  return entries;
}

}  // namespace untorn
