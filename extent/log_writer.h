// The log writer holds the end of the log. The writer reserves room for commits, numbers their records, and
// encodes the records.
//
//     TryReserve   reserves room
//     Begin        gives LSNs, log positions and the claim, with the lock held; or BeginInLane
//     Encode       makes the bytes of the records, without the lock
//     the caller   submits the requests, flushes, and calls Volume::RecordsDurable()
//
// A commit in a lane has a lane record, which is not in the ring. Such a commit is unfolded as long as neither the ring
// nor a checkpoint holds it. Each lane record repeats all unfolded commits. The next commit of the ring begins with a
// fold, a record that repeats them too.
//
// Invariants
//  1. Log blocks since the last durable checkpoint are not overwritten: the blocks used and reserved fit the
//     ring. While there are unfolded commits, the blocks of the fold count as used.
//  2. Records get their LSNs and log positions in the order of Begin(), without gaps.
//  3. A record claims nothing beyond what was durable, together with everything before it, when Begin() was
//     called.
//  4. durable_position() and durable_checksum() belong to the newest durable record of the ring. Later durable
//     commits are unfolded.
//
// Threading: the volume's mutex guards all methods except Encode().
#ifndef UNTORN_EXTENT_LOG_WRITER_H_
#define UNTORN_EXTENT_LOG_WRITER_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/aligned_buffer.h"
#include "base/lock.h"
#include "device/device.h"
#include "extent/lanes.h"
#include "extent/log_format.h"
#include "extent/log_reader.h"
#include "extent/space_ledger.h"
#include "extent/volume_state.h"

namespace untorn {

// Holds the records of one commit on their way into the log. A LogAppend owns its buffers, and must live
// until its requests are done.
struct LogAppend {
  // ---- Set by Begin() ----
  std::vector<LogEntry> entries;
  uint64_t records = 0;
  Lsn first, last;
  Lsn claim;
  LogPosition start_position, end_position;
  LogEpoch epoch;
  Generation superblock_generation;
  BlockCount prepared_blocks;
  Extent log;
  LaneExtents lanes;
  // The unfolded commits, with this one if it goes to a lane.
  struct Unfolded {
    Lsn first, last;
    uint32_t entries = 0;
    size_t bytes = 0;
  };
  Unfolded unfolded;
  size_t entry_bytes = 0;  // of a commit in a lane
  bool folds = false;      // the first record in the ring is a fold
  BlockNumber lane_block;  // of the record of a commit in a lane; else 0
  // ---- Set by Encode() ----
  AlignedBuffer bytes;
  std::vector<IoRequest> requests;  // one, or two where the ring wraps; none for a lane
  // The record of a commit in a lane. The writer owns it, and does not change it before the commit is durable.
  std::span<std::byte> lane_record;
  uint64_t end_checksum = 0;

  bool in_lane() const { return lane_block > 0; }
  // Counts the blocks in the ring.
  BlockCount blocks() const { return end_position - start_position; }
};

class LogWriter;

// Holds blocks of the log that a commit will take. The destructor gives back the blocks that are not used. A
// reservation that is not empty must be destroyed with the store's lock held.
class LogReservation {
 public:
  LogReservation() = default;
  LogReservation(LogReservation&& other) noexcept
      : writer_(other.writer_), blocks_(std::exchange(other.blocks_, BlockCount())) {}
  LogReservation& operator=(LogReservation&& other) noexcept REQUIRES_STORE_LOCK {
    if (this == &other) return *this;
    Release();
    writer_ = other.writer_;
    blocks_ = std::exchange(other.blocks_, BlockCount());
    return *this;
  }
  ~LogReservation() { Release(); }
  BlockCount blocks() const { return blocks_; }
  void Release() REQUIRES_STORE_LOCK;

 private:
  friend class LogWriter;
  LogReservation(LogWriter* writer, BlockCount blocks) : writer_(writer), blocks_(blocks) {}

  LogWriter* writer_ = nullptr;
  BlockCount blocks_;
};

class LogWriter {
 public:
  // `state`, `space` and `lanes` must outlive the writer.
  LogWriter(VolumeState& state, const SpaceLedger& space, const Lanes& lanes)
      : state_(state),
        space_(space),
        lanes_(lanes),
        uuid_(state.superblock.uuid),
        data_key_(state.superblock.data_key) {}
  LogWriter(const LogWriter&) = delete;
  // Continues the log where recovery has found its end.
  void Resume(const LogTail& tail) REQUIRES_STORE_LOCK;

  // Counts the blocks that a commit with these entries takes. A commit without entries is a settling record.
  static BlockCount BlocksFor(const std::vector<LogEntry>& entries);
  bool HasRoom(BlockCount blocks) const REQUIRES_STORE_LOCK;
  // Counts reserved blocks as used.
  BlockCount blocks_used() const REQUIRES_STORE_LOCK {
    return next_position_ - state_.superblock.checkpoint_position + reserved_blocks_ + FoldBlocks();
  }
  std::optional<LogReservation> TryReserve(BlockCount blocks) REQUIRES_STORE_LOCK;

