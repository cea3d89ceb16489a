#include "extent/log_format.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace untorn {
namespace {

struct RecordFields {
  Lsn lsn;
  uint64_t previous_checksum;
  Lsn claim;
  Generation superblock_generation;
  BlockCount prepared_blocks;
  uint32_t entry_count;
  uint16_t flags, repeated;
  PackedLaneExtents lanes;
};
static_assert(kHeaderBytes + sizeof(RecordFields) == kRecordHeaderBytes);
constexpr uint16_t kFlagLast = 1, kFlagSettling = 2, kFlagByOpening = 4;

struct EntryHead {
  uint8_t type, commit;
  uint16_t a;
  uint32_t b;
};
static_assert(sizeof(EntryHead) == 8);
constexpr uint16_t kIntoUnwritten = 0x8000;

// Fills the bytes in pieces that the C library fills with vector stores. For longer pieces the library uses
// a string instruction, which takes longer to start than such a piece takes.
void FillWithZeros(std::span<std::byte> bytes) {
  constexpr size_t kPiece = 1024;
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), kPiece);
    std::memset(bytes.data(), 0, n);
    bytes = bytes.subspan(n);
  }
}

size_t PaddedName(size_t bytes) { return (bytes + 7) / 8 * 8; }

class Writer {
 public:
  explicit Writer(std::byte* out) : out_(out) {}
  template <typename T>
  void Put(const T& value) {
    std::memcpy(out_, &value, sizeof(value));
    out_ += sizeof(value);
  }
  void PutChecksums(std::span<const uint64_t> checksums, BlockCount blocks) {
    UNTORN_CHECK(checksums.size() == blocks.value(), "an entry has other checksums than blocks");
    std::memcpy(out_, checksums.data(), checksums.size_bytes());
    out_ += checksums.size_bytes();
  }
  void PutName(const std::string& name) {
    std::memcpy(out_, name.data(), name.size());
    std::memset(out_ + name.size(), 0, PaddedName(name.size()) - name.size());
    out_ += PaddedName(name.size());
  }

 private:
  std::byte* out_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) : in_(in) {}
  template <typename T>
  bool Get(T* value) {
    if (in_.size() < sizeof(T)) return false;
    std::memcpy(value, in_.data(), sizeof(T));
    in_ = in_.subspan(sizeof(T));
    return true;
  }
  bool GetName(size_t bytes, std::string* name) {
    if (bytes == 0 || bytes > kNameBytesMax || in_.size() < PaddedName(bytes)) return false;
    name->assign(reinterpret_cast<const char*>(in_.data()), bytes);
    in_ = in_.subspan(PaddedName(bytes));
    return name->find('\0') == std::string::npos;
  }
  size_t left() const { return in_.size(); }

 private:
  std::span<const std::byte> in_;
};

bool RangeMakesSense(const BlockRange& r) {
  return r.count > 0 && r.start < kObjectEnd && r.count <= kObjectEnd - r.start;
}

bool GetChecksums(Reader& in, LogEntry* e) {
  if (e->logical.count > kMapEntryBlocksMax) return false;
  e->data.blocks.resize(e->logical.count.value());
  for (uint64_t& checksum : e->data.blocks) {
    if (!in.Get(&checksum)) return false;
  }
  return true;
}

// Returns the highest LSN up to `last` that has this low byte. Returns 0 if there is none.
Lsn LsnWithLowByte(uint8_t low, Lsn last) {
  const uint64_t back = static_cast<uint8_t>(last.value() - low);
  return back < last.value() ? last - back : Lsn();
}

