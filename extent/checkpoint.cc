// Checkpoints and superblock writes: the part of Volume that moves what the log says into the tree.
//
// Crash states. Until the new superblock is durable everything the old one refers to is untouched: its tree
// nodes and mapped extents are in `base`, so nothing is allocated over them; its map nodes are in their other
// slots; the log since it is not overwritten. So a crash leaves the old superblock with all it needs, or the
// new one, whose tree, map and records were flushed before it was sent. It counts as durable once both copies
// are: the second is sent when the first is flushed, so at any moment at least one is whole, and from then on
// either is enough.
#include <algorithm>
#include <deque>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "extent/tree_merge.h"
#include "extent/volume.h"

namespace untorn {
namespace {

// New nodes are allocated and written in runs.
constexpr uint64_t kNodeRunBlocks = 64;
constexpr size_t kWritesInFlight = 8;

struct PendingWrite {
  AlignedBuffer bytes;
  IoRequest request;
  bool done = false;
};

}  // namespace

// Does the I/O and the space accounting of one merge. Its methods are called without the lock.
class Volume::MergeSink : public TreeMergeSink {
 public:
  explicit MergeSink(Volume& volume) : v_(volume), lock_(volume.pump_.mutex(), std::defer_lock) {}

  absl::StatusOr<std::shared_ptr<const TreeNode>> Load(BlockPointer pointer) override {
    std::lock_guard guard(lock_);
    if (!status_.ok()) return status_;
    absl::StatusOr<std::shared_ptr<const TreeNode>> node = v_.ReadNode(lock_, pointer);
    // Once more, before it counts as damaged.
    return absl::IsDataLoss(node.status()) ? v_.ReadNode(lock_, pointer) : node;
  }

  absl::StatusOr<uint64_t> AllocateNode() override {
    std::lock_guard guard(lock_);
    if (run_used_ == run_.count) {
      if (absl::Status s = SendRun(); !s.ok()) return s;
      // Not of what is claimed for data.
      const uint64_t unclaimed =
          v_.free_.free_blocks() - std::min(v_.free_.free_blocks(), v_.claimed_blocks_);
      const uint64_t want = std::clamp<uint64_t>(unclaimed, 1, kNodeRunBlocks);
      absl::StatusOr<Extent> run = v_.Allocate(lock_, want, 1, 1);
      if (!run.ok()) return run.status();
      run_ = *run;
      bytes_ = AlignedBuffer(run_.count * kBlockBytes);
    }
    return run_.start + run_used_++;
  }

  absl::Status WriteNode(BlockPointer pointer, std::span<const std::byte> block) override {
    absl::StatusOr<std::shared_ptr<const TreeNode>> node =
        TreeNode::Parse(block, v_.superblock_.uuid, pointer);
    UNTORN_CHECK(node.ok(), std::string(node.status().message()).c_str());
    std::lock_guard guard(lock_);
    UNTORN_CHECK(pointer.block >= run_.start && pointer.block < run_.start + run_used_,
                 "a node is written outside its run");
    std::copy(block.begin(), block.end(), bytes_.data() + (pointer.block - run_.start) * kBlockBytes);
    // Needed as soon as the new tree is: whoever looks something up would wait for it to be read.
    v_.nodes_.Insert(*std::move(node));
    if (absl::Status s = v_.LoadGroups(lock_, {pointer.block, 1}); !s.ok()) return s;
    return v_.free_.SetBase({pointer.block, 1});
  }

  void NodeRetired(uint64_t block) override {
    retired_.push_back(block);
    Clear({block, 1});
  }
  void MappingRemoved(Extent extent) override { Clear(extent); }

  // After the merge: what it wrote is on its way; returns the first error.
  absl::Status Finish(std::unique_lock<std::mutex>& lock, const Delta& merged) {
    if (run_.count > run_used_) {
      const Extent rest{run_.start + run_used_, run_.count - run_used_};
      if (absl::Status s = v_.free_.MarkFree(rest); !s.ok()) return s;
      run_.count = run_used_;
    }
    std::vector<Extent> mapped;
    merged.ForEachExtent([&](Extent e) { mapped.push_back(e); });
    for (const Extent& e : mapped) {
      if (absl::Status s = v_.LoadGroups(lock, e); !s.ok()) return s;
      if (absl::Status s = v_.free_.SetBase(e); !s.ok()) return s;
    }
    lock_ = std::move(lock);
    absl::Status sent = SendRun();
    lock = std::move(lock_);
    return sent.ok() ? status_ : sent;
  }

  // Once nothing refers to the old tree any more.
  void ForgetRetired() {
    for (uint64_t block : retired_) v_.nodes_.Erase(block);
  }

  // A write of the caller's bytes (copied).
  void Write(uint64_t block, std::span<const std::byte> bytes) {
    PendingWrite& w = writes_.emplace_back();
    w.bytes = AlignedBuffer(bytes.size());
    std::copy(bytes.begin(), bytes.end(), w.bytes.data());
    Send(w, block, bytes.size());
  }

