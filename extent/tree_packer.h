// Writes tree nodes from entries in key order. Merges use the packer, and so does whatever makes a tree from
// scratch.
//
// Invariants
//  1. The packer emits children before parents, each node exactly once, with the block number that the sink
//     gave.
//  2. Where Settle() is obeyed, nodes other than the root and the last of each level are at least one third
//     full. An underfull pending node shares evenly with the full one before it.
//  3. What follows a kept node begins, for its parent, where the kept node ended. So the key range of an
//     unread node, which may be damaged, never grows over keys of another node.
//  4. The packer holds two pending nodes per level.
//
// Threading: the packer has none of its own. The sink does the I/O, and may block.
#ifndef UNTORN_EXTENT_TREE_PACKER_H_
#define UNTORN_EXTENT_TREE_PACKER_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/check.h"
#include "extent/node_entry.h"
#include "extent/tree_keys.h"
#include "extent/tree_node.h"

namespace untorn {

// Takes new nodes.
class TreeNodeSink {
 public:
  virtual ~TreeNodeSink() = default;
  // Returns a device block for a new node.
  virtual absl::StatusOr<BlockNumber> AllocateNode() = 0;
  // Takes a new node, for the block that its pointer names.
  virtual absl::Status WriteNode(std::shared_ptr<const TreeNode> node) = 0;
};

inline constexpr size_t kUnderfullBytes = kBlockBytes / 3;

// Fills the nodes of the new tree, each level from left to right.
class TreePacker {
 public:
  // New nodes carry `uuid` and `generation`. `uuid` and `sink` must outlive the packer.
  TreePacker(const Uuid& uuid, Generation generation, TreeNodeSink& sink)
      : uuid_(uuid), generation_(generation), sink_(sink) {}

  // Adds the next entry of a leaf. Returns kDataLoss if the entry is not behind all that came before.
  absl::Status AddEntry(const NodeEntry& entry);

  // Adds the entries of a leaf behind `first` up to the one at `last`, as bytes. The entry that was added last
  // ends like the one at `first`.
  absl::Status AddRun(const TreeNode& leaf, NodeReader first, const NodeReader& last);

  // Writes the pending nodes of `level` and below, so that a kept subtree of that level can follow. Returns
  // false if a node would stay underfull and `underfull` does not allow that. The subtree has to be taken
  // apart instead.
  absl::StatusOr<bool> Settle(int level, bool underfull);
  // Must follow Settle(level). Adds a node of that level that exists already, for the keys from `key` to
  // before `limit`.
  absl::Status AddKept(int level, std::string_view key, std::optional<std::string_view> limit,
                       BlockPointer pointer);
  // Returns where the last kept node ended, if nothing follows that node yet.
  const std::optional<std::string>& fence() const { return fence_; }

  struct Root {
    BlockPointer pointer;
    bool kept = false;  // by AddKept(): the root may have a single child
    int levels = 0;
  };
  // Writes all that is pending. Returns a null pointer if there were no entries.
  absl::StatusOr<Root> Finish();

  BlockCount written() const { return written_; }
  uint64_t written_leaf_bytes() const { return written_leaf_bytes_; }

 private:
  // `full` is held back until the fate of `pending` is known. `full` is empty unless `pending` has entries.
  struct Level {
    explicit Level(int level) : full(level), pending(level) {}
    BlockPointer sole_child() const {
      NodeReader first = pending.reader();
      UNTORN_CHECK(first.Next(), "an empty node has no child");
      return first.entry().child();
    }
    TreeNodeBuilder full, pending;
    std::string full_separator, pending_separator;  // where each begins, for its parent
    bool last_is_kept = false;
  };
  absl::Status CheckOrder(std::string_view key);
  // Notes the last key that the entry covers.
  void NoteLast(const NodeEntry& entry);
  absl::Status Append(int level, const NodeEntry& entry, std::string_view separator);
  Level& LevelAt(int level);
  // Must be called when the pending node of the level is full. Makes another one the pending node.
  absl::Status NextNode(Level& at);
  absl::Status WriteLevel(int level);
  absl::Status WriteBuilder(int level, TreeNodeBuilder& builder, const std::string& separator);
  absl::StatusOr<BlockPointer> Write(TreeNodeBuilder& builder);
  static void ShareEvenly(Level& at);

  const Uuid& uuid_;
  const Generation generation_;
  TreeNodeSink& sink_;
  std::deque<Level> levels_;  // references stay valid while a level is added
  BlockCount written_;
  uint64_t written_leaf_bytes_ = 0;
  std::string last_key_;  // the last key that is covered so far
  std::optional<std::string> fence_;
};

// Adds the entries of leaves to a packer, and makes one entry of mappings that are contiguous.
class TreeLeafWriter {
 public:
  explicit TreeLeafWriter(TreePacker& packer) : packer_(packer) {}

  // Mappings must come in the order of object and logical block.
  absl::Status AddMapping(ObjectId object, const Mapping& mapping);
  absl::Status AddPoint(std::string_view key, std::string_view value);
  // Adds the entries of a leaf from `first` to `last`, most of them as bytes. The last one is not joined with
  // what follows.
  absl::Status AddRun(const TreeNode& leaf, const NodeReader& first, const NodeReader& last);
  // Hands the packer what is held back. Must be called before the packer is used directly.
  absl::Status Flush();

 private:
  // Adds a mapping that one entry can say.
  absl::Status AddEntry(ObjectId object, const Mapping& mapping);

  TreePacker& packer_;
  MappingEntry held_;                     // kNone: nothing
  std::vector<uint64_t> held_checksums_;  // of held_
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_PACKER_H_
