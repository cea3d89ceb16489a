#include "extent/log_reader.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "extent/rules.h"

namespace untorn {
namespace {

// Reads log blocks by log position, a chunk of the ring at a time. If a chunk cannot be read, it is read
// block by block. So one sector that a power cut left unreadable hides nothing else.
class RingReader {
 public:
  RingReader(Device& device, const Geometry& geometry)
      : device_(device), geometry_(geometry), chunk_(Bytes(kChunkBlocks)) {}

  absl::Status Read(LogPosition position, BlockCount blocks, std::byte* out) {
    for (BlockCount i; i < blocks; ++i) {
      const BlockCount ring = (position + i) % geometry_.log.count;
      const BlockCount start = ring.RoundDown(kChunkBlocks);
      if (start != chunk_start_) {
        const BlockCount n = std::min(kChunkBlocks, geometry_.log.count - start);
        chunk_status_ =
            ReadBlocking(device_, ByteOffset(geometry_.log.start + start), chunk_.data(), Bytes(n));
        chunk_start_ = start;
      }
      BlockCount at = ring - start;
      if (absl::IsDataLoss(chunk_status_)) {
        // The buffer of the chunk is free for the one block, because the chunk holds nothing.
        absl::Status s = ReadOrMissing(device_, {geometry_.log.start + ring, 1}, chunk_.data());
        if (!s.ok()) return s;
        at = 0;
      } else if (!chunk_status_.ok()) {
        return chunk_status_;
      }
      std::memcpy(out + Bytes(i), chunk_.data() + Bytes(at), kBlockBytes);
    }
    return absl::OkStatus();
  }

 private:
  static constexpr BlockCount kChunkBlocks = 64;
  Device& device_;
  const Geometry& geometry_;
  AlignedBuffer chunk_;
  BlockCount chunk_start_ = BlockCount::Max();  // in the ring
  absl::Status chunk_status_;
};

class TailReader {
 public:
  TailReader(Device& device, const Superblock& sb)
      : device_(device), sb_(sb), ring_(device, sb.geometry), bytes_(Bytes(kRecordBlocksMax)) {}

  // Returns the record at `position`.
  //  kNotFound  no record begins there
  //  kDataLoss  the record cannot be read
  absl::StatusOr<LogRecord> Record(LogPosition position) {
    if (absl::Status s = ring_.Read(position, 1, bytes_.data()); !s.ok()) return s;
    return RecordInBytes(position);
  }

  // Returns the record that begins in the ring where `at` is, whatever log position the record has.
  absl::StatusOr<LogRecord> RecordInRing(LogPosition at) {
    if (absl::Status s = ring_.Read(at, 1, bytes_.data()); !s.ok()) return s;
    BlockHeader header;
    std::memcpy(&header, bytes_.data(), sizeof(header));
    const LogPosition position(header.address);
    if (sb_.geometry.LogBlock(position) != sb_.geometry.LogBlock(at)) return absl::NotFoundError("");
    return RecordInBytes(position);
  }

  // Returns the record whose first block is in bytes_.
  absl::StatusOr<LogRecord> RecordInBytes(LogPosition position) {
    const BlockCount blocks = PeekRecordBlocks({bytes_.data(), kBlockBytes}, sb_.uuid, position);
    if (blocks == 0) return absl::NotFoundError("");
    if (absl::Status s = ring_.Read(position, blocks, bytes_.data()); !s.ok()) return s;
    return DecodeRecord({bytes_.data(), Bytes(blocks)}, sb_.uuid, position, sb_.geometry);
  }

  // Returns the record that has the commit.
  absl::StatusOr<LogRecord> RecordOf(const LogTail::Summary& commit) {
    if (commit.lane_block == 0) return Record(commit.position);
    // A lane record has many commits, and is read once for all.
    if (lane_record_.lane_block != commit.lane_block) {
      RETURN_IF_ERROR(ReadOrMissing(device_, {commit.lane_block, commit.blocks}, bytes_.data()));
      ASSIGN_OR_RETURN(lane_record_,
                       LaneRecordIn(bytes_.span().first(Bytes(commit.blocks)), commit.lane_block));
    }
    return lane_record_;
  }

