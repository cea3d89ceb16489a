// What is decided for a batch of change sets before they are frozen.
#ifndef UNTORN_WRITEBACK_PLAN_H_
#define UNTORN_WRITEBACK_PLAN_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "cow/change_set.h"
#include "extent/types.h"
#include "untorn/options.h"
#include "writeback/decision.h"

namespace untorn {

struct Plan {
  struct SetPlan {
    ChangeSetRef set;
    PathReason reason = PathReason::kInPlace;
    Extent in_place;  // where, if kInPlace
    // Unwritten extents under its data: new data goes into those.
    std::vector<std::pair<ObjectId, Mapping>> unwritten;
  };

  absl::InlinedVector<SetPlan, 1> sets;
  std::vector<InPlaceRun> in_place;  // candidates are indices into `sets`
  BlockCount log_blocks_max;         // of the log, that its record takes at most
  bool settle_first = false;         // a settling record would let the only change set go in place

  bool needs_record() const { return in_place.empty() || sets_in_place() < sets.size(); }
  size_t sets_in_place() const {
    size_t n = 0;
    for (const InPlaceRun& run : in_place) n += run.candidates.size();
    return n;
  }
};

// A part of the data of a change set, and the new extent that it goes to: one entry of the log record.
struct CowPiece {
  const ChangeSet* set = nullptr;
  const FrozenRange* from = nullptr;
  BlockRange blocks;  // within `from`
  BlockNumber physical;
  bool into_unwritten = false;
};
using CowPieces = absl::InlinedVector<CowPiece, 1>;

// Calls part(iovec) for the memory of the piece, in order; memory that is contiguous comes as one part.
template <typename Fn>
void ForEachPart(const FrozenRange& from, BlockRange blocks, Fn part) {
  iovec run{nullptr, 0};
  for (ObjectBlock b = blocks.start; b < blocks.end(); ++b) {
    std::byte* const data = from.buffer(b).data();
    if (run.iov_len > 0 && static_cast<std::byte*>(run.iov_base) + run.iov_len == data) {
      run.iov_len += kBlockBytes;
      continue;
    }
    if (run.iov_len > 0) part(run);
    run = {data, kBlockBytes};
  }
  if (run.iov_len > 0) part(run);
}

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_PLAN_H_
