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
// Threading: a Node is immutable once built.
#ifndef UNTORN_EXTENT_TREE_NODE_H_
#define UNTORN_EXTENT_TREE_NODE_H_

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
  // Of the entries and their offsets.
  uint64_t entry_bytes() const;
  std::string_view key(int i) const;
  std::string_view value(int i) const;
  BlockPointer child(int i) const;  // internal nodes
  BlockPointer pointer() const { return pointer_; }
  // Index of the last entry whose key is <= `key`; -1 if all are greater.
  int FloorIndex(std::string_view key) const;

 private:
  TreeNode() = default;
  std::string_view Field(int i, bool want_value) const;
  alignas(8) std::byte bytes_[kBlockBytes];
  int level_ = 0;
  int count_ = 0;
  BlockPointer pointer_;
};

// The value of an internal node's entry, and back (`value` of 16 bytes).
std::string ChildValue(BlockPointer pointer);
BlockPointer ParseChildValue(std::string_view value);

// Structure alone (the header has been verified).
absl::Status VerifyNode(std::span<const std::byte> block);

// Builds one node from entries appended in key order.
class TreeNodeBuilder {
 public:
  explicit TreeNodeBuilder(int level) : level_(level) {}
  bool empty() const { return entries_.empty(); }
  int level() const { return level_; }
  int count() const { return static_cast<int>(entries_.size()); }
  size_t used_bytes() const { return used_bytes_; }  // of kBlockBytes, header included
  bool Fits(std::string_view key, std::string_view value) const;
  void Add(std::string_view key, std::string_view value);  // CHECKs Fits and order
  std::string_view first_key() const { return entries_.front().first; }
  // Writes the sealed node for device block `address` into `out` (kBlockBytes) and empties the builder.
  BlockPointer Finish(const Uuid& uuid, uint64_t address, uint64_t generation, std::span<std::byte> out);
  // As TreeNode::entry_bytes.
  uint64_t entry_bytes() const { return used_bytes_ - kHeaderBytes; }
  // The entries so far, for redistribution; empties the builder.
  std::vector<std::pair<std::string, std::string>> Take();

 private:
  int level_;
  size_t used_bytes_ = kHeaderBytes;
  std::vector<std::pair<std::string, std::string>> entries_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_NODE_H_