  // Calls `record` for each lane record in the extent.
  absl::Status ForEachLaneRecord(Extent extent, absl::FunctionRef<void(const LogRecord&)> record) {
    AlignedBuffer bytes(Bytes(extent.count));
    const absl::Status read =
        ReadBlocking(device_, ByteOffset(extent.start), bytes.data(), Bytes(extent.count));
    if (!read.ok() && !absl::IsDataLoss(read)) return read;
    for (BlockCount i; !read.ok() && i < extent.count; ++i) {
      // One block that a power cut left unreadable hides nothing else.
      const std::span<std::byte> block = bytes.span().subspan(Bytes(i), kBlockBytes);
      const absl::Status again = ReadOrMissing(device_, {extent.start + i, 1}, block.data());
      if (absl::IsDataLoss(again)) std::memset(block.data(), 0, block.size());
      if (!again.ok() && !absl::IsDataLoss(again)) return again;
    }
    for (BlockCount i; i < extent.count; ++i) {
      const BlockNumber at = extent.start + i;
      const BlockCount blocks =
          PeekLaneRecordBlocks(bytes.span().subspan(Bytes(i), kBlockBytes), sb_.uuid, at);
      if (blocks == 0 || blocks > extent.count - i) continue;
      // Anything but a sound record of this format version is data, or was never finished.
      const absl::StatusOr<LogRecord> found = LaneRecordIn(bytes.span().subspan(Bytes(i), Bytes(blocks)), at);
      if (found.ok()) record(*found);
    }
    return absl::OkStatus();
  }

  static bool DeviceFailed(const absl::Status& s) { return !absl::IsNotFound(s) && !absl::IsDataLoss(s); }

  absl::StatusOr<LogTail> Read() {
    tail_.lsn = tail_.ring_lsn = sb_.checkpoint_lsn;
    tail_.position = sb_.checkpoint_position;
    tail_.checksum = sb_.checkpoint_checksum;
    tail_.prepared_blocks = sb_.prepared_blocks;
    RETURN_IF_ERROR(WalkRing());
    if (tail_.damage.ok()) RETURN_IF_ERROR(LookBehindTheRing());
    if (tail_.damage.ok()) RETURN_IF_ERROR(WalkLanes());
    if (tail_.damage.ok()) TellWhatIsMissing();
    // Hashes are compared last, because only the highest claim says which records need them.
    RETURN_IF_ERROR(CutAtFirstWrongHash());
    return std::move(tail_);
  }

 private:
  struct Walked {
    LogTail::Summary summary;
    Lsn record_lsn;  // of the last commit that the record has
    uint64_t checksum;
    BlockCount prepared_blocks;
    Generation superblock_generation;
  };

  absl::StatusOr<LogRecord> LaneRecordIn(std::span<const std::byte> bytes, BlockNumber at) const {
    return DecodeLaneRecord(bytes, sb_.uuid, sb_.data_key, at, sb_.geometry);
  }

  // Adds the commits of the record that are not known yet.
  void Add(const LogRecord& record) {
    while (end_lsn_ < record.lsn) {
      ++end_lsn_;
      records_.push_back({{record.position, record.lane_block, record.blocks, end_lsn_, 0,
                           end_lsn_ < record.lsn || record.last},
                          record.lsn,
                          record.checksum,
                          record.prepared_blocks,
                          record.superblock_generation});
    }
    claim_ = std::max(claim_, record.claim);
  }

  absl::Status WalkRing() {
    claim_ = sb_.durable_lsn;
    tail_.lanes.assign(sb_.lanes.begin(), sb_.lanes.end());
    end_lsn_ = sb_.checkpoint_lsn;
    end_position_ = sb_.checkpoint_position;
    uint64_t previous = sb_.checkpoint_checksum;
    const LogPosition limit = sb_.checkpoint_position + sb_.geometry.log.count;
    while (end_position_ < limit) {
      absl::StatusOr<LogRecord> record = Record(end_position_);
      if (!record.ok() && DeviceFailed(record.status())) return record.status();
      // No record follows here. Claims tell below, and in TellWhatIsMissing(), whether the log ends here or is
      // damaged.
      if (!record.ok() || !FollowsInRing(*record, end_lsn_) || record->previous_checksum != previous ||
          end_position_ + record->blocks > limit) {
        break;
      }
      // The check comes before EndsLog(), which would let a record of a newer log epoch end the log
      // silently.
      if (SuperblockIsLost(*record)) return absl::OkStatus();
      if (EndsLog(*record, sb_)) break;
      Add(*record);
      // The lanes of an earlier log epoch are given up, and opening has brought what they held into the ring.
      if (record->epoch == sb_.epoch) tail_.lanes.assign(record->lanes.begin(), record->lanes.end());
      previous = record->checksum;
      end_position_ += record->blocks;
    }
    return absl::OkStatus();
  }

  // Goes on behind the end of the ring, with the newest lane record.
  absl::Status WalkLanes() {
    LogRecord newest;
    const auto look = [&](const LogRecord& record) {
      if (!tail_.damage.ok() || SuperblockIsLost(record) || !LaneRecordCounts(record, sb_)) return;
      claim_ = std::max(claim_, record.claim);
      if (record.first_lsn <= end_lsn_ + 1 && record.lsn > std::max(end_lsn_, newest.lsn)) newest = record;
    };
    for (Extent extent : tail_.lanes) RETURN_IF_ERROR(ForEachLaneRecord(extent, look));
    if (tail_.damage.ok() && newest.lsn > 0) Add(newest);
    return absl::OkStatus();
  }

