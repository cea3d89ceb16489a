#include "inspect/rebuild.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "extent/free_map_format.h"
#include "inspect/describe.h"

namespace untorn::internal {
namespace {

// Writes nodes in runs, to blocks that the old store does not refer to.
class NodeWriter : public TreeNodeSink {
 public:
  // Nodes may lie before `end`.
  NodeWriter(Device& device, const BlockSet& untouchable, BlockNumber end)
      : device_(device), untouchable_(untouchable), end_(end) {}

  absl::StatusOr<BlockNumber> AllocateNode() override {
    if (taken_ == run_.count) {
      RETURN_IF_ERROR(Flush());
      const std::optional<Extent> run = NextRun();
      if (!run) {
        return absl::ResourceExhaustedError(
            absl::StrCat("no room for the repaired tree beside the old one: after ", Word(written_.count()),
                         " nodes no block is free; the store is as it was"));
      }
      run_ = *run;
    }
    const BlockNumber node = run_.start + taken_;
    ++taken_;
    return node;
  }

  absl::Status WriteNode(std::shared_ptr<const TreeNode> node) override {
    const BlockNumber block = node->pointer().block;
    std::copy(node->block().begin(), node->block().end(), bytes_.data() + Bytes(block - run_.start));
    written_.Add({block, 1});
    return absl::OkStatus();
  }

  // Writes the nodes of the run that are still in memory.
  absl::Status Flush() {
    if (taken_ == 0) return absl::OkStatus();
    absl::Status s = WriteBlocking(device_, ByteOffset(run_.start), bytes_.data(), Bytes(taken_));
    run_ = {};
    taken_ = 0;
    return s;
  }

  const BlockSet& written() const { return written_; }

 private:
  static constexpr BlockCount kRunBlocks = 64;

  std::optional<Extent> NextRun() {
    std::optional<Extent> found;
    while (!found && next_ < end_) {
      const Extent window{next_, std::min(end_ - next_, kGroupBlocks)};
      untouchable_.ForEachRun(window, false, [&](Extent run) {
        if (!found) found = Extent{run.start, std::min(run.count, kRunBlocks)};
      });
      next_ = found ? found->end() : window.end();
    }
    return found;
  }

  Device& device_;
  const BlockSet& untouchable_;
  BlockNumber next_{0};
  const BlockNumber end_;
  Extent run_;
  BlockCount taken_;
  AlignedBuffer bytes_{Bytes(kRunBlocks)};
  BlockSet written_;
};

// Writes the free-space map of `used` to the slots that the old map does not use. `used` includes the fixed
// areas. Returns the pointer to the map's root.
absl::StatusOr<BlockPointer> WriteMap(Device& device, const Superblock& sb, Generation generation,
                                      const Salvage& salvage, const BlockSet& used) {
  const FreeMapShape shape = FreeMapShape::ForGroups(sb.geometry.groups());
  AlignedBuffer block(kBlockBytes);
  const auto write = [&](int level, uint64_t index, BlockType type,
                         std::span<const std::byte> payload) -> absl::StatusOr<BlockPointer> {
    const BlockNumber slot0 = MapSlot(level, index, 0);
    const auto in_use = salvage.map_slots().find({level, index});
    const bool first_in_use = in_use != salvage.map_slots().end() && in_use->second == slot0;
    const BlockPointer node = EncodeFreeMapNode(type, sb.uuid, MapSlot(level, index, first_in_use ? 1 : 0),
                                                generation, payload, block.span());
    RETURN_IF_ERROR(WriteBlocking(device, ByteOffset(node.block), block.data(), kBlockBytes));
    return node;
  };
  // The entries of one level, for the nodes with blocks in use beyond the fixed areas. Other nodes stay null
  // pointers.
  absl::btree_map<uint64_t, FreeMapEntry> level;
  absl::Status failed;
  used.ForEachGroup(0, shape.nodes[0], [&](uint64_t group) {
    const BlockSet::Words bits = used.Group(group);
    if (!failed.ok() || bits == BlockSet::Fixed(sb.geometry, group)) return;
    FreeMapEntry& entry = level[group];
    uint64_t used_bits = 0;
    for (uint64_t word : bits) used_bits += std::popcount(word);
    entry.used_blocks = BlockCount(used_bits);
    absl::StatusOr<BlockPointer> node =
        write(0, group, BlockType::kFreeMapBitmap, std::as_bytes(std::span(bits)));
    if (!node.ok()) failed = node.status();
    if (node.ok()) entry.block = node->block, entry.checksum = node->checksum;
  });
  RETURN_IF_ERROR(failed);
  for (int l = 1; l <= shape.root_level(); ++l) {
    absl::btree_map<uint64_t, FreeMapEntry> above;
    for (auto it = level.begin(); it != level.end();) {
      const uint64_t index = it->first / kTableFanout;
      std::vector<FreeMapEntry> entries(kTableFanout);
      FreeMapEntry& entry = above[index];
      for (; it != level.end() && it->first / kTableFanout == index; ++it) {
        entries[it->first % kTableFanout] = it->second;
        entry.used_blocks += it->second.used_blocks;
      }
      ASSIGN_OR_RETURN(const BlockPointer node,
                       write(l, index, BlockType::kFreeMapTable, std::as_bytes(std::span(entries))));
      entry.block = node.block;
      entry.checksum = node.checksum;
    }
    level = std::move(above);
  }
  return level.empty() ? BlockPointer{} : level.begin()->second.pointer();
}

// Numbers of a store only rise. The repaired store needs a number after `highest`, and its next opening
// another one.
absl::Status CheckNumber(const char* field, uint64_t highest) {
  if (highest < kNumberMax - 1) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("this cannot be repaired: the highest ", field, " in the store is ", highest,
                   ", and a repair needs one below ", kNumberMax - 1,
                   "; open the store read-only and copy the objects out, or restore a backup"));
}

}  // namespace

