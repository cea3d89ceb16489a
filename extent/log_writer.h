// The log writer holds the end of the log. The writer reserves room for commits, numbers their records, and
// encodes the records.
//
//     TryReserve   reserves room
//     Begin        gives LSNs, log positions and the claim, with the lock held
//     Encode       makes the bytes of the records, without the lock
//     the caller   submits the requests, flushes, and calls Volume::RecordsDurable()
//
// Invariants
//  1. Log blocks since the last durable checkpoint are not overwritten: the blocks used and reserved fit the
//     ring.
//  2. Records get their LSNs and log positions in the order of Begin(), without gaps.
//  3. A record claims nothing beyond what was durable, together with everything before it, when Begin() was
//     called.
//  4. durable_position() and durable_checksum() belong to the record durable_lsn().
//
// Threading: the volume's mutex guards all methods except Encode().
#ifndef UNTORN_EXTENT_LOG_WRITER_H_
#define UNTORN_EXTENT_LOG_WRITER_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/aligned_buffer.h"
#include "base/lock.h"
#include "device/device.h"
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
  // ---- Set by Encode() ----
  AlignedBuffer bytes;
  std::vector<IoRequest> requests;  // one, or two where the ring wraps
  uint64_t end_checksum = 0;

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
  // `state` and `space` must outlive the writer.
  LogWriter(VolumeState& state, const SpaceLedger& space)
      : state_(state), space_(space), uuid_(state.superblock.uuid), geometry_(state.superblock.geometry) {}
  LogWriter(const LogWriter&) = delete;
  // Continues the log where recovery has found its end.
  void Resume(const LogTail& tail) REQUIRES_STORE_LOCK;

  // Counts the blocks that a commit with these entries takes. A commit without entries is a settling record.
  static BlockCount BlocksFor(const std::vector<LogEntry>& entries);
  bool HasRoom(BlockCount blocks) const REQUIRES_STORE_LOCK;
  // Counts reserved blocks as used.
  BlockCount blocks_used() const REQUIRES_STORE_LOCK {
    return next_position_ - state_.superblock.checkpoint_position + reserved_blocks_;
  }
  std::optional<LogReservation> TryReserve(BlockCount blocks) REQUIRES_STORE_LOCK;

  // Puts the entries at the end of the log, as one chain. A commit without entries is a settling record. The
  // rest of the reservation goes back.
  void Begin(LogReservation reservation, std::vector<LogEntry> entries, LogAppend* out) REQUIRES_STORE_LOCK;
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
  const Settled& settled() const REQUIRES_STORE_LOCK { return state_.settled; }
  // The log goes on at durable_position() after the record durable_lsn(). durable_checksum() is the checksum
  // of this record.
  LogPosition durable_position() const REQUIRES_STORE_LOCK { return durable_position_; }
  uint64_t durable_checksum() const REQUIRES_STORE_LOCK { return durable_checksum_; }

 private:
  friend class LogReservation;

  VolumeState& state_ GUARDED_BY_STORE_LOCK;
  const SpaceLedger& space_ GUARDED_BY_STORE_LOCK;
  // The UUID and the geometry never change, so Encode() needs no lock for them.
  const Uuid uuid_;
  const Geometry geometry_;
  LogPosition next_position_ GUARDED_BY_STORE_LOCK;
  Lsn next_lsn_ GUARDED_BY_STORE_LOCK = 1;
  BlockCount reserved_blocks_ GUARDED_BY_STORE_LOCK;
  LogPosition durable_position_ GUARDED_BY_STORE_LOCK;
  uint64_t durable_checksum_ GUARDED_BY_STORE_LOCK = 0;
  AlignedBuffer spare_ GUARDED_BY_STORE_LOCK;  // from a durable commit, for the next one
  // previous_checksum_ and encoded_position_ describe the last record that was encoded, and belong to the
  // sending thread.
  uint64_t previous_checksum_ = 0;
  LogPosition encoded_position_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_LOG_WRITER_H_
