#include "extent/lanes.h"

#include <algorithm>

#include "base/check.h"
#include "base/status_macros.h"
#include "extent/rules.h"

namespace untorn {
namespace {

// The lanes take at most this share of the data area, whether it is prepared or not: those of a young store must not be
// used up after a few commits. With so many extents for each lane, lanes can move on where free runs are short.
constexpr uint64_t kShareOfDataArea = 32;
constexpr size_t kExtentsForEachLane = 4, kExtentsWanted = kExtentsForEachLane * kLanes,
                 kExtentsMin = 2 * kLanes;
constexpr BlockCount kExtentBlocksWanted{32};
// Lanes never take the last free space.
constexpr uint64_t kFreeForEachTaken = 4;
// Data in a lane is aligned for later overwrites in place, if its extent is.
constexpr BlockCount kExtentAlignment{4};
constexpr BlockCount kExtentBlocksMin{8};
// A search for free runs takes long where there are none.
constexpr int kTriesLeftOut = 16;

// An extent may begin beside the alignment.
BlockCount LeftOut(BlockCount alignment) {
  return alignment > kExtentAlignment ? alignment - kExtentAlignment : BlockCount();
}

}  // namespace

BlockCount Lanes::BlocksInAll() const {
  return std::min(state_.superblock.geometry.DataBlocks() / kShareOfDataArea,
                  kLaneExtentBlocksMax * (kExtentsForEachLane * LanesInUse()));
}

// A small store has fewer extents, so that each has room for some commits.
BlockCount Lanes::ExtentBlocks() const {
  const BlockCount in_all = BlocksInAll();
  return std::max(in_all / kExtentsWanted, std::min(in_all / kExtentsMin, kExtentBlocksWanted));
}

void Lanes::TakeExtents(BlockCount blocks, BlockCount alignment) {
  if (tries_left_out_ > 0 && --tries_left_out_ > 0) return;
  const BlockCount in_all = BlocksInAll(), each = ExtentBlocks();
  const BlockCount min = std::max(blocks + LeftOut(alignment), kExtentBlocksMin);
  if (each < min) return;
  BlockCount have;
  for (Extent e : extents()) have += e.count;
  for (size_t count = extents().size(); have + each <= in_all && count < kLaneExtentsMax; ++count) {
    if (space_.SpareBlocks() < each * kFreeForEachTaken) return;
    // A search in vain goes through all of the map, so a little more is asked for than was found lately.
    const BlockCount enough = std::clamp(run_length_ + run_length_ / 4, min, each);
    const std::optional<Extent> extent =
        space_.free_space().Allocate(each, min, kExtentAlignment, enough, /*settle=*/true);
    run_length_ = extent ? extent->count : min;
    short_of_runs_ = run_length_ < each / 2;
    if (!extent) {
      tries_left_out_ = kTriesLeftOut;
      return;
    }
    next_.push_back(*extent);
    have += extent->count;
  }
}

LaneExtents Lanes::extents() const {
  LaneExtents all;
  for (const Lane& lane : lanes_) {
    if (lane.extent.count > 0) all.push_back(lane.extent);
  }
  for (Extent e : next_) all.push_back(e);
  return all;
}

void Lanes::RingNames(const LaneExtents& extents) {
  named_before_ = named_;
  named_ = extents;
}

bool Lanes::MayUse(Extent extent) const {
  return MayUseLaneExtent(named_.contains(extent), named_before_.contains(extent));
}

bool Lanes::MayOverwrite(Lsn record) const {
  return record == 0 || MayOverwriteLaneRecord(record, state_.settled.once);
}

std::optional<BlockNumber> Lanes::RoomIn(Extent extent, BlockNumber next, BlockCount data_blocks,
                                         BlockCount alignment, BlockCount record_blocks) const {
  if (extent.count == 0 || !MayUse(extent)) return std::nullopt;
  const BlockNumber start = next.RoundUp(alignment);
  return start + data_blocks + record_blocks <= extent.end() ? std::optional(start) : std::nullopt;
}

absl::StatusOr<std::optional<Extent>> Lanes::Place(BlockCount data_blocks, BlockCount alignment,
                                                   BlockCount record_blocks, Lsn lsn) {
  UNTORN_CHECK(data_blocks > 0 && lsn > state_.durable_lsn, "a commit goes to a lane that is none");
  size_t oldest = 0;
  for (size_t i = 1; i < LanesInUse(); ++i) {
    if (lanes_[i].record < lanes_[oldest].record) oldest = i;
  }
  Lane& lane = lanes_[oldest];
  if (!MayOverwrite(lane.record)) return std::nullopt;
  std::optional<BlockNumber> start = RoomIn(lane.extent, lane.next, data_blocks, alignment, record_blocks);
  if (!start) {
    // No extent is long enough for so much data.
    if (LeftOut(alignment) + data_blocks + record_blocks > ExtentBlocks()) return std::nullopt;
    // A next extent that is too short would be in the way for good.
    while (!next_.empty() &&
           next_.front().start.RoundUp(alignment) + data_blocks + record_blocks > next_.front().end()) {
      RETURN_IF_ERROR(Return(next_.front()));
      next_.pop_front();
    }
    if (next_.empty()) return std::nullopt;
    start = RoomIn(next_.front(), next_.front().start, data_blocks, alignment, record_blocks);
    if (!start) return std::nullopt;
    RETURN_IF_ERROR(Return({lane.next, lane.left()}));
    lane = {next_.front(), next_.front().start, Lsn(), BlockCount()};
    next_.pop_front();
  }
  // What the alignment leaves out serves others.
  RETURN_IF_ERROR(Return({lane.next, *start - lane.next}));
  lane.next = *start + data_blocks;
  lane.record = lsn;
  lane.record_blocks = record_blocks;
  turn_ = oldest;
  UNTORN_CHECK(lane.next + record_blocks <= lane.extent.end(), "a record leaves its lane");
  return std::optional<Extent>({*start, data_blocks});
}

BlockCount Lanes::blocks() const {
  BlockCount blocks;
  for (const Lane& lane : lanes_) blocks += lane.left();
  for (Extent e : next_) blocks += e.count;
  return blocks;
}

absl::Status Lanes::GiveBack() {
  absl::Status status;
  for (Lane& lane : lanes_) {
    Extent rest{lane.next, lane.left()};
    if (rest.count > 0 && !MayOverwrite(lane.record)) {
      kept_.push_back({{rest.start, lane.record_blocks}, lane.record});
      rest = {rest.start + lane.record_blocks, rest.count - lane.record_blocks};
    }
    status.Update(Return(rest));
    lane = Lane();
  }
  for (Extent e : next_) status.Update(Return(e));
  next_.clear();
  return status;
}

BlockCount Lanes::KeptFrom(BlockNumber block) const {
  BlockCount blocks;
  for (const auto& [extent, lsn] : kept_) {
    if (extent.end() > block) blocks += extent.end() - std::max(extent.start, block);
  }
  return blocks;
}

absl::Status Lanes::DropFrom(BlockNumber block) {
  absl::Status status;
  std::erase_if(kept_, [&](KeptRecord& kept) REQUIRES_STORE_LOCK {
    if (kept.extent.end() <= block) return false;
    const BlockNumber start = std::max(kept.extent.start, block);
    status.Update(Return({start, kept.extent.end() - start}));
    kept.extent.count = start - kept.extent.start;
    return kept.extent.count == 0;
  });
  return status;
}

absl::Status Lanes::ReleaseRecords() {
  absl::Status status;
  std::erase_if(kept_, [&](const KeptRecord& kept) REQUIRES_STORE_LOCK {
    if (!MayOverwrite(kept.lsn)) return false;
    status.Update(Return(kept.extent));
    return true;
  });
  return status;
}

}  // namespace untorn
