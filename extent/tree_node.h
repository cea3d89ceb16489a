// One node of the mapping tree: a 4 KiB block of variable-length entries in key order.
//
// OFFSET  SIZE  DESCRIPTION
//      0    64  BlockHeader, type kTreeNode; by_type[0]: level (0: leaf), by_type[2..3]: count of entries
//     64   2*n  offset of each entry from the block's beginning, in key order
//      …     …  free
//      …     …  entries, growing down from the block's end: u16 key length, u16 value length, key, value
//
// Keys compare as byte strings (memcmp, the shorter first). A leaf's values belong to the key space; an
// internal node's values are BlockPointers to children, whose keys are not below the entry's key, and below the
// following entry's.
//
// Invariants, checked by VerifyNode on every read and before every write: keys strictly ascending; entries
// inside the block and not overlapping the offsets; at least one entry, except in an empty root leaf; level
// <= 15; internal values 16 bytes with a non-zero block. The header's payload is the whole rest of the block.
//
// Threading: a node is immutable once built, but for what cursors note in it, which their cache's mutex guards.
#ifndef UNTORN_EXTENT_TREE_NODE_H_
#define UNTORN_EXTENT_TREE_NODE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "device/device.h"
#include "extent/block_header.h"
#include "extent/types.h"

namespace untorn {

inline constexpr int kTreeLevelMax = 15;

class TreeNode {
 public:
  // Verifies `block` (kBlockBytes, read from `pointer.block`) against the pointer and the invariants, and
  // takes a copy.
  static absl::StatusOr<std::shared_ptr<const TreeNode>> Parse(std::span<const std::byte> block,
                                                               const Uuid& uuid, BlockPointer pointer);

  int level() const { return level_; }
  int count() const { return count_; }
  // A copy of a node that a TreeNodeBuilder has sealed, and so verified.
  static std::shared_ptr<const TreeNode> OfSealed(std::span<const std::byte> block, BlockPointer pointer);

  // Of the entries and their offsets.
  uint64_t entry_bytes() const { return entry_bytes_; }
  std::string_view key(int i) const;
  std::string_view value(int i) const;
  BlockPointer child(int i) const;  // internal nodes
  BlockPointer pointer() const { return pointer_; }
  // Entry `i` of both.
  std::pair<std::string_view, std::string_view> entry(int i) const;
  // Index of the last entry whose key is <= `key`; -1 if all are greater.
  int FloorIndex(std::string_view key) const;

  // A note that CheckChild() has found this node to be what that entry of that node says, and to end before the
  // following entry of the same node. For cursors alone.
  struct CheckedUnder {
    BlockPointer parent;
    int index = -1;
    bool operator==(const CheckedUnder&) const = default;
  };
  CheckedUnder checked_under() const { return checked_under_; }
  void NoteCheckedUnder(const CheckedUnder& under) const { checked_under_ = under; }

 private:
  friend class TreeNodeBuilder;
  // Of the key of a mapping, by its numbers.
  int FloorIndexOfMapping(std::string_view key) const;
  TreeNode() {}  // leaves the bytes as they are
  alignas(8) std::byte bytes_[kBlockBytes];
  int level_ = 0;
  int count_ = 0;
  uint64_t entry_bytes_ = 0;
  mutable CheckedUnder checked_under_;
  BlockPointer pointer_;
};

// The value of an internal node's entry, and back (`value` of 16 bytes).
std::string ChildValue(BlockPointer pointer);
BlockPointer ParseChildValue(std::string_view value);

// Structure alone (the header has been verified).
absl::Status VerifyNode(std::span<const std::byte> block);

// Builds one node, in place, from entries appended in key order.
class TreeNodeBuilder {
 public:
  explicit TreeNodeBuilder(int level) : level_(level), block_(std::make_unique<Block>()) {}
  bool empty() const { return count_ == 0; }
  int level() const { return level_; }
  int count() const { return static_cast<int>(count_); }
  // Of kBlockBytes, header included.
  size_t used_bytes() const { return kHeaderBytes + entry_bytes(); }
  // As TreeNode::entry_bytes.
  size_t entry_bytes() const { return sizeof(uint16_t) * count_ + (kBlockBytes - entries_start_); }
  bool Fits(std::string_view key, std::string_view value) const;
  void Add(std::string_view key, std::string_view value);  // CHECKs Fits and order
  // Adds entries [first, last) of a node of the same level, or as many of them as fit, as bytes. CHECKs order. Returns
  // how many.
  int AddRun(const TreeNode& from, int first, int last);
  // Views of an entry: valid until the builder is emptied.
  std::string_view key(int i) const;
  std::string_view value(int i) const;

  // Seals the node for device block `address`. The builder keeps its bytes, in block(), until Clear().
  BlockPointer Seal(const Uuid& uuid, BlockNumber address, Generation generation);
  std::span<const std::byte> block() const { return block_->bytes; }
  void Clear();
  // Seals the node into `out` (kBlockBytes) and empties the builder.
  BlockPointer Finish(const Uuid& uuid, BlockNumber address, Generation generation, std::span<std::byte> out);
  // The entries so far; empties the builder.
  std::vector<std::pair<std::string, std::string>> Take();

 private:
  struct alignas(kBlockBytes) Block {
    std::array<std::byte, kBlockBytes> bytes;
  };
  int level_;
  size_t count_ = 0;
  size_t entries_start_ = kBlockBytes;  // where the last entry begins
  std::unique_ptr<Block> block_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_NODE_H_
