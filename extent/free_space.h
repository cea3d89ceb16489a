// The free-space map in memory says which blocks may be allocated now, and which blocks the last checkpoint
// uses.
//
// Memory has two bits for each block, in groups that are loaded when first needed:
//   busy  the block is mapped, staged, a pending free, or in use by the last checkpoint: not allocatable
//   base  the last checkpoint uses the block for its mappings or tree nodes
//
// Invariants
//  1. A block with its base bit set has its busy bit set.
//  2. A block with its base bit set becomes allocatable only when a checkpoint without the block is
//     installed. So no allocation overwrites what the last durable checkpoint refers to.
//  3. Only usable blocks of the data area are ever allocated: the prepared ones, without those that are withdrawn.
//  4. Every chunk has a bound. No free run that begins in the chunk is longer than the bound.
//  5. The counts of busy and base bits are exact, once the groups that changed are loaded.
//  6. There are groups and tables in memory for what is prepared, and not for the rest of the store.
//  7. The groups of withdrawn blocks are loaded.
//
// Changes to a group that is not loaded are remembered, and applied when the group is loaded. What the last checkpoint
// uses stays busy then (BaseOutlastsReplay). The caller
// reads the blocks that this class names, and hands the content in. So nothing in this class does I/O.
//
// Threading: the caller's mutex guards the map.
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

// Runs of at least this length are long enough: a longer run brings no more speed.
inline constexpr BlockCount kContiguousBlocks = BlocksFor(256 << 10);

class FreeSpace {
 public:
  using Bits = std::array<uint64_t, kGroupBits / 64>;

  explicit FreeSpace(const Superblock& superblock);

  // Counts the prepared blocks, which are the first blocks of the device.
  BlockCount prepared_blocks() const { return prepared_blocks_; }
  BlockNumber prepared_end() const { return BlockAfterFirst(prepared_blocks_); }
  // Makes newly prepared blocks allocatable. `blocks` counts all prepared blocks.
  void SetPrepared(BlockCount blocks);
  // Counts the usable blocks that are not busy.
  BlockCount free_blocks() const { return usable_blocks_ - busy_blocks_; }
  BlockCount used_base_blocks() const { return base_blocks_; }

  // Withdraws the prepared blocks from `end` on, so that the store can end there: they are not allocated any more. What is
  // in use there stays in use. Their groups must be loaded, and no head may be cut short.
  void Withdraw(BlockNumber end);
  // Makes all prepared blocks usable again.
  void RestoreWithdrawn();
  bool withdrawn() const { return usable_blocks_ < prepared_blocks_; }
  BlockNumber usable_end() const { return BlockAfterFirst(usable_blocks_); }
  // Counts the withdrawn blocks that are busy, without the heads of groups.
  BlockCount WithdrawnInUse() const;
  // Counts the withdrawn blocks that are not busy.
  BlockCount WithdrawnFree() const { return prepared_blocks_ - usable_blocks_ - withdrawn_busy_blocks_; }
  // Makes the withdrawn blocks unprepared. None of them may be in use.
  void DropWithdrawn();

  // Gives the map the shape for a store of another size, which the next superblock must have. Group 0 must be loaded, and
  // all prepared blocks must stay.
  void Resize(BlockCount total_blocks);

  // Gives the log another place. Its base bits are the caller's to change.
  void MoveLog(Extent log) { geometry_.log = log; }

  // Allocates a run of at least `min` and at most `want` blocks, at a multiple of `alignment`. Takes the
  // first run behind the last allocation that has `enough` blocks, else the longest run that the search saw.
  // `enough` counts as `want` if it is larger. If `enough` is less than `want`, space is used again in the
  // order in which it was written. Most of the neighbourhood of such space may have become free too.
  // Returns nullopt if the loaded groups have no such run. Without `settle`, the call also returns nullopt
  // if it saw only short runs and UnloadedGroupWithSpace() names a group.
  std::optional<Extent> Allocate(BlockCount want, BlockCount min, BlockCount alignment,
                                 BlockCount enough = BlockCount::Max(), bool settle = false);
  // The block where the next search for a free run begins.
  BlockNumber cursor() const { return cursor_; }
  void SetCursor(BlockNumber block) { cursor_ = block; }
  // Both are for blocks that become mapped or free without Allocate(): in recovery, or when a pending free
  // is due.
  //  kDataLoss  some of the blocks were so already, or the last checkpoint uses blocks that become free: the log and the
  //             map contradict each other
  absl::Status MarkBusy(Extent extent) { return Mark(extent, true); }
  absl::Status MarkFree(Extent extent) { return Mark(extent, false); }

