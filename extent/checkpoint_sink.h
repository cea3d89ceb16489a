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
      : pump_(pump), state_(state), space_(space), mappings_(mappings) {}

  // ---- Without the lock ----
  absl::StatusOr<std::shared_ptr<const TreeNode>> Load(BlockPointer pointer) override EXCLUDES_STORE_LOCK;
  absl::StatusOr<BlockNumber> AllocateNode() override EXCLUDES_STORE_LOCK;
  absl::Status WriteNode(BlockPointer pointer, std::span<const std::byte> block) override EXCLUDES_STORE_LOCK;
  void NodeRetired(BlockNumber block) override EXCLUDES_STORE_LOCK;
  void MappingRemoved(Extent extent) override EXCLUDES_STORE_LOCK;

  // ---- With the lock ----
  // After the merge: sends what is left, and marks the extents that `merged` maps. Returns the first error.
  absl::Status Finish(Lock& lock, const Delta& merged) REQUIRES_STORE_LOCK;
  // A write of the caller's bytes (copied).
  void Write(BlockNumber block, std::span<const std::byte> bytes) REQUIRES_STORE_LOCK;
  // Waits until at most `left` writes are in flight. Returns the first error.
  absl::Status Drain(Lock& lock, size_t left) REQUIRES_STORE_LOCK;
  // Once nothing refers to the old tree any more.
  void ForgetRetired() REQUIRES_STORE_LOCK;

 private:
  struct PendingWrite {
    AlignedBuffer bytes;
    IoRequest request;
    bool done = false;
  };

  // Takes the extent out of base.
  void Clear(Extent extent) EXCLUDES_STORE_LOCK;
  absl::Status SendRun(Lock& lock) REQUIRES_STORE_LOCK;
  void Send(PendingWrite& write, BlockNumber block, size_t bytes) REQUIRES_STORE_LOCK;

  IoPump& pump_;
  const VolumeState& state_ GUARDED_BY_STORE_LOCK;
  SpaceLedger& space_ GUARDED_BY_STORE_LOCK;
  MappingReader& mappings_ GUARDED_BY_STORE_LOCK;
  absl::Status error_ GUARDED_BY_STORE_LOCK;  // the first error
  Extent run_ GUARDED_BY_STORE_LOCK;          // where new nodes go
  BlockCount run_used_ GUARDED_BY_STORE_LOCK;
  AlignedBuffer bytes_ GUARDED_BY_STORE_LOCK;  // of the run
  std::vector<BlockNumber> retired_;           // the merging thread's
  std::deque<PendingWrite> writes_ GUARDED_BY_STORE_LOCK;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_CHECKPOINT_SINK_H_
