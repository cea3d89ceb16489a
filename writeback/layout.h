// Where copy-on-write ranges go: packed into as few contiguous runs as possible, each range aligned so that a
// later overwrite of it qualifies for the in-place path.
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

// A range to place. What is of different barrier epochs must not be laid out together.
struct LayoutItem {
  BarrierEpoch epoch;
  ObjectId object = ObjectId::kNone;
  BlockRange blocks;
  size_t source = 0;  // the caller's index
};

// Part of an item, or all of it, and its place.
struct PlacedPiece {
  size_t source = 0;
  BlockRange blocks;
  BlockNumber physical;
};

using PlacedPieces = absl::InlinedVector<PlacedPiece, 1>;

// kResourceExhausted: there is no such run.
using AllocateFn = absl::FunctionRef<absl::StatusOr<Extent>(const AllocationRequest&)>;
// Takes back what was allocated and not used.
using ReturnFn = absl::FunctionRef<absl::Status(Extent)>;

// Places every block of every item; sorts `items`. `align_max`: the largest alignment worth having, a power of two.
absl::StatusOr<PlacedPieces> PlaceItems(absl::Span<LayoutItem> items, BlockCount align_max,
                                        AllocateFn allocate, ReturnFn give_back);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_LAYOUT_H_
