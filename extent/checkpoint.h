// A checkpoint: moves what the log says into the tree, so that the log's space can be used again.
//
// Crash states. Until the new superblock is durable everything the old one refers to is untouched: its tree
// nodes and mapped extents are in `base`, so nothing is allocated over them; its map nodes are in their other
// slots; the log since it is not overwritten. So a crash leaves the old superblock with all it needs, or the
// new one, whose tree, map and records were flushed before it was sent. It counts as durable once both copies
// are: the second is sent when the first is flushed, so at any moment at least one is whole, and from then on
// either is enough.
#ifndef UNTORN_EXTENT_CHECKPOINT_H_
#define UNTORN_EXTENT_CHECKPOINT_H_

#include "absl/status/status.h"
#include "base/lock.h"
#include "device/io_pump.h"
#include "extent/log_writer.h"
#include "extent/mapping_reader.h"
#include "extent/space_ledger.h"
#include "extent/superblock_writer.h"
#include "extent/volume_state.h"

namespace untorn {

// The parts of a volume that a checkpoint works on.
struct CheckpointParts {
  IoPump& pump;
  VolumeState& state GUARDED_BY_STORE_LOCK;
  SpaceLedger& space GUARDED_BY_STORE_LOCK;
  MappingReader& mappings GUARDED_BY_STORE_LOCK;
  const LogWriter& log GUARDED_BY_STORE_LOCK;
  SuperblockWriter& superblocks GUARDED_BY_STORE_LOCK;
};

// Makes one: freezes the active delta, merges it into the tree, and writes the superblock. The lock is released for
// most of the time. `next_object` is asked under the lock. Only one runs at a time. After an error the volume must not
// be written any more.
absl::Status MakeCheckpoint(Lock& lock, const CheckpointParts& parts,
                            const uint64_t& next_object) REQUIRES_STORE_LOCK;

}  // namespace untorn

#endif  // UNTORN_EXTENT_CHECKPOINT_H_
