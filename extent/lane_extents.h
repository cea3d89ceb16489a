// Names the extents in which recovery looks for the records of lanes (extent/lanes.h). Each record of the ring names
// them, and so does each superblock.
//
// On the medium an extent has 8 bytes: the first block in the upper 48 bits, and the number of blocks in the lower 16.
// No extent is 0.
#ifndef UNTORN_EXTENT_LANE_EXTENTS_H_
#define UNTORN_EXTENT_LANE_EXTENTS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/check.h"
#include "extent/geometry.h"
#include "extent/types.h"

namespace untorn {

inline constexpr size_t kLanes = 3;
inline constexpr size_t kLaneExtentsMax = 24;
inline constexpr BlockCount kLaneExtentBlocksMax{256};

class LaneExtents {
 public:
  void push_back(Extent extent) {
    UNTORN_CHECK(size_ < kLaneExtentsMax, "more extents of lanes are named than may be");
    extents_[size_++] = extent;
  }
  void pop_front() { std::move(extents_.begin() + 1, extents_.begin() + size_--, extents_.begin()); }
  void clear() { size_ = 0; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const Extent& front() const { return extents_.front(); }
  const Extent* begin() const { return extents_.data(); }
  const Extent* end() const { return extents_.data() + size_; }
  bool contains(Extent extent) const { return std::find(begin(), end(), extent) != end(); }
  bool operator==(const LaneExtents& other) const {
    return std::equal(begin(), end(), other.begin(), other.end());
  }

 private:
  std::array<Extent, kLaneExtentsMax> extents_;
  size_t size_ = 0;
};

using PackedLaneExtents = std::array<uint64_t, kLaneExtentsMax>;

PackedLaneExtents PackLaneExtents(const LaneExtents& extents);
// Returns false if an extent is too long, or reaches out of the data area. `extents` must be empty.
bool UnpackLaneExtents(const PackedLaneExtents& packed, const Geometry& geometry, LaneExtents* extents);

}  // namespace untorn

#endif  // UNTORN_EXTENT_LANE_EXTENTS_H_
