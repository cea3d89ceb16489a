// The 64-byte header that every metadata block starts with, and its verification.
//
// OFFSET  SIZE  DESCRIPTION
//      0     4  magic "UTRN"
//      4     2  type (BlockType)
//      6     2  format version
//      8    16  store UUID
//     24     8  own address: block number on the device; for a log record its position in the log
//     32     8  generation: of the superblock that first refers to this block; for a log record its epoch
//     40     8  checksum: XXH3-64 of the whole block (or record) with this field zero
//     48     4  bytes of payload after the header
//     52    12  by type, else zero
//
// All fields are little-endian. Invariant: a block passes VerifyBlock only if it is what was written for this
// store, at this address: bad checksum, wrong identity and bad structure are told apart in the message, and
// all of them are kDataLoss.
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
inline constexpr uint16_t kFormatVersion = 1;

enum class BlockType : uint16_t {
  kSuperblock = 1,
  kLogRecord = 2,
  kTreeNode = 3,
  kFreeMapTable = 4,
  kFreeMapBitmap = 5,
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

// XXH3-64 of `block` with the header's checksum field taken as zero.
uint64_t BlockChecksum(std::span<const std::byte> block);
// Sets the checksum field of a finished block and returns it.
uint64_t SealBlock(std::span<std::byte> block);

// Checks magic, checksum, version, type, store and address, in the order that gives the clearest message.
// `what` names the block for the message: "tree node", "superblock slot 1".
//  kDataLoss            damaged, stale or misplaced
//  kUnimplemented       a sound block of another format version
absl::Status VerifyBlock(std::span<const std::byte> block, BlockType type, const Uuid& uuid, uint64_t address,
                         const char* what);

}  // namespace untorn

#endif  // UNTORN_EXTENT_BLOCK_HEADER_H_
