#include "extent/free_space.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "extent/bit_runs.h"
#include "extent/rules.h"

namespace untorn {

template <typename Fn>
void FreeSpace::ForEachGroup(Extent extent, Fn fn) {
  while (extent.count > 0) {
    const BlockCount offset = extent.start % kGroupBlocks;
    const BlockCount n = std::min(extent.count, kGroupBlocks - offset);
    fn(GroupOf(extent.start), BitRun{offset.value(), (offset + n).value()});
    extent.start += n;
    extent.count -= n;
  }
}

absl::Status FreeSpace::Contradiction(uint64_t group, BitRun bits, bool used) {
  const uint64_t first = FirstBlockOf(group).value();
  return absl::DataLossError(absl::StrCat("free-space map: blocks ", first + bits.from, " to ",
                                          first + bits.to - 1, " are partly ",
                                          used ? "in use already" : "free already"));
}

FreeSpace::FreeSpace(const Superblock& superblock)
    : geometry_(superblock.geometry),
      shape_(FreeMapShape::ForGroups(geometry_.groups())),
      root_(superblock.free_map),
      prepared_blocks_(superblock.prepared_blocks),
      usable_blocks_(superblock.prepared_blocks),
      busy_blocks_(superblock.used_blocks),
      base_blocks_(superblock.used_blocks),
      cursor_(geometry_.log.end()),
      tables_(shape_.root_level()) {
  MakeGroups();
}

void FreeSpace::MakeGroups() {
  groups_.resize(GroupsOf(prepared_blocks_));
  for (int level = 1; level <= shape_.root_level(); ++level) {
    const uint64_t below = GroupsBelow(level);
    tables_[level - 1].resize((groups_.size() + below - 1) / below);
  }
}

absl::Status FreeSpace::CheckPrepared(Extent extent) const {
  if (extent.start < prepared_end() && extent.count <= prepared_end() - extent.start) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("free-space map: blocks ", extent.start.value(), " to ",
                                          (extent.end() - 1).value(), " are in use, but only the ",
                                          prepared_blocks_.value(), " before may be"));
}

void FreeSpace::SetPrepared(BlockCount blocks) {
  UNTORN_CHECK(blocks <= geometry_.total_blocks, "more blocks are prepared than the store has");
  UNTORN_CHECK(!withdrawn(), "blocks are prepared while others are withdrawn");
  if (blocks <= prepared_blocks_) return;
  UNTORN_CHECK(!Geometry::EndsInHead(blocks), "a part of a head is prepared");
  const BlockCount fixed = geometry_.FixedBlocks(blocks) - geometry_.FixedBlocks(prepared_blocks_);
  busy_blocks_ += fixed;
  base_blocks_ += fixed;
  prepared_blocks_ = blocks;
  MakeGroups();
  SetUsable(blocks);
}

void FreeSpace::SetUsable(BlockCount blocks) {
  // A free run at the old end may go on behind it. Other runs may begin behind it, in the same chunk.
  const BlockNumber end = usable_end();
  if (GroupOf(end) < groups_.size()) {
    if (Group& group = groups_[GroupOf(end)]; group.busy) {
      NoteRun(group, BitOf(end));
      NoteRun(group, RunStart(group.busy->data(), BitOf(end)));
    }
  }
  usable_blocks_ = blocks;
}

void FreeSpace::Withdraw(BlockNumber end) {
  UNTORN_CHECK(!withdrawn() && end <= prepared_end(), "blocks are withdrawn that are not there");
  UNTORN_CHECK(!Geometry::EndsInHead(BlocksBefore(end)), "a part of a head is withdrawn");
  ForEachGroup({end, prepared_end() - end}, [&](uint64_t index, BitRun bits) {
    const Group& group = groups_[index];
    UNTORN_CHECK(group.busy != nullptr, "invariant 7: blocks are withdrawn whose group is not loaded");
    for (uint64_t at = bits.from; at < bits.to;) {
      const uint64_t start = FindBit(group.busy->data(), at, bits.to, true);
      at = FindBit(group.busy->data(), start, bits.to, false);
      withdrawn_busy_blocks_ += BlockCount(at - start);
    }
  });
  busy_blocks_ -= withdrawn_busy_blocks_;
  SetUsable(BlocksBefore(end));
}