  // Waits until at most `left` writes are in flight.
  absl::Status Drain(std::unique_lock<std::mutex>& lock, size_t left) {
    while (writes_.size() > left) {
      v_.pump_.Wait(lock, [&] { return writes_.front().done; });
      if (status_.ok()) status_ = writes_.front().request.status;
      writes_.pop_front();
    }
    return status_;
  }

 private:
  void Clear(Extent extent) {
    // Damage: nothing of ours is there.
    if (!v_.geometry().InDataArea(extent)) return;
    std::lock_guard guard(lock_);
    absl::Status s = v_.LoadGroups(lock_, extent);
    if (s.ok()) s = v_.free_.ClearBase(extent);
    if (status_.ok()) status_ = s;
  }

  absl::Status SendRun() {
    if (run_used_ == 0) return absl::OkStatus();
    PendingWrite& w = writes_.emplace_back();
    w.bytes = std::move(bytes_);
    Send(w, run_.start, run_used_ * kBlockBytes);
    run_ = {};
    run_used_ = 0;
    return Drain(lock_, kWritesInFlight);
  }

  void Send(PendingWrite& w, uint64_t block, size_t bytes) {
    w.request.op = IoOp::kWrite;
    w.request.offset_bytes = block * kBlockBytes;
    w.request.iov = {{w.bytes.data(), bytes}};
    w.request.context = &w;
    w.request.done = [](IoRequest* r) { static_cast<PendingWrite*>(r->context)->done = true; };
    v_.pump_.Queue(&w.request);
  }

  Volume& v_;
  std::unique_lock<std::mutex> lock_;
  absl::Status status_;
  Extent run_;
  uint64_t run_used_ = 0;
  AlignedBuffer bytes_;
  std::vector<uint64_t> retired_;  // blocks
  std::deque<PendingWrite> writes_;
};

absl::Status Volume::WriteSuperblock(std::unique_lock<std::mutex>& lock, const Superblock& next) {
  AlignedBuffer block(kBlockBytes);
  for (int slot : {1 - slot_, slot_}) {
    EncodeSuperblock(next, slot, block.span());
    IoRequest write;
    write.op = IoOp::kWrite;
    write.offset_bytes = kSuperblockSlots[slot] * kBlockBytes;
    write.iov = {{block.data(), kBlockBytes}};
    if (absl::Status s = pump_.Run(lock, &write); !s.ok()) return s;
    IoRequest flush;
    flush.op = IoOp::kFlush;
    if (absl::Status s = pump_.Run(lock, &flush); !s.ok()) return s;
  }
  superblock_ = next;
  settled_lsn_ = std::max(settled_lsn_, next.durable_lsn);
  return absl::OkStatus();
}

absl::Status Volume::RunCheckpoint(std::unique_lock<std::mutex>& lock) {
  UNTORN_CHECK(frozen_ == nullptr, "two checkpoints at once");
  frozen_ = std::move(active_);
  active_ = std::make_unique<Delta>();
  Superblock next = superblock_;
  ++next.generation;
  next.checkpoint_lsn = durable_lsn_;
  next.checkpoint_position = durable_position_;
  next.checkpoint_checksum = durable_checksum_;

  MergeSink sink(*this);
  absl::Status status;
  if (!frozen_->empty()) {
    const std::unique_ptr<TreeEditSource> edits = frozen_->Edits();
    lock.unlock();
    absl::StatusOr<TreeRoot> root = MergeTree(next.tree, *edits, next.uuid, next.generation, sink);
    lock.lock();
    if (root.ok()) {
      next.tree = *root;
      status = sink.Finish(lock, *frozen_);
    } else {
      status = root.status();
    }
    if (status.ok()) {
      absl::StatusOr<BlockPointer> map = free_.WriteChanges(
          next.uuid, next.generation, [&](uint64_t block, std::span<const std::byte> bytes) {
            sink.Write(block, bytes);
            return absl::OkStatus();
          });
      if (map.ok()) next.free_map = *map;
      status = map.status();
    }
    absl::Status drained = sink.Drain(lock, 0);
    if (status.ok()) status = drained;
    if (!status.ok()) return status;
    IoRequest flush;
    flush.op = IoOp::kFlush;
    if (absl::Status s = pump_.Run(lock, &flush); !s.ok()) return s;
  }
  next.used_blocks = free_.used_base_blocks();
  next.durable_lsn = durable_lsn_;
  next.prepared_blocks = free_.prepared();
  next.next_object = next_object_;
  if (absl::Status s = WriteSuperblock(lock, next); !s.ok()) return s;

  frozen_.reset();
  sink.ForgetRetired();
  free_.Install([&](Extent extent) {
    pending_.push_back({extent, 0});
    pending_blocks_ += extent.count;
  });
  ++counters_.checkpoints;
  absl::Status released = ReleasePending();
  pump_.Notify();
  return released;
}

}  // namespace untorn
