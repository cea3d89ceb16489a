// Writing tree nodes from entries in key order: what merges, and what a tree made from scratch, have in common.
//
// Invariants
//  1. Nodes are emitted children before parents, each exactly once, with the block number the sink gave.
//  2. Nodes other than the root and the last of each level are at least one third full, where Settle() is obeyed: an
//     underfull pending node shares evenly with the full one before it.
//  3. What follows a kept node begins, for its parent, where the kept node ended: so the range of keys of a node that
//     is not read, and may be damaged, never grows over keys that were another's.
//  4. Memory: two pending nodes per level.
//
// Threading: none of its own; the sink may block (it does the I/O).
#ifndef UNTORN_EXTENT_TREE_PACKER_H_
#define UNTORN_EXTENT_TREE_PACKER_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "extent/tree_keys.h"
#include "extent/tree_node.h"

namespace untorn {

// Where new nodes go.
class TreeNodeSink {
 public:
  virtual ~TreeNodeSink() = default;
  // A device block for a new node.
  virtual absl::StatusOr<BlockNumber> AllocateNode() = 0;
  // Takes a copy of a sealed node (kBlockBytes) for `node.block`: the buffer is used again.
  virtual absl::Status WriteNode(BlockPointer node, std::span<const std::byte> block) = 0;
};

inline constexpr size_t kUnderfullBytes = kBlockBytes / 3;

// Fills the nodes of the new tree, each level from left to right.
class TreePacker {
 public:
  // New nodes carry `uuid` and `generation`. Both references must outlive it.
  TreePacker(const Uuid& uuid, Generation generation, TreeNodeSink& sink)
      : uuid_(uuid), generation_(generation), sink_(sink) {}

  // The next entry of a leaf. kDataLoss: its key is not above the one before.
  absl::Status AddEntry(std::string_view key, std::string_view value);

  // The same of entries [first, last) of a leaf, as bytes.
  absl::Status AddRun(const TreeNode& leaf, int first, int last);

  // Writes the pending nodes of `level` and below, so that a kept subtree of that level can follow. False if
  // one of them would stay underfull, and must not: the subtree has to be taken apart instead.
  absl::StatusOr<bool> Settle(int level, bool underfull);
  // After Settle(level): a node of that level that is there already, for the keys from `key` to before `limit`.
  absl::Status AddKept(int level, std::string_view key, std::optional<std::string_view> limit,
                       BlockPointer pointer);
  // Where the kept node ended that was added last, if nothing follows it yet.
  const std::optional<std::string>& fence() const { return fence_; }

  struct Root {
    BlockPointer pointer;
    bool kept = false;  // by AddKept: it may have a single child
    int levels = 0;
  };
  // Writes all that is pending. A null pointer: there were no entries.
  absl::StatusOr<Root> Finish();

  BlockCount written() const { return written_; }
  uint64_t written_leaf_bytes() const { return written_leaf_bytes_; }

 private:
  // `full` is held back until the fate of `pending` is known; it is empty unless `pending` has entries.
  struct Level {
    explicit Level(int level) : full(level), pending(level) {}
    BlockPointer sole_child() const { return ParseChildValue(pending.value(0)); }
    TreeNodeBuilder full, pending;
    std::string full_separator, pending_separator;  // where each begins, for its parent
    bool last_is_kept = false;
  };
  absl::Status CheckOrder(std::string_view key);
  absl::Status Append(int level, std::string_view key, std::string_view value, std::string_view separator);
  Level& LevelAt(int level);
  // The pending node of the level is full: another one.
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
  std::string last_key_;
  std::optional<std::string> fence_;
};

// Appends the entries of leaves to a packer, joining mappings that are contiguous.
class TreeLeafWriter {
 public:
  explicit TreeLeafWriter(TreePacker& packer) : packer_(packer) {}

  // In order of object and logical block.
  absl::Status AddMapping(ObjectId object, const Mapping& mapping);
  absl::Status AddPoint(std::string_view key, std::string_view value);
  // The same of entries [first, last) of a leaf. None of them continues the one before it, nor what was added before.
  absl::Status AddRun(const TreeNode& leaf, int first, int last);
  // Whether the mapping would be joined to what was added last.
  bool Continues(ObjectId object, const Mapping& next) const;
  // Hands on what is held back for joining: before the packer is used directly.
  absl::Status Flush();

 private:
  // One that an entry can say.
  absl::Status AddEntry(ObjectId object, const Mapping& mapping);

  TreePacker& packer_;
  MappingEntry held_;  // kNone: nothing
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_PACKER_H_