  // Puts the entries at the end of the ring, as one chain. A commit without entries is a settling record. The
  // rest of the reservation goes back.
  void Begin(LogReservation reservation, std::vector<LogEntry> entries, LogAppend* out) REQUIRES_STORE_LOCK;
  // Says whether a lane record of at most so many blocks has room for entries of so many bytes more.
  bool LaneRecordHasRoom(size_t entry_bytes, BlockCount blocks_max) const REQUIRES_STORE_LOCK;
  // Counts the blocks of a lane record that has entries of so many bytes more.
  BlockCount LaneRecordBlocks(size_t entry_bytes) const REQUIRES_STORE_LOCK {
    return RecordBlocks(entry_bytes + (HasUnfolded() ? unfolded_.bytes : 0));
  }
  // Does the same for a commit of one record, which begins at `lane_block`. All earlier records must be durable. The
  // reservation must have what the fold grows by. All of the rest goes back.
  void BeginInLane(LogReservation reservation, std::vector<LogEntry> entries, BlockNumber lane_block,
                   LogAppend* out) REQUIRES_STORE_LOCK;
  // Makes the bytes and the requests. The one thread that sends commits makes this call, without the lock,
  // in the order of Begin(). The hashes in out->entries may be filled in between Begin() and Encode().
  void Encode(LogAppend* out);
  // Must be called in the order of Begin(), when everything up to this commit is durable.
  void NoteDurable(LogAppend& append) REQUIRES_STORE_LOCK;

  // Returns kInternal and names the invariant, if an invariant does not hold. Tests must not call this while
  // a commit is being encoded.
  absl::Status CheckInvariants() const REQUIRES_STORE_LOCK;

  Lsn last_lsn() const REQUIRES_STORE_LOCK { return next_lsn_ - 1; }
  Lsn durable_lsn() const REQUIRES_STORE_LOCK { return state_.durable_lsn; }
  bool AllDurable() const REQUIRES_STORE_LOCK { return durable_lsn() == last_lsn(); }
  const Settled& settled() const REQUIRES_STORE_LOCK { return state_.settled; }
  // The log goes on at durable_position() after the record durable_lsn(). durable_checksum() is the checksum
  // of this record.
  LogPosition durable_position() const REQUIRES_STORE_LOCK { return durable_position_; }
  uint64_t durable_checksum() const REQUIRES_STORE_LOCK { return durable_checksum_; }

 private:
  friend class LogReservation;

  bool HasUnfolded() const REQUIRES_STORE_LOCK {
    return unfolded_.last > std::max(ring_lsn_, state_.superblock.checkpoint_lsn);
  }
  // Counts the blocks of the ring that the fold will take.
  BlockCount FoldBlocks() const REQUIRES_STORE_LOCK {
    return HasUnfolded() ? RecordBlocks(unfolded_.bytes) : BlockCount(0);
  }
  void FixWhatRecordsSay(LogAppend* out) REQUIRES_STORE_LOCK;
  LogRecord RecordOf(const LogAppend& append) const;
  void EncodeLaneRecord(LogAppend* out);

  VolumeState& state_ GUARDED_BY_STORE_LOCK;
  const SpaceLedger& space_ GUARDED_BY_STORE_LOCK;
  const Lanes& lanes_ GUARDED_BY_STORE_LOCK;
  // These never change, so Encode() needs no lock for them.
  const Uuid uuid_;
  const uint64_t data_key_;
  LogPosition next_position_ GUARDED_BY_STORE_LOCK;
  Lsn next_lsn_ GUARDED_BY_STORE_LOCK = 1;
  Lsn ring_lsn_ GUARDED_BY_STORE_LOCK;  // of the last record in the ring
  LogAppend::Unfolded unfolded_ GUARDED_BY_STORE_LOCK;
  BlockCount reserved_blocks_ GUARDED_BY_STORE_LOCK;
  LogPosition durable_position_ GUARDED_BY_STORE_LOCK;
  uint64_t durable_checksum_ GUARDED_BY_STORE_LOCK = 0;
  AlignedBuffer spare_ GUARDED_BY_STORE_LOCK;  // from a durable commit, for the next one
  // These belong to the sending thread. previous_checksum_ and encoded_position_ describe the last record of the ring
  // that was encoded. lane_record_ has the newest lane record.
  AlignedBuffer lane_record_{Bytes(kLaneRecordBlocksMax)};
  uint64_t previous_checksum_ = 0;
  LogPosition encoded_position_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_LOG_WRITER_H_
