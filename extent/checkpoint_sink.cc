#include "extent/checkpoint_sink.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "extent/rules.h"

namespace untorn {
namespace {

constexpr BlockCount kNodeRunBlocks = 64, kNodeRunBlocksMin = 16;
// Bounds the memory that a checkpoint takes for writes. A write counts as so many bytes at least, which bounds the number of
// writes that a commit finds before its own.
constexpr size_t kBytesInFlight = 2 << 20, kWriteBytesMin = 16 << 10;
constexpr size_t kWritesSentTogether = 16;

}  // namespace

absl::StatusOr<std::shared_ptr<const TreeNode>> CheckpointSink::Load(BlockPointer pointer) {
  const auto found = std::find_if(prefetched_.begin(), prefetched_.end(),
                                  [&](const auto& node) { return node->pointer() == pointer; });
  Lock lock(pump_.mutex());
  RETURN_IF_ERROR(error_);
  if (found != prefetched_.end()) return *found;
  for (int failures = 1;; ++failures) {
    absl::StatusOr<std::shared_ptr<const TreeNode>> node = mappings_.ReadNode(lock, pointer);
    if (!absl::IsDataLoss(node.status())) return node;
    const bool reads_elsewhere = ReadsElsewhere(lock);
    if (MayCountAsLost(failures, reads_elsewhere)) return node;
    if (!reads_elsewhere) {
      return absl::InternalError(absl::StrCat(
          "the device has stopped reading, so what is damaged cannot be told: ", node.status().message()));
    }
  }
}

bool CheckpointSink::ReadsElsewhere(Lock& lock) {
  AlignedBuffer block(kBlockBytes);
  return std::any_of(std::begin(kSuperblockSlots), std::end(kSuperblockSlots), [&](BlockNumber slot) {
    lock.AssertHeld();
    IoRequest request;
    request.op = IoOp::kRead;
    request.offset_bytes = ByteOffset(slot);
    request.iov = {{block.data(), kBlockBytes}};
    return pump_.Run(lock, &request).ok();
  });
}

void CheckpointSink::Prefetch(std::span<const BlockPointer> leaves) {
  prefetched_.clear();
  Lock lock(pump_.mutex());
  NodeCache& cache = mappings_.node_cache();
  const NodeCache::Hold hold(cache);
  MissingNodes missing;
  for (const BlockPointer& leaf : leaves) {
    if (cache.Peek(leaf) == nullptr) missing.push_back(leaf);
  }
  // Load() reads a node that is not there by itself, and tells what is wrong with it.
  if (!missing.empty()) mappings_.LoadNodes(lock, missing).IgnoreError();
  for (const BlockPointer& leaf : leaves) {
    if (std::shared_ptr<const TreeNode> node = cache.Find(leaf)) prefetched_.push_back(std::move(node));
  }
}

absl::StatusOr<BlockNumber> CheckpointSink::AllocateNode() {
  Lock lock(pump_.mutex());
  if (run_used_ == run_.count) {
    RETURN_IF_ERROR(SendRun(lock));
    // A run takes nothing that is reserved for data, except for a single block.
    const BlockCount free = space_.free_blocks();
    const BlockCount unreserved = free - std::min(free, space_.reserved().blocks);
    const BlockCount want = std::clamp<BlockCount>(unreserved, 1, kNodeRunBlocks);
    ASSIGN_OR_RETURN(run_, AllocateRun(lock, want));
    bytes_ = AlignedBuffer(Bytes(run_.count));
  }
  const BlockNumber node = run_.start + run_used_;
  ++run_used_;
  return node;
}

absl::StatusOr<Extent> CheckpointSink::AllocateRun(Lock& lock, BlockCount want) {
  // Short runs cost a request each, now and when their nodes are read. The search for a long one looks at all of the map that
  // is in memory, so a search in vain is not repeated. Data goes on where it was: space is used again in the order in
  // which it was written.
  if (want >= kNodeRunBlocksMin && !only_short_runs_) {
    FreeSpace& free = space_.free_space();
    const BlockNumber cursor = free.cursor();
    if (next_run_ > 0) free.SetCursor(next_run_);
    absl::StatusOr<Extent> run =
        space_.Allocate(lock, {.want_blocks = want, .min_blocks = kNodeRunBlocksMin, .may_load = false});
    next_run_ = free.cursor();
    free.SetCursor(cursor);
    if (run.ok()) return run;
    only_short_runs_ = true;
  }
  return space_.Allocate(lock, {.want_blocks = want});
}

absl::Status CheckpointSink::WriteNode(std::shared_ptr<const TreeNode> node) {
  const BlockNumber block = node->pointer().block;
  Lock lock(pump_.mutex());
  UNTORN_CHECK(block >= run_.start && block < run_.start + run_used_, "a node is written outside its run");
  std::copy(node->block().begin(), node->block().end(), bytes_.data() + Bytes(block - run_.start));
  // The new node goes to the cache now: the first lookup in the new tree would have to wait for a read.
  mappings_.node_cache().Insert(std::move(node));
  RETURN_IF_ERROR(space_.LoadGroups(lock, {block, 1}));
  return space_.free_space().SetBase({block, 1});
}

void CheckpointSink::NodeRetired(BlockNumber block) {
  // The node stays in the cache for now, because lookups use the old tree until the checkpoint is installed.
  retired_.push_back(block);
  Clear({block, 1});
}

void CheckpointSink::MappingRemoved(Extent extent) { Clear(extent); }

void CheckpointSink::Clear(Extent extent) {
  Lock lock(pump_.mutex());
  // A damaged mapping may lead elsewhere, where nothing is ever freed.
  if (!space_.CheckPlace(extent).ok()) return;
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
  // The base bits are set after the merge. The frozen delta does not change while the lock is released.
  absl::Status marked;
  merged.ForEachMapping([&](ObjectId, const Mapping& m, bool owned) REQUIRES_STORE_LOCK {
    if (marked.ok() && m.state != MappingState::kHole) marked = MarkMapped(lock, m.extent(), owned);
  });
  RETURN_IF_ERROR(marked);
  RETURN_IF_ERROR(SendRun(lock));
  return error_;
}

absl::Status CheckpointSink::MarkMapped(Lock& lock, Extent extent, bool owned) {
  RETURN_IF_ERROR(space_.LoadGroups(lock, extent));
  FreeSpace& free = space_.free_space();
  if (owned) return free.SetBase(extent);
  // An extent that was unwritten and is now written has lost its base bits in the merge, and gets them back here. Where
  // a damaged node had mapped it, the bits are still set.
  for (BlockNumber b = extent.start; b < extent.end(); ++b) {
    if (!free.InBase(b)) RETURN_IF_ERROR(free.SetBase({b, 1}));
  }
  return absl::OkStatus();
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

absl::Status CheckpointSink::Drain(Lock& lock, size_t left_bytes) {
  // One wait for many writes: the free runs may be short, and then there are many.
  pump_.Wait(lock, [&]() REQUIRES_STORE_LOCK {
    while (bytes_in_flight_ > left_bytes && writes_.front().done) {
      if (error_.ok()) error_ = writes_.front().request.status;
      bytes_in_flight_ -= CountedBytes(writes_.front());
      writes_.pop_front();
    }
    return bytes_in_flight_ <= left_bytes;
  });
  return error_;
}

absl::Status CheckpointSink::SendRun(Lock& lock) {
  if (run_used_ == 0) return absl::OkStatus();
  PendingWrite& w = writes_.emplace_back();
  w.bytes = std::move(bytes_);
  Send(w, run_.start, Bytes(run_used_));
  run_ = {};
  run_used_ = 0;
  if (writes_.size() % kWritesSentTogether == 0) pump_.Kick(lock);
  return bytes_in_flight_ > kBytesInFlight ? Drain(lock, kBytesInFlight / 2) : error_;
}

size_t CheckpointSink::CountedBytes(const PendingWrite& write) {
  return std::max(write.bytes.size(), kWriteBytesMin);
}

void CheckpointSink::Send(PendingWrite& write, BlockNumber block, size_t bytes) {
  write.request.op = IoOp::kWrite;
  write.request.offset_bytes = ByteOffset(block);
  write.request.iov = {{write.bytes.data(), bytes}};
  write.request.context = &write;
  write.request.done = [](IoRequest* r) { static_cast<PendingWrite*>(r->context)->done = true; };
  bytes_in_flight_ += CountedBytes(write);
  pump_.Queue(&write.request);
}

}  // namespace untorn
