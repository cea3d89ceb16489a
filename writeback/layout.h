// Where copy-on-write ranges go: packed into as few contiguous runs as possible, each range aligned so that a
// later overwrite of it qualifies for the in-place path.
#ifndef UNTORN_WRITEBACK_LAYOUT_H_
#define UNTORN_WRITEBACK_LAYOUT_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "extent/types.h"

namespace untorn {

// A range to place. `group` orders what must not be laid out together (epochs).
struct LayoutItem {
  uint64_t group = 0;
  ObjectId object = ObjectId::kNone;
  BlockRange blocks;
  size_t source = 0;  // the caller's index
};

// Part of an item, or all of it, and its place.
struct PlacedPiece {
  size_t source = 0;
  BlockRange blocks;
  uint64_t physical = 0;
};

// Runs of at most `want` and at least `min` blocks, at a multiple of `alignment`; kResourceExhausted if there
// is none.
using AllocateFn = std::function<absl::StatusOr<Extent>(uint64_t want, uint64_t min, uint64_t alignment)>;
// Takes back what was allocated and not used.
using ReturnFn = std::function<absl::Status(Extent)>;

// Places every block of every item. `align_max_blocks`: the largest alignment worth having, a power of two.
absl::StatusOr<std::vector<PlacedPiece>> PlaceItems(std::vector<LayoutItem> items, uint64_t align_max_blocks,
                                                    const AllocateFn& allocate, const ReturnFn& give_back);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_LAYOUT_H_
