#include "inspect/fsck_free_map.h"

#include <algorithm>

#include "inspect/describe.h"

namespace untorn::internal {
namespace {

// The blocks that the node describes, and those behind the store's end that its last group has.
Extent GroupsOf(const FreeMapNode& node) {
  return {FirstBlockOf(node.first_group), kGroupBlocks * (node.last_group - node.first_group)};
}

}  // namespace

void FreeMapCheck::Bitmap(const FreeMapNode& node, const BlockSet::Words& bits, BlockCount used) {
  progress_.Add(1);
  used_ += used;
  Compare(node.first_group, bits);
}

void FreeMapCheck::Null(const FreeMapNode& node) {
  // Of the groups below, only the fixed areas are in use.
  const auto fixed_before = [&](BlockNumber end) {
    return sb_.geometry.FixedBlocks(std::min(BlocksBefore(end), sb_.prepared_blocks));
  };
  const Extent groups = GroupsOf(node);
  used_ += fixed_before(groups.end()) - fixed_before(groups.start);
  base_.ForEachGroup(node.first_group, node.last_group,
                     [&](uint64_t group) { Compare(group, BlockSet::Fixed(sb_.geometry, group)); });
}

void FreeMapCheck::Damaged(const FreeMapNode& node, const absl::Status& why) {
  progress_.Add(1);
  damaged_ = true;
  Extent groups = GroupsOf(node);
  groups.count = std::min(groups.count, sb_.geometry.end() - groups.start);
  findings_.Add(FindingCode::kFreeMapDamaged, Message(why), "; which of ", DescribeRun(groups),
                " are free is unknown");
}

void FreeMapCheck::WrongCount(const FreeMapNode& node, BlockCount said, BlockCount used) {
  findings_.Add(FindingCode::kCountMismatch, "free-space map: the table above block ", node.pointer.block,
                " says that ", said, " blocks are in use below it, but there ", used, " are");
}

void FreeMapCheck::Finish() {
  marked_free_.Flush();
  leaked_.Flush();
  if (!damaged_ && used_ != sb_.used_blocks) {
    findings_.Add(FindingCode::kCountMismatch, "the superblock says that ", sb_.used_blocks,
                  " blocks are in use, the free-space map has ", used_);
  }
}

void FreeMapCheck::Compare(uint64_t group, const BlockSet::Words& on_disk) {
  BlockSet::Words in_use = BlockSet::Fixed(sb_.geometry, group);
  const BlockSet::Words base = base_.Group(group);
  for (size_t i = 0; i < in_use.size(); ++i) in_use[i] |= base[i];
  BlockSet::Difference(group, in_use, on_disk, [&](Extent run) { marked_free_.Add(run); });
  if (leaks_) BlockSet::Difference(group, on_disk, in_use, [&](Extent run) { leaked_.Add(run); });
}

}  // namespace untorn::internal