// Decodes an entry of a record with the LSN `last`.
bool DecodeEntry(Reader& in, const Geometry& geometry, Lsn last, LogEntry* e) {
  EntryHead head;
  uint64_t object = 0;
  if (!in.Get(&head)) return false;
  e->lsn = LsnWithLowByte(head.commit, last);
  e->type = static_cast<LogEntry::Type>(head.type);
  // Every entry names an object, except one that says that a name is gone.
  if (e->type != LogEntry::Type::kNameGone && (!in.Get(&object) || object == 0 || object > kNumberMax))
    return false;
  e->object = static_cast<ObjectId>(object);
  switch (e->type) {
    case LogEntry::Type::kMap:
      e->state = static_cast<MappingState>(head.a & ~kIntoUnwritten);
      e->into_unwritten = (head.a & kIntoUnwritten) != 0;
      e->logical.count = BlockCount(head.b);
      if (!in.Get(&e->logical.start) || !in.Get(&e->physical) || !RangeMakesSense(e->logical) ||
          !geometry.InDataArea({e->physical, e->logical.count})) {
        return false;
      }
      if (e->state == MappingState::kUnwritten) return !e->into_unwritten;
      return e->state == MappingState::kWritten && in.Get(&e->data.check) && GetChecksums(in, e);
    case LogEntry::Type::kOpen:
      e->logical.count = BlockCount(head.b);
      return head.a == 0 && in.Get(&e->logical.start) && in.Get(&e->physical) &&
             RangeMakesSense(e->logical) && geometry.InDataArea({e->physical, e->logical.count}) &&
             GetChecksums(in, e);
    case LogEntry::Type::kHole:
      return in.Get(&e->logical.start) && in.Get(&e->logical.count) && RangeMakesSense(e->logical);
    case LogEntry::Type::kInode:
      e->preallocated = head.b == 1;
      return head.b <= 1 && in.Get(&e->size_bytes) && e->size_bytes <= kObjectBytesMax &&
             in.GetName(head.a, &e->name);
    case LogEntry::Type::kInodeGone:
      return true;
    case LogEntry::Type::kName:
    case LogEntry::Type::kNameGone:
      return in.GetName(head.a, &e->name);
  }
  return false;
}

}  // namespace

LogEntry LogEntry::Map(ObjectId object, BlockRange logical, BlockNumber physical) {
  LogEntry e;
  e.type = Type::kMap;
  e.object = object;
  e.logical = logical;
  e.physical = physical;
  return e;
}

LogEntry LogEntry::Map(ObjectId object, BlockRange logical, BlockNumber physical, DataChecksums data,
                       bool into_unwritten) {
  LogEntry e = Map(object, logical, physical);
  e.data = std::move(data);
  e.into_unwritten = into_unwritten;
  return e;
}

LogEntry LogEntry::Unwritten(ObjectId object, BlockRange logical, BlockNumber physical) {
  LogEntry e = Map(object, logical, physical);
  e.state = MappingState::kUnwritten;
  return e;
}

LogEntry LogEntry::Open(ObjectId object, const Mapping& mapping, LogEpoch epoch) {
  LogEntry e;
  e.type = Type::kOpen;
  e.object = object;
  e.logical = mapping.logical;
  e.physical = mapping.physical;
  e.data.blocks = mapping.checksums.Copy(mapping.logical.count);
  e.opened = epoch;
  return e;
}

LogEntry LogEntry::Hole(ObjectId object, BlockRange logical) {
  LogEntry e;
  e.type = Type::kHole;
  e.object = object;
  e.logical = logical;
  return e;
}

LogEntry LogEntry::SetInode(const Inode& inode) {
  LogEntry e;
  e.type = Type::kInode;
  e.object = inode.id;
  e.size_bytes = inode.size_bytes;
  e.preallocated = inode.preallocated;
  e.name = inode.name;
  return e;
}

LogEntry LogEntry::InodeGone(ObjectId object) {
  LogEntry e;
  e.type = Type::kInodeGone;
  e.object = object;
  return e;
}

LogEntry LogEntry::Name(std::string name, ObjectId object) {
  LogEntry e;
  e.type = Type::kName;
  e.object = object;
  e.name = std::move(name);
  return e;
}

LogEntry LogEntry::NameGone(std::string name) {
  LogEntry e;
  e.type = Type::kNameGone;
  e.name = std::move(name);
  return e;
}

size_t EncodedBytes(const LogEntry& e) {
  switch (e.type) {
    case LogEntry::Type::kMap:
      return MapEntryBytes(e.state, e.logical.count);
    case LogEntry::Type::kHole:
      return 8 + 8 + 8 + 8;
    case LogEntry::Type::kInode:
      return 8 + 8 + 8 + PaddedName(e.name.size());
    case LogEntry::Type::kInodeGone:
      return 8 + 8;
    case LogEntry::Type::kName:
      return 8 + 8 + PaddedName(e.name.size());
    case LogEntry::Type::kNameGone:
      return 8 + PaddedName(e.name.size());
    case LogEntry::Type::kOpen:
      return 32 + e.logical.count.value() * kChecksumBytes;
  }
  return 0;
}

size_t EncodedBytes(std::span<const LogEntry> entries) {
  size_t bytes = 0;
  for (const LogEntry& e : entries) bytes += EncodedBytes(e);
  return bytes;
}