  // Both make a checkpoint's changes of base bits. Every group that the extent touches must be loaded. The
  // calls return kDataLoss as MarkBusy() and MarkFree() do.
  absl::Status SetBase(Extent extent) { return ChangeBase(extent, true); }
  absl::Status ClearBase(Extent extent) { return ChangeBase(extent, false); }
  bool InBase(BlockNumber block) const;
  // Counts the groups of what is prepared.
  uint64_t groups() const { return groups_.size(); }
  // Returns which blocks of the group the last durable checkpoint uses. Returns nullptr if the group is not loaded.
  std::unique_ptr<const Bits> DurableBase(uint64_t group) const;
  // Says whether an allocation may take the block. Returns false if the group of the block is not loaded.
  bool Allocatable(BlockNumber block) const;

  // Names a map node that has to be read.
  struct NodeAddress {
    int level = 0;
    uint64_t index = 0;
    BlockPointer pointer;  // null: not on disk; LoadNode() takes an empty span
  };
  // Returns the next map node to read before group `group` is loaded. Returns nullopt if the group is
  // loaded.
  std::optional<NodeAddress> NextToLoad(uint64_t group) const;
  // Verifies and takes in the node that the caller has read from `address`.
  absl::Status LoadNode(const NodeAddress& address, std::span<const std::byte> block, const Uuid& uuid);
  // Returns a group that is not loaded and may have free blocks. Returns nullopt if all such groups are
  // loaded.
  std::optional<uint64_t> UnloadedGroupWithSpace() const;

  // Encodes every changed map node for its other slot and hands the block to `write`, children first.
  // Returns the new root pointer. What may be allocated does not change before Install().
  absl::StatusOr<BlockPointer> WriteChanges(
      const Uuid& uuid, Generation generation,
      absl::FunctionRef<absl::Status(BlockNumber block, std::span<const std::byte>)> write);
  // Must be called when the superblock that refers to the new map is durable. Calls `freed` for each run
  // that the previous checkpoint used and this one does not. The callee frees the run (MarkFree), now or
  // later.
  void Install(absl::FunctionRef<void(Extent)> freed);

  // Returns kInternal and names the invariant, if an invariant does not hold. The check looks at every
  // loaded group.
  absl::Status CheckInvariants() const;

 private:
  // Names the bits [from, to) of a group.
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
    Bounds longest;               // loaded groups: the bounds of invariant 4, in blocks
    uint32_t busy_count = 0;      // loaded groups
    std::vector<Change> pending;  // groups that are not loaded
    bool dirty() const { return installed_base != nullptr; }
  };
  struct Table {
    bool loaded = false, dirty = false;
    std::vector<FreeMapEntry> entries;
  };
  // Makes groups and tables for what is prepared.
  void MakeGroups();
  // Returns kDataLoss unless all blocks of the extent are prepared.
  absl::Status CheckPrepared(Extent extent) const;
  absl::Status Mark(Extent extent, bool busy);
  absl::Status CheckGroup(uint64_t index) const;
  // Says whether the last durable checkpoint uses some of the blocks, or the one that is made.
  static bool UsedByCheckpoint(const Group& group, BitRun bits);
  static uint32_t ApplyToGroup(Group& group, BitRun bits, bool busy);
  // Must be called when a free run of the group may begin at `bit`, or may have become longer there.
  static void NoteRun(Group& group, uint64_t bit) {
    if (bit < kGroupBits) group.longest[bit / kChunkBits] = kUnknown;
  }
  // Calls fn(group, bits of the group) for each group that the extent touches.
  template <typename Fn>
  static void ForEachGroup(Extent extent, Fn fn);
  static absl::Status Contradiction(uint64_t group, BitRun bits, bool used);
  static uint64_t BitOf(BlockNumber block) { return (block % kGroupBlocks).value(); }
  // Counts the bits of the group whose blocks are among the first ones of the device.
  static uint64_t BitsBelow(BlockNumber end, uint64_t group);
  // Makes the first blocks of the device usable, and the other prepared ones withdrawn.
  void SetUsable(BlockCount blocks);
  // Counts the groups that have some of the first blocks of the device.
  static uint64_t GroupsOf(BlockCount first) { return first.RoundUp(kGroupBlocks) / kGroupBlocks; }
  absl::Status ChangeBase(Extent extent, bool used);
  // Returns the first run of at least `enough` blocks that begins at or after `from`. The length is exact
  // only up to what `want` needs. `longest` is the longest run seen so far, and the search replaces it by
  // longer runs.
  std::optional<Extent> Search(uint64_t group, BlockNumber from, BlockCount enough, BlockCount want,
                               BlockCount alignment, Extent* longest);
  BlockCount FreeIn(uint64_t group) const;

  Geometry geometry_;
  FreeMapShape shape_;
  BlockPointer root_;
  BlockCount prepared_blocks_;
  BlockCount usable_blocks_;
  BlockCount busy_blocks_;            // of the usable ones
  BlockCount withdrawn_busy_blocks_;  // of the others
  BlockCount base_blocks_;
  BlockNumber cursor_;  // where the next search begins
  std::vector<Group> groups_;
  std::vector<std::vector<Table>> tables_;  // [level - 1][index]
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_FREE_SPACE_H_
