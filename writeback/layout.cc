#include "writeback/layout.h"

#include <algorithm>
#include <bit>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace untorn {

BlockCount Layout::AlignmentFor(const Run& run, BlockCount align_max) {
  // A lone range whose length is a power of two can go in place later, and needs an alignment of its length.
  if (run.items.size() == 1 && std::has_single_bit(run.count.value())) return std::min(run.count, align_max);
  // The start in the object and the place are multiples of one alignment. So up to that alignment, a range
  // inside the run is aligned on the device as the range is aligned in the object.
  const ObjectBlock start = run.items.front().blocks.start;
  BlockCount alignment = std::min(align_max, BlockCount(std::bit_floor(run.count.value())));
  while (start % alignment != 0) alignment = alignment / 2;
  // A length that is no multiple of the alignment would leave a gap behind the run.
  return run.count % alignment == 0 ? alignment : BlockCount(1);
}

Layout::Layout(absl::Span<LayoutItem> items, BlockCount align_max) : items_(items.size()) {
  UNTORN_CHECK(std::has_single_bit(align_max.value()), "the largest alignment is no power of two");
  const auto order = [](const LayoutItem& a, const LayoutItem& b) {
    return std::tuple(a.epoch, a.object, a.blocks.start) < std::tuple(b.epoch, b.object, b.blocks.start);
  };
  if (!std::is_sorted(items.begin(), items.end(), order)) std::sort(items.begin(), items.end(), order);
  absl::InlinedVector<Run, 1> runs;
  runs.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const LayoutItem& item = items[i];
    UNTORN_CHECK(item.blocks.count > 0, "an empty range is placed");
    const bool beside = i > 0 && items[i - 1].epoch == item.epoch && items[i - 1].object == item.object;
    UNTORN_CHECK(!beside || items[i - 1].blocks.end() <= item.blocks.start,
                 "two ranges of one barrier epoch have one block");
    const bool follows = beside && items[i - 1].blocks.end() == item.blocks.start;
    if (!follows) runs.push_back({{&item, 0}});
    Run& run = runs.back();
    run.items = {run.items.data(), run.items.size() + 1};
    run.count += item.blocks.count;
    blocks_ += item.blocks.count;
  }
  uint64_t alignments = 0;  // a sum of different powers of two
  for (Run& run : runs) {
    run.alignment = AlignmentFor(run, align_max);
    alignments |= run.alignment.value();
  }
  // The run with the largest alignment comes first: then no run leaves a gap.
  runs_.reserve(runs.size());
  for (; alignments != 0; alignments -= std::bit_floor(alignments)) {
    for (const Run& run : runs) {
      if (run.alignment.value() == std::bit_floor(alignments)) runs_.push_back(run);
    }
  }
}

class Layout::Placer {
 public:
  Placer(AllocateFn allocate, ReturnFn give_back, size_t items, BlockCount blocks)
      : allocate_(allocate), give_back_(give_back), left_(blocks) {
    placed_.reserve(items);
  }

  absl::Status Place(const Run& run) {
    UNTORN_CHECK(run.count <= left_, "a run has more blocks than are left to be placed");
    size_t item = 0;
    BlockCount in_item;  // blocks of run.items[item] that are placed
    for (BlockCount run_left = run.count; run_left > 0;) {
      if (Usable(run) == 0) RETURN_IF_ERROR(NextExtent(run, run_left));
      // Without an aligned place, the run takes what the extent has.
      const BlockCount usable = Usable(run) > 0 ? Usable(run) : extent_.count;
      BlockCount take = std::min(run_left, usable);
      run_left -= take;
      left_ -= take;
      // What is taken may cross the border of an item, or end inside an item. So items are placed in parts.
      while (take > 0) {
        const LayoutItem& source = run.items[item];
        const BlockCount n = std::min(take, source.blocks.count - in_item);
        placed_.push_back({source.source, {source.blocks.start + in_item, n}, extent_.start});
        extent_ = {extent_.start + n, extent_.count - n};
        take -= n;
        in_item += n;
        if (in_item == source.blocks.count) {
          ++item;
          in_item = 0;
        }
      }
    }
    UNTORN_CHECK(item == run.items.size(), "a run has other blocks than its items");
    return absl::OkStatus();
  }

  absl::StatusOr<PlacedPieces> Finish() {
    UNTORN_CHECK(left_ == 0, "a block has no place");
    RETURN_IF_ERROR(GiveBack());
    return std::move(placed_);
  }

 private:
  // Returns how many blocks of the extent at hand the run can take at an aligned place.
  BlockCount Usable(const Run& run) const {
    return extent_.start % run.alignment == 0 ? extent_.count.RoundDown(run.alignment) : BlockCount(0);
  }
  absl::Status GiveBack() { return extent_.count > 0 ? give_back_(extent_) : absl::OkStatus(); }
  absl::Status NextExtent(const Run& run, BlockCount run_left) {
    RETURN_IF_ERROR(GiveBack());
    extent_ = {};
    // The extent may serve later runs too, so the allocation wants enough for all that is left.
    absl::StatusOr<Extent> got = allocate_({.want_blocks = left_,
                                            .min_blocks = std::min(run_left, run.alignment),
                                            .alignment_blocks = run.alignment});
    // There is no aligned place. The run goes anywhere, in as many pieces as needed.
    if (absl::IsResourceExhausted(got.status())) got = allocate_({.want_blocks = left_});
    ASSIGN_OR_RETURN(extent_, got);
    UNTORN_CHECK(extent_.count > 0 && extent_.count <= left_,
                 "an allocation has another length than asked for");
    return absl::OkStatus();
  }

  AllocateFn allocate_;
  ReturnFn give_back_;
  BlockCount left_;  // blocks that have no place yet
  Extent extent_;    // allocated and not used yet
  PlacedPieces placed_;
};

absl::StatusOr<PlacedPieces> Layout::Place(AllocateFn allocate, ReturnFn give_back) const {
  Placer placer(allocate, give_back, items_, blocks_);
  for (const Run& run : runs_) RETURN_IF_ERROR(placer.Place(run));
  return placer.Finish();
}

}  // namespace untorn
