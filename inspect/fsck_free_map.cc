#include "inspect/fsck_free_map.h"

#include <algorithm>

#include "inspect/describe.h"

namespace untorn::internal {

void FreeMapCheck::Bitmap(const FreeMapNode& node, const BlockSet::Words& bits, uint64_t used) {
  progress_.Add(1);
  used_ += used;
  Compare(node.first_group, bits);
}

void FreeMapCheck::Null(const FreeMapNode& node) {
  // Of the groups below, only the fixed areas at the start of the store are in use.
  const uint64_t first = node.first_group * kGroupBlocks;
  if (sb_.geometry.data_start > first)
    used_ += std::min(sb_.geometry.data_start - first, (node.last_group - node.first_group) * kGroupBlocks);
  base_.ForEachGroup(node.first_group, node.last_group, [&](uint64_t group) {
    Compare(group, BlockSet::Below(group, sb_.geometry.data_start));
  });
}

void FreeMapCheck::Damaged(const FreeMapNode& node, const absl::Status& why) {
  progress_.Add(1);
  damaged_ = true;
  const uint64_t first = node.first_group * kGroupBlocks;
  const uint64_t end = std::min(node.last_group * kGroupBlocks, sb_.geometry.total_blocks);
  findings_.Add(FindingCode::kFreeMapDamaged, Message(why), "; which of ", DescribeRun({first, end - first}),
                " are free is unknown");
}

void FreeMapCheck::WrongCount(const FreeMapNode& node, uint64_t said, uint64_t used) {
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
  const BlockSet::Words in_use = base_.Group(group);
  BlockSet::Difference(group, in_use, on_disk, [&](Extent run) { marked_free_.Add(run); });
  if (leaks_) BlockSet::Difference(group, on_disk, in_use, [&](Extent run) { leaked_.Add(run); });
}

}  // namespace untorn::internal