void FreeSpace::RestoreWithdrawn() {
  busy_blocks_ += std::exchange(withdrawn_busy_blocks_, BlockCount());
  SetUsable(prepared_blocks_);
}

BlockCount FreeSpace::WithdrawnInUse() const {
  BlockCount heads;
  for (uint64_t group = GroupsOf(usable_blocks_); group < groups_.size(); ++group) heads += kHeadBlocks;
  return withdrawn_busy_blocks_ - heads;
}

void FreeSpace::DropWithdrawn() {
  UNTORN_CHECK(WithdrawnInUse() == 0, "blocks are dropped that are in use");
  base_blocks_ -= std::exchange(withdrawn_busy_blocks_, BlockCount());
  prepared_blocks_ = usable_blocks_;
  groups_.resize(GroupsOf(prepared_blocks_));
  uint64_t below = groups_.size();
  for (std::vector<Table>& level : tables_) {
    level.resize((below + kTableFanout - 1) / kTableFanout);
    // A table that is not loaded never had a child behind the last group.
    Table& last = level.back();
    for (uint64_t i = below - (level.size() - 1) * kTableFanout; last.loaded && i < kTableFanout; ++i) {
      if (!last.entries[i].pointer()) continue;
      last.entries[i] = FreeMapEntry();
      last.dirty = true;
    }
    below = level.size();
  }
}

void FreeSpace::Resize(BlockCount total_blocks) {
  UNTORN_CHECK(total_blocks >= prepared_blocks_, "a store becomes smaller than what is prepared");
  UNTORN_CHECK(!NextToLoad(0), "the root of the map is not loaded");
  geometry_.total_blocks = total_blocks;
  shape_ = FreeMapShape::ForGroups(geometry_.groups());
  // A root that is not needed any more has one child.
  while (static_cast<int>(tables_.size()) > shape_.root_level()) {
    root_ = tables_.back()[0].entries[0].pointer();
    tables_.pop_back();
  }
  while (static_cast<int>(tables_.size()) < shape_.root_level()) {
    // The root becomes the first child of a new root.
    BlockCount used;
    for (const FreeMapEntry& e : tables_.back()[0].entries) used += e.used_blocks;
    Table& root = tables_.emplace_back(1)[0];
    root.loaded = true;
    root.dirty = static_cast<bool>(root_);
    root.entries.resize(kTableFanout);
    if (root_) root.entries[0] = {root_.block, root_.checksum, used};
    root_ = BlockPointer();
  }
}

uint64_t FreeSpace::BitsBelow(BlockNumber end, uint64_t group) {
  const BlockNumber first = FirstBlockOf(group);
  return end > first ? std::min(kGroupBlocks, end - first).value() : 0;
}

uint32_t FreeSpace::ApplyToGroup(Group& group, BitRun bits, bool busy) {
  const uint64_t changed = ChangeBits(group.busy->data(), bits.from, bits.to, busy);
  group.busy_count += busy ? static_cast<uint32_t>(changed) : -static_cast<uint32_t>(changed);
  UNTORN_CHECK(group.busy_count <= kGroupBits, "a group counts more busy blocks than it has");
  // Busy bits may leave a run that begins behind them. Freed bits may lengthen the run before them.
  NoteRun(group, busy ? bits.to : RunStart(group.busy->data(), bits.from));
  return static_cast<uint32_t>(changed);
}

bool FreeSpace::UsedByCheckpoint(const Group& group, BitRun bits) {
  const auto has = [&](const Bits& some) {
    return FindBit(some.data(), bits.from, bits.to, true) != bits.to;
  };
  return has(*group.base) || (group.dirty() && has(*group.installed_base));
}