void EncodeEntry(const LogEntry& e, Lsn lsn, std::byte* out) {
  Writer w(out);
  EntryHead head{static_cast<uint8_t>(e.type), static_cast<uint8_t>(lsn.value()),
                 static_cast<uint16_t>(e.name.size()), 0};
  if (e.type == LogEntry::Type::kMap) {
    head.a = static_cast<uint16_t>(static_cast<uint16_t>(e.state) | (e.into_unwritten ? kIntoUnwritten : 0));
  }
  if (e.type == LogEntry::Type::kMap || e.type == LogEntry::Type::kOpen) {
    head.b = static_cast<uint32_t>(e.logical.count.value());
  } else if (e.type == LogEntry::Type::kInode) {
    head.b = e.preallocated;
  }
  w.Put(head);
  if (e.type != LogEntry::Type::kNameGone) w.Put(Value(e.object));
  switch (e.type) {
    case LogEntry::Type::kMap:
      w.Put(e.logical.start);
      w.Put(e.physical);
      if (e.state != MappingState::kWritten) break;
      w.Put(e.data.check);
      w.PutChecksums(e.data.blocks, e.logical.count);
      break;
    case LogEntry::Type::kOpen:
      w.Put(e.logical.start);
      w.Put(e.physical);
      w.PutChecksums(e.data.blocks, e.logical.count);
      break;
    case LogEntry::Type::kHole:
      w.Put(e.logical.start);
      w.Put(e.logical.count);
      break;
    case LogEntry::Type::kInode:
      w.Put(e.size_bytes);
      w.PutName(e.name);
      break;
    case LogEntry::Type::kName:
    case LogEntry::Type::kNameGone:
      w.PutName(e.name);
      break;
    case LogEntry::Type::kInodeGone:
      break;
  }
}

uint64_t SealRecord(const LogRecord& record, uint32_t entry_count, size_t entry_bytes, const Uuid& uuid,
                    uint64_t data_key, std::span<std::byte> out) {
  const bool in_lane = record.lane_block > 0;
  UNTORN_CHECK(
      record.first_lsn <= record.lsn && record.lsn.value() - record.first_lsn.value() < kCommitsInRecordMax,
      "a record repeats more commits than it can");
  UNTORN_CHECK(out.size() == Bytes(RecordBlocks(entry_bytes)),
               "a record has other blocks than its entries need");
  BlockHeader header;
  header.type = static_cast<uint16_t>(in_lane ? BlockType::kLaneRecord : BlockType::kLogRecord);
  header.uuid = uuid;
  header.address = in_lane ? record.lane_block.value() : record.position.value();
  header.generation = record.epoch.value();
  header.payload_bytes = static_cast<uint32_t>(sizeof(RecordFields) + entry_bytes);
  Writer w(out.data());
  w.Put(header);
  w.Put(RecordFields{
      record.lsn, record.previous_checksum, record.claim, record.superblock_generation,
      record.prepared_blocks, entry_count,
      static_cast<uint16_t>((record.last ? kFlagLast : 0) | (record.settling ? kFlagSettling : 0) |
                            (record.by_opening ? kFlagByOpening : 0)),
      static_cast<uint16_t>(record.lsn.value() - record.first_lsn.value()), PackLaneExtents(record.lanes)});
  FillWithZeros(out.subspan(kRecordHeaderBytes + entry_bytes));
  return SealBlock(out, in_lane ? data_key : 0);
}

uint64_t EncodeRecord(const LogRecord& record, const Uuid& uuid, std::span<std::byte> out,
                      uint64_t data_key) {
  const bool repeats = record.first_lsn > 0 && record.first_lsn < record.lsn;
  if (!repeats && record.lane_block == 0) return EncodeRecord(record, record.entries, uuid, out);
  LogRecord whole = record;
  if (!repeats) whole.first_lsn = record.lsn;
  size_t entry_bytes = 0;
  for (const LogEntry& e : record.entries) {
    EncodeEntry(e, repeats ? e.lsn : record.lsn, out.data() + kRecordHeaderBytes + entry_bytes);
    entry_bytes += EncodedBytes(e);
  }
  return SealRecord(whole, static_cast<uint32_t>(record.entries.size()), entry_bytes, uuid, data_key, out);
}

uint64_t EncodeRecord(const LogRecord& record, std::span<const LogEntry> entries, const Uuid& uuid,
                      std::span<std::byte> out) {
  size_t entry_bytes = 0;
  for (const LogEntry& e : entries) {
    EncodeEntry(e, record.lsn, out.data() + kRecordHeaderBytes + entry_bytes);
    entry_bytes += EncodedBytes(e);
  }
  LogRecord alone = record;
  alone.first_lsn = record.lsn;
  return SealRecord(alone, static_cast<uint32_t>(entries.size()), entry_bytes, uuid, 0, out);
}

