// A walk over the mapping tree that survives any damage.
//
// Invariants
//  1. The walk believes nothing that it reads before it has verified it.
//  2. The walk ends: it reads no node twice, and every step goes one level down.
//  3. The walk hands damage to the visitor, with the keys that it covers, and goes on with the rest.
#ifndef UNTORN_INSPECT_WALK_TREE_H_
#define UNTORN_INSPECT_WALK_TREE_H_

#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "device/device.h"
#include "extent/superblock.h"
#include "extent/tree_node.h"

namespace untorn::internal {

class TreeVisitor {
 public:
  virtual ~TreeVisitor() = default;
  // The walk has read a sound node. Its entries and children follow.
  virtual void Node(const TreeNode& node) = 0;
  // `pointer` leads to a node that cannot be used. Such a node would have held the keys of [first, limit).
  virtual void Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
                       std::optional<std::string_view> limit) = 0;
  // Hands on an entry of a leaf. Its views are valid during the call.
  virtual void Entry(const NodeEntry& entry) = 0;
};

// Visits the subtrees that may hold keys of [from, to), in key order. An empty `to` stands for the end. The
// function fails only if the device fails. A block that cannot be read while others can is damage.
absl::Status WalkTree(Device& device, const Superblock& superblock, std::string_view from,
                      std::string_view to, TreeVisitor& visitor);

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_WALK_TREE_H_