absl::Status FreeSpace::Mark(Extent extent, bool busy) {
  absl::Status status = CheckPrepared(extent);
  if (!status.ok()) return status;
  const bool reaches_withdrawn = extent.end() > usable_end();
  if (reaches_withdrawn && extent.start < usable_end()) {
    const BlockCount usable = usable_end() - extent.start;
    status.Update(Mark({extent.start, usable}, busy));
    status.Update(Mark({usable_end(), extent.count - usable}, busy));
    return status;
  }
  BlockCount& counted = reaches_withdrawn ? withdrawn_busy_blocks_ : busy_blocks_;
  ForEachGroup(extent, [&](uint64_t index, BitRun bits) {
    Group& group = groups_[index];
    uint64_t changed = bits.size();
    if (group.busy && !busy && UsedByCheckpoint(group, bits)) {
      status = Contradiction(index, bits, /*used=*/true);
      return;
    }
    if (group.busy) {
      changed = ApplyToGroup(group, bits, busy);
    } else {
      // Every bit counts as changed until the group is loaded. LoadNode() then corrects the count.
      group.pending.push_back({bits, busy});
    }
    counted = busy ? counted + BlockCount(changed) : counted - BlockCount(changed);
    if (changed != bits.size()) status = Contradiction(index, bits, busy);
  });
  return status;
}

BlockCount FreeSpace::FreeIn(uint64_t index) const {
  const uint64_t usable = BitsBelow(usable_end(), index);
  // The busy blocks of a group that is partly withdrawn may be anywhere in it.
  const uint64_t busy = std::min<uint64_t>(groups_[index].busy_count, kGroupBits);
  return BlockCount(usable == BitsBelow(prepared_end(), index) ? usable - std::min(usable, busy) : usable);
}

std::optional<Extent> FreeSpace::Search(uint64_t index, BlockNumber from, BlockCount enough, BlockCount want,
                                        BlockCount alignment, Extent* longest) {
  Group& group = groups_[index];
  const BlockNumber first = FirstBlockOf(index);
  const uint64_t from_bit = BitOf(from), limit = BitsBelow(usable_end(), index);
  const uint64_t needed = std::max(enough, want).value();
  const uint64_t* words = group.busy->data();
  for (uint64_t chunk = from_bit / kChunkBits; chunk * kChunkBits < limit; ++chunk) {
    const uint64_t begin = chunk * kChunkBits, end = std::min(begin + kChunkBits, limit);
    const bool whole = from_bit <= begin;
    uint64_t at = from_bit;
    if (whole) {
      // No run that begins in the chunk is longer than the longest one found.
      if (BlockCount(group.longest[chunk]) <= longest->count) continue;
      // A run that reaches into the chunk belongs to the chunk in which it begins.
      at = RunStart(words, begin) == begin ? begin : FindBit(words, begin, limit, true);
    }
    uint64_t bound = 0;
    while (at < end) {
      const uint64_t start = FindBit(words, at, end, false);
      if (start == end) break;
      const uint64_t aligned = ((first + BlockCount(start)).RoundUp(alignment) - first).value();
      // The run is followed only as far as its blocks can be taken. A run that is as long ends the search.
      at = FindBit(words, start, std::min(limit, aligned + needed), true);
      bound = std::max(bound, at - start);
      if (aligned >= at || BlockCount(at - aligned) <= longest->count) continue;
      *longest = {first + BlockCount(aligned), BlockCount(at - aligned)};
      if (longest->count >= enough) return *longest;
    }
    // A chunk that was searched from its middle gives no bound.
    if (whole) group.longest[chunk] = static_cast<uint16_t>(bound);
  }
  return std::nullopt;
}

std::optional<Extent> FreeSpace::Allocate(BlockCount want, BlockCount min, BlockCount alignment,
                                          BlockCount enough, bool settle) {
  // After so many groups without a long enough run, a shorter run will do.
  constexpr int kGroupsBeforeShorter = 16;
  enough = std::clamp(enough, min, std::max(min, want));
  const uint64_t limit_group = GroupsOf(usable_blocks_);
  Extent longest;
  std::optional<Extent> found;
  const uint64_t start_group = GroupOf(std::min(cursor_, usable_end() - 1));
  int searched = 0;
  // The first group comes once more at the end, for the blocks before the cursor.
  for (uint64_t i = 0; i <= limit_group && !found; ++i) {
    const uint64_t index = (start_group + i) % limit_group;
    if (!groups_[index].busy || FreeIn(index) < min) continue;
    const BlockNumber from = i == 0 ? FirstBlockOf(index) + cursor_ % kGroupBlocks : FirstBlockOf(index);
    found = Search(index, from, enough, want, alignment, &longest);
    if (++searched >= kGroupsBeforeShorter && longest.count >= min) break;
  }
  if (!found) {
    if (longest.count < min || longest.count == 0) return std::nullopt;
    // A longer run may be in a group that is not loaded: the caller loads the group and tries again.
    if (!settle && searched < kGroupsBeforeShorter && UnloadedGroupWithSpace()) return std::nullopt;
    found = longest;
  }
  found->count = std::min(found->count, want);
  UNTORN_CHECK(Mark(*found, true).ok(), "a block is allocated twice");
  cursor_ = found->end();
  return found;
}

