// The sizes that everything on the device is made of, and numbers of blocks as types.
#ifndef UNTORN_BASE_BLOCK_SIZE_H_
#define UNTORN_BASE_BLOCK_SIZE_H_

#include <cstdint>

#include "base/strong_int.h"

namespace untorn {

inline constexpr uint64_t kSectorBytes = 512;  // a power cut tears a plain write between two of these
inline constexpr uint64_t kBlockBytes = 4096;  // the unit of I/O, of space and of mappings

// A number of blocks.
using BlockCount = StrongInt<struct BlockCountTag>;
// A block of the device.
using BlockNumber = StrongInt<struct BlockNumberTag, BlockCount>;
// A block of an object (logical).
using ObjectBlock = StrongInt<struct ObjectBlockTag, BlockCount>;

constexpr uint64_t Bytes(BlockCount count) { return count.value() * kBlockBytes; }
constexpr uint64_t ByteOffset(BlockNumber block) { return block.value() * kBlockBytes; }
constexpr uint64_t ByteOffset(ObjectBlock block) { return block.value() * kBlockBytes; }

// The block behind so many blocks from the device's beginning on, and how many blocks are before one.
constexpr BlockNumber BlockAfterFirst(BlockCount count) { return BlockNumber(0) + count; }
constexpr BlockCount BlocksBefore(BlockNumber block) { return block - BlockNumber(0); }

// How many blocks hold the bytes; how many the bytes fill.
constexpr BlockCount BlocksFor(uint64_t bytes) { return BlockCount((bytes + kBlockBytes - 1) / kBlockBytes); }
constexpr BlockCount WholeBlocks(uint64_t bytes) { return BlockCount(bytes / kBlockBytes); }

// The block that holds the byte.
constexpr BlockNumber DeviceBlockAt(uint64_t offset_bytes) { return BlockNumber(offset_bytes / kBlockBytes); }
constexpr ObjectBlock ObjectBlockAt(uint64_t offset_bytes) { return ObjectBlock(offset_bytes / kBlockBytes); }

// The first block behind an object of that size.
constexpr ObjectBlock ObjectEnd(uint64_t size_bytes) { return ObjectBlock(0) + BlocksFor(size_bytes); }

}  // namespace untorn

#endif  // UNTORN_BASE_BLOCK_SIZE_H_
