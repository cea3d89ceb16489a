// Defines one node of the mapping tree: a 4 KiB block of variable-length entries in key order.
//
// OFFSET  SIZE  DESCRIPTION
//      0    64  BlockHeader, type kTreeNode; by_type[0]: level (0: leaf), by_type[2..3]: count of entries
//     64   2*n  offset of each entry from the block's beginning, in key order
//      …     …  free
//      …     …  entries, growing down from the block's end: u16 key length, u16 value length, key, value
//
// Keys compare as byte strings: memcmp, the shorter first. The values of a leaf belong to the key space. The
// values of an internal node are BlockPointers to children. The keys of a child are not below the key of the
// child's entry, and are below the key of the following entry.
//
// Invariants, which VerifyNode checks on every read and before every write
//  - Keys are strictly ascending.
//  - Entries lie inside the block and do not overlap the offsets.
//  - There is at least one entry, except in an empty root leaf. CheckChild() refuses an empty leaf elsewhere.
//  - The level is at most 15.
//  - Internal values have 16 bytes, and name a block that is not zero.
//  - The payload of the header is the whole rest of the block.
//
// Threading: a node does not change once it is built, except for what cursors note in the node. The mutex of
// the cursors' cache guards these notes.
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
  // Verifies `block` against the pointer and the invariants, and takes a copy. `block` has kBlockBytes and
  // was read from `pointer.block`.
  //  kDataLoss       the node is damaged, stale or misplaced
  //  kUnimplemented  the node is sound, but has another format version
  static absl::StatusOr<std::shared_ptr<const TreeNode>> Parse(std::span<const std::byte> block,
                                                               const Uuid& uuid, BlockPointer pointer);

  int level() const { return level_; }
  int count() const { return count_; }
  // Copies a node that a TreeNodeBuilder has sealed, and so verified.
  static std::shared_ptr<const TreeNode> OfSealed(std::span<const std::byte> block, BlockPointer pointer);

  // Counts the bytes of the entries and their offsets.
  uint64_t entry_bytes() const { return entry_bytes_; }
  std::string_view key(int i) const;
  std::string_view value(int i) const;
  BlockPointer child(int i) const;  // internal nodes
  BlockPointer pointer() const { return pointer_; }
  // Returns the key and the value of entry `i`.
  std::pair<std::string_view, std::string_view> entry(int i) const;
  // Returns the index of the last entry whose key is <= `key`. Returns -1 if all keys are greater.
  int FloorIndex(std::string_view key) const;

  // Notes that CheckChild() has found this node to be what entry `index` of `parent` says, and to end before
  // the following entry of `parent`. The note is for cursors alone.
  struct CheckedUnder {
    BlockPointer parent;
    int index = -1;
    bool operator==(const CheckedUnder&) const = default;
  };
  CheckedUnder checked_under() const { return checked_under_; }
  void NoteCheckedUnder(const CheckedUnder& under) const { checked_under_ = under; }

 private:
  friend class TreeNodeBuilder;
  // Does what FloorIndex() does, for the key of a mapping, by comparing numbers.
  int FloorIndexOfMapping(std::string_view key) const;
  TreeNode() {}  // leaves the bytes as they are
  alignas(8) std::byte bytes_[kBlockBytes];
  int level_ = 0;
  int count_ = 0;
  uint64_t entry_bytes_ = 0;
  mutable CheckedUnder checked_under_;
  BlockPointer pointer_;
};

// Encode and decode the value of an internal node's entry. `value` has 16 bytes.
std::string ChildValue(BlockPointer pointer);
BlockPointer ParseChildValue(std::string_view value);

// Verifies the structure alone. The caller has verified the header.
absl::Status VerifyNode(std::span<const std::byte> block);

// Builds one node, in place, from entries that are added in key order.
class TreeNodeBuilder {
 public:
  explicit TreeNodeBuilder(int level) : level_(level), block_(std::make_unique<Block>()) {}
  bool empty() const { return count_ == 0; }
  int level() const { return level_; }
  int count() const { return static_cast<int>(count_); }
  // Counts the used bytes of kBlockBytes, header included.
  size_t used_bytes() const { return kHeaderBytes + entry_bytes(); }
  // Counts as TreeNode::entry_bytes() does.
  size_t entry_bytes() const { return sizeof(uint16_t) * count_ + (kBlockBytes - entries_start_); }
  bool Fits(std::string_view key, std::string_view value) const;
  void Add(std::string_view key, std::string_view value);  // CHECKs Fits and order
  // Adds entries [first, last) of a node of the same level as bytes, or as many of them as fit. CHECKs the
  // order. Returns the number of entries that were added.
  int AddRun(const TreeNode& from, int first, int last);
  // Both return views of an entry, which are valid until the builder is emptied.
  std::string_view key(int i) const;
  std::string_view value(int i) const;

  // Seals the node for device block `address`. The bytes of the node stay in block() until Clear().
  BlockPointer Seal(const Uuid& uuid, BlockNumber address, Generation generation);
  std::span<const std::byte> block() const { return block_->bytes; }
  void Clear();
  // Seals the node into `out` (kBlockBytes) and empties the builder.
  BlockPointer Finish(const Uuid& uuid, BlockNumber address, Generation generation, std::span<std::byte> out);
  // Returns the entries so far, and empties the builder.
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