absl::Status FreeSpace::ChangeBase(Extent extent, bool used) {
  absl::Status status = CheckPrepared(extent);
  if (!status.ok()) return status;
  ForEachGroup(extent, [&](uint64_t index, BitRun bits) {
    Group& group = groups_[index];
    UNTORN_CHECK(group.base != nullptr, "a group is changed before it is loaded");
    // Install() needs the bits from before the checkpoint to find what has become free.
    if (!group.installed_base) group.installed_base = std::make_unique<Bits>(*group.base);
    const uint64_t changed = ChangeBits(group.base->data(), bits.from, bits.to, used);
    base_blocks_ = used ? base_blocks_ + BlockCount(changed) : base_blocks_ - BlockCount(changed);
    if (changed != bits.size()) status = Contradiction(index, bits, used);
  });
  return status;
}

bool FreeSpace::InBase(BlockNumber block) const {
  const Group& group = groups_[GroupOf(block)];
  UNTORN_CHECK(group.base != nullptr, "a group is read before it is loaded");
  const uint64_t bit = BitOf(block);
  return ((*group.base)[bit / 64] >> (bit % 64) & 1) != 0;
}

std::unique_ptr<const FreeSpace::Bits> FreeSpace::DurableBase(uint64_t index) const {
  const Group& group = groups_[index];
  if (group.base == nullptr) return nullptr;
  return std::make_unique<const Bits>(group.dirty() ? *group.installed_base : *group.base);
}

bool FreeSpace::Allocatable(BlockNumber block) const {
  if (block >= usable_end()) return false;
  const Group& group = groups_[GroupOf(block)];
  const uint64_t bit = BitOf(block);
  return group.busy && ((*group.busy)[bit / 64] >> (bit % 64) & 1) == 0;
}

std::optional<FreeSpace::NodeAddress> FreeSpace::NextToLoad(uint64_t group) const {
  UNTORN_CHECK(group < groups_.size(), "invariant 6: a group is loaded that is not prepared");
  if (groups_[group].busy) return std::nullopt;
  // The way begins at the root, because only a loaded parent says where its child is.
  NodeAddress at{shape_.root_level(), 0, root_};
  while (at.level > 0) {
    const Table& table = tables_[at.level - 1][at.index];
    if (!table.loaded) return at;
    const uint64_t child = group / GroupsBelow(at.level - 1);
    at = {at.level - 1, child, table.entries[child % kTableFanout].pointer()};
  }
  return at;
}

