// The free-space map in memory: which blocks may be allocated now, and which the last checkpoint has in use.
//
// Two bits a block, in groups that are loaded when first needed:
//   busy  not allocatable: mapped, staged, pending free, or in use by the last checkpoint
//   base  in use by the last checkpoint: its mappings and its tree nodes
//
// Invariants
//  1. base implies busy.
//  2. A block that is in base becomes allocatable only when a checkpoint without it is installed: what the
//     last durable checkpoint refers to is never overwritten by an allocation.
//  3. Only blocks in [data start, prepared) are ever allocated.
//  4. For every chunk a bound is known: no free run that begins in it is longer.
//  5. The counts of busy and base blocks are exact, once the groups that changed are loaded.
//
// Changes to groups that are not loaded are remembered and applied when they are. Loading is the caller's: it
// reads the blocks this class names and hands them in, so that nothing here does I/O.
//
// Threading: guarded by the caller's mutex.
#ifndef UNTORN_EXTENT_FREE_SPACE_H_
#define UNTORN_EXTENT_FREE_SPACE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "extent/free_map_format.h"
#include "extent/superblock.h"

namespace untorn {

// A run from which on it does not matter for speed that it is not longer.
inline constexpr BlockCount kContiguousBlocks = BlocksFor(256 << 10);

class FreeSpace {
 public:
  explicit FreeSpace(const Superblock& superblock);

  // So many from the device's beginning on are prepared.
  BlockCount prepared_blocks() const { return prepared_blocks_; }
  BlockNumber prepared_end() const { return BlockAfterFirst(prepared_blocks_); }
  // Adds newly prepared blocks to what may be allocated.
  void SetPrepared(BlockCount blocks);
  // Prepared blocks that are not busy.
  BlockCount free_blocks() const { return prepared_blocks_ - busy_blocks_; }
  BlockCount used_base_blocks() const { return base_blocks_; }

  // A run of at most `want` blocks and at least `min`, starting at a multiple of `alignment`. Takes the first one
  // after the last allocation that has `enough` (at most `want`), else the longest it saw. With less than `want` enough,
  // space is used again in the order in which it was written, when most of what was beside it may have gone too.
  // nullopt: there is none in the groups that are loaded, or, unless `settle`, only a short one while
  // UnloadedGroupWithSpace().
  std::optional<Extent> Allocate(BlockCount want, BlockCount min, BlockCount alignment,
                                 BlockCount enough = BlockCount::Max(), bool settle = false);
  // The block where the next search for a free run begins.
  BlockNumber cursor() const { return cursor_; }
  void SetCursor(BlockNumber block) { cursor_ = block; }
  // For blocks that became mapped or were freed in other ways (recovery; frees that are due).
  //  kDataLoss: they were so already. What the log and the map say contradict each other.
  absl::Status MarkBusy(Extent extent) { return Mark(extent, true); }
  absl::Status MarkFree(Extent extent) { return Mark(extent, false); }

  // The checkpoint's changes to base. Every group concerned is loaded. kDataLoss as above.
  absl::Status SetBase(Extent extent) { return ChangeBase(extent, true); }
  absl::Status ClearBase(Extent extent) { return ChangeBase(extent, false); }
  bool InBase(BlockNumber block) const;
  // Whether an allocation may take the block; false where its group is not loaded.
  bool Allocatable(BlockNumber block) const;

  // Loading. The map node (level, index) that has to be read next before group `group` is loaded, or nullopt
  // if it is.
  struct NodeAddress {
    int level = 0;
    uint64_t index = 0;
    BlockPointer pointer;  // null: not on disk, call LoadNode with an empty span
  };
  std::optional<NodeAddress> NextToLoad(uint64_t group) const;
  absl::Status LoadNode(const NodeAddress& address, std::span<const std::byte> block, const Uuid& uuid);
  static uint64_t GroupOf(BlockNumber block) { return block / kGroupBlocks; }
  // A group that is not loaded and may have free blocks; nullopt: all such are loaded.
  std::optional<uint64_t> UnloadedGroupWithSpace() const;

