#include "extent/block_header.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/hash.h"

namespace untorn {

std::string UuidString(const Uuid& uuid) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kHex[uuid[i] >> 4];
    text += kHex[uuid[i] & 15];
  }
  return text;
}

const char* BlockTypeName(BlockType type) {
  switch (type) {
    case BlockType::kSuperblock:
      return "superblock";
    case BlockType::kLogRecord:
      return "log record";
    case BlockType::kTreeNode:
      return "tree node";
    case BlockType::kFreeMapTable:
      return "free map table";
    case BlockType::kFreeMapBitmap:
      return "free map bitmap";
    case BlockType::kLaneRecord:
      return "lane record";
  }
  return "unknown type";
}

uint64_t BlockChecksum(std::span<const std::byte> block, uint64_t seed) {
  UNTORN_CHECK(block.size() >= kHeaderBytes, "a block is at least its header");
  constexpr size_t kBefore = offsetof(BlockHeader, checksum);
  constexpr size_t kAfter = kBefore + sizeof(BlockHeader::checksum);
  static constexpr std::byte kZero[kAfter - kBefore] = {};
  const std::span<const std::byte> parts[] = {block.first(kBefore), kZero, block.subspan(kAfter)};
  return Hash64(parts, seed);
}

uint64_t SealBlock(std::span<std::byte> block, uint64_t seed) {
  std::memset(block.data() + offsetof(BlockHeader, checksum), 0, sizeof(uint64_t));
  const uint64_t checksum = Hash64(block, seed);
  std::memcpy(block.data() + offsetof(BlockHeader, checksum), &checksum, sizeof(checksum));
  return checksum;
}

absl::Status VerifyBlock(std::span<const std::byte> block, BlockType type, const Uuid& uuid, uint64_t address,
                         const char* what, uint64_t seed) {
  auto damaged = [&](auto&&... why) {
    return absl::DataLossError(absl::StrCat(
        what, type == BlockType::kLogRecord ? " at position " : " at block ", address, ": ", why...));
  };
  if (block.size() < kHeaderBytes) return damaged("only ", block.size(), " bytes");
  BlockHeader header;
  std::memcpy(&header, block.data(), sizeof(header));
  if (header.magic != kMagic) {
    return damaged("no magic (0x", absl::Hex(header.magic, absl::kZeroPad8),
                   "): not a block of ours, or never written");
  }
  // The checksum comes before the other fields, so that a damaged block does not pass for a foreign one.
  if (const uint64_t computed = BlockChecksum(block, seed); computed != header.checksum) {
    return damaged("bad checksum: says 0x", absl::Hex(header.checksum, absl::kZeroPad16), ", is 0x",
                   absl::Hex(computed, absl::kZeroPad16));
  }
  if (header.version != kFormatVersion) {
    return absl::UnimplementedError(absl::StrCat(
        what, " at block ", address, ": format version ", header.version, ", this program knows ",
        kFormatVersion,
        header.version < kFormatVersion ? ": copy the objects out with the program that made the store"
                                        : ""));
  }
  // From here on the block is sound, but it may be stale or in the wrong place.
  if (header.type != static_cast<uint16_t>(type)) {
    return damaged("wrong identity: type ", header.type, " (",
                   BlockTypeName(static_cast<BlockType>(header.type)), "), expected ", BlockTypeName(type));
  }
  if (header.uuid != uuid) {
    return damaged("wrong identity: belongs to store ", UuidString(header.uuid), ", not ", UuidString(uuid));
  }
  if (header.address != address) return damaged("wrong identity: was written for address ", header.address);
  if (header.payload_bytes > block.size() - kHeaderBytes) {
    return damaged("bad structure: payload of ", header.payload_bytes, " bytes, room for ",
                   block.size() - kHeaderBytes);
  }
  return absl::OkStatus();
}

}  // namespace untorn