absl::Status FreeSpace::LoadNode(const NodeAddress& at, std::span<const std::byte> block, const Uuid& uuid) {
  // Another thread may have loaded the node meanwhile, and a checkpoint may have written the slot again.
  // The map may have lost the level, or the group.
  if (at.level > static_cast<int>(tables_.size())) return absl::OkStatus();
  if (at.index >= (at.level > 0 ? tables_[at.level - 1].size() : groups_.size())) return absl::OkStatus();
  if (at.level > 0 ? tables_[at.level - 1][at.index].loaded : groups_[at.index].busy != nullptr) {
    return absl::OkStatus();
  }
  if (at.pointer) {
    RETURN_IF_ERROR(VerifyFreeMapNode(block, uuid, shape_, at.level, at.index, at.pointer));
  }
  if (at.level > 0) {
    Table& table = tables_[at.level - 1][at.index];
    table.entries = at.pointer ? TableEntries(block) : std::vector<FreeMapEntry>(kTableFanout);
    table.loaded = true;
    return absl::OkStatus();
  }
  Group& group = groups_[at.index];
  group.base = std::make_unique<Bits>();
  if (at.pointer) {
    std::memcpy(group.base->data(), block.data() + kHeaderBytes, sizeof(Bits));
  } else {
    group.base->fill(0);
  }
  // The fixed areas are always in use. A null pointer does not say so, but a bitmap must.
  uint64_t marked = 0;
  for (Extent fixed : geometry_.FixedAreas(at.index)) {
    ForEachGroup(fixed, [&](uint64_t, BitRun bits) {
      marked += ChangeBits(group.base->data(), bits.from, bits.to, true);
    });
  }
  if (at.pointer && marked > 0) {
    group.base.reset();
    return absl::DataLossError(absl::StrCat("free-space bitmap at block ", at.pointer.block.value(), ": ",
                                            marked, " blocks outside the data area are marked free"));
  }
  group.busy = std::make_unique<Bits>(*group.base);
  group.longest.fill(kUnknown);
  for (uint64_t word : *group.busy) group.busy_count += std::popcount(word);
  for (const Change& change : group.pending) {
    // A damaged log could name blocks that the map has in use. The total is kept exact here, and fsck
    // reports the contradiction.
    const uint32_t changed = ApplyToGroup(group, change.bits, change.busy);
    const BlockCount off(change.bits.size() - changed);
    busy_blocks_ = change.busy ? busy_blocks_ - off : busy_blocks_ + off;
  }
  group.pending.clear();
  group.pending.shrink_to_fit();
  if (BaseOutlastsReplay()) {
    for (size_t w = 0; w < group.base->size(); ++w) {
      const uint64_t freed = std::popcount((*group.base)[w] & ~(*group.busy)[w]);
      (*group.busy)[w] |= (*group.base)[w];
      group.busy_count += freed;
      busy_blocks_ += BlockCount(freed);
    }
  }
  return absl::OkStatus();
}

std::optional<uint64_t> FreeSpace::UnloadedGroupWithSpace() const {
  const uint64_t limit_group = GroupsOf(usable_blocks_);
  const uint64_t start = GroupOf(std::min(cursor_, usable_end() - 1));
  for (uint64_t i = 0; i < limit_group; ++i) {
    const uint64_t index = (start + i) % limit_group;
    if (groups_[index].busy) continue;
    const Table& table = tables_[0][index / kTableFanout];
    // Only a full group without pending changes is known to have no space.
    if (table.loaded && table.entries[index % kTableFanout].used_blocks >= kGroupBlocks &&
        groups_[index].pending.empty()) {
      continue;
    }
    return index;
  }
  return std::nullopt;
}

absl::StatusOr<BlockPointer> FreeSpace::WriteChanges(
    const Uuid& uuid, Generation generation,
    absl::FunctionRef<absl::Status(BlockNumber block, std::span<const std::byte>)> write) {
  AlignedBuffer block(kBlockBytes);
  // Writes one node, and puts the new pointer into its parent or into root_.
  const auto put = [&](int level, uint64_t index, BlockType type, std::span<const std::byte> payload,
                       BlockCount used) -> absl::Status {
    FreeMapEntry* parent = nullptr;
    if (level < shape_.root_level()) {
      Table& table = tables_[level][index / kTableFanout];
      table.dirty = true;
      parent = &table.entries[index % kTableFanout];
    }
    const BlockNumber in_use = parent ? parent->block : root_.block;
    // The slot in use stays as it is for the last durable checkpoint.
    const BlockNumber place = MapSlot(level, index, in_use == MapSlot(level, index, 0) ? 1 : 0);
    UNTORN_CHECK(place < prepared_end() && !geometry_.InDataArea({place, 1}),
                 "a node of the map is written to the data area");
    const BlockPointer node = EncodeFreeMapNode(type, uuid, place, generation, payload, block.span());
    if (parent) {
      *parent = {node.block, node.checksum, used};
    } else {
      root_ = node;
    }
    return write(place, block.span());
  };
  for (uint64_t i = 0; i < groups_.size(); ++i) {
    Group& group = groups_[i];
    if (!group.dirty()) continue;
    uint64_t used = 0;
    for (uint64_t word : *group.base) used += std::popcount(word);
    if (absl::Status s =
            put(0, i, BlockType::kFreeMapBitmap, std::as_bytes(std::span(*group.base)), BlockCount(used));
        !s.ok()) {
      return s;
    }
  }
  for (int level = 1; level <= shape_.root_level(); ++level) {
    for (uint64_t i = 0; i < tables_[level - 1].size(); ++i) {
      // The levels go upwards, so the entries of a table already point to its new children.
      Table& table = tables_[level - 1][i];
      if (!table.dirty) continue;
      table.dirty = false;
      BlockCount used;
      for (const FreeMapEntry& e : table.entries) used += e.used_blocks;
      if (absl::Status s =
              put(level, i, BlockType::kFreeMapTable, std::as_bytes(std::span(table.entries)), used);
          !s.ok()) {
        return s;
      }
    }
  }
  return root_;
}

