// The end of the log: room for commits, their positions and numbers, and their records' bytes.
//
//     TryReserve (room) → Begin (under the lock: LSNs, positions, claim) → Encode (without it: bytes) → the caller
//     submits the requests, flushes, and tells the volume RecordsDurable()
//
// Invariants
//  1. Log blocks since the last durable checkpoint are not overwritten: what is used and what is reserved fits the ring.
//  2. Records get their LSNs and positions in the order of Begin(), without gaps.
//  3. A record claims nothing beyond what was durable, together with all before it, when Begin() was called.
//  4. durable_position() and durable_checksum() are of the record durable_lsn().
//
// Threading: guarded by the volume's mutex, but for Encode().
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

// The records of one commit on their way into the log. Owns the buffers; lives until the requests are done.
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

// Blocks of the log that a commit will take. They are given back if they are not used: the store's lock must be held
// when it goes, unless it is empty.
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
  // The log goes on where recovery has found its end.
  void Resume(const LogTail& tail) REQUIRES_STORE_LOCK;

  // Blocks that a commit with these entries takes. No entries: a settling record.
  static BlockCount BlocksFor(const std::vector<LogEntry>& entries);
  bool HasRoom(BlockCount blocks) const REQUIRES_STORE_LOCK;
  // Those reserved count as used.
  BlockCount blocks_used() const REQUIRES_STORE_LOCK {
    return next_position_ - state_.superblock.checkpoint_position + reserved_blocks_;
  }
  std::optional<LogReservation> TryReserve(BlockCount blocks) REQUIRES_STORE_LOCK;

  // Under the lock. Puts the entries (none: a settling record) at the log's end, as one transaction. The rest of the
  // reservation goes back.
  void Begin(LogReservation reservation, std::vector<LogEntry> entries, LogAppend* out) REQUIRES_STORE_LOCK;
  // Without the lock, by the one thread that sends commits, in the order of Begin(). The hashes in out->entries may be
  // filled in between.
  void Encode(LogAppend* out);
  // All up to this commit is durable: in the order of Begin().
  void NoteDurable(LogAppend& append) REQUIRES_STORE_LOCK;

  // kInternal: names an invariant that does not hold. For tests: not while a commit is being encoded.
  absl::Status CheckInvariants() const REQUIRES_STORE_LOCK;

  Lsn last_lsn() const REQUIRES_STORE_LOCK { return next_lsn_ - 1; }
  Lsn durable_lsn() const REQUIRES_STORE_LOCK { return state_.durable_lsn; }
  Lsn settled_lsn() const REQUIRES_STORE_LOCK { return state_.settled_lsn; }
  // Of the record durable_lsn(): where the log goes on after it, and its checksum.
  LogPosition durable_position() const REQUIRES_STORE_LOCK { return durable_position_; }
  uint64_t durable_checksum() const REQUIRES_STORE_LOCK { return durable_checksum_; }

 private:
  friend class LogReservation;

  VolumeState& state_ GUARDED_BY_STORE_LOCK;
  const SpaceLedger& space_ GUARDED_BY_STORE_LOCK;
  // They never change, so Encode() needs no lock for them.
  const Uuid uuid_;
  const Geometry geometry_;
  LogPosition next_position_ GUARDED_BY_STORE_LOCK;
  Lsn next_lsn_ GUARDED_BY_STORE_LOCK = 1;
  BlockCount reserved_blocks_ GUARDED_BY_STORE_LOCK;
  LogPosition durable_position_ GUARDED_BY_STORE_LOCK;
  uint64_t durable_checksum_ GUARDED_BY_STORE_LOCK = 0;
  AlignedBuffer spare_ GUARDED_BY_STORE_LOCK;  // of a commit that is durable, for the next one
  // Of the last record that was encoded. The sending thread's.
  uint64_t previous_checksum_ = 0;
  LogPosition encoded_position_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_LOG_WRITER_H_
