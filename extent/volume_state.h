// Holds what the parts of a volume share: the newest durable superblock, the deltas over its tree, and the
// durable and settled LSNs.
//
// RecordsDurable() changes the active delta and the LSNs. A checkpoint changes the deltas, the superblock
// and the settled LSN. Recovery changes everything except the frozen delta. Everything else reads the state.
//
// Threading: the volume's mutex guards the state.
#ifndef UNTORN_EXTENT_VOLUME_STATE_H_
#define UNTORN_EXTENT_VOLUME_STATE_H_

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "extent/delta.h"
#include "extent/open_mappings.h"
#include "extent/superblock.h"

namespace untorn {

struct VolumeState {
  Superblock superblock;  // the newest durable one
  // Is what the next checkpoint makes the geometry. The free-space map has its shape already.
  std::optional<Geometry> next_geometry;
  // No record is begun until the next checkpoint is made. So the checkpoint holds all records, and names no lanes.
  bool next_holds_all = false;
  std::unique_ptr<Delta> active = std::make_unique<Delta>();
  std::unique_ptr<Delta> frozen;  // while a checkpoint merges it into the tree
  LogEpoch session;               // the log epoch of this opening, or of the owner; 0 if nobody writes
  OpenMappings open;              // those in the tree that this session has opened
  Lsn durable_lsn;                // every record up to it is durable
  Settled settled;

  // Returns where the store may end, before and after the next checkpoint.
  BlockNumber end() const {
    const BlockNumber now = superblock.geometry.end();
    return next_geometry ? std::min(now, next_geometry->end()) : now;
  }
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_VOLUME_STATE_H_
