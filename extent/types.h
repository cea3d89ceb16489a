// Defines the words of the extent layer as types: objects, blocks, extents, mappings and LSNs.
#ifndef UNTORN_EXTENT_TYPES_H_
#define UNTORN_EXTENT_TYPES_H_

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/container/inlined_vector.h"
#include "base/block_size.h"
#include "base/strong_int.h"
#include "extent/checksums.h"

namespace untorn {

// Names an object for its whole life. A number is never used again in a store. 0 names no object.
enum class ObjectId : uint64_t { kNone = 0 };
inline uint64_t Value(ObjectId id) { return static_cast<uint64_t>(id); }

// The log sequence number counts the log records of a store. The first record has LSN 1. LSN 0 stands before
// all records.
using Lsn = StrongInt<struct LsnTag, uint64_t>;
// Says up to which record durable claims reach: one claim at least, and two. A claim is one block, so two claims
// remain one if a block is damaged.
struct Settled {
  Lsn once;
  Lsn twice;
  // Takes account of one more durable claim, of a record or of a superblock's slot.
  void Claim(Lsn claim) {
    twice = std::max(twice, std::min(once, claim));
    once = std::max(once, claim);
  }
};
// Counts the blocks of the log since the store was made, and so names a place in the log.
using LogPosition = StrongInt<struct LogPositionTag, BlockCount>;
// Counts how often the store was opened for writing. The creation of the store counts as the first time.
using LogEpoch = StrongInt<struct LogEpochTag, uint64_t>;
// Counts the superblocks of a store.
using Generation = StrongInt<struct GenerationTag, uint64_t>;

// The largest object has 2^60 bytes.
inline constexpr uint64_t kObjectBytesMax = uint64_t{1} << 60;
inline constexpr BlockCount kObjectBlocksMax = WholeBlocks(kObjectBytesMax);
inline constexpr ObjectBlock kObjectEnd = ObjectEnd(kObjectBytesMax);  // behind the last block of any object
inline constexpr uint64_t kNameBytesMax = 255;

// No object number, LSN, log position, log epoch or generation is counted up from here. No store reaches
// this number.
inline constexpr uint64_t kNumberMax = uint64_t{1} << 62;

// Names a run of blocks of an object (logical).
struct BlockRange {
  ObjectBlock start;
  BlockCount count;
  ObjectBlock end() const { return start + count; }
  bool operator==(const BlockRange&) const = default;
};

// Names a run of blocks of the device (physical).
struct Extent {
  BlockNumber start;
  BlockCount count;
  BlockNumber end() const { return start + count; }
  bool operator==(const Extent&) const = default;
};

// Says what the blocks of an object are mapped to.
enum class MappingState : uint8_t {
  kHole = 0,       // nothing: reads as zeros
  kWritten = 1,    // `physical` holds the data
  kUnwritten = 2,  // `physical` is allocated, reads as zeros
};

struct Mapping {
  BlockRange logical;
  MappingState state = MappingState::kHole;
  BlockNumber physical;  // first block of the extent; 0 for a hole
  // Is the last LSN of the chain that made this mapping, or 0 if a durable checkpoint holds the mapping.
  Lsn lsn;
  // Counts how often in a row records since the last checkpoint rewrote exactly this range, which was
  // written before.
  uint8_t unsettled_rewrites = 0;
  // Is the log epoch in which the blocks were opened, so that they may be overwritten in place, or 0. Only a
  // written extent can be open.
  LogEpoch opened;
  // Is the LSN of the chain that opened the blocks, or 0 if a durable checkpoint holds the opening.
  Lsn opened_by;
  // The checksums of a written extent's blocks. Valid as long as what the mapping was taken from.
  ChecksumsRef checksums;

  Extent extent() const { return {physical, logical.count}; }
  // Returns the mapping of a part of the blocks. A part does not count as the same range rewritten.
  Mapping Part(BlockRange part) const {
    if (part == logical) return *this;
    Mapping m = *this;
    const BlockCount before = part.start - logical.start;
    m.logical = part;
    if (state != MappingState::kHole) m.physical += before;
    m.checksums = checksums.From(before);
    m.unsettled_rewrites = 0;
    return m;
  }
  Mapping Before(ObjectBlock end) const { return Part({logical.start, end - logical.start}); }
  Mapping From(ObjectBlock start) const { return Part({start, logical.end() - start}); }
};
// Holds mappings in the order of their blocks, unless something else is said. Most ranges have one mapping.
using Mappings = absl::InlinedVector<Mapping, 1>;

// Holds what the store knows of an object besides its mappings.
struct Inode {
  ObjectId id = ObjectId::kNone;
  uint64_t size_bytes = 0;
  std::string name;
  // Is true once space was preallocated for the object. Only such an object has unwritten extents.
  bool preallocated = false;
  bool operator==(const Inode&) const = default;
};

// Points to a metadata block. The checksum of the block tells a stale or swapped block.
struct BlockPointer {
  BlockNumber block;  // 0: none
  uint64_t checksum = 0;
  explicit operator bool() const { return block != 0; }
  bool operator==(const BlockPointer&) const = default;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_TYPES_H_
