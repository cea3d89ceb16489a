// Where a merge of the tree gets old nodes from, and puts new ones: the I/O and the space accounting of one checkpoint.
//
// New nodes are allocated in runs, and each run is written with one request. What is written is marked in use in the
// free-space map's base, and what the new tree does without is taken out of base: both take effect when the
// checkpoint is installed.
//
// Threading: the methods of TreeMergeSink are called without the volume's lock, by one thread; the others with it.
#ifndef UNTORN_EXTENT_CHECKPOINT_SINK_H_
#define UNTORN_EXTENT_CHECKPOINT_SINK_H_

#include <cstdint>
#include <deque>
#include <memory>
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
#include "extent/volume_state.h"

namespace untorn {

class CheckpointSink : public TreeMergeSink {
 public:
  CheckpointSink(IoPump& pump, const VolumeState& state, SpaceLedger& space, MappingReader& mappings)
      : pump_(pump),
        state_(state),
        space_(space),
        mappings_(mappings),
        lock_(pump.mutex(), std::defer_lock) {}

  // ---- Without the lock ----
  absl::StatusOr<std::shared_ptr<const TreeNode>> Load(BlockPointer pointer) override;
  absl::StatusOr<BlockNumber> AllocateNode() override;
  absl::Status WriteNode(BlockPointer pointer, std::span<const std::byte> block) override;
  void NodeRetired(BlockNumber block) override;
  void MappingRemoved(Extent extent) override;

  // ---- With the lock ----
  // After the merge: sends what is left, and marks the extents that `merged` maps. Returns the first error.
  absl::Status Finish(Lock& lock, const Delta& merged);
  // A write of the caller's bytes (copied).
  void Write(BlockNumber block, std::span<const std::byte> bytes);
  // Waits until at most `left` writes are in flight. Returns the first error.
  absl::Status Drain(Lock& lock, size_t left);
  // Once nothing refers to the old tree any more.
  void ForgetRetired();

 private:
  struct PendingWrite {
    AlignedBuffer bytes;
    IoRequest request;
    bool done = false;
  };

  // Takes the extent out of base.
  void Clear(Extent extent);
  absl::Status SendRun(Lock& lock);
  void Send(PendingWrite& write, BlockNumber block, size_t bytes);

  IoPump& pump_;
  const VolumeState& state_;
  SpaceLedger& space_;
  MappingReader& mappings_;
  Lock lock_;
  absl::Status error_;  // the first error
  Extent run_;          // where new nodes go
  BlockCount run_used_;
  AlignedBuffer bytes_;  // of the run
  std::vector<BlockNumber> retired_;
  std::deque<PendingWrite> writes_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_CHECKPOINT_SINK_H_