absl::Status Rebuild(Device& device, const Superblock& superblock, int current, Generation generation_min,
                     Salvage& salvage) {
  const Geometry& g = superblock.geometry;
  const LogTail& tail = salvage.tail();
  Superblock next = superblock;
  const Generation generation =
      std::max({superblock.generation, generation_min, salvage.newest().superblock_generation});
  const LogEpoch epoch = std::max(superblock.epoch, salvage.newest().epoch);
  RETURN_IF_ERROR(CheckNumber("superblock generation", generation.value()));
  RETURN_IF_ERROR(CheckNumber("epoch", epoch.value()));
  next.generation = generation + 1;
  next.epoch = epoch + 1;
  next.checkpoint_lsn = next.durable_lsn = tail.lsn;
  next.checkpoint_position = tail.position;
  next.checkpoint_checksum = tail.checksum;
  next.lanes.clear();
  next.prepared_blocks = std::max(tail.prepared_blocks, BlocksBefore(salvage.used_end()));
  next.next_object = salvage.next_object();

  NodeWriter nodes(device, salvage.untouchable(), BlockAfterFirst(next.prepared_blocks));
  TreePacker packer(next.uuid, next.generation, nodes);
  TreeLeafWriter leaf(packer);
  RETURN_IF_ERROR(salvage.WriteEntries(leaf));
  ASSIGN_OR_RETURN(const TreePacker::Root root, packer.Finish());
  RETURN_IF_ERROR(nodes.Flush());
  next.tree = {root.pointer, packer.written(), packer.written_leaf_bytes(), root.levels};

  BlockSet used;
  const auto add = [&](Extent run) { used.Add(run); };
  g.ForEachFixedArea(next.prepared_blocks, add);
  for (const BlockSet* part : {&salvage.used(), &nodes.written()}) part->ForEachRun(add);
  next.used_blocks = used.count();
  ASSIGN_OR_RETURN(next.free_map, WriteMap(device, superblock, next.generation, salvage, used));
  RETURN_IF_ERROR(FlushBlocking(device));

  // A superblock that no reader would accept must not replace one that can be read.
  AlignedBuffer block(kBlockBytes);
  EncodeSuperblock(next, 0, block.span());
  if (absl::StatusOr<Superblock> sound = DecodeSuperblock(block.span(), 0); !sound.ok()) {
    return absl::InternalError(
        absl::StrCat("the repaired superblock would not be sound, and was not written: ",
                     std::string(sound.status().message())));
  }
  RETURN_IF_ERROR(WriteSuperblockSlot(device, next, 1 - current));
  RETURN_IF_ERROR(WriteSuperblockSlot(device, next, current));
  if (tail.damage.ok()) return absl::OkStatus();
  // No record in the log counts any more. But the next reader of the log would meet the damage again.
  RETURN_IF_ERROR(WriteZerosBlocking(device, {ByteOffset(g.log.start), Bytes(g.log.count)}));
  return FlushBlocking(device);
}

}  // namespace untorn::internal
