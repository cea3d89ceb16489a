#include "inspect/walk_tree.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "extent/log_reader.h"
#include "extent/tree.h"
#include "inspect/block_set.h"

namespace untorn::internal {
namespace {

using Limit = std::optional<std::string_view>;

class TreeWalker {
 public:
  TreeWalker(Device& device, const Superblock& superblock, std::string_view from, std::string_view to,
             TreeVisitor& visitor)
      : device_(device), superblock_(superblock), from_(from), to_(to), visitor_(visitor) {}

  absl::Status Run() {
    Walk(superblock_.tree.root, nullptr, 0, "", std::nullopt);
    return failed_;
  }

 private:
  // The root has no parent.
  void Walk(BlockPointer pointer, const TreeNode* parent, int index, std::string_view first, Limit limit) {
    absl::StatusOr<std::shared_ptr<const TreeNode>> loaded = Load(pointer);
    if (loaded.ok() && parent != nullptr) {
      if (absl::Status s = CheckChild(*parent, index, limit, **loaded); !s.ok()) loaded = s;
    }
    if (!failed_.ok()) return;
    if (!loaded.ok()) return visitor_.Damaged(pointer, loaded.status(), first, limit);
    const TreeNode& node = **loaded;
    visitor_.Node(node);
    for (NodeReader at = node.reader(); at.Next();) {
      const NodeEntry& entry = at.entry();
      if (node.level() == 0) {
        if (const std::optional<LostEntries> lost = entry.lost()) {
          visitor_.Damaged({lost->node, 0},
                           absl::DataLossError("a checkpoint found this node of the tree damaged"),
                           lost->first, lost->limit.empty() ? Limit() : Limit(lost->limit));
        } else {
          visitor_.Entry(entry);
        }
        continue;
      }
      // A child whose keys all lie outside [from_, to_) is not read.
      NodeReader following = at;
      const std::optional<NodeKey> next_key =
          following.Next() ? std::optional(following.entry().key()) : std::nullopt;
      const Limit next = next_key ? Limit(*next_key) : limit;
      const NodeKey key = entry.key();
      if ((next && *next <= from_) || (!to_.empty() && CompareKeys(key, to_) >= 0)) continue;
      Walk(entry.child(), &node, at.index(), key, next);
      if (!failed_.ok()) return;
    }
  }

  absl::StatusOr<std::shared_ptr<const TreeNode>> Load(BlockPointer pointer) {
    if (!superblock_.geometry.InDataArea({pointer.block, 1})) {
      return absl::DataLossError(absl::StrCat("a pointer of the tree leads outside the data area, to block ",
                                              pointer.block.value()));
    }
    bool seen = false;
    visited_.Add({pointer.block, 1}, [&](Extent) { seen = true; });
    if (seen) {
      return absl::DataLossError(
          absl::StrCat("tree node at ", pointer.block.value(), ": two pointers lead to it"));
    }
    absl::Status read = ReadOrMissing(device_, {pointer.block, 1}, block_.data());
    if (!read.ok() && !absl::IsDataLoss(read)) failed_ = read;
    RETURN_IF_ERROR(read);
    return TreeNode::Parse(block_.span(), superblock_.uuid, pointer);
  }

  Device& device_;
  const Superblock& superblock_;
  const std::string_view from_, to_;
  TreeVisitor& visitor_;
  BlockSet visited_;
  AlignedBuffer block_{kBlockBytes};
  absl::Status failed_;  // the device's failure, which ends the walk
};

}  // namespace

absl::Status WalkTree(Device& device, const Superblock& superblock, std::string_view from,
                      std::string_view to, TreeVisitor& visitor) {
  if (!superblock.tree.root) return absl::OkStatus();
  return TreeWalker(device, superblock, from, to, visitor).Run();
}

}  // namespace untorn::internal
