#include "writeback/decision.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/check.h"
#include "writeback/rules.h"

namespace untorn {
namespace {

bool PlaceQualifies(const Extent& extent, const AtomicLimits& limits) {
  const uint64_t length = Bytes(extent.count), offset = ByteOffset(extent.start);
  return std::has_single_bit(length) && length >= limits.unit_min_bytes && length <= limits.unit_max_bytes &&
         offset % length == 0 &&
         (limits.boundary_bytes == 0 ||
          offset / limits.boundary_bytes == (offset + length - 1) / limits.boundary_bytes);
}

}  // namespace

PathReason DecideForever(WritePolicy policy, const AtomicLimits& limits, bool several_ranges,
                         uint64_t length_bytes) {
  UNTORN_CHECK(length_bytes % kBlockBytes == 0, "a decision is made for a part of a block");
  if (policy == WritePolicy::kAlwaysCow) return PathReason::kPolicyAlwaysCow;
  if (!limits.usable()) return PathReason::kNoAtomicLimits;
  // Each of the ranges could arrive without the others.
  if (several_ranges) return PathReason::kSeveralRanges;
  if (!std::has_single_bit(length_bytes)) return PathReason::kLengthNotPowerOfTwo;
  if (length_bytes < limits.unit_min_bytes) return PathReason::kBelowUnitMin;
  if (length_bytes > limits.unit_max_bytes) return PathReason::kAboveUnitMax;
  return PathReason::kInPlace;
}

PathReason Decide(const DecisionInput& in) {
  const PathReason forever = DecideForever(in.policy, in.limits, in.several_ranges, in.length_bytes);
  if (forever != PathReason::kInPlace) return forever;
  if (in.device_refused) return PathReason::kDeviceRefused;
  // A new size or name is in no data block and needs a record. The data must not be there without the record.
  if (in.metadata_change) return PathReason::kMetadataChange;
  // The device orders nothing. In place, this write could be durable before what the barrier puts first.
  if (in.barrier_unmet) return PathReason::kBarrierUnmet;
  if (in.mappings_known == MappingsKnown::kNotNeeded) return PathReason::kCheaperPacked;
  if (in.mappings_known == MappingsKnown::kDamaged) return PathReason::kMappingDamaged;
  UNTORN_CHECK(!in.mappings.empty(), "a decision is made without the mappings of the range");
  BlockCount mapped;
  for (const Mapping& m : in.mappings) {
    UNTORN_CHECK(m.logical.start == in.mappings.front().logical.start + mapped,
                 "the mappings of a range have a gap");
    mapped += m.logical.count;
  }
  UNTORN_CHECK(Bytes(mapped) == in.length_bytes, "a decision is made with the mappings of another range");
  for (const Mapping& m : in.mappings) {
    if (m.state == MappingState::kHole) return PathReason::kUnmapped;
  }
  for (const Mapping& m : in.mappings) {
    // Only a record can say that the blocks now hold data.
    if (m.state == MappingState::kUnwritten) return PathReason::kUnwritten;
  }
  // One write covers one run of blocks on the device.
  for (size_t i = 1; i < in.mappings.size(); ++i) {
    if (in.mappings[i].physical != in.mappings[i - 1].extent().end()) return PathReason::kFragmented;
  }
  const uint64_t offset = ByteOffset(in.mappings.front().physical);
  if (offset % in.length_bytes != 0) return PathReason::kMisaligned;
  if (in.limits.boundary_bytes != 0 &&
      offset / in.limits.boundary_bytes != (offset + in.length_bytes - 1) / in.limits.boundary_bytes) {
    return PathReason::kStraddlesBoundary;
  }
  // The reader could get half of each version.
  if (in.read_outstanding) return PathReason::kReadOutstanding;
  // A crash could leave new data under the checksums of the old data.
  for (const Mapping& m : in.mappings) {
    if (m.opened > 0 || rules::MayOverwriteClosed()) continue;
    return m.lsn > in.settled.twice ? PathReason::kUnsettled : PathReason::kNotOpened;
  }
  for (const Mapping& m : in.mappings) {
    if (!rules::MayOverwriteInPlace(m.opened_by, in.settled.once)) return PathReason::kUnsettled;
  }
  UNTORN_CHECK(PlaceQualifies({in.mappings.front().physical, mapped}, in.limits),
               "a write goes in place that the device may tear");
  return PathReason::kInPlace;
}

std::vector<InPlaceRun> MergeInPlace(std::span<const Extent> candidates, const AtomicLimits& limits) {
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return candidates[a].start < candidates[b].start; });
  // Buddies merge like carries. Each new run merges with the run before while the two together qualify.
  std::vector<InPlaceRun> runs;
  BlockCount blocks, merged;
  for (size_t i : order) {
    UNTORN_CHECK(PlaceQualifies(candidates[i], limits), "a candidate for a write in place does not qualify");
    blocks += candidates[i].count;
    runs.push_back({candidates[i], {i}});
    while (runs.size() >= 2) {
      InPlaceRun& before = runs[runs.size() - 2];
      const InPlaceRun& last = runs.back();
      const Extent both{before.extent.start, before.extent.count + last.extent.count};
      if (before.extent.end() != last.extent.start || !PlaceQualifies(both, limits)) break;
      before.extent = both;
      before.candidates.insert(before.candidates.end(), last.candidates.begin(), last.candidates.end());
      runs.pop_back();
    }
  }
  UNTORN_CHECK(runs.size() <= candidates.size() && runs.empty() == candidates.empty(),
               "merging made other runs than it was given");
  for (const InPlaceRun& run : runs) merged += run.extent.count;
  UNTORN_CHECK(merged == blocks, "merging made other blocks than it was given");
  return runs;
}

bool InPlaceMayBeCheaper(const AtomicLimits& limits, uint64_t bytes) {
  return bytes <= kInPlaceRunsMax * uint64_t{limits.unit_max_bytes};
}

bool InPlaceIsCheaper(size_t in_place_runs, size_t cow_sets) {
  return cow_sets == 0 && in_place_runs <= kInPlaceRunsMax;
}

}  // namespace untorn
