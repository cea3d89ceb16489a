#include "inspect/walk_free_map.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "extent/free_map_format.h"
#include "extent/log_reader.h"

namespace untorn::internal {
namespace {

class FreeMapWalker {
 public:
  FreeMapWalker(Device& device, const Superblock& superblock, FreeMapVisitor& visitor)
      : device_(device),
        superblock_(superblock),
        shape_(FreeMapShape::ForGroups(superblock.geometry.groups())),
        visitor_(visitor) {}

  absl::Status Run() {
    Walk(shape_.root_level(), 0, superblock_.free_map);
    return failed_;
  }

 private:
  // Returns how many blocks the node says are in use below it, or nothing for a damaged node.
  std::optional<BlockCount> Walk(int level, uint64_t index, BlockPointer pointer) {
    if (!failed_.ok()) return std::nullopt;
    FreeMapNode node{level, index, pointer};
    const uint64_t span = GroupsBelow(level);
    node.first_group = index * span;
    node.last_group = std::min(node.first_group + span, shape_.nodes[0]);
    if (!pointer) {
      visitor_.Null(node);
      return BlockCount(0);
    }
    if (absl::Status s = Load(node); !s.ok()) {
      if (failed_.ok()) visitor_.Damaged(node, s);
      return std::nullopt;
    }
    return level == 0 ? Bitmap(node) : Table(node);
  }

  BlockCount Bitmap(const FreeMapNode& node) {
    BlockSet::Words bits;
    std::memcpy(bits.data(), block_.data() + kHeaderBytes, sizeof(bits));
    uint64_t used = 0;
    for (uint64_t word : bits) used += std::popcount(word);
    visitor_.Bitmap(node, bits, BlockCount(used));
    return BlockCount(used);
  }

  BlockCount Table(const FreeMapNode& node) {
    // The children are read into block_, so the entries are copied out of it.
    const std::vector<FreeMapEntry> entries = TableEntries(block_.span());
    BlockCount used;
    for (const FreeMapEntry& e : entries) used += e.used_blocks;
    visitor_.Table(node, used);
    for (uint64_t i = 0; i < kTableFanout; ++i) {
      const uint64_t child = node.index * kTableFanout + i;
      if (child >= shape_.nodes[node.level - 1]) break;
      const std::optional<BlockCount> below = Walk(node.level - 1, child, entries[i].pointer());
      if (below && *below != entries[i].used_blocks) {
        visitor_.WrongCount({node.level - 1, child, entries[i].pointer(), 0, 0}, entries[i].used_blocks,
                            *below);
      }
    }
    return used;
  }

  absl::Status Load(const FreeMapNode& node) {
    // A table was verified to point to slots of its children. Only the superblock's pointer can still lead
    // elsewhere.
    if (!IsMapSlot(node.level, node.index, node.pointer.block)) {
      return absl::DataLossError(absl::StrCat("the pointer to the root of the free-space map leads to block ",
                                              node.pointer.block.value(), ", which is none of its places"));
    }
    absl::Status read = ReadOrMissing(device_, {node.pointer.block, 1}, block_.data());
    if (!read.ok() && !absl::IsDataLoss(read)) failed_ = read;
    RETURN_IF_ERROR(read);
    return VerifyFreeMapNode(block_.span(), superblock_.uuid, shape_, node.level, node.index, node.pointer);
  }

  Device& device_;
  const Superblock& superblock_;
  const FreeMapShape shape_;
  FreeMapVisitor& visitor_;
  AlignedBuffer block_{kBlockBytes};
  absl::Status failed_;  // the device's failure, which ends the walk
};

}  // namespace

absl::Status WalkFreeMap(Device& device, const Superblock& superblock, FreeMapVisitor& visitor) {
  return FreeMapWalker(device, superblock, visitor).Run();
}

}  // namespace untorn::internal
