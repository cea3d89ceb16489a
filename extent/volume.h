// A volume: the metadata of one open store, from superblock to superblock. It wires its parts together:
//
//     LogWriter ── records durable, in LSN order → active delta → (checkpoint) frozen delta → tree
//     MappingReader looks through these layers; SpaceLedger knows whose each block is.
//
// Invariants
//  1. The mappings seen here are those of durable records only. What is on its way to the device is known to
//     the layers above.
//  2. A record is settled once a durable superblock, or a record that is itself durable together with every
//     record before it, claims that the log is durable up to it.
//  (Those of its parts are in their headers.)
//
// Threading: one mutex, the pump's, guards everything; methods are called with it held. Those that take the
// lock release it while they do I/O.
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
  uint64_t log_records = 0, log_bytes = 0;  // that are durable
  uint64_t recovered_records = 0, dropped_records = 0;
};

class Volume {
 public:
  // Opens: flushes, replays the log's tail, and makes a superblock with a new epoch durable. Read-only:
  // replays only. The device must not be used by others meanwhile.
  static absl::StatusOr<std::unique_ptr<Volume>> Open(IoPump& pump, bool read_only,
                                                      size_t node_cache_nodes) EXCLUDES_STORE_LOCK;

  const Superblock& superblock() const REQUIRES_STORE_LOCK { return state_.superblock; }
  const Geometry& geometry() const REQUIRES_STORE_LOCK { return state_.superblock.geometry; }
  const VolumeCounters& counters() const REQUIRES_STORE_LOCK { return counters_; }
  // What was amiss when it was opened, and did not keep it from opening.
  const std::vector<std::string>& open_warnings() const { return open_warnings_; }
  ObjectId NewObjectId() REQUIRES_STORE_LOCK { return static_cast<ObjectId>(next_object_++); }

  MappingReader& mappings() { return mappings_; }
  SpaceLedger& space() { return space_; }
  const SpaceLedger& space() const { return space_; }
  LogWriter& log() { return log_; }
  const LogWriter& log() const { return log_; }

  // The commit, its data and all before it are flushed: its mappings take effect. In the order of LogWriter::Begin().
  absl::Status RecordsDurable(LogAppend& append) REQUIRES_STORE_LOCK;

  // Makes a checkpoint. The caller makes sure that no other is running. After an error the volume must not be written
  // any more.
  absl::Status RunCheckpoint(Lock& lock) REQUIRES_STORE_LOCK;
  bool checkpoint_running() const REQUIRES_STORE_LOCK { return state_.frozen != nullptr; }
  const Delta& active() const REQUIRES_STORE_LOCK { return *state_.active; }

  // kInternal: names an invariant of one of the parts that does not hold. For tests.
  absl::Status CheckInvariants() const REQUIRES_STORE_LOCK;

 private:
  Volume(IoPump& pump, const Superblock& superblock, int slot, size_t node_cache_nodes);
  absl::Status Recover(const LogTail& tail) REQUIRES_STORE_LOCK;
  // Ends recovery: makes a superblock durable that begins a new epoch.
  absl::Status BeginEpoch(Lock& lock, const LogTail& tail) REQUIRES_STORE_LOCK;

  IoPump& pump_;
  VolumeState state_ GUARDED_BY_STORE_LOCK;
  SpaceLedger space_;
  MappingReader mappings_;
  LogWriter log_;
  SuperblockWriter superblocks_ GUARDED_BY_STORE_LOCK;
  uint64_t next_object_ GUARDED_BY_STORE_LOCK;
  VolumeCounters counters_ GUARDED_BY_STORE_LOCK;
  std::vector<std::string> open_warnings_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_VOLUME_H_
