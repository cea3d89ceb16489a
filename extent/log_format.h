// A log record says what a commit changes, and carries what proves that the data of the commit arrived.
//
// Most of the log is a ring of blocks. A log position counts the blocks since the store was made. Position p is at
// block `log start + p mod log blocks`. A record takes whole blocks, and may wrap at the end of the ring.
//
// A lane record lies outside of the ring, in a lane (extent/lanes.h), and has at most 8 blocks. It repeats all commits
// that neither the ring nor a checkpoint holds. A fold is a record of the ring that repeats what a lane record says. A record that
// repeats has the commits of several LSNs; `LSN` is the last of them.
//
// OFFSET  SIZE  DESCRIPTION
//      0    64  BlockHeader, type kLogRecord or kLaneRecord; address: log position, or block of the lane record;
//               generation: log epoch
//     64     8  LSN
//     72     8  checksum of the record before it in the ring; 0 in a lane record
//     80     8  claim: the newest LSN known durable, together with all before it, when this was written
//     88     8  generation of the newest durable superblock
//     96     8  prepared blocks
//    104     4  number of entries
//    108     2  flags: 1 last record of its chain; 2 settling (no entries); 4 a fold that an opening made
//    110     2  number of earlier commits that the record repeats, below 256
//    112   192  extents of lanes, in which recovery looks for lane records behind this one (extent/lane_extents.h)
//    304     …  entries, each a multiple of 8 bytes:
//               u8 type, u8 low byte of the LSN of its commit, u16 a, u32 b, then
//      1 map          a: state (1 written, 2 unwritten) | 0x8000 if the blocks were mapped before, unwritten;
//                     b: blocks
//                     u64 object, u64 logical, u64 physical; if written, u64 check of the data, and 8 bytes of
//                     checksum for each block (extent/checksums.h)
//      2 hole         u64 object, u64 logical, u64 blocks
//      3 inode        a: name length; b: 1 if space was preallocated
//                     u64 object, u64 size, name padded with zeros
//      4 inode gone   u64 object
//      5 name         a: name length; u64 object, name padded
//      6 name gone    a: name length; name padded
//      7 open         b: blocks, which may be overwritten in place once the record is settled
//                     u64 object, u64 logical, u64 physical, 8 bytes of checksum for each block, as they were
//      …     …  zero, to the end of the last block
#ifndef UNTORN_EXTENT_LOG_FORMAT_H_
#define UNTORN_EXTENT_LOG_FORMAT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "extent/block_header.h"
#include "extent/checksums.h"
#include "extent/lane_extents.h"
#include "extent/types.h"

namespace untorn {

struct LogEntry {
  enum class Type : uint16_t {
    kMap = 1,
    kHole = 2,
    kInode = 3,
    kInodeGone = 4,
    kName = 5,
    kNameGone = 6,
    kOpen = 7
  };
  Type type = Type::kMap;
  ObjectId object = ObjectId::kNone;
  BlockRange logical;                           // kMap, kHole, kOpen
  MappingState state = MappingState::kWritten;  // kMap
  bool into_unwritten = false;  // kMap: writes into blocks that were already mapped, unwritten
  BlockNumber physical;         // kMap, kOpen
  DataChecksums data;           // kMap, written; kOpen, which has no check
  LogEpoch opened;              // kOpen: the log epoch of the record
  uint64_t size_bytes = 0;      // kInode
  bool preallocated = false;    // kInode
  std::string name;             // kInode, kName, kNameGone
  Lsn lsn;                      // of its commit's record. Decoding sets it.

  // Leaves out the checksums, which must be filled in before the entry is encoded.
  static LogEntry Map(ObjectId object, BlockRange logical, BlockNumber physical);
  static LogEntry Map(ObjectId object, BlockRange logical, BlockNumber physical, DataChecksums data,
                      bool into_unwritten);
  static LogEntry Unwritten(ObjectId object, BlockRange logical, BlockNumber physical);
  // Opens the blocks of a written mapping.
  static LogEntry Open(ObjectId object, const Mapping& mapping, LogEpoch epoch);
  static LogEntry Hole(ObjectId object, BlockRange logical);
  static LogEntry SetInode(const Inode& inode);
  static LogEntry InodeGone(ObjectId object);
  static LogEntry Name(std::string name, ObjectId object);
  static LogEntry NameGone(std::string name);
};

struct LogRecord {
  LogPosition position;    // of a record in the ring
  BlockNumber lane_block;  // of a lane record; else 0
  LogEpoch epoch;
  Lsn first_lsn;  // of the oldest commit that the record has; `lsn` in a record that does not repeat
  Lsn lsn;
  uint64_t previous_checksum = 0;
  Lsn claim;
  Generation superblock_generation;
  BlockCount prepared_blocks;
  bool last = true;
  bool settling = false;
  bool by_opening =
      false;  // an opening's fold has another checksum than a torn one, which records may follow
  LaneExtents lanes;
  std::vector<LogEntry> entries;