namespace {

BlockCount PeekBlocks(std::span<const std::byte> first_block, const Uuid& uuid, BlockType type,
                      uint64_t address, BlockCount blocks_max) {
  BlockHeader header;
  std::memcpy(&header, first_block.data(), sizeof(header));
  if (header.magic != kMagic || header.type != static_cast<uint16_t>(type) || header.uuid != uuid ||
      header.address != address || header.payload_bytes < sizeof(RecordFields)) {
    return 0;
  }
  // The checksum is not checked here, because it covers blocks that the caller has not read yet.
  const BlockCount blocks = BlocksFor(kHeaderBytes + uint64_t{header.payload_bytes});
  return blocks <= blocks_max ? blocks : 0;
}

}  // namespace

BlockCount PeekRecordBlocks(std::span<const std::byte> first_block, const Uuid& uuid, LogPosition position) {
  return PeekBlocks(first_block, uuid, BlockType::kLogRecord, position.value(), kRecordBlocksMax);
}

BlockCount PeekLaneRecordBlocks(std::span<const std::byte> first_block, const Uuid& uuid, BlockNumber at) {
  return PeekBlocks(first_block, uuid, BlockType::kLaneRecord, at.value(), kLaneRecordBlocksMax);
}

namespace {

// Decodes a record whose header is right. `r` says where the record is.
absl::StatusOr<LogRecord> DecodeVerified(std::span<const std::byte> bytes, const Geometry& geometry,
                                         LogRecord r) {
  BlockHeader header;
  RecordFields fields;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.payload_bytes < sizeof(fields) || kHeaderBytes + uint64_t{header.payload_bytes} > bytes.size()) {
    return absl::DataLossError(
        absl::StrCat("log record at position ", header.address, ": impossible length"));
  }
  Reader in(bytes.subspan(kHeaderBytes, header.payload_bytes));
  in.Get(&fields);
  r.epoch = LogEpoch(header.generation);
  r.lsn = fields.lsn;
  r.previous_checksum = fields.previous_checksum;
  r.claim = fields.claim;
  r.superblock_generation = fields.superblock_generation;
  r.prepared_blocks = fields.prepared_blocks;
  r.last = (fields.flags & kFlagLast) != 0;
  r.settling = (fields.flags & kFlagSettling) != 0;
  r.by_opening = (fields.flags & kFlagByOpening) != 0;
  r.blocks = WholeBlocks(bytes.size());
  r.checksum = header.checksum;
  // No record vouches for itself, and every entry takes 8 bytes or more.
  if (r.claim >= r.lsn || r.lsn == 0 || BlockAfterFirst(r.prepared_blocks) > geometry.end() ||
      Geometry::EndsInHead(r.prepared_blocks) || fields.entry_count > header.payload_bytes / 8 ||
      fields.repeated >= r.lsn.value() || fields.repeated >= kCommitsInRecordMax ||
      !UnpackLaneExtents(fields.lanes, geometry, &r.lanes)) {
    return absl::DataLossError(
        absl::StrCat("log record ", r.lsn.value(), ": its fields contradict each other"));
  }
  r.first_lsn = r.lsn - fields.repeated;
  r.entries.resize(fields.entry_count);
  Lsn lsn = r.first_lsn;  // of the entry before
  for (uint32_t i = 0; i < fields.entry_count; ++i) {
    LogEntry& entry = r.entries[i];
    // The entries are in the order of their commits.
    if (!DecodeEntry(in, geometry, r.lsn, &entry) || entry.lsn < lsn) {
      return absl::DataLossError(
          absl::StrCat("log record ", r.lsn.value(), ": entry ", i, " makes no sense"));
    }
    lsn = entry.lsn;
    if (entry.type == LogEntry::Type::kOpen) entry.opened = r.epoch;
  }
  if (in.left() != 0)
    return absl::DataLossError(absl::StrCat("log record ", r.lsn.value(), ": bytes after its last entry"));
  return r;
}

}  // namespace

absl::StatusOr<LogRecord> DecodeRecord(std::span<const std::byte> bytes, const Uuid& uuid,
                                       LogPosition position, const Geometry& geometry) {
  RETURN_IF_ERROR(VerifyBlock(bytes, BlockType::kLogRecord, uuid, position.value(), "log record"));
  LogRecord r;
  r.position = position;
  return DecodeVerified(bytes, geometry, std::move(r));
}

absl::StatusOr<LogRecord> DecodeLaneRecord(std::span<const std::byte> bytes, const Uuid& uuid,
                                           uint64_t data_key, BlockNumber at, const Geometry& geometry) {
  RETURN_IF_ERROR(VerifyBlock(bytes, BlockType::kLaneRecord, uuid, at.value(), "lane record", data_key));
  LogRecord r;
  r.lane_block = at;
  return DecodeVerified(bytes, geometry, std::move(r));
}

}  // namespace untorn
