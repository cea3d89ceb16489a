// The words of the extent layer as types: objects, blocks, extents, mappings, LSNs.
#ifndef UNTORN_EXTENT_TYPES_H_
#define UNTORN_EXTENT_TYPES_H_

#include <cstdint>
#include <string>

#include "absl/container/inlined_vector.h"
#include "base/block_size.h"
#include "base/strong_int.h"

namespace untorn {

// Names an object for its whole life; never reused in a store. 0 names none.
enum class ObjectId : uint64_t { kNone = 0 };
inline uint64_t Value(ObjectId id) { return static_cast<uint64_t>(id); }

// Log sequence number: counts the log records of a store, 1 for the first. 0: before all.
using Lsn = StrongInt<struct LsnTag, uint64_t>;
// A place in the log: the blocks of the log before it since the store was made.
using LogPosition = StrongInt<struct LogPositionTag, BlockCount>;
// Counts how often the store was opened for writing.
using LogEpoch = StrongInt<struct LogEpochTag, uint64_t>;
// Counts the superblocks of a store.
using Generation = StrongInt<struct GenerationTag, uint64_t>;

// The largest object: 2^60 bytes.
inline constexpr uint64_t kObjectBytesMax = uint64_t{1} << 60;
inline constexpr BlockCount kObjectBlocksMax = WholeBlocks(kObjectBytesMax);
inline constexpr ObjectBlock kObjectEnd = ObjectEnd(kObjectBytesMax);  // behind the last block of any object
inline constexpr uint64_t kNameBytesMax = 255;

// Object numbers, LSNs, log positions, epochs and generations: none is counted up from here, which no store reaches.
inline constexpr uint64_t kNumberMax = uint64_t{1} << 62;

// A run of blocks of an object (logical).
struct BlockRange {
  ObjectBlock start;
  BlockCount count;
  ObjectBlock end() const { return start + count; }
  bool operator==(const BlockRange&) const = default;
};

// A run of blocks of the store (physical).
struct Extent {
  BlockNumber start;
  BlockCount count;
  BlockNumber end() const { return start + count; }
  bool operator==(const Extent&) const = default;
};

// What an object's blocks are mapped to.
enum class MappingState : uint8_t {
  kHole = 0,       // nothing: reads as zeros
  kWritten = 1,    // `physical` holds the data
  kUnwritten = 2,  // `physical` is reserved, reads as zeros
};

struct Mapping {
  BlockRange logical;
  MappingState state = MappingState::kHole;
  BlockNumber physical;  // first block of the extent; 0 for a hole
  // The record that made this mapping: its chain's last LSN, or 0 if a durable checkpoint holds it.
  Lsn lsn;
  // How often in a row the same range was rewritten by COW only because its mapping was not settled.
  uint8_t unsettled_rewrites = 0;

  Extent extent() const { return {physical, logical.count}; }
};
// In order of their blocks, unless said otherwise. Most ranges have one mapping.
using Mappings = absl::InlinedVector<Mapping, 1>;

// What the store knows of an object besides its mappings.
struct Inode {
  ObjectId id = ObjectId::kNone;
  uint64_t size_bytes = 0;
  std::string name;
  bool operator==(const Inode&) const = default;
};

// A pointer to a metadata block that tells a stale or swapped one: the block's own checksum.
struct BlockPointer {
  BlockNumber block;  // 0: none
  uint64_t checksum = 0;
  explicit operator bool() const { return block != 0; }
  bool operator==(const BlockPointer&) const = default;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_TYPES_H_