  // The checkpoint: encodes every changed map node into its other slot through `write` (children first),
  // returns the new root pointer. Nothing changes in what may be allocated until Install().
  absl::StatusOr<BlockPointer> WriteChanges(
      const Uuid& uuid, Generation generation,
      absl::FunctionRef<absl::Status(BlockNumber block, std::span<const std::byte>)> write);
  // The superblock that refers to the new map is durable: `freed` is called for each run that the previous
  // checkpoint had in use and this one has not; the callee frees it (MarkFree), now or later.
  void Install(absl::FunctionRef<void(Extent)> freed);

  // kInternal: names an invariant that does not hold. It looks at every group that is loaded.
  absl::Status CheckInvariants() const;

 private:
  using Bits = std::array<uint64_t, kGroupBits / 64>;
  // The bits [from, to) of a group.
  struct BitRun {
    uint64_t from = 0, to = 0;
    uint64_t size() const { return to - from; }
  };
  struct Change {
    BitRun bits;
    bool busy;
  };
  static constexpr uint64_t kChunkBits = 512;
  static_assert(kGroupBits % kChunkBits == 0);
  using Bounds = std::array<uint16_t, kGroupBits / kChunkBits>;
  static constexpr uint16_t kUnknown = UINT16_MAX;
  static_assert(kGroupBits < kUnknown);
  struct Group {
    std::unique_ptr<Bits> busy, base,
        installed_base;           // installed_base: base before this checkpoint's changes
    Bounds longest;               // loaded groups: invariant 4, in blocks
    uint32_t busy_count = 0;      // loaded groups
    std::vector<Change> pending;  // groups that are not loaded
    bool dirty() const { return installed_base != nullptr; }
  };
  struct Table {
    bool loaded = false, dirty = false;
    std::vector<FreeMapEntry> entries;
  };
  absl::Status Mark(Extent extent, bool busy);
  absl::Status CheckGroup(uint64_t index) const;
  static uint32_t ApplyToGroup(Group& group, BitRun bits, bool busy);
  // A free run of the group may begin at `bit`, or have become longer.
  static void NoteRun(Group& group, uint64_t bit) {
    if (bit < kGroupBits) group.longest[bit / kChunkBits] = kUnknown;
  }
  // Calls fn(group, bits of it) for each group that the extent touches.
  template <typename Fn>
  static void ForEachGroup(Extent extent, Fn fn);
  static absl::Status Contradiction(uint64_t group, BitRun bits, bool used);
  static BlockNumber FirstBlock(uint64_t group) { return BlockAfterFirst(kGroupBlocks * group); }
  static uint64_t BitOf(BlockNumber block) { return (block % kGroupBlocks).value(); }
  // Bits of the group whose blocks are prepared.
  uint64_t PreparedBits(uint64_t group) const;
  // Groups with prepared blocks.
  uint64_t PreparedGroups() const { return prepared_blocks_.RoundUp(kGroupBlocks) / kGroupBlocks; }
  absl::Status ChangeBase(Extent extent, bool used);
  // The first run of at least `enough` that begins at or after `from`, as far as `want` needs it.
  std::optional<Extent> Search(uint64_t group, BlockNumber from, BlockCount enough, BlockCount want,
                               BlockCount alignment, Extent* longest);
  BlockCount FreeIn(uint64_t group) const;

  const Geometry geometry_;
  const FreeMapShape shape_;
  BlockPointer root_;
  BlockCount prepared_blocks_;
  BlockCount busy_blocks_;
  BlockCount base_blocks_;
  BlockNumber cursor_;  // where the next search begins
  std::vector<Group> groups_;
  std::vector<std::vector<Table>> tables_;  // [level - 1][index]
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_FREE_SPACE_H_
