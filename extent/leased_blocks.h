// Leased blocks are those of the checkpoints that other processes read (extent/lease.h).
//
// Memory has two bits for each block, in groups as FreeSpace has them:
//   used  a leased checkpoint uses the block: one such bit for each lease
//   kept  the store has displaced the block, and only leases keep it from being free
//
// Invariants
//  1. A kept block is used by a lease.
//  2. What a checkpoint uses of a group that is not loaded is not known. All of the group counts as used then.
//
// Threading: the volume's mutex guards the object.
#ifndef UNTORN_EXTENT_LEASED_BLOCKS_H_
#define UNTORN_EXTENT_LEASED_BLOCKS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "extent/free_space.h"
#include "extent/types.h"

namespace untorn {

class LeasedBlocks {
 public:
  // `space` must outlive the object.
  explicit LeasedBlocks(const FreeSpace& space) : space_(space) {}

  bool empty() const { return leases_.empty(); }
  // Begins a lease of the last durable checkpoint, which has this generation. Another lease of it may have begun before.
  void Begin(Generation checkpoint);
  // Ends the lease, and calls `freed` for the runs that it alone has kept.
  void End(Generation checkpoint, absl::FunctionRef<void(Extent)> freed);
  // Must be called when the group is loaded.
  void GroupLoaded(uint64_t group);
  // Says whether a leased checkpoint uses a block of the extent.
  bool Uses(Extent extent) const;
  // Keeps those blocks of a displaced extent that leases use. Calls `freed` for the runs of other blocks.
  //  kDataLoss  some of the blocks are kept already: the tree has mapped them twice
  absl::Status Keep(Extent extent, absl::FunctionRef<void(Extent)> freed);
  // Counts the kept blocks.
  BlockCount kept() const { return kept_blocks_; }

 private:
  struct Lease {
    Generation checkpoint;
    // By group. nullptr: it was not loaded.
    std::vector<std::unique_ptr<const FreeSpace::Bits>> used;
  };
  // Returns the end of the run of blocks that begins at `block` and ends before `limit`, all of which are used, or none.
  // All blocks are of one group.
  BlockNumber EndOfRun(BlockNumber block, BlockNumber limit, bool* used) const;

  const FreeSpace& space_;
  std::vector<Lease> leases_;
  std::vector<std::unique_ptr<FreeSpace::Bits>> kept_;  // by group. nullptr: nothing is kept there
  BlockCount kept_blocks_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_LEASED_BLOCKS_H_
