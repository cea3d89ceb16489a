// A plan holds what is decided for a batch of change sets before the sets are frozen.
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
    Extent in_place;  // the place, if the reason is kInPlace
    // Holds the unwritten extents under the data of the set. New data goes into those extents.
    std::vector<std::pair<ObjectId, Mapping>> unwritten;
  };

  absl::InlinedVector<SetPlan, 1> sets;
  std::vector<InPlaceRun> in_place;  // the candidates of a run are indices into `sets`
  BlockCount log_blocks_max;         // the most blocks of the log that the chain can take
  bool settle_first = false;         // settling records would let the only change set go in place
  bool open_first = false;           // and the first of them has to open its blocks

  bool needs_record() const { return in_place.empty() || sets_in_place() < sets.size(); }
  size_t sets_in_place() const {
    size_t n = 0;
    for (const InPlaceRun& run : in_place) n += run.candidates.size();
    return n;
  }
};

// A piece is a part of the data of a change set, and the extent that the data goes to. A log entry names one
// piece, or several that follow one another.
struct CowPiece {
  const ChangeSet* set = nullptr;
  const FrozenRange* from = nullptr;
  BlockRange blocks;  // within `from`
  BlockNumber physical;
  bool into_unwritten = false;
};
using CowPieces = absl::InlinedVector<CowPiece, 1>;

// Calls part(iovec) for the memory of the blocks, in order. Contiguous memory comes as one part.
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
