#include "inspect/block_set.h"

#include <algorithm>
#include <bit>

namespace untorn::internal {
namespace {

using Words = BlockSet::Words;

// Calls fn(from, to) for the runs of bits in [from, to) that are `set`.
template <typename Fn>
void ForEachBitRun(const Words& words, uint64_t from, uint64_t to, bool set, Fn fn) {
  const auto find = [&](uint64_t at, bool wanted) {
    while (at < to) {
      const uint64_t word = (wanted ? words[at / 64] : ~words[at / 64]) & (~uint64_t{0} << (at % 64));
      if (word != 0) return std::min<uint64_t>(to, at / 64 * 64 + std::countr_zero(word));
      at = (at / 64 + 1) * 64;
    }
    return to;
  };
  while (from < to) {
    const uint64_t start = find(from, set);
    if (start == to) return;
    from = find(start, !set);
    fn(start, from);
  }
}

// Sets or clears the bits [from, to). Returns how many bits changed.
uint64_t ChangeBits(Words& words, uint64_t from, uint64_t to, bool set) {
  uint64_t changed = 0;
  while (from < to) {
    const uint64_t n = std::min<uint64_t>(64 - from % 64, to - from);
    const uint64_t mask = (n == 64 ? ~uint64_t{0} : ((uint64_t{1} << n) - 1)) << (from % 64);
    uint64_t& word = words[from / 64];
    changed += std::popcount(set ? mask & ~word : mask & word);
    word = set ? word | mask : word & ~mask;
    from += n;
  }
  return changed;
}

Words Full() {
  Words words;
  words.fill(~uint64_t{0});
  return words;
}

// Calls fn(group, from, to) for the bits [from, to) of each group that are the extent's.
template <typename Fn>
void ForEachPart(Extent extent, Fn fn) {
  while (extent.count > 0) {
    const BlockCount offset = extent.start % kGroupBlocks;
    const BlockCount n = std::min(extent.count, kGroupBlocks - offset);
    fn(extent.start / kGroupBlocks, offset.value(), (offset + n).value());
    extent = {extent.start + n, extent.count - n};
  }
}

// Hands runs on, after joining those that lie side by side.
class Joiner {
 public:
  explicit Joiner(BlockSet::RunFn run) : run_(run) {}
  ~Joiner() { Flush(); }
  void Add(uint64_t group, uint64_t from, uint64_t to) {
    const Extent run{FirstBlockOf(group) + BlockCount(from), BlockCount(to - from)};
    if (held_.count > 0 && held_.end() == run.start) {
      held_.count += run.count;
      return;
    }
    Flush();
    held_ = run;
  }

 private:
  void Flush() {
    if (held_.count > 0) run_(held_);
  }
  BlockSet::RunFn run_;
  Extent held_;
};

}  // namespace

void BlockSet::Add(Extent extent, RunFn already) {
  Joiner joiner(already);
  ForEachPart(extent, [&](uint64_t group, uint64_t from, uint64_t to) {
    const auto [it, added] = pages_.try_emplace(group);
    if (added) {
      count_ += BlockCount(to - from);
      // No bits are needed for a group that is in the set as a whole.
      if (to - from == kGroupBits) return;
      it->second = std::make_unique<Words>();
      it->second->fill(0);
      ChangeBits(*it->second, from, to, true);
    } else if (it->second == nullptr) {
      joiner.Add(group, from, to);
    } else {
      ForEachBitRun(*it->second, from, to, true,
                    [&](uint64_t start, uint64_t end) { joiner.Add(group, start, end); });
      count_ += BlockCount(ChangeBits(*it->second, from, to, true));
    }
  });
}

void BlockSet::Remove(Extent extent) {
  ForEachPart(extent, [&](uint64_t group, uint64_t from, uint64_t to) {
    const auto it = pages_.find(group);
    if (it == pages_.end()) return;
    if (it->second == nullptr) it->second = std::make_unique<Words>(Full());
    count_ -= BlockCount(ChangeBits(*it->second, from, to, false));
  });
}

bool BlockSet::Contains(BlockNumber block) const {
  const auto it = pages_.find(block / kGroupBlocks);
  if (it == pages_.end()) return false;
  const uint64_t bit = (block % kGroupBlocks).value();
  return it->second == nullptr || ((*it->second)[bit / 64] >> (bit % 64) & 1) != 0;
}

void BlockSet::ForEachRun(Extent extent, bool in, RunFn run) const {
  Joiner joiner(run);
  ForEachPart(extent, [&](uint64_t group, uint64_t from, uint64_t to) {
    const auto it = pages_.find(group);
    if (it == pages_.end() || it->second == nullptr) {
      if (in == (it != pages_.end())) joiner.Add(group, from, to);
      return;
    }
    ForEachBitRun(*it->second, from, to, in,
                  [&](uint64_t start, uint64_t end) { joiner.Add(group, start, end); });
  });
}

void BlockSet::ForEachRun(RunFn run) const {
  Joiner joiner(run);
  for (const auto& [group, words] : pages_) {
    if (words == nullptr) {
      joiner.Add(group, 0, kGroupBits);
    } else {
      ForEachBitRun(*words, 0, kGroupBits, true,
                    [&, at = group](uint64_t from, uint64_t to) { joiner.Add(at, from, to); });
    }
  }
}

Words BlockSet::Group(uint64_t group) const {
  const auto it = pages_.find(group);
  if (it == pages_.end()) return Words{};
  return it->second == nullptr ? Full() : *it->second;
}

void BlockSet::ForEachGroup(uint64_t first, uint64_t last, absl::FunctionRef<void(uint64_t group)> fn) const {
  for (auto it = pages_.lower_bound(first); it != pages_.end() && it->first < last; ++it) fn(it->first);
}

void BlockSet::Difference(uint64_t group, const Words& a, const Words& b, RunFn run) {
  Words only;
  for (size_t i = 0; i < only.size(); ++i) only[i] = a[i] & ~b[i];
  ForEachBitRun(only, 0, kGroupBits, true, [&](uint64_t from, uint64_t to) {
    run({FirstBlockOf(group) + BlockCount(from), BlockCount(to - from)});
  });
}

Words BlockSet::Fixed(const Geometry& geometry, uint64_t group) {
  Words words{};
  for (Extent area : geometry.FixedAreas(group)) {
    ForEachPart(area, [&](uint64_t, uint64_t from, uint64_t to) { ChangeBits(words, from, to, true); });
  }
  return words;
}

}  // namespace untorn::internal
