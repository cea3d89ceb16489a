// A set of blocks as runs.
#ifndef UNTORN_COW_RANGE_SET_H_
#define UNTORN_COW_RANGE_SET_H_

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "absl/container/btree_map.h"
#include "extent/types.h"

namespace untorn {

class RangeSet {
 public:
  void Add(BlockRange range) {
    uint64_t start = range.start, end = range.end();
    auto it = runs_.upper_bound(start);
    if (it != runs_.begin() && std::prev(it)->second >= start) --it;
    while (it != runs_.end() && it->first <= end) {
      start = std::min(start, it->first);
      end = std::max(end, it->second);
      it = runs_.erase(it);
    }
    runs_[start] = end;
  }
  void Remove(BlockRange range) {
    auto it = runs_.upper_bound(range.start);
    if (it != runs_.begin() && std::prev(it)->second > range.start) --it;
    while (it != runs_.end() && it->first < range.end()) {
      const uint64_t start = it->first, end = it->second;
      it = runs_.erase(it);
      if (start < range.start) runs_[start] = range.start;
      if (end > range.end()) it = std::next(runs_.insert({range.end(), end}).first);
    }
  }
  bool Contains(uint64_t block) const {
    auto it = runs_.upper_bound(block);
    return it != runs_.begin() && std::prev(it)->second > block;
  }
  bool empty() const { return runs_.empty(); }
  size_t runs() const { return runs_.size(); }
  void clear() { runs_.clear(); }
  template <typename Fn>
  void ForEach(Fn fn) const {
    for (const auto& [start, end] : runs_) fn(BlockRange{start, end - start});
  }
  void AddAll(const RangeSet& other) {
    other.ForEach([this](BlockRange r) { Add(r); });
  }
  BlockRange front() const { return {runs_.begin()->first, runs_.begin()->second - runs_.begin()->first}; }

 private:
  absl::btree_map<uint64_t, uint64_t> runs_;  // start -> end
};

}  // namespace untorn

#endif  // UNTORN_COW_RANGE_SET_H_
