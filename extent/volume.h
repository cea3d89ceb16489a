// A volume holds the metadata of one open store, from superblock to superblock. The volume wires its parts
// together:
//
//     LogWriter ── records durable, in LSN order → active delta → (checkpoint) frozen delta → tree
//     MappingReader looks through these layers; SpaceLedger keeps account of every block.
//
// Invariants
//  1. The mappings seen here are those of durable records only. The layers above know what is on its way to
//     the device.
//  2. A record is settled once a durable claim covers the record. A claim is durable in a durable
//     superblock, or in a record that is durable together with every record before it. The record is
//     settled twice once two durable claims cover it.
// The invariants of the parts are in their headers.
//
// Threading: one mutex, the pump's, guards everything. The caller of every method holds the mutex. Methods
// that take the lock release it while they do I/O.
#ifndef UNTORN_EXTENT_VOLUME_H_
#define UNTORN_EXTENT_VOLUME_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/lock.h"
#include "device/io_pump.h"
#include "extent/delta.h"
#include "extent/lanes.h"
#include "extent/log_reader.h"
#include "extent/log_writer.h"
#include "extent/mapping_reader.h"
#include "extent/space_ledger.h"
#include "extent/superblock.h"
#include "extent/superblock_writer.h"
#include "extent/volume_state.h"

namespace untorn {

struct VolumeCounters {
  uint64_t checkpoints = 0;
  uint64_t log_records = 0, log_bytes = 0;  // of durable records
  uint64_t recovered_records = 0, dropped_records = 0;
};

class Volume {
 public:
  // Opens a volume: flushes, replays the tail of the log, and makes a superblock with a new log epoch
  // durable. A read-only open only replays. Nobody else may use the device meanwhile.
  static absl::StatusOr<std::unique_ptr<Volume>> Open(IoPump& pump, bool read_only,
                                                      size_t node_cache_nodes) EXCLUDES_STORE_LOCK;

  // Opens the checkpoint of this superblock for reading alone, under a lease (extent/lease.h).
  static std::unique_ptr<Volume> OpenLeased(IoPump& pump, const Superblock& superblock,
                                            size_t node_cache_nodes) EXCLUDES_STORE_LOCK;

  const Superblock& superblock() const REQUIRES_STORE_LOCK { return state_.superblock; }
  const Geometry& geometry() const REQUIRES_STORE_LOCK { return state_.superblock.geometry; }
  // Returns the key of the checksums of data, which never changes. Needs no lock.
  uint64_t data_key() const { return data_key_; }
  const VolumeCounters& counters() const REQUIRES_STORE_LOCK { return counters_; }
  // Says what was amiss when the store was opened, and did not keep it from opening.
  const std::vector<std::string>& open_warnings() const { return open_warnings_; }
  ObjectId NewObjectId() REQUIRES_STORE_LOCK { return static_cast<ObjectId>(next_object_++); }

  MappingReader& mappings() { return mappings_; }
  SpaceLedger& space() { return space_; }
  const SpaceLedger& space() const { return space_; }
  LogWriter& log() { return log_; }
  const LogWriter& log() const { return log_; }
  Lanes& lanes() { return lanes_; }
  const Lanes& lanes() const { return lanes_; }

  // Must be called in the order of LogWriter::Begin(), when the commit, its data and everything before are
  // flushed. The mappings of the commit take effect.
  absl::Status RecordsDurable(LogAppend& append) REQUIRES_STORE_LOCK;

  // Must be called for each overwrite in place: before the write is sent, and when the write is durable, or was refused.
  void BeginOverwrite(Extent extent) REQUIRES_STORE_LOCK { state_.open.Begin(extent); }
  void EndOverwrite(Extent extent) REQUIRES_STORE_LOCK { state_.open.End(extent); }
  bool overwriting() const REQUIRES_STORE_LOCK { return state_.open.overwriting(); }
  // Notes the checksums of blocks whose overwrite in place is durable. `mapping` is theirs, with the new checksums.
  void NoteOverwritten(ObjectId object, Mapping mapping) REQUIRES_STORE_LOCK;
  // Says whether a block that does not match its checksum is taken at the device's word.
  bool ExcusesMismatch(const Mapping& mapping) const REQUIRES_STORE_LOCK;
  LogEpoch session() const REQUIRES_STORE_LOCK { return state_.session; }

