#include "extent/lane_extents.h"

#include "base/check.h"

namespace untorn {
namespace {

constexpr int kCountBits = 16;

}  // namespace

PackedLaneExtents PackLaneExtents(const LaneExtents& extents) {
  PackedLaneExtents packed{};
  size_t i = 0;
  for (Extent e : extents) packed[i++] = e.start.value() << kCountBits | e.count.value();
  return packed;
}

bool UnpackLaneExtents(const PackedLaneExtents& packed, const Geometry& geometry, LaneExtents* extents) {
  UNTORN_CHECK(extents->empty(), "extents of lanes are unpacked where others are");
  for (uint64_t word : packed) {
    if (word == 0) continue;
    const Extent e{BlockNumber(word >> kCountBits), BlockCount(word & ((1 << kCountBits) - 1))};
    if (e.count == 0 || e.count > kLaneExtentBlocksMax || !geometry.InDataArea(e)) return false;
    extents->push_back(e);
  }
  return true;
}

}  // namespace untorn
