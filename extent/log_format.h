// A log record says what a commit changes, and carries what proves that the data of the commit arrived.
//
// The log is a ring of blocks. A log position counts the blocks since the store was made. Position p is at
// block log_start + p % log_blocks. A record takes whole blocks, and may wrap at the end of the ring.
//
// OFFSET  SIZE  DESCRIPTION
//      0    64  BlockHeader, type kLogRecord; address: log position; generation: log epoch
//     64     8  LSN
//     72     8  checksum of the record before it
//     80     8  claim: the newest LSN known durable, together with all before it, when this was written
//     88     8  generation of the newest durable superblock
//     96     8  prepared blocks
//    104     4  number of entries
//    108     4  flags: 1 last record of its chain; 2 settling (no entries)
//    112     …  entries, each a multiple of 8 bytes:
//               u16 type, u16 a, u32 b, then
//      1 map          a: state (1 written, 2 unwritten) | 0x8000 if the blocks were mapped before, unwritten;
//                     b: blocks
//                     u64 object, u64 logical, u64 physical, 16 bytes XXH3-128 of the data (zero if
//                     unwritten)
//      2 hole         u64 object, u64 logical, u64 blocks
//      3 inode        a: name length; b: 1 if space was preallocated
//                     u64 object, u64 size, name padded with zeros
//      4 inode gone   u64 object
//      5 name         a: name length; u64 object, name padded
//      6 name gone    a: name length; name padded
//      …     …  zero, to the end of the last block
#ifndef UNTORN_EXTENT_LOG_FORMAT_H_
#define UNTORN_EXTENT_LOG_FORMAT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/hash.h"
#include "extent/block_header.h"
#include "extent/types.h"

namespace untorn {

struct LogEntry {
  enum class Type : uint16_t { kMap = 1, kHole = 2, kInode = 3, kInodeGone = 4, kName = 5, kNameGone = 6 };
  Type type = Type::kMap;
  ObjectId object = ObjectId::kNone;
  BlockRange logical;                           // kMap, kHole
  MappingState state = MappingState::kWritten;  // kMap
  bool into_unwritten = false;  // kMap: writes into blocks that were already mapped, unwritten
  BlockNumber physical;         // kMap
  Hash128 hash;                 // kMap, written
  uint64_t size_bytes = 0;      // kInode
  bool preallocated = false;    // kInode
  std::string name;             // kInode, kName, kNameGone

  static LogEntry Map(ObjectId object, BlockRange logical, BlockNumber physical, MappingState state,
                      Hash128 hash, bool into_unwritten);
  static LogEntry Hole(ObjectId object, BlockRange logical);
  static LogEntry SetInode(const Inode& inode);
  static LogEntry InodeGone(ObjectId object);
  static LogEntry Name(std::string name, ObjectId object);
  static LogEntry NameGone(std::string name);
};

struct LogRecord {
  LogPosition position;
  LogEpoch epoch;
  Lsn lsn;
  uint64_t previous_checksum = 0;
  Lsn claim;
  Generation superblock_generation;
  BlockCount prepared_blocks;
  bool last = true;
  bool settling = false;
  std::vector<LogEntry> entries;

  // Decoding sets these two.
  BlockCount blocks;
  uint64_t checksum = 0;
};

inline constexpr BlockCount kRecordBlocksMax = 64;
inline constexpr size_t kRecordHeaderBytes = 112;
inline constexpr size_t kRecordEntryBytesMax = Bytes(kRecordBlocksMax) - kRecordHeaderBytes;
// The largest extent of one map entry has 8 MiB: recovery hashes the extent in one piece.
inline constexpr BlockCount kMapEntryBlocksMax = 2048;

inline constexpr size_t kMapEntryBytes = 48;
size_t EncodedBytes(const LogEntry& entry);
// Counts the blocks of a record whose entries have this many encoded bytes in all.
inline BlockCount RecordBlocks(size_t entry_bytes) { return BlocksFor(kRecordHeaderBytes + entry_bytes); }

// Encodes and seals a record into `out`, which has RecordBlocks() blocks. Returns the checksum of the
// record.
uint64_t EncodeRecord(const LogRecord& record, const Uuid& uuid, std::span<std::byte> out);
// Does the same, with `entries` in place of the record's own entries.
uint64_t EncodeRecord(const LogRecord& record, std::span<const LogEntry> entries, const Uuid& uuid,
                      std::span<std::byte> out);

// Returns how many blocks the record that begins with this block takes, judging by the header alone. Returns
// 0 if the block cannot be the beginning of a record at `position`.
BlockCount PeekRecordBlocks(std::span<const std::byte> first_block, const Uuid& uuid, LogPosition position);
// Verifies and decodes a whole record. Every entry is checked for sense: extents against the data area,
// names, and counts.
//  kDataLoss       the record is damaged or makes no sense
//  kUnimplemented  the record is sound, but has another format version
absl::StatusOr<LogRecord> DecodeRecord(std::span<const std::byte> bytes, const Uuid& uuid,
                                       LogPosition position, Extent data_area);

}  // namespace untorn

#endif  // UNTORN_EXTENT_LOG_FORMAT_H_