  // A claim may vouch for a record that is missing. Then this is damage and not the end of the log.
  void TellWhatIsMissing() {
    for (const Behind& behind : behind_) {
      if (!VouchesFor(behind.lsn, behind.claim, end_lsn_)) continue;
      claim_ = behind.claim;
      tail_.damage = Missing(absl::StrCat("record ", behind.lsn.value(), " vouches for the log"));
      return;
    }
    if (claim_ > end_lsn_) tail_.damage = Missing("the log is known to be durable");
    // A record whose place is behind a damaged one still says what was durable when it was made.
    for (const Behind& behind : behind_) claim_ = std::max(claim_, std::min(behind.claim, end_lsn_));
  }

  absl::Status Missing(const std::string& how) const {
    return absl::DataLossError(absl::StrCat("log record ", (end_lsn_ + 1).value(), " at position ",
                                            end_position_.value(), " is unreadable, but ", how,
                                            " up to record ", claim_.value()));
  }

  bool SuperblockIsLost(const LogRecord& record) {
    if (!NamesNewerSuperblock(record, sb_)) return false;
    const bool by_generation = record.superblock_generation > sb_.generation;
    tail_.superblock_lost = true;
    // The claim of this record spares the records found so far their hashes.
    claim_ = std::max(claim_, std::min(record.claim, end_lsn_));
    tail_.damage = absl::DataLossError(absl::StrCat(
        "log record ", record.lsn.value(), " was written under superblock ",
        by_generation ? "generation " : "epoch ",
        by_generation ? record.superblock_generation.value() : record.epoch.value(),
        ", but the newest readable one is ", by_generation ? sb_.generation.value() : sb_.epoch.value(),
        ": both copies of a newer one are lost"));
    return true;
  }

  // Looks at every record in the ring behind its end. If newer superblocks are lost, the log may
  // have gone on beyond the limit that this superblock knows. So log positions are taken from the blocks
  // themselves.
  absl::Status LookBehindTheRing() {
    const LogPosition limit = sb_.checkpoint_position + sb_.geometry.log.count;
    for (LogPosition at = end_position_; at < limit;) {
      absl::StatusOr<LogRecord> record = RecordInRing(at);
      if (!record.ok()) {
        // A record may begin at any block, so a block that begins no record is passed over.
        if (DeviceFailed(record.status())) return record.status();
        ++at;
        continue;
      }
      if (SuperblockIsLost(*record)) return absl::OkStatus();
      // A record of another round of the ring vouches for nothing.
      if (record->position == at && record->epoch == sb_.epoch && record->lsn > end_lsn_) {
        behind_.push_back({record->lsn, record->claim});
        // The record before may be the one that is damaged, and this one names lanes too. A record that claims more
        // vouches for commits that the lanes at the end hold.
        for (Extent e : record->claim <= end_lsn_ ? record->lanes : LaneExtents()) {
          if (std::find(tail_.lanes.begin(), tail_.lanes.end(), e) == tail_.lanes.end())
            tail_.lanes.push_back(e);
        }
      }
      at += record->blocks;
    }
    return absl::OkStatus();
  }

  // Looks for the data of one commit that the record has.
  absl::StatusOr<bool> AllDataIsThere(const LogRecord& record, Lsn lsn) {
    for (const LogEntry& e : record.entries) {
      if (e.lsn != lsn) continue;
      absl::StatusOr<bool> there = DataIsThere(device_, e, sb_.data_key, &data_);
      if (!there.ok() || !*there) return there;
    }
    return true;
  }

  absl::Status CutAtFirstWrongHash() {
    tail_.claimed = claim_;
    size_t keep = 0;
    for (; keep < records_.size(); ++keep) {
      // Settled records need no hash: their data may have been overwritten in place since.
      if (records_[keep].summary.lsn <= claim_) continue;
      ASSIGN_OR_RETURN(const LogRecord record, RecordOf(records_[keep].summary));
      ASSIGN_OR_RETURN(const bool there, AllDataIsThere(record, records_[keep].summary.lsn));
      if (!there) break;
    }
    // The records of a chain count only with the last of them.
    while (keep > 0 && !LogMayEndAfter(records_[keep - 1].summary.last)) --keep;
    tail_.dropped = records_.size() - keep;
    Lsn chain_lsn;
    // The loop goes backwards, because the last record of a chain gives its LSN to the records before.
    for (size_t i = keep; i-- > 0;) {
      if (records_[i].summary.last) chain_lsn = records_[i].summary.lsn;
      records_[i].summary.chain_lsn = chain_lsn;
    }
    for (size_t i = 0; i < keep; ++i) {
      const Walked& c = records_[i];
      tail_.kept.push_back(c.summary);
      tail_.lsn = c.summary.lsn;
      if (c.summary.lane_block == 0 && c.summary.lsn == c.record_lsn) {
        tail_.ring_lsn = c.summary.lsn;
        tail_.position = c.summary.position + c.summary.blocks;
        tail_.checksum = c.checksum;
      }
      tail_.prepared_blocks = std::max(tail_.prepared_blocks, c.prepared_blocks);
      tail_.superblock_generation = std::max(tail_.superblock_generation, c.superblock_generation);
    }
    return absl::OkStatus();
  }

