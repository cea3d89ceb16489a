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
    // At most the first run reaches out of the range at its start, and the last one at its end.
    uint64_t head = range.start, tail = range.end();
    while (it != runs_.end() && it->first < range.end()) {
      head = std::min(head, it->first);
      tail = std::max(tail, it->second);
      it = runs_.erase(it);
    }
    if (head < range.start) runs_[head] = range.start;
    if (tail > range.end()) runs_[range.end()] = tail;
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
