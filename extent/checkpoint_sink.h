// Does the I/O and the space accounting of one checkpoint. A merge of the tree gets old nodes from the sink,
// and puts new nodes into the sink.
//
// New nodes are allocated in runs, and one request writes each run. The sink sets the base bits of what the
// checkpoint writes or maps. The sink clears the base bits of what the new tree does without. Both changes
// take effect when the checkpoint is installed.
//
// Threading: one thread calls the methods of TreeMergeSink, without the store's lock. The other methods are
// called with the lock held.
#ifndef UNTORN_EXTENT_CHECKPOINT_SINK_H_
#define UNTORN_EXTENT_CHECKPOINT_SINK_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/aligned_buffer.h"
#include "base/lock.h"
#include "device/io_pump.h"
#include "extent/mapping_reader.h"
#include "extent/space_ledger.h"
#include "extent/tree_merge.h"

namespace untorn {

class CheckpointSink : public TreeMergeSink {
 public:
  // The merge moves the nodes that are in withdrawn blocks.
  CheckpointSink(IoPump& pump, SpaceLedger& space, MappingReader& mappings) REQUIRES_STORE_LOCK
      : pump_(pump),
        space_(space),
        mappings_(mappings) {
    if (space.withdrawn()) moves_from_ = space.usable_end();
  }

  // ---- Without the lock ----
  absl::StatusOr<std::shared_ptr<const TreeNode>> Load(BlockPointer pointer) override EXCLUDES_STORE_LOCK;
  void Prefetch(std::span<const BlockPointer> leaves) override EXCLUDES_STORE_LOCK;
  absl::StatusOr<BlockNumber> AllocateNode() override EXCLUDES_STORE_LOCK;
  absl::Status WriteNode(std::shared_ptr<const TreeNode> node) override EXCLUDES_STORE_LOCK;
  void NodeRetired(BlockNumber block) override EXCLUDES_STORE_LOCK;
  void MappingRemoved(Extent extent) override EXCLUDES_STORE_LOCK;
  bool MovesNodes() const override { return moves_from_.has_value(); }
  bool MustMove(BlockNumber block) const override { return moves_from_ && block >= *moves_from_; }

  // ---- With the lock ----
  // Must be called after the merge. Sends what is left, and sets the base bits of the extents that `merged`
  // maps. Returns the first error.
  absl::Status Finish(Lock& lock, const Delta& merged) REQUIRES_STORE_LOCK;
  // Queues a write of a copy of `bytes`.
  void Write(BlockNumber block, std::span<const std::byte> bytes) REQUIRES_STORE_LOCK;
  // Waits until writes of at most so many bytes are in flight. Returns the first error.
  absl::Status Drain(Lock& lock, size_t left_bytes) REQUIRES_STORE_LOCK;
  // Drops the retired nodes from the node cache. Must be called once nothing refers to the old tree any
  // more.
  void ForgetRetired() REQUIRES_STORE_LOCK;

 private:
  struct PendingWrite {
    AlignedBuffer bytes;
    IoRequest request;
    bool done = false;
  };

  // Says whether the device reads any superblock slot.
  bool ReadsElsewhere(Lock& lock) REQUIRES_STORE_LOCK;
  // Clears the base bits of the extent.
  void Clear(Extent extent) EXCLUDES_STORE_LOCK;
  static size_t CountedBytes(const PendingWrite& write);
  // Allocates a run for new nodes, of `want` blocks at most.
  absl::StatusOr<Extent> AllocateRun(Lock& lock, BlockCount want) REQUIRES_STORE_LOCK;
  // Sets the base bits of blocks that the merged delta maps, and owns if `owned`.
  absl::Status MarkMapped(Lock& lock, Extent extent, bool owned) REQUIRES_STORE_LOCK;
  absl::Status SendRun(Lock& lock) REQUIRES_STORE_LOCK;
  void Send(PendingWrite& write, BlockNumber block, size_t bytes) REQUIRES_STORE_LOCK;

  IoPump& pump_;
  SpaceLedger& space_ GUARDED_BY_STORE_LOCK;
  MappingReader& mappings_ GUARDED_BY_STORE_LOCK;
  std::optional<BlockNumber> moves_from_;
  absl::Status error_ GUARDED_BY_STORE_LOCK;  // the first error
  Extent run_ GUARDED_BY_STORE_LOCK;          // where new nodes go
  BlockCount run_used_ GUARDED_BY_STORE_LOCK;
  bool only_short_runs_ GUARDED_BY_STORE_LOCK = false;
  BlockNumber next_run_
      GUARDED_BY_STORE_LOCK;  // where the search for the next long run begins; 0: where data goes
  AlignedBuffer bytes_ GUARDED_BY_STORE_LOCK;                // the content of the run
  std::vector<BlockNumber> retired_;                         // belongs to the merging thread
  std::vector<std::shared_ptr<const TreeNode>> prefetched_;  // belongs to the merging thread, in any order
  std::deque<PendingWrite> writes_ GUARDED_BY_STORE_LOCK;
  size_t bytes_in_flight_ GUARDED_BY_STORE_LOCK = 0;  // of writes_
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_CHECKPOINT_SINK_H_
