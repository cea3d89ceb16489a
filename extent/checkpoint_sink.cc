#include "extent/checkpoint_sink.h"

#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"

namespace untorn {
namespace {

constexpr BlockCount kNodeRunBlocks = 64;
constexpr size_t kWritesInFlight = 8;

}  // namespace

absl::StatusOr<std::shared_ptr<const TreeNode>> CheckpointSink::Load(BlockPointer pointer) {
  Lock lock(pump_.mutex());
  RETURN_IF_ERROR(error_);
  absl::StatusOr<std::shared_ptr<const TreeNode>> node = mappings_.ReadNode(lock, pointer);
  // A node is read once more before it counts as damaged.
  return absl::IsDataLoss(node.status()) ? mappings_.ReadNode(lock, pointer) : node;
}

absl::StatusOr<BlockNumber> CheckpointSink::AllocateNode() {
  Lock lock(pump_.mutex());
  if (run_used_ == run_.count) {
    RETURN_IF_ERROR(SendRun(lock));
    // A run takes nothing that is reserved for data, except for a single block.
    const BlockCount free = space_.free_blocks();
    const BlockCount unreserved = free - std::min(free, space_.reserved().blocks);
    const BlockCount want = std::clamp<BlockCount>(unreserved, 1, kNodeRunBlocks);
    ASSIGN_OR_RETURN(run_, space_.Allocate(lock, {.want_blocks = want}));
    bytes_ = AlignedBuffer(Bytes(run_.count));
  }
  const BlockNumber node = run_.start + run_used_;
  ++run_used_;
  return node;
}

absl::Status CheckpointSink::WriteNode(BlockPointer pointer, std::span<const std::byte> block) {
  std::shared_ptr<const TreeNode> node = TreeNode::OfSealed(block, pointer);
  Lock lock(pump_.mutex());
  UNTORN_CHECK(pointer.block >= run_.start && pointer.block < run_.start + run_used_,
               "a node is written outside its run");
  std::copy(block.begin(), block.end(), bytes_.data() + Bytes(pointer.block - run_.start));
  // The new node goes to the cache now: the first lookup in the new tree would have to wait for a read.
  mappings_.node_cache().Insert(std::move(node));
  RETURN_IF_ERROR(space_.LoadGroups(lock, {pointer.block, 1}));
  return space_.free_space().SetBase({pointer.block, 1});
}

void CheckpointSink::NodeRetired(BlockNumber block) {
  // The node stays in the cache for now, because lookups use the old tree until the checkpoint is installed.
  retired_.push_back(block);
  Clear({block, 1});
}

void CheckpointSink::MappingRemoved(Extent extent) { Clear(extent); }

void CheckpointSink::Clear(Extent extent) {
  Lock lock(pump_.mutex());
  // A damaged mapping may lead outside the data area, where nothing is ever freed.
  if (!state_.superblock.geometry.InDataArea(extent)) return;
  absl::Status s = space_.LoadGroups(lock, extent);
  if (s.ok()) s = space_.free_space().ClearBase(extent);
  if (error_.ok()) error_ = s;
}

absl::Status CheckpointSink::Finish(Lock& lock, const Delta& merged) {
  // The unused end of the last run goes back.
  if (run_.count > run_used_) {
    const Extent rest{run_.start + run_used_, run_.count - run_used_};
    RETURN_IF_ERROR(space_.free_space().MarkFree(rest));
    run_.count = run_used_;
  }
  // The base bits are set after the merge. An extent that was unwritten and is now written has lost its base
  // bit in the merge, and gets the bit back here.
  std::vector<Extent> mapped;
  merged.ForEachExtent([&](Extent e) { mapped.push_back(e); });
  for (const Extent& e : mapped) {
    RETURN_IF_ERROR(space_.LoadGroups(lock, e));
    RETURN_IF_ERROR(space_.free_space().SetBase(e));
  }
  RETURN_IF_ERROR(SendRun(lock));
  return error_;
}

void CheckpointSink::ForgetRetired() {
  for (BlockNumber block : retired_) mappings_.node_cache().Erase(block);
}

void CheckpointSink::Write(BlockNumber block, std::span<const std::byte> bytes) {
  PendingWrite& w = writes_.emplace_back();
  w.bytes = AlignedBuffer(bytes.size());
  std::copy(bytes.begin(), bytes.end(), w.bytes.data());
  Send(w, block, bytes.size());
}

absl::Status CheckpointSink::Drain(Lock& lock, size_t left) {
  while (writes_.size() > left) {
    pump_.Wait(lock, [&]() REQUIRES_STORE_LOCK { return writes_.front().done; });
    if (error_.ok()) error_ = writes_.front().request.status;
    writes_.pop_front();
  }
  return error_;
}

absl::Status CheckpointSink::SendRun(Lock& lock) {
  if (run_used_ == 0) return absl::OkStatus();
  PendingWrite& w = writes_.emplace_back();
  w.bytes = std::move(bytes_);
  Send(w, run_.start, Bytes(run_used_));
  run_ = {};
  run_used_ = 0;
  // The limit bounds the memory that a checkpoint takes for writes.
  return Drain(lock, kWritesInFlight);
}

void CheckpointSink::Send(PendingWrite& write, BlockNumber block, size_t bytes) {
  write.request.op = IoOp::kWrite;
  write.request.offset_bytes = ByteOffset(block);
  write.request.iov = {{write.bytes.data(), bytes}};
  write.request.context = &write;
  write.request.done = [](IoRequest* r) { static_cast<PendingWrite*>(r->context)->done = true; };
  pump_.Queue(&write.request);
}

}  // namespace untorn
