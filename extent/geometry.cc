#include "extent/geometry.h"

#include <algorithm>
#include <bit>

namespace untorn {
namespace {

// Returns where the head of the group ends.
BlockNumber HeadEnd(uint64_t group) { return HeadOf(group) + kHeadBlocks; }

BlockCount CountBelow(Extent extent, BlockNumber end) {
  return extent.start < end ? std::min(extent.count, end - extent.start) : BlockCount(0);
}

}  // namespace

Geometry Geometry::ForSize(BlockCount total_blocks) {
  if (EndsInHead(total_blocks)) total_blocks -= total_blocks % kGroupBlocks;
  return {total_blocks, {HeadEnd(0), LogBlocksFor(total_blocks, total_blocks)}};
}

BlockCount Geometry::LogBlocksFor(BlockCount total_blocks, BlockCount prepared_blocks) {
  const BlockCount most = std::clamp(total_blocks / 64, kLogBlocksMin, kLogBlocksMax);
  // Powers of two, so that the log moves seldom.
  const BlockCount grown(std::bit_floor((prepared_blocks / 8).value()));
  return std::min(most, std::max(grown, kLogBlocksMin));
}

bool Geometry::MakesSense() const {
  if (total_blocks < kStoreBlocksMin || total_blocks > kStoreBlocksMax || EndsInHead(total_blocks))
    return false;
  if (log.count < kLogBlocksMin || log.count > kLogBlocksMax) return false;
  return Geometry{total_blocks, {}}.InDataArea(log);
}

bool Geometry::InDataArea(Extent extent) const {
  if (extent.start >= end() || extent.count > end() - extent.start) return false;
  const uint64_t group = GroupOf(extent.start);
  if (extent.start < HeadEnd(group) || extent.count > FirstBlockOf(group + 1) - extent.start) return false;
  return extent.end() <= log.start || extent.start >= log.end();
}

absl::InlinedVector<Extent, 2> Geometry::FixedAreas(uint64_t group) const {
  const BlockNumber start = FirstBlockOf(group);
  absl::InlinedVector<Extent, 2> areas = {{start, CountBelow({start, HeadEnd(group) - start}, end())}};
  if (log.count > 0 && GroupOf(log.start) == group) areas.push_back(log);
  return areas;
}

void Geometry::ForEachFixedArea(BlockCount first, absl::FunctionRef<void(Extent)> fn) const {
  for (uint64_t group = 0; FirstBlockOf(group) < BlockAfterFirst(first); ++group) {
    for (Extent area : FixedAreas(group)) fn(area);
  }
}

BlockCount Geometry::FixedBlocks(BlockCount first) const {
  const BlockNumber until = BlockAfterFirst(first);
  // The superblocks of group 0 take as much as the head of another group, and group 0 has a head besides.
  return kHeadBlocks * (first / kGroupBlocks) + std::min(kHeadBlocks, first % kGroupBlocks) +
         CountBelow({HeadOf(0), kHeadBlocks}, until) + CountBelow(log, until);
}

}  // namespace untorn
