// A RangeSet is a set of blocks, kept as runs.
#ifndef UNTORN_COW_RANGE_SET_H_
#define UNTORN_COW_RANGE_SET_H_

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "absl/container/inlined_vector.h"
#include "extent/types.h"

namespace untorn {

// Most sets are one run, and most others grow at their end. So the runs are a sorted vector, and no two of
// them touch.
class RangeSet {
 public:
  void Add(BlockRange range) {
    ObjectBlock start = range.start, end = range.end();
    // The runs that touch or overlap the range become one with it.
    const auto first = FirstEndingAtOrAfter(start);
    auto last = first;
    for (; last != runs_.end() && last->start <= end; ++last) {
      start = std::min(start, last->start);
      end = std::max(end, last->end());
    }
    Replace(first, last, {start, end - start});
  }
  void Remove(BlockRange range) {
    const auto first = FirstEndingAtOrAfter(range.start + 1);
    auto last = first;
    // At most the first run reaches out of the range at its start, and the last one at its end.
    ObjectBlock head = range.start, tail = range.end();
    for (; last != runs_.end() && last->start < range.end(); ++last) {
      head = std::min(head, last->start);
      tail = std::max(tail, last->end());
    }
    auto at = runs_.erase(first, last);
    if (tail > range.end()) at = runs_.insert(at, {range.end(), tail - range.end()});
    if (head < range.start) runs_.insert(at, {head, range.start - head});
  }
  bool Contains(ObjectBlock block) const {
    const auto it = const_cast<RangeSet*>(this)->FirstEndingAtOrAfter(block + 1);
    return it != runs_.end() && it->start <= block;
  }
  bool empty() const { return runs_.empty(); }
  size_t runs() const { return runs_.size(); }
  void clear() { runs_.clear(); }
  template <typename Fn>
  void ForEach(Fn fn) const {
    for (const BlockRange& run : runs_) fn(run);
  }
  void AddAll(const RangeSet& other) {
    other.ForEach([this](BlockRange r) { Add(r); });
  }

 private:
  using Runs = absl::InlinedVector<BlockRange, 1>;
  Runs::iterator FirstEndingAtOrAfter(ObjectBlock block) {
    // Most sets grow at their end, so this function looks there first.
    if (!runs_.empty() && runs_.back().end() < block) return runs_.end();
    return std::lower_bound(runs_.begin(), runs_.end(), block,
                            [](const BlockRange& run, ObjectBlock b) { return run.end() < b; });
  }
  void Replace(Runs::iterator first, Runs::iterator last, BlockRange run) {
    if (first == runs_.end()) {
      runs_.push_back(run);
    } else if (first == last) {
      runs_.insert(first, run);
    } else {
      *first = run;
      runs_.erase(std::next(first), last);
    }
  }

  Runs runs_;
};

}  // namespace untorn

#endif  // UNTORN_COW_RANGE_SET_H_
