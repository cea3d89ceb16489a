// Makes a checkpoint. A checkpoint moves what the log says into the tree, so that the space of the log can
// be used again.
//
// Crash states: a crash leaves the old superblock or the new one, and all that this superblock needs.
//  - Until the new superblock is durable, everything that the old one refers to is untouched. The old tree
//    nodes and mapped extents have their base bits set, so nothing is allocated over them. The old map nodes
//    stay, because a checkpoint writes the other slots. The log since the old checkpoint is not overwritten.
//  - The tree, the map and the records of the new superblock are flushed before the new superblock is sent.
//  - The new superblock counts as durable once both slots hold it. The second slot is sent when the first is
//    flushed, so one slot is whole at any moment. Once both slots are flushed, either slot is enough.
#ifndef UNTORN_EXTENT_CHECKPOINT_H_
#define UNTORN_EXTENT_CHECKPOINT_H_

#include "absl/status/status.h"
#include "base/lock.h"
#include "device/io_pump.h"
#include "extent/lanes.h"
#include "extent/log_writer.h"
#include "extent/mapping_reader.h"
#include "extent/space_ledger.h"
#include "extent/superblock_writer.h"
#include "extent/volume_state.h"

namespace untorn {

// Names the parts of a volume that a checkpoint works on.
struct CheckpointParts {
  IoPump& pump;
  VolumeState& state GUARDED_BY_STORE_LOCK;
  SpaceLedger& space GUARDED_BY_STORE_LOCK;
  MappingReader& mappings GUARDED_BY_STORE_LOCK;
  const LogWriter& log GUARDED_BY_STORE_LOCK;
  Lanes& lanes GUARDED_BY_STORE_LOCK;
  SuperblockWriter& superblocks GUARDED_BY_STORE_LOCK;
};

// Freezes the active delta, merges it into the tree, and writes the superblock. Releases the lock for most
// of the time. Reads `next_object` with the lock held, when the new tree is durable. Only one checkpoint may
// run at a time. After an error the volume must not be written any more.
absl::Status MakeCheckpoint(Lock& lock, const CheckpointParts& parts,
                            const uint64_t& next_object) REQUIRES_STORE_LOCK;

}  // namespace untorn

#endif  // UNTORN_EXTENT_CHECKPOINT_H_