  Device& device_;
  const Superblock& sb_;
  RingReader ring_;
  AlignedBuffer bytes_, data_;
  LogRecord lane_record_;  // that RecordOf() has read last
  LogTail tail_;
  struct Behind {
    Lsn lsn, claim;
  };
  std::vector<Walked> records_;
  std::vector<Behind> behind_;  // records of this log epoch in the ring, behind its end
  Lsn claim_;
  Lsn end_lsn_;
  LogPosition end_position_;  // of the ring
};

}  // namespace

absl::Status ReadOrMissing(Device& device, Extent extent, std::byte* buffer) {
  for (int failures = 1;; ++failures) {
    const absl::Status read = ReadBlocking(device, ByteOffset(extent.start), buffer, Bytes(extent.count));
    if (!absl::IsDataLoss(read)) return read;
    // If a superblock slot can be read, the device has not failed as a whole.
    AlignedBuffer block(kBlockBytes);
    bool reads_elsewhere = false;
    for (BlockNumber slot : kSuperblockSlots) {
      reads_elsewhere |= ReadBlocking(device, ByteOffset(slot), block.data(), kBlockBytes).ok();
    }
    if (!reads_elsewhere) {
      return absl::InternalError(
          absl::StrCat("the device has stopped reading, so what is durable cannot be told: ",
                       std::string(read.message())));
    }
    if (CountsAsUnwritten(failures, reads_elsewhere)) return read;
  }
}

absl::StatusOr<bool> DataIsThere(Device& device, const LogEntry& e, uint64_t data_key,
                                 AlignedBuffer* scratch) {
  if (e.type != LogEntry::Type::kMap || e.state != MappingState::kWritten) return true;
  const size_t bytes = Bytes(e.logical.count);
  if (scratch->size() < bytes) *scratch = AlignedBuffer(bytes);
  absl::Status read = ReadOrMissing(device, {e.physical, e.logical.count}, scratch->data());
  // Data that a power cut left unreadable has not arrived.
  if (absl::IsDataLoss(read)) return false;
  if (!read.ok()) return read;
  const iovec piece{scratch->data(), bytes};
  return DataMatches(DataChecksums::Of({&piece, 1}, data_key), e.data);
}

absl::StatusOr<LogNewest> NewestInLog(Device& device, const Superblock& superblock) {
  TailReader reader(device, superblock);
  LogNewest newest;
  const auto note = [&](const LogRecord& record) {
    newest.epoch = std::max(newest.epoch, record.epoch);
    newest.superblock_generation = std::max(newest.superblock_generation, record.superblock_generation);
  };
  LogRecord last;  // of the ring
  const LogPosition end = LogPosition(0) + superblock.geometry.log.count;
  for (LogPosition at = 0; at < end;) {
    absl::StatusOr<LogRecord> record = reader.RecordInRing(at);
    if (!record.ok()) {
      // A record of another format version names nothing that this program knows.
      if (TailReader::DeviceFailed(record.status()) && !absl::IsUnimplemented(record.status()))
        return record.status();
      ++at;
      continue;
    }
    note(*record);
    at += record->blocks;
    if (std::tie(record->epoch, record->lsn) > std::tie(last.epoch, last.lsn)) last = *std::move(record);
  }
  for (Extent e : superblock.lanes) RETURN_IF_ERROR(reader.ForEachLaneRecord(e, note));
  for (Extent e : last.lanes) RETURN_IF_ERROR(reader.ForEachLaneRecord(e, note));
  return newest;
}

absl::StatusOr<LogTail> ReadLogTail(Device& device, const Superblock& superblock) {
  return TailReader(device, superblock).Read();
}

absl::Status ForEachRecord(Device& device, const Superblock& superblock, const LogTail& tail,
                           absl::FunctionRef<void(const LogRecord&, Lsn chain_lsn)> fn) {
  TailReader reader(device, superblock);
  for (const LogTail::Summary& s : tail.kept) {
    ASSIGN_OR_RETURN(LogRecord record, reader.RecordOf(s));
    std::erase_if(record.entries, [&](const LogEntry& e) { return e.lsn != s.lsn; });
    record.first_lsn = record.lsn = s.lsn;
    fn(record, s.chain_lsn);
  }
  return absl::OkStatus();
}

}  // namespace untorn
