// The layout gives copy-on-write ranges their places. The ranges are packed into as few contiguous runs as
// possible. Each range is aligned so that a later overwrite of the range qualifies for the in-place path.
#ifndef UNTORN_WRITEBACK_LAYOUT_H_
#define UNTORN_WRITEBACK_LAYOUT_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cow/change_set.h"
#include "extent/space_ledger.h"
#include "extent/types.h"

namespace untorn {

// A layout item is a range that needs a place. Ranges of different barrier epochs never make one run.
struct LayoutItem {
  BarrierEpoch epoch;
  ObjectId object = ObjectId::kNone;
  BlockRange blocks;
  size_t source = 0;  // the index that the caller gave
};

// A placed piece is an item, or a part of one, with its place on the device.
struct PlacedPiece {
  size_t source = 0;
  BlockRange blocks;
  BlockNumber physical;
};

using PlacedPieces = absl::InlinedVector<PlacedPiece, 1>;

// Allocates an extent. Returns kResourceExhausted if there is no such run.
using AllocateFn = absl::FunctionRef<absl::StatusOr<Extent>(const AllocationRequest&)>;
// Takes back what was allocated and not used.
using ReturnFn = absl::FunctionRef<absl::Status(Extent)>;

class Layout {
 public:
  // Sorts `items`, which must stay as they are until they are placed. `align_max` is the largest alignment worth having,
  // and a power of two.
  Layout(absl::Span<LayoutItem> items, BlockCount align_max);

  BlockCount blocks() const { return blocks_; }
  // Returns the alignment at which an extent must begin so that all items fit it without a gap.
  BlockCount alignment() const { return runs_.front().alignment; }
  // Places every block of every item.
  absl::StatusOr<PlacedPieces> Place(AllocateFn allocate, ReturnFn give_back) const;

 private:
  // A run is items that follow one another in their object. The items of a run are placed as one.
  struct Run {
    absl::Span<const LayoutItem> items;
    BlockCount count;
    BlockCount alignment = 1;
  };
  class Placer;

  static BlockCount AlignmentFor(const Run& run, BlockCount align_max);

  absl::InlinedVector<Run, 1> runs_;
  size_t items_;
  BlockCount blocks_;  // of all runs
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_LAYOUT_H_
