// A volume: the metadata of one open store. Mappings, names, space and log, from superblock to superblock.
//
//     records durable, in LSN order  →  active delta  →  (checkpoint)  frozen delta  →  tree
//
// Invariants
//  1. The mappings seen here are those of durable records only. What is on its way to the device is known to
//     the layers above.
//  2. A displaced extent is allocatable only when the record that mapped it is settled, the one that
//     displaced it is durable together with all before it, no read of it is outstanding, and no durable
//     checkpoint refers to it.
//  3. A record is settled once a durable superblock, or a record that is itself durable together with every
//     record before it, claims that the log is durable up to it.
//  4. Log blocks since the last durable checkpoint are not overwritten.
//
// Lookups that need a tree node which is not cached return false; LoadMissing() reads it, and the caller asks
// again.
//
// Threading: one mutex, the pump's, guards everything; methods are called with it held. Those that take the
// lock release it while they do I/O.
#ifndef UNTORN_EXTENT_VOLUME_H_
#define UNTORN_EXTENT_VOLUME_H_

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/aligned_buffer.h"
#include "device/io_pump.h"
#include "extent/delta.h"
#include "extent/free_space.h"
#include "extent/log_reader.h"
#include "extent/superblock.h"
#include "extent/tree.h"

namespace untorn {

// The records of one commit on their way into the log. Owns the buffers; lives until the requests are done.
struct LogAppend {
  std::vector<LogEntry> entries;
  AlignedBuffer bytes;
  std::vector<IoRequest> requests;  // one, or two where the ring wraps
  uint64_t records = 0;
  Lsn first = 0, last = 0;
  Lsn claim = 0;
  uint64_t end_position = 0;
  uint64_t end_checksum = 0;
};

struct VolumeCounters {
  uint64_t checkpoints = 0;
  uint64_t log_records = 0, log_bytes = 0;
  uint64_t recovered_records = 0, dropped_records = 0;
};

class Volume {
 public:
  // Writes an empty store over the device's first `size_bytes`. `prepare_all`: no PrepareMore() will be needed.
  static absl::Status Format(Device& device, uint64_t size_bytes, bool prepare_all,
                             const std::function<void(uint64_t, uint64_t)>& progress);

  // Opens: flushes, replays the log's tail, and makes a superblock with a new epoch durable. Read-only:
  // replays only. The device must not be used by others meanwhile.
  static absl::StatusOr<std::unique_ptr<Volume>> Open(IoPump& pump, bool read_only, size_t node_cache_nodes);

  const Superblock& superblock() const { return superblock_; }
  const Geometry& geometry() const { return superblock_.geometry; }
  const VolumeCounters& counters() const { return counters_; }
  // What was amiss when it was opened, and did not keep it from opening.
  const std::vector<std::string>& open_warnings() const { return open_warnings_; }
  NodeCache& node_cache() { return nodes_; }

  // ---- Lookups ----
  // The mappings of `range`, in order and without gaps (holes as kHole).
  absl::StatusOr<bool> TryLookup(ObjectId object, BlockRange range, std::vector<Mapping>* out);
  absl::StatusOr<bool> TryFindInode(ObjectId object, std::optional<Inode>* out);
  absl::StatusOr<bool> TryFindName(const std::string& name, std::optional<ObjectId>* out);
  // The first name after `after` in byte order.
  absl::StatusOr<bool> TryNextName(const std::string& after,
                                   std::optional<std::pair<std::string, ObjectId>>* out);
  // Whether the leaves in which the range begins and ends can be read: a checkpoint that makes a hole of it takes those
  // apart. (A lookup of the range tells of all.)
  absl::StatusOr<bool> TryReachEdges(ObjectId object, BlockRange range);
  // The node that the last lookup missed.
  BlockPointer missing() const { return missing_; }
  absl::Status LoadMissing(std::unique_lock<std::mutex>& lock) { return LoadNodes(lock, {missing_}); }
  // Several at once.
  absl::Status LoadNodes(std::unique_lock<std::mutex>& lock, const std::vector<BlockPointer>& nodes);
  ObjectId NewObjectId() { return static_cast<ObjectId>(next_object_++); }