  // Decoding sets these two.
  BlockCount blocks;
  uint64_t checksum = 0;
};

inline constexpr BlockCount kRecordBlocksMax = 64;
inline constexpr size_t kRecordHeaderBytes = 304;
inline constexpr size_t kRecordEntryBytesMax = Bytes(kRecordBlocksMax) - kRecordHeaderBytes;
inline constexpr BlockCount kLaneRecordBlocksMax = 8;
inline constexpr size_t kLaneEntryBytesMax = Bytes(kLaneRecordBlocksMax) - kRecordHeaderBytes;
inline constexpr uint64_t kCommitsInRecordMax = 256;
// The largest written extent of one entry has 1 MiB, so an entry is small beside a record.
inline constexpr BlockCount kMapEntryBlocksMax = 256;

// The encoded bytes of an entry that maps so many blocks. Those of one written block are the most for each block.
constexpr size_t MapEntryBytes(MappingState state, BlockCount blocks) {
  return 32 + (state == MappingState::kWritten ? kChecksumBytes + blocks.value() * kChecksumBytes : 0);
}
inline constexpr size_t kMapEntryBytes = MapEntryBytes(MappingState::kWritten, 1);
inline constexpr size_t kEntryBytesMax = MapEntryBytes(MappingState::kWritten, kMapEntryBlocksMax);
size_t EncodedBytes(const LogEntry& entry);
size_t EncodedBytes(std::span<const LogEntry> entries);
// Counts the blocks of a record whose entries have this many encoded bytes in all.
inline BlockCount RecordBlocks(size_t entry_bytes) { return BlocksFor(kRecordHeaderBytes + entry_bytes); }

// Encodes one entry of the commit with this LSN. `out` has EncodedBytes() bytes.
void EncodeEntry(const LogEntry& entry, Lsn lsn, std::byte* out);
// Encodes the header of a record in front of `entry_count` encoded entries of `entry_bytes` bytes, clears the rest, and
// seals the record. `out` has RecordBlocks() blocks. Returns the checksum of the record.
uint64_t SealRecord(const LogRecord& record, uint32_t entry_count, size_t entry_bytes, const Uuid& uuid,
                    uint64_t data_key, std::span<std::byte> out);
// Encodes and seals a record with its own entries. The entries of a record that repeats must say their LSN. In one
// that does not, `first_lsn` is 0 or `lsn`. Only a lane record needs the key of the store. Returns the checksum of the record.
uint64_t EncodeRecord(const LogRecord& record, const Uuid& uuid, std::span<std::byte> out,
                      uint64_t data_key = 0);
// Does the same for a record of the ring that does not repeat, with `entries` in place of the record's own entries.
uint64_t EncodeRecord(const LogRecord& record, std::span<const LogEntry> entries, const Uuid& uuid,
                      std::span<std::byte> out);

// Returns how many blocks the record that begins with this block takes, judging by the header alone. Returns
// 0 if the block cannot be the beginning of a record at `position`.
BlockCount PeekRecordBlocks(std::span<const std::byte> first_block, const Uuid& uuid, LogPosition position);
// Does the same for the lane record in a block of the data area. The block may hold anything.
BlockCount PeekLaneRecordBlocks(std::span<const std::byte> first_block, const Uuid& uuid, BlockNumber at);
// Verifies and decodes a whole record. Every entry is checked for sense: extents against the data area,
// names, and counts.
//  kDataLoss       the record is damaged or makes no sense
//  kUnimplemented  the record is sound, but has another format version
absl::StatusOr<LogRecord> DecodeRecord(std::span<const std::byte> bytes, const Uuid& uuid,
                                       LogPosition position, const Geometry& geometry);
// Does the same for a lane record. The bytes may be anything.
absl::StatusOr<LogRecord> DecodeLaneRecord(std::span<const std::byte> bytes, const Uuid& uuid,
                                           uint64_t data_key, BlockNumber at, const Geometry& geometry);

}  // namespace untorn

#endif  // UNTORN_EXTENT_LOG_FORMAT_H_
