// Every metadata block begins with the 64-byte header in this file. VerifyBlock checks a block and its
// header.
//
// OFFSET  SIZE  DESCRIPTION
//      0     4  magic "UTRN"
//      4     2  type (BlockType)
//      6     2  format version
//      8    16  store UUID
//     24     8  own address: block number on the device; of a log record its log position
//     32     8  generation of the superblock that first refers to this block; of a log record its log epoch
//     40     8  checksum: XXH3-64 of the whole block (or record) with this field zero; that of a lane record, which
//               lies where data may be, is seeded with the key of the store
//     48     4  bytes of payload after the header
//     52    12  by type, else zero
//
// All fields are little-endian. Invariant: a block passes VerifyBlock only if the block is what was written
// for this store at this address. The message of the error tells a bad checksum, a wrong identity and a bad
// structure apart. All three are kDataLoss.
#ifndef UNTORN_EXTENT_BLOCK_HEADER_H_
#define UNTORN_EXTENT_BLOCK_HEADER_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"

namespace untorn {

static_assert(std::endian::native == std::endian::little, "the on-disk format is little-endian");

using Uuid = std::array<uint8_t, 16>;
std::string UuidString(const Uuid& uuid);

inline constexpr uint32_t kMagic = 0x4e525455;  // "UTRN"
inline constexpr uint16_t kFormatVersion = 2;

enum class BlockType : uint16_t {
  kSuperblock = 1,
  kLogRecord = 2,
  kTreeNode = 3,
  kFreeMapTable = 4,
  kFreeMapBitmap = 5,
  kLaneRecord = 6,
};
const char* BlockTypeName(BlockType type);

struct BlockHeader {
  uint32_t magic = kMagic;
  uint16_t type = 0;
  uint16_t version = kFormatVersion;
  Uuid uuid{};
  uint64_t address = 0;
  uint64_t generation = 0;
  uint64_t checksum = 0;
  uint32_t payload_bytes = 0;
  uint8_t by_type[12] = {};
};
static_assert(sizeof(BlockHeader) == 64);
static_assert(offsetof(BlockHeader, uuid) == 8 && offsetof(BlockHeader, address) == 24);
static_assert(offsetof(BlockHeader, checksum) == 40 && offsetof(BlockHeader, by_type) == 52);

inline constexpr size_t kHeaderBytes = sizeof(BlockHeader);

// Returns the XXH3-64 of `block`, with the checksum field of the header taken as zero.
uint64_t BlockChecksum(std::span<const std::byte> block, uint64_t seed = 0);
// Sets the checksum field of a finished block, and returns the checksum.
uint64_t SealBlock(std::span<std::byte> block, uint64_t seed = 0);

// Checks magic, checksum, version, type, store, address and payload length, in the order that gives the
// clearest message. `what` names the block in the message, as in "tree node" or "superblock slot 1".
//  kDataLoss       the block is damaged, stale or misplaced
//  kUnimplemented  the block is sound, but has another format version
absl::Status VerifyBlock(std::span<const std::byte> block, BlockType type, const Uuid& uuid, uint64_t address,
                         const char* what, uint64_t seed = 0);

}  // namespace untorn

#endif  // UNTORN_EXTENT_BLOCK_HEADER_H_
