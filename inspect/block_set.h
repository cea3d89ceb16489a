// A set of blocks of a store, with one bit for each block. The bits lie in pages, one page for each group of
// the free-space map. A page that is all clear or was added as a whole takes no memory, so a huge and nearly
// empty store costs little.
#ifndef UNTORN_INSPECT_BLOCK_SET_H_
#define UNTORN_INSPECT_BLOCK_SET_H_

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
  using Words = std::array<uint64_t, kGroupBits / 64>;
  using RunFn = absl::FunctionRef<void(Extent)>;

  void Add(Extent extent) {
    Add(extent, [](Extent) {});
  }
  // Adds the extent, and calls `already` for the runs of it that were in the set before.
  void Add(Extent extent, RunFn already);
  void Remove(Extent extent);
  bool Contains(BlockNumber block) const;
  BlockCount count() const { return count_; }
  // Calls `run` for the runs of `extent` that are in the set, or with `in` false for those that are not.
  void ForEachRun(Extent extent, bool in, RunFn run) const;
  // Calls `run` for all runs in the set.
  void ForEachRun(RunFn run) const;

  // The bits of one group.
  Words Group(uint64_t group) const;
  // Calls `fn` for the groups of [first, last) with a page, in order. All blocks of the set lie in such
  // groups.
  void ForEachGroup(uint64_t first, uint64_t last, absl::FunctionRef<void(uint64_t group)> fn) const;

  // Calls `run` for the blocks of `group` that are set in `a` and not in `b`.
  static void Difference(uint64_t group, const Words& a, const Words& b, RunFn run);
  // Returns the bits of the fixed areas in `group`.
  static Words Fixed(const Geometry& geometry, uint64_t group);

 private:
  absl::btree_map<uint64_t, std::unique_ptr<Words>> pages_;  // by group; null: all blocks of it
  BlockCount count_;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_BLOCK_SET_H_
