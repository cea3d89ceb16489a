// What the parts of a volume share: the newest durable superblock, the deltas over its tree, and how far the log is
// durable and settled.
//
// Who changes it: RecordsDurable() (the active delta and the LSNs), a checkpoint (the deltas and the superblock),
// and recovery. Everything else reads it.
//
// Threading: guarded by the volume's mutex.
#ifndef UNTORN_EXTENT_VOLUME_STATE_H_
#define UNTORN_EXTENT_VOLUME_STATE_H_

#include <memory>

#include "extent/delta.h"
#include "extent/superblock.h"

namespace untorn {

struct VolumeState {
  Superblock superblock;  // the newest durable one
  std::unique_ptr<Delta> active = std::make_unique<Delta>();
  std::unique_ptr<Delta> frozen;  // while a checkpoint merges it into the tree
  Lsn durable_lsn;                // every record up to it is durable
  Lsn settled_lsn;                // every record up to it is settled
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_VOLUME_STATE_H_