  // ---- Space ----
  // Promises `blocks` blocks and `entries` changes of the tree (counted as for TreeGrowthMax) to an accepted
  // change. False: there is not that much. `reserve` lets removes and truncates use what is kept back for them.
  // Invariant: the prepared free blocks suffice for all that is claimed, for the checkpoints of all changes that
  // are claimed or in the deltas, and for one more copy of the tree as they leave it.
  bool TryClaim(uint64_t blocks, uint64_t entries, bool reserve);
  void Unclaim(uint64_t blocks, uint64_t entries);
  uint64_t claimed_blocks() const { return claimed_blocks_; }
  uint64_t free_blocks() const { return free_.free_blocks(); }
  uint64_t pending_blocks() const { return pending_blocks_; }
  uint64_t prepared_blocks() const { return free_.prepared(); }
  // Blocks a write could claim now; more after preparing.
  uint64_t ClaimableBlocks() const;
  // What a claim takes of them in all, its share of tree nodes included.
  uint64_t BlocksOfClaim(uint64_t blocks, uint64_t entries) const;
  // Allocates as FreeSpace::Allocate, loading parts of the map as needed. kResourceExhausted: no run of `min`
  // blocks.
  absl::StatusOr<Extent> Allocate(std::unique_lock<std::mutex>& lock, uint64_t want, uint64_t min,
                                  uint64_t alignment, uint64_t enough = UINT64_MAX);
  // An extent that no record ever named goes back at once. No I/O on it may be outstanding.
  absl::Status ReturnUnused(Extent extent) { return free_.MarkFree(extent); }
  // Writes zeros to the next blocks ahead of use, so that later writes cost one I/O. Returns false if all are
  // prepared.
  absl::StatusOr<bool> PrepareMore(std::unique_lock<std::mutex>& lock, uint64_t blocks);
  // The last allocations since more was prepared had to do with short runs.
  bool fragmented() const { return fragmented_; }
  // Frees what has become due.
  absl::Status ReleasePending();

  // Device reads of data that are outstanding.
  using ReadPin = std::list<Extent>::iterator;
  ReadPin PinRead(Extent extent) { return reads_.insert(reads_.end(), extent); }
  void UnpinRead(ReadPin pin) { reads_.erase(pin); }
  bool ReadOutstanding(Extent extent) const;

  // ---- Log ----
  // Blocks that a commit with these entries takes in the log, and whether there is room for them now.
  static uint64_t LogBlocksFor(const std::vector<LogEntry>& entries);
  bool LogHasRoom(uint64_t blocks) const;
  uint64_t log_blocks_used() const { return next_position_ - superblock_.checkpoint_position; }
  // Encodes the entries (none: a settling record) as one transaction at the log's end. The caller submits the
  // requests and calls RecordsDurable for every LogAppend in order of LSN once it, its data and all before it
  // are flushed.
  void Append(std::vector<LogEntry> entries, LogAppend* out);
  absl::Status RecordsDurable(LogAppend& append);
  Lsn last_lsn() const { return next_lsn_ - 1; }
  Lsn durable_lsn() const { return durable_lsn_; }
  Lsn settled_lsn() const { return settled_lsn_; }

  // ---- Checkpoint ----
  bool checkpoint_running() const { return frozen_ != nullptr; }
  const Delta& active() const { return *active_; }
  // Writes one. The caller makes sure that no other is running. After an error the volume must not be written
  // any more.
  absl::Status RunCheckpoint(std::unique_lock<std::mutex>& lock);

 private:
  class MergeSink;
  struct PendingFree {
    Extent extent;
    Lsn mapped_by;
  };

  Volume(IoPump& pump, const Superblock& superblock, int slot, size_t node_cache_nodes);
  absl::Status Recover(const LogTail& tail);
  // Anything but the data area is never mapped: nothing may be read, written or freed there.
  absl::Status CheckPlace(Extent extent) const;
  absl::Status LoadGroup(std::unique_lock<std::mutex>& lock, uint64_t group);
  absl::Status LoadGroups(std::unique_lock<std::mutex>& lock, Extent extent);
  absl::Status WriteSuperblock(std::unique_lock<std::mutex>& lock, const Superblock& next);
  absl::StatusOr<std::shared_ptr<const TreeNode>> ReadNode(std::unique_lock<std::mutex>& lock,
                                                           BlockPointer pointer);
  // Blocks kept for checkpoints, with that many entries more.
  uint64_t MetadataReserve(uint64_t extra_entries) const;
  absl::StatusOr<bool> Walked(WalkResult result, const TreeCursor& cursor);

  IoPump& pump_;
  Superblock superblock_;  // the newest durable one
  const int slot_;         // one that held it when it was read: the other is written first
  NodeCache nodes_;
  FreeSpace free_;
  std::unique_ptr<Delta> active_ = std::make_unique<Delta>();
  std::unique_ptr<Delta> frozen_;
  BlockPointer missing_;
  uint64_t next_object_;

  uint64_t next_position_, previous_checksum_;
  Lsn next_lsn_;
  uint64_t durable_position_, durable_checksum_;
  Lsn durable_lsn_, settled_lsn_;

  uint64_t claimed_blocks_ = 0, claimed_entries_ = 0;
  std::vector<PendingFree> pending_;
  uint64_t pending_blocks_ = 0;
  std::list<Extent> reads_;
  bool preparing_ = false;
  bool fragmented_ = false;
  VolumeCounters counters_;
  std::vector<std::string> open_warnings_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_VOLUME_H_
