// A set of blocks of a store, for fsck: one bit a block in pages of a free-space group each. Pages of which
// no block, or every block, is in the set take no memory, so that a huge store with little in it costs
// little.
#ifndef UNTORN_BLOCK_SET_H_
#define UNTORN_BLOCK_SET_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/container/btree_map.h"
#include "absl/functional/function_ref.h"
#include "extent/free_map_format.h"
#include "extent/types.h"

namespace untorn::internal {

class BlockSet {
 public:
  using Words = std::array<uint64_t, kGroupBlocks / 64>;
  using RunFn = absl::FunctionRef<void(Extent)>;

  void Add(Extent extent) {
    Add(extent, [](Extent) {});
  }
  // Calls `already` for the runs that were in the set before.
  void Add(Extent extent, RunFn already);
  void Remove(Extent extent);
  bool Contains(uint64_t block) const;
  uint64_t count() const { return count_; }
  // The runs of `extent` that are in the set (`in`), or are not.
  void ForEachRun(Extent extent, bool in, RunFn run) const;
  // All runs in the set.
  void ForEachRun(RunFn run) const;

  // The bits of one group.
  Words Group(uint64_t group) const;
  // The groups of [first, last) with blocks in the set, in order.
  void ForEachGroup(uint64_t first, uint64_t last, absl::FunctionRef<void(uint64_t group)> fn) const;

  // Calls `run` for the blocks of `group` that are set in `a` and not in `b`.
  static void Difference(uint64_t group, const Words& a, const Words& b, RunFn run);
  // Sets the bits of `group` that lie in [0, limit).
  static Words Below(uint64_t group, uint64_t limit);

 private:
  absl::btree_map<uint64_t, std::unique_ptr<Words>> pages_;  // by group; null: all of it
  uint64_t count_ = 0;
};

}  // namespace untorn::internal

#endif  // UNTORN_BLOCK_SET_H_
