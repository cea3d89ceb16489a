#include "writeback/checkpointer.h"

#include <algorithm>

#include "base/check.h"

namespace untorn {
namespace {

// A checkpoint is due when the delta has so many entries, or maps so many blocks. Most of these blocks
// displace as many others, which the checkpoint gives back. So a store that is overwritten does not grow as
// far as its log would let it grow. A checkpoint can wait where there is plenty of free space.
// Random changes of a large tree fall into different nodes. A checkpoint writes each of these nodes anew, so the
// checkpoint waits for several changes of a node, as far as the memory of the delta is bounded.
constexpr uint64_t kDeltaEntriesMin = 64 * 1024, kDeltaEntriesMax = 128 * 1024, kChangesOfNode = 4;
constexpr BlockCount kDeltaBlocksMin = BlocksFor(32 << 20);
constexpr uint64_t kDeltaShareOfPrepared = 8;
// A store may grow to so many times what it holds, within its size, where growth gives longer runs. At 4,
// random overwrites of single pages leave about 5 % of the pages in place by the time that their
// neighbourhood is used again.
constexpr uint64_t kGrowthForRuns = 4;
// The store grows by a step for every so many steps' worth of other writes. So the other writes keep most of
// the bandwidth of the device. A store makes up for steps that it has missed, up to so many.
constexpr uint64_t kWritesPerGrowth = 4, kStepsMadeUpMax = 16;
// A store has a share of what is prepared prepared ahead, within these bounds. With less, a small store that is overwritten
// has short runs: 4 MiB cost a durable write of 4 KiB a tenth more instructions.
constexpr BlockCount kPrepareAheadBlocksMin = BlocksFor(16 << 20),
                     kPrepareAheadBlocksMax = BlocksFor(32 << 20);
constexpr uint64_t kPrepareAheadShare = 4;

// So many parts of the free-space map, of 122 MiB each, are loaded to find long runs for lanes.
constexpr int kLoadsMax = 64;

// With what growth leaves to others, and a step for growth besides.
inline BlockCount Ahead(BlockCount prepared) {
  const BlockCount share =
      std::clamp(prepared / kPrepareAheadShare, kPrepareAheadBlocksMin, kPrepareAheadBlocksMax);
  return std::max(share, SpaceLedger::KeptFromGrowth(prepared) + kPrepareStepBlocks);
}

}  // namespace

BlockCount Checkpointer::PrepareAhead(BlockCount prepared) { return Ahead(prepared); }

uint64_t Checkpointer::ChangesMax(BlockCount tree_nodes) {
  return std::clamp(kChangesOfNode * tree_nodes.value(), kDeltaEntriesMin, kDeltaEntriesMax);
}

absl::Status Checkpointer::Checkpoint(Lock& lock) {
  // A checkpoint that is under way may have begun before the changes that the caller wants in a checkpoint.
  const uint64_t needed = begun_ + 1;
  while (done_ < needed && !parts_.health.failed()) {
    if (running_) {
      parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK { return !running_; });
      continue;
    }
    UNTORN_CHECK(begun_ == done_, "a checkpoint begins before the last one is done");
    running_ = true;
    const uint64_t number = ++begun_;
    // What a checkpoint gives back would be written to.
    absl::Status status = parts_.volume.CheckFile();
    if (status.ok()) status = parts_.volume.RunCheckpoint(lock);
    if (status.ok()) after_checkpoint_();
    UNTORN_CHECK(running_ && begun_ == number, "another checkpoint began during this one");
    running_ = false;
    if (status.ok()) {
      UNTORN_CHECK(!parts_.volume.checkpoint_running(), "a checkpoint is done with its delta still frozen");
      done_ = number;
    } else {
      parts_.health.Fail(status);
    }
    parts_.progress.Tell();
  }
  return parts_.health.failure();
}

bool Checkpointer::CheckpointDue() const {
  if (running_) return false;
  Volume& volume = parts_.volume;
  const BlockCount blocks_max =
      std::max(kDeltaBlocksMin, volume.space().prepared_blocks() / kDeltaShareOfPrepared);
  return volume.log().blocks_used() > volume.geometry().log.count / 2 ||
         volume.active().mapped_blocks() > blocks_max || ChangesDue();
}

bool Checkpointer::ChangesDue() const {
  const Volume& volume = parts_.volume;
  const uint64_t changes = volume.active().entries();
  if (changes <= kDeltaEntriesMin) return false;
  // More changes keep more space back for their checkpoint. A write must not have to wait for one.
  return changes > ChangesMax(volume.tree_nodes()) || volume.space().SpareBlocks() < kPrepareStepBlocks;
}

bool Checkpointer::MayPrepare() const {
  const SpaceLedger& space = parts_.volume.space();
  // After a failure only a write that needs the space tries again.
  return !prepare_failed_ && space.unprepared_blocks() > 0 && !space.withdrawn();
}

bool Checkpointer::PrepareDue() const {
  const SpaceLedger& space = parts_.volume.space();
  return MayPrepare() && space.free_blocks() < space.PromisedBlocks() + Ahead(space.prepared_blocks());
}

bool Checkpointer::GrowthDue() const {
  const SpaceLedger& space = parts_.volume.space();
  const BlockCount prepared = space.prepared_blocks(), used = prepared - space.free_blocks();
  // Growth leaves the disk to other writes most of the time.
  return MayPrepare() && space.fragmented() && prepared < kGrowthForRuns * used &&
         parts_.pump.counts().bytes_written >= grow_at_bytes_written_;
}

bool Checkpointer::LoadDue() const {
  return !load_failed_ && loads_ < kLoadsMax && parts_.volume.lanes().short_of_runs() &&
         parts_.volume.space().CanLoadMore();
}

bool Checkpointer::PrepareStep(Lock& lock) {
  absl::StatusOr<SpaceLedger::Prepared> more = parts_.volume.space().PrepareMore(lock, kPrepareStepBlocks);
  // The step's own zeros are written too.
  constexpr uint64_t kBytesPerStep = (kWritesPerGrowth + 1) * Bytes(kPrepareStepBlocks);
  const uint64_t written = parts_.pump.counts().bytes_written;
  const uint64_t made_up = std::min(written, kStepsMadeUpMax * kBytesPerStep);
  grow_at_bytes_written_ = std::clamp(grow_at_bytes_written_, written - made_up, written) + kBytesPerStep;
  // Lack of space is no failure here. The write that needs the space is told.
  if (!more.ok() && !absl::IsResourceExhausted(more.status())) parts_.health.Fail(more.status());
  prepare_failed_ = !more.ok();
  UNTORN_CHECK(
      !more.ok() || *more == SpaceLedger::Prepared::kMore || parts_.volume.space().unprepared_blocks() == 0,
      "all of a store is prepared and blocks are left");
  return more.ok() && *more == SpaceLedger::Prepared::kMore;
}

bool Checkpointer::Step(Lock& lock) {
  if (parts_.health.failed() || parts_.health.closed()) return false;
  // The nodes of a checkpoint need long runs.
  if (GrowthDue() && PrepareStep(lock)) return true;
  // Writes that need space come last: space that a checkpoint gives back need not be prepared.
  if (CheckpointDue()) return Checkpoint(lock).ok();
  if (PrepareDue()) return PrepareStep(lock);
  if (!LoadDue()) return false;
  // Whoever needs the part gets the error.
  ++loads_;
  load_failed_ = !parts_.volume.space().LoadMore(lock).ok();
  return !load_failed_;
}

}  // namespace untorn