  // Asks the next checkpoint to give the store another size. The root of the map must be loaded, and nobody may be
  // preparing blocks or making a checkpoint. All prepared blocks must stay.
  void Resize(BlockCount total_blocks) REQUIRES_STORE_LOCK;
  // Asks the next checkpoint to move the log to a run that TakeLog() has taken, and that is zero durably. No record may be
  // begun until that checkpoint is made.
  absl::Status MoveLog(Extent log) REQUIRES_STORE_LOCK;
  // Asks the next checkpoint to end the store before the withdrawn blocks, and to give it another limit. No record may be
  // begun until that checkpoint is made, and EndShrink() must be called then.
  //  kResourceExhausted  blocks are not withdrawn any more, or are in use
  absl::Status Shrink(Lock& lock, BlockCount total_blocks) REQUIRES_STORE_LOCK;
  // Cuts the file behind the prepared blocks if the checkpoint is durable.
  absl::Status EndShrink(Lock& lock, bool durable) REQUIRES_STORE_LOCK;
  // Cuts the file behind the prepared blocks. It may be longer after a crash.
  absl::Status CutFile(Lock& lock) REQUIRES_STORE_LOCK;
  // Counts the withdrawn blocks that must be moved, or given back by others, before Shrink().
  BlockCount WithdrawnInUse() const REQUIRES_STORE_LOCK;
  // True until the checkpoint is durable that Resize(), MoveLog() or Shrink() has asked for.
  bool resizing() const REQUIRES_STORE_LOCK { return state_.next_geometry.has_value(); }

  // Makes a checkpoint. The caller makes sure that no other checkpoint is running. After an error the volume
  // must not be written any more.
  absl::Status RunCheckpoint(Lock& lock) REQUIRES_STORE_LOCK;
  // Returns kDataLoss if somebody else has cut the file short.
  absl::Status CheckFile() const REQUIRES_STORE_LOCK;
  // Closes the mappings that this session has opened or overwritten since the last checkpoint began. The checkpoint that
  // must follow closes the others.
  void CloseNewestMappings() REQUIRES_STORE_LOCK;
  // Says whether the next checkpoint would change anything.
  bool CheckpointNeeded() const REQUIRES_STORE_LOCK {
    return log_.blocks_used() > 0 || !state_.active->empty() || state_.frozen != nullptr ||
           !state_.open.empty();
  }
  bool checkpoint_running() const REQUIRES_STORE_LOCK { return state_.frozen != nullptr; }
  const Delta& active() const REQUIRES_STORE_LOCK { return *state_.active; }
  // Counts the nodes of the tree that the last durable checkpoint has.
  BlockCount tree_nodes() const REQUIRES_STORE_LOCK { return state_.superblock.tree.node_count; }

  // Returns kInternal and names the invariant, if an invariant of one of the parts does not hold. Is for
  // tests.
  absl::Status CheckInvariants() const REQUIRES_STORE_LOCK;

 private:
  Volume(IoPump& pump, const Superblock& superblock, int slot, size_t node_cache_nodes);
  // Applies what the log says. `outside` gets the entries of what is in no record of the ring as a whole.
  absl::Status Recover(const LogTail& tail, std::vector<LogEntry>* outside) REQUIRES_STORE_LOCK;
  // Brings into the ring what recovery has found outside of it, durably.
  absl::Status WriteFold(Lock& lock, std::vector<LogEntry> outside, Generation superblock_generation,
                         LogTail* tail) REQUIRES_STORE_LOCK;
  absl::Status CutFileHeld(Lock& lock) REQUIRES_STORE_LOCK;
  // Ends recovery: makes a superblock durable that begins a new log epoch.
  absl::Status BeginEpoch(Lock& lock, const LogTail& tail) REQUIRES_STORE_LOCK;

  IoPump& pump_;
  const uint64_t data_key_;
  VolumeState state_ GUARDED_BY_STORE_LOCK;
  SpaceLedger space_;
  MappingReader mappings_;
  Lanes lanes_;
  LogWriter log_;
  SuperblockWriter superblocks_ GUARDED_BY_STORE_LOCK;
  uint64_t next_object_ GUARDED_BY_STORE_LOCK;
  VolumeCounters counters_ GUARDED_BY_STORE_LOCK;
  std::vector<std::string> open_warnings_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_VOLUME_H_
