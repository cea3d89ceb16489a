#include "extent/free_map_format.h"

#include <cstring>

namespace untorn {

BlockPointer EncodeFreeMapNode(BlockType type, const Uuid& uuid, uint64_t place, uint64_t generation,
                               std::span<const std::byte> payload, std::span<std::byte> out) {
  std::memset(out.data(), 0, kBlockBytes);
  BlockHeader header;
  header.type = static_cast<uint16_t>(type);
  header.uuid = uuid;
  header.address = place;
  header.generation = generation;
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  std::memcpy(out.data(), &header, sizeof(header));
  std::memcpy(out.data() + kHeaderBytes, payload.data(), payload.size());
  return {place, SealBlock(out)};
}

}  // namespace untorn
