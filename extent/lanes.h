// Lanes are runs of free blocks where commits go that are alone, data and record in one write. The record lies behind
// its data, and is called a lane record. The next commit of the lane is written later, with its data over this record:
//
//     lane after commit 1:   d1 R1
//     lane after commit 4:   d1 d4 R4
//     lane after commit 7:   d1 d4 d7 R7
//
// A lane record repeats all commits that neither the ring nor a checkpoint holds (extent/log_format.h). The lanes are used
// in turn, so two newer lane records are durable when one is overwritten. docs/design.md has the crash states.
//
// Recovery looks for lane records in the extents that the last record of the ring names, or the superblock. So a lane
// uses an extent only when two writes of the ring name it, the newest durable one and the one before. The superblock of a
// checkpoint counts as two.
//
// Invariants
//  1. Blocks of lanes are allocated, and no mapping, reservation or pending free has them. Data leaves its lane with
//     Place().
//  2. A lane overwrites or gives back a lane record only if MayOverwriteLaneRecord() allows that.
//
// A lane is used only if a record of this log epoch is in the ring: named() is empty at first. That record overwrites
// what an earlier recovery has dropped there. And if both slots of a superblock are lost, the record tells.
//
// Threading: the volume's mutex guards the object. Only the thread that sends commits calls TakeExtents() and Place().
#ifndef UNTORN_EXTENT_LANES_H_
#define UNTORN_EXTENT_LANES_H_

#include <array>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/lock.h"
#include "extent/lane_extents.h"
#include "extent/space_ledger.h"
#include "extent/volume_state.h"

namespace untorn {

class Lanes {
 public:
  // `space` and `state` must outlive the lanes.
  Lanes(SpaceLedger& space, const VolumeState& state) : space_(space), state_(state) {}
  Lanes(const Lanes&) = delete;

  // Takes extents for lanes to come, as far as there is space to spare in the parts of the free-space map that are in
  // memory. Each has room for `blocks` blocks of data and record at least, at a multiple of the alignment. The next record of
  // the ring names them. Does no I/O.
  void TakeExtents(BlockCount blocks, BlockCount alignment) REQUIRES_STORE_LOCK;
  // Says whether the last extent that was taken is short. More of the free-space map in memory may have longer runs.
  bool short_of_runs() const REQUIRES_STORE_LOCK { return short_of_runs_; }
  // Returns all extents of the lanes: what the next record of the ring names.
  LaneExtents extents() const REQUIRES_STORE_LOCK;
  // Must be called when a record of the ring is durable that names these extents.
  void RingNames(const LaneExtents& extents) REQUIRES_STORE_LOCK;
  // Must be called when a superblock is durable that names none, while the ring has no record behind its checkpoint.
  void ForgetNamed() REQUIRES_STORE_LOCK { named_ = named_before_ = LaneExtents(); }
  // Returns what the newest durable record of the ring names: what the superblock of a checkpoint names that begins
  // behind this record.
  const LaneExtents& named() const REQUIRES_STORE_LOCK { return named_; }
  // Must be called when both slots hold a superblock that names named(), and the ring has no record behind its
  // checkpoint. Two slots count as two writes.
  void SuperblockNames() REQUIRES_STORE_LOCK { named_before_ = named_; }

  // Takes blocks for the data of the commit `lsn`, at a multiple of the alignment, and blocks behind it for its record.
  // Returns the extent of the data, or nullopt if the lane whose turn it is has no room.
  absl::StatusOr<std::optional<Extent>> Place(BlockCount data_blocks, BlockCount alignment,
                                              BlockCount record_blocks, Lsn lsn) REQUIRES_STORE_LOCK;
  // Says that the commit placed last has its record in the ring.
  void RecordGoesToRing() REQUIRES_STORE_LOCK { lanes_[turn_].record = Lsn(); }

  // Counts the blocks that GiveBack() gives back, at once or when the newest lane records are not needed any more.
  BlockCount blocks() const REQUIRES_STORE_LOCK;
  // Gives all blocks back: other data needs them. Lane records stay until MayOverwriteLaneRecord() allows to overwrite them.
  absl::Status GiveBack() REQUIRES_STORE_LOCK;
  // Counts the blocks from a block on that hold lane records outside of any lane.
  BlockCount KeptFrom(BlockNumber block) const REQUIRES_STORE_LOCK;
  // Gives them back. Until the next checkpoint is durable, their blocks must not be overwritten.
  absl::Status DropFrom(BlockNumber block) REQUIRES_STORE_LOCK;
  // Gives back the lane records that nobody needs any more.
  absl::Status ReleaseRecords() REQUIRES_STORE_LOCK;

 private:
  struct Lane {
    Extent extent;     // has no blocks at first
    BlockNumber next;  // where the next data goes, in `extent`
    Lsn record;        // the commit whose lane record is at `next`; or 0
    BlockCount record_blocks;
    BlockCount left() const { return extent.count > 0 ? extent.end() - next : BlockCount(); }
  };
  struct KeptRecord {
    Extent extent;
    Lsn lsn;
  };
  // Counts the blocks that the lanes may have.
  BlockCount BlocksInAll() const REQUIRES_STORE_LOCK;
  BlockCount ExtentBlocks() const REQUIRES_STORE_LOCK;
  bool MayUse(Extent extent) const REQUIRES_STORE_LOCK;
  bool MayOverwrite(Lsn record) const REQUIRES_STORE_LOCK;
  // Returns where the data goes if it has room in the extent from `next` on.
  std::optional<BlockNumber> RoomIn(Extent extent, BlockNumber next, BlockCount data_blocks,
                                    BlockCount alignment, BlockCount record_blocks) const REQUIRES_STORE_LOCK;
  absl::Status Return(Extent extent) REQUIRES_STORE_LOCK {
    return extent.count > 0 ? space_.ReturnUnused(extent) : absl::OkStatus();
  }

  SpaceLedger& space_;
  const VolumeState& state_ GUARDED_BY_STORE_LOCK;
  std::array<Lane, kLanes> lanes_ GUARDED_BY_STORE_LOCK;
  size_t turn_ GUARDED_BY_STORE_LOCK = 0;    // the lane that was used last
  LaneExtents next_ GUARDED_BY_STORE_LOCK;   // for lanes to come, in order
  LaneExtents named_ GUARDED_BY_STORE_LOCK;  // by the newest durable record of the ring
  LaneExtents named_before_ GUARDED_BY_STORE_LOCK;
  BlockCount run_length_ GUARDED_BY_STORE_LOCK = kLaneExtentBlocksMax;  // of the extent that was taken last
  bool short_of_runs_ GUARDED_BY_STORE_LOCK = false;
  int tries_left_out_ GUARDED_BY_STORE_LOCK = 0;        // after a try of TakeExtents() that was in vain
  std::vector<KeptRecord> kept_ GUARDED_BY_STORE_LOCK;  // in blocks that have left their lane
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_LANES_H_