void FreeSpace::Install(absl::FunctionRef<void(Extent)> freed) {
  for (uint64_t i = 0; i < groups_.size(); ++i) {
    Group& group = groups_[i];
    if (!group.dirty()) continue;
    // The busy bits stay set here: `freed` decides when the blocks become allocatable.
    Bits gone;
    for (size_t w = 0; w < gone.size(); ++w) gone[w] = (*group.installed_base)[w] & ~(*group.base)[w];
    group.installed_base.reset();
    for (uint64_t from = 0; from < kGroupBits;) {
      const uint64_t start = FindBit(gone.data(), from, kGroupBits, true);
      if (start == kGroupBits) break;
      const uint64_t end = FindBit(gone.data(), start, kGroupBits, false);
      freed({FirstBlockOf(i) + BlockCount(start), BlockCount(end - start)});
      from = end;
    }
  }
}

absl::Status FreeSpace::CheckGroup(uint64_t index) const {
  const Group& group = groups_[index];
  const auto broken = [&](int invariant, const char* what) {
    return absl::InternalError(
        absl::StrCat("free space, invariant ", invariant, ": group ", index, ": ", what));
  };
  uint64_t busy = 0;
  for (size_t w = 0; w < group.busy->size(); ++w) {
    const uint64_t word = (*group.busy)[w];
    busy += std::popcount(word);
    if (((*group.base)[w] & ~word) != 0) return broken(1, "a block in base is allocatable");
    if (group.dirty() && ((*group.installed_base)[w] & ~word) != 0) {
      return broken(2, "a block of the last durable checkpoint is allocatable");
    }
  }
  if (busy != group.busy_count) return broken(5, "the count of busy blocks is wrong");
  if (FindBit(group.busy->data(), BitsBelow(prepared_end(), index), kGroupBits, true) != kGroupBits) {
    return broken(3, "a block that is not prepared is in use");
  }
  const uint64_t limit = BitsBelow(usable_end(), index);
  // A run belongs to the chunk in which it begins, even if the run ends in a later chunk.
  for (uint64_t at = 0; at < limit;) {
    const uint64_t start = FindBit(group.busy->data(), at, limit, false);
    at = FindBit(group.busy->data(), start, limit, true);
    if (start < limit && group.longest[start / kChunkBits] < at - start) {
      return broken(4, "a free run is longer than its chunk's bound");
    }
  }
  return absl::OkStatus();
}

absl::Status FreeSpace::CheckInvariants() const {
  uint64_t busy = 0;
  bool all_loaded = true;
  for (uint64_t index = 0; index < groups_.size(); ++index) {
    if (!groups_[index].busy) {
      all_loaded = false;
      continue;
    }
    RETURN_IF_ERROR(CheckGroup(index));
    busy += groups_[index].busy_count;
  }
  if (all_loaded && BlockCount(busy) != busy_blocks_ + withdrawn_busy_blocks_) {
    return absl::InternalError(absl::StrCat("free space, invariant 5: ", busy, " blocks are busy, ",
                                            (busy_blocks_ + withdrawn_busy_blocks_).value(), " are counted"));
  }
  return absl::OkStatus();
}

}  // namespace untorn
