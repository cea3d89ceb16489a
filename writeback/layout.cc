#include "writeback/layout.h"

#include <algorithm>
#include <bit>
#include <tuple>

namespace untorn {
namespace {

// Items that follow one another in their object, placed as one.
struct Run {
  std::vector<LayoutItem> items;
  uint64_t count = 0;
  uint64_t alignment = 1;
};

uint64_t AlignmentFor(const Run& run, uint64_t align_max) {
  if (run.items.size() == 1 && std::has_single_bit(run.count)) return std::min(run.count, align_max);
  // As far as the run keeps its place relative to its alignment, so does every range inside it.
  const uint64_t start = run.items.front().blocks.start;
  uint64_t alignment = std::min(align_max, std::bit_floor(run.count));
  while (start % alignment != 0) alignment /= 2;
  // A length that is no multiple would leave a gap behind it.
  return run.count % alignment == 0 ? alignment : 1;
}

std::vector<Run> MakeRuns(std::vector<LayoutItem> items, uint64_t align_max) {
  std::sort(items.begin(), items.end(), [](const LayoutItem& a, const LayoutItem& b) {
    return std::tuple(a.group, a.object, a.blocks.start) < std::tuple(b.group, b.object, b.blocks.start);
  });
  std::vector<Run> runs;
  for (const LayoutItem& item : items) {
    const bool follows = !runs.empty() && runs.back().items.back().group == item.group &&
                         runs.back().items.back().object == item.object &&
                         runs.back().items.back().blocks.end() == item.blocks.start;
    if (!follows) runs.emplace_back();
    runs.back().items.push_back(item);
    runs.back().count += item.blocks.count;
  }
  for (Run& run : runs) run.alignment = AlignmentFor(run, align_max);
  // Largest alignment first: then none of them leaves a gap.
  std::stable_sort(runs.begin(), runs.end(),
                   [](const Run& a, const Run& b) { return a.alignment > b.alignment; });
  return runs;
}

}  // namespace

absl::StatusOr<std::vector<PlacedPiece>> PlaceItems(std::vector<LayoutItem> items, uint64_t align_max_blocks,
                                                    const AllocateFn& allocate, const ReturnFn& give_back) {
  std::vector<PlacedPiece> placed;
  const std::vector<Run> runs = MakeRuns(std::move(items), align_max_blocks);
  uint64_t left = 0;
  for (const Run& run : runs) left += run.count;

  Extent extent;  // what is allocated and not used yet
  for (const Run& run : runs) {
    size_t item = 0;
    uint64_t in_item = 0;  // blocks of run.items[item] already placed
    uint64_t run_left = run.count;
    while (run_left > 0) {
      const uint64_t usable =
          extent.start % run.alignment == 0 ? extent.count / run.alignment * run.alignment : 0;
      if (usable == 0) {
        if (extent.count > 0) {
          if (absl::Status s = give_back(extent); !s.ok()) return s;
        }
        absl::StatusOr<Extent> got = allocate(left, std::min(run_left, run.alignment), run.alignment);
        // No aligned place: anywhere, in as many pieces as it takes.
        if (absl::IsResourceExhausted(got.status())) got = allocate(left, 1, 1);
        if (!got.ok()) return got.status();
        extent = *got;
        if (extent.start % run.alignment == 0 && extent.count >= run.alignment) continue;
      }
      uint64_t take = std::min(run_left, usable > 0 ? usable : extent.count);
      run_left -= take;
      left -= take;
      while (take > 0) {
        const LayoutItem& source = run.items[item];
        const uint64_t n = std::min(take, source.blocks.count - in_item);
        placed.push_back({source.source, {source.blocks.start + in_item, n}, extent.start});
        extent.start += n;
        extent.count -= n;
        take -= n;
        in_item += n;
        if (in_item == source.blocks.count) {
          ++item;
          in_item = 0;
        }
      }
    }
  }
  if (extent.count > 0) {
    if (absl::Status s = give_back(extent); !s.ok()) return s;
  }
  return placed;
}

}  // namespace untorn
