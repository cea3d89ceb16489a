#include "extent/log_writer.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "extent/rules.h"

namespace untorn {
namespace {

// Calls record(the entries of one record, its blocks) for each record of a commit, and at least once.
template <typename Fn>
void ForEachRecordOf(const std::vector<LogEntry>& entries, Fn record) {
  size_t first = 0, bytes = 0;
  const std::span<const LogEntry> all(entries);
  for (size_t i = 0; i < entries.size(); ++i) {
    const size_t n = EncodedBytes(entries[i]);
    // An entry never spans two records.
    if (bytes + n > kRecordEntryBytesMax) {
      record(all.subspan(first, i - first), RecordBlocks(bytes));
      first = i;
      bytes = 0;
    }
    bytes += n;
  }
  record(all.subspan(first), RecordBlocks(bytes));
}

}  // namespace

void LogReservation::Release() {
  if (blocks_ == 0) return;
  UNTORN_CHECK(writer_->reserved_blocks_ >= blocks_, "more of the log is given back than was reserved");
  writer_->reserved_blocks_ -= std::exchange(blocks_, BlockCount());
}

void LogWriter::Resume(const LogTail& tail) {
  UNTORN_CHECK(tail.lsn >= state_.superblock.checkpoint_lsn, "recovery has lost what a checkpoint holds");
  UNTORN_CHECK(tail.position >= state_.superblock.checkpoint_position,
               "the log is resumed before a checkpoint");
  UNTORN_CHECK(reserved_blocks_ == 0 && next_lsn_ == 1, "the log is resumed twice");
  next_position_ = durable_position_ = encoded_position_ = tail.position;
  previous_checksum_ = durable_checksum_ = tail.checksum;
  next_lsn_ = tail.lsn + 1;
  ring_lsn_ = tail.lsn;
  // Recovery makes all that it keeps durable, and so settled, before anything relies on the log.
  state_.durable_lsn = tail.lsn;
  state_.settled = {tail.lsn, tail.lsn};
}

BlockCount LogWriter::BlocksFor(const std::vector<LogEntry>& entries) {
  BlockCount blocks;
  ForEachRecordOf(entries, [&](std::span<const LogEntry>, BlockCount n) { blocks += n; });
  return blocks;
}

bool LogWriter::HasRoom(BlockCount blocks) const {
  return LogHasRoom(blocks_used(), blocks, state_.superblock.geometry.log.count);
}

std::optional<LogReservation> LogWriter::TryReserve(BlockCount blocks) {
  UNTORN_CHECK(blocks > 0, "no room in the log is reserved for a commit");
  if (!HasRoom(blocks)) return std::nullopt;
  reserved_blocks_ += blocks;
  return LogReservation(this, blocks);
}

// All that the records say of the store is fixed here, with the lock held.
void LogWriter::FixWhatRecordsSay(LogAppend* out) {
  out->first = next_lsn_;
  out->claim = state_.durable_lsn;
  out->start_position = out->end_position = next_position_;
  out->epoch = state_.superblock.epoch;
  out->superblock_generation = state_.superblock.generation;
  out->prepared_blocks = space_.prepared_blocks();
  out->log = state_.superblock.geometry.log;
  UNTORN_CHECK(out->claim < out->first && out->claim >= state_.settled.once,
               "a claim of what is not durable");
  UNTORN_CHECK(out->start_position >= durable_position_, "a record begins before what is durable ends");
  UNTORN_CHECK(out->requests.empty(), "an append is begun twice");
  out->lane_record = {};
}

void LogWriter::Begin(LogReservation reservation, std::vector<LogEntry> entries, LogAppend* out) {
  out->records = 0;
  BlockCount blocks;
  ForEachRecordOf(entries, [&](std::span<const LogEntry>, BlockCount n) {
    blocks += n;
    ++out->records;
  });
  UNTORN_CHECK(reservation.writer_ == this && reservation.blocks() >= blocks,
               "a commit takes more of the log than was reserved");
  FixWhatRecordsSay(out);
  out->entries = std::move(entries);
  out->lanes = lanes_.extents();
  out->lane_block = BlockNumber();
  out->folds = HasUnfolded();
  out->unfolded = unfolded_;
  out->bytes = std::exchange(spare_, AlignedBuffer());
  // What was reserved is now in use, and the rest of the reservation goes back. The blocks of the fold were in use.
  reservation.Release();
  next_position_ += blocks + FoldBlocks();
  next_lsn_ += out->records;
  out->last = ring_lsn_ = next_lsn_ - 1;
  out->end_position = next_position_;
  UNTORN_CHECK(HasRoom(0), "the log since the last checkpoint is overwritten");
}

bool LogWriter::LaneRecordHasRoom(size_t entry_bytes, BlockCount blocks_max) const {
  if (LaneRecordBlocks(entry_bytes) > blocks_max) return false;
  return !HasUnfolded() || next_lsn_.value() - unfolded_.first.value() < kCommitsInRecordMax;
}

void LogWriter::BeginInLane(LogReservation reservation, std::vector<LogEntry> entries, BlockNumber lane_block,
                            LogAppend* out) {
  UNTORN_CHECK(reservation.writer_ == this, "there is no room for the fold");
  FixWhatRecordsSay(out);
  const BlockCount before = FoldBlocks();
  UNTORN_CHECK(out->claim == next_lsn_ - 1, "a commit goes to a lane that is not alone");
  if (!HasUnfolded()) unfolded_ = {next_lsn_, next_lsn_, 0, 0};
  unfolded_.last = next_lsn_;
  unfolded_.entries += static_cast<uint32_t>(entries.size());
  out->entry_bytes = EncodedBytes(entries);
  unfolded_.bytes += out->entry_bytes;
  UNTORN_CHECK(unfolded_.bytes <= kLaneEntryBytesMax, "a lane record says more than it has room for");
  UNTORN_CHECK(before + reservation.blocks() >= RecordBlocks(unfolded_.bytes),
               "there is no room for the fold");
  out->entries = std::move(entries);
  out->lanes.clear();
  out->folds = false;
  out->unfolded = unfolded_;
  out->lane_block = lane_block;
  out->records = 1;
  out->last = next_lsn_;
  reservation.Release();
  ++next_lsn_;
  UNTORN_CHECK(HasRoom(0), "the log has no room for the fold");
}

LogRecord LogWriter::RecordOf(const LogAppend& append) const {
  LogRecord record;
  record.epoch = append.epoch;
  record.first_lsn = append.first;
  record.lsn = append.first;
  record.claim = append.claim;
  record.superblock_generation = append.superblock_generation;
  record.prepared_blocks = append.prepared_blocks;
  if (!append.in_lane()) record.lanes = append.lanes;
  return record;
}

// Adds the entries of the commit to those that the lane record had before.
void LogWriter::EncodeLaneRecord(LogAppend* out) {
  std::byte* at = lane_record_.data() + kRecordHeaderBytes + (out->unfolded.bytes - out->entry_bytes);
  for (const LogEntry& e : out->entries) {
    EncodeEntry(e, out->last, at);
    at += EncodedBytes(e);
  }
  LogRecord record = RecordOf(*out);
  record.lane_block = out->lane_block;
  record.first_lsn = out->unfolded.first;
  out->lane_record = lane_record_.span().first(Bytes(RecordBlocks(out->unfolded.bytes)));
  SealRecord(record, out->unfolded.entries, out->unfolded.bytes, uuid_, data_key_, out->lane_record);
}

void LogWriter::Encode(LogAppend* out) {
  if (out->in_lane()) return EncodeLaneRecord(out);
  UNTORN_CHECK(out->start_position == encoded_position_, "commits are encoded out of order");
  const BlockCount blocks = out->blocks();
  UNTORN_CHECK(blocks > 0 && blocks <= out->log.count, "a commit is longer than the log");
  if (out->bytes.size() != Bytes(blocks)) out->bytes = AlignedBuffer(Bytes(blocks));
  LogRecord record = RecordOf(*out);
  record.position = out->start_position;
  BlockCount done;
  if (out->folds) {
    LogRecord fold = record;
    fold.first_lsn = out->unfolded.first;
    fold.lsn = out->unfolded.last;
    fold.claim = std::min(fold.claim, fold.lsn - 1);
    fold.previous_checksum = previous_checksum_;
    done = RecordBlocks(out->unfolded.bytes);
    const std::span<std::byte> bytes = out->bytes.span().first(Bytes(done));
    std::memcpy(bytes.data(), lane_record_.data(), kRecordHeaderBytes + out->unfolded.bytes);
    previous_checksum_ =
        SealRecord(fold, out->unfolded.entries, out->unfolded.bytes, uuid_, data_key_, bytes);
    record.position += done;
  }
  record.settling = out->entries.empty();
  ForEachRecordOf(out->entries, [&](std::span<const LogEntry> entries, BlockCount n) {
    record.last = record.lsn == out->last;
    // Every record names the checksum of the record before, so records can only be encoded in their order.
    record.previous_checksum = previous_checksum_;
    previous_checksum_ =
        EncodeRecord(record, entries, uuid_, out->bytes.span().subspan(Bytes(done), Bytes(n)));
    done += n;
    record.position += n;
    ++record.lsn;
  });
  UNTORN_CHECK(done == blocks && record.lsn == out->last + 1, "the entries changed after Begin()");
  encoded_position_ = out->end_position;
  out->end_checksum = previous_checksum_;

  // If the ring wraps inside the records, the rest goes to the beginning of the ring with a second request.
  const BlockCount ring = out->start_position % out->log.count;
  const BlockCount before_wrap = std::min(blocks, out->log.count - ring);
  out->requests.resize(before_wrap < blocks ? 2 : 1);
  const auto fill = [&](IoRequest& r, BlockNumber block, BlockCount from, BlockCount n) {
    r.op = IoOp::kWrite;
    r.offset_bytes = ByteOffset(block);
    r.iov = {{out->bytes.data() + Bytes(from), Bytes(n)}};
  };
  fill(out->requests[0], out->log.start + ring, 0, before_wrap);
  if (before_wrap < blocks) fill(out->requests[1], out->log.start, before_wrap, blocks - before_wrap);
}

void LogWriter::NoteDurable(LogAppend& append) {
  UNTORN_CHECK(MayBecomeDurable(append.first, state_.durable_lsn), "records become durable out of order");
  UNTORN_CHECK(append.claim < append.first, "a record claims itself");
  UNTORN_CHECK(append.last < next_lsn_ && append.end_position <= next_position_,
               "a record becomes durable that was never begun");
  UNTORN_CHECK(append.in_lane() ? !append.lane_record.empty() : append.bytes.size() == Bytes(append.blocks()),
               "a record becomes durable that was never encoded");
  // What is durable never becomes less.
  if (append.last > state_.durable_lsn) {
    state_.durable_lsn = append.last;
    if (!append.in_lane()) {
      durable_position_ = append.end_position;
      durable_checksum_ = append.end_checksum;
    }
  }
  // The claim is in a record that is durable together with all records before. So everything that is claimed
  // is settled.
  state_.settled.Claim(append.claim);
  UNTORN_CHECK(state_.settled.once <= state_.durable_lsn, "a record is settled that is not durable");
  // The requests are done, so the buffer is free. Most commits take one block.
  if (append.bytes.size() == kBlockBytes) spare_ = std::exchange(append.bytes, AlignedBuffer());
}

absl::Status LogWriter::CheckInvariants() const {
  const auto broken = [](int invariant, const char* what) {
    return absl::InternalError(absl::StrCat("log writer, invariant ", invariant, ": ", what));
  };
  const Superblock& superblock = state_.superblock;
  if (blocks_used() > superblock.geometry.log.count)
    return broken(1, "more blocks are used than the ring has");
  if (superblock.checkpoint_position > durable_position_) return broken(1, "a checkpoint is beyond the log");
  if (state_.durable_lsn > last_lsn() || durable_position_ > next_position_) {
    return broken(2, "more records are durable than there are");
  }
  if (state_.settled.twice > state_.settled.once) return broken(3, "a record is claimed twice, and not once");
  if (state_.settled.once > state_.durable_lsn) return broken(3, "a record is settled that is not durable");
  if (superblock.checkpoint_lsn > state_.durable_lsn)
    return broken(3, "a checkpoint holds what is not durable");
  const bool all_durable = state_.durable_lsn == last_lsn();
  if (all_durable && durable_position_ != next_position_) {
    return broken(4, "the durable record is not where the log says");
  }
  if (!all_durable && durable_position_ == next_position_ && !HasUnfolded()) {
    return broken(4, "a record is nowhere that is not durable");
  }
  // Only the checksum of the record that was encoded last is at hand here.
  if (encoded_position_ == durable_position_ && previous_checksum_ != durable_checksum_) {
    return broken(4, "the durable record's checksum is another's");
  }
  return absl::OkStatus();
}

}  // namespace untorn
