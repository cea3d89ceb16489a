// Defines one node of the mapping tree: a 4 KiB block of entries in key order.
//
// OFFSET  SIZE  DESCRIPTION
//      0    64  BlockHeader, type kTreeNode; by_type[0]: level (0: leaf), by_type[2..3]: count of entries;
//               the payload is the entries
//     64     …  entries, one behind the other (extent/node_entry.h)
//      …     …  zeros
//
// Keys compare as byte strings: memcmp, the shorter first. The keys of a child are not below the key of the
// child's entry, and are below the key of the following entry.
//
// Invariants, which VerifyNode checks on every read and before every write
//  - Keys are well-formed and strictly ascending. No mapping begins before the end of the one before it.
//  - The values of a leaf are well-formed for their key space. What is lost ends before the following key.
//  - A child is not block 0.
//  - There is at least one entry, except in an empty root leaf. CheckChild() refuses an empty leaf elsewhere.
//  - The level is at most 15.
//
// Threading: a node does not change once it is built, except for what cursors note in the node. The mutex of
// the cursors' cache guards these notes.
#ifndef UNTORN_EXTENT_TREE_NODE_H_
#define UNTORN_EXTENT_TREE_NODE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "device/device.h"
#include "extent/block_header.h"
#include "extent/node_entry.h"
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
  // The bytes of the block.
  std::span<const std::byte> block() const { return bytes_; }
  // Counts the bytes of the entries.
  uint64_t entry_bytes() const { return entry_bytes_; }
  BlockPointer pointer() const { return pointer_; }

  // Stands before the first entry. The reader and the views of its entries are valid as long as the node.
  NodeReader reader() const { return {bytes_, level_, kHeaderBytes, kHeaderBytes + entry_bytes_}; }
  // Stands at entry `i`.
  NodeReader At(int i) const;
  // Stands at the last entry whose key is <= `key`. Stands before the first entry, with index -1, if all keys
  // are greater.
  NodeReader Floor(std::string_view key) const { return FloorFrom(reader(), key, 0, nullptr); }
  // Does the same for a key that is not below the entry at which `at` stands, and is quick if the floor is
  // near. Lets *before stand at the entry before the floor, if the floor is behind `at`.
  NodeReader FloorFrom(const NodeReader& at, std::string_view key, NodeReader* before) const {
    return FloorFrom(at, key, kNearEntries, before);
  }
  // Each does what is said of entry `i`.
  NodeEntry entry(int i) const { return At(i).entry(); }
  NodeKey key(int i) const { return At(i).entry().key(); }
  BlockPointer child(int i) const;  // internal nodes

  // Notes that CheckChild() has found this node to be what entry `index` of `parent` says, and to end before
  // the following entry of `parent`. The note is for cursors alone.
  struct CheckedUnder {
    BlockPointer parent;
    int index = -1;
    bool operator==(const CheckedUnder&) const = default;
  };
  CheckedUnder checked_under() const { return checked_under_; }
  void NoteCheckedUnder(const CheckedUnder& under) const { checked_under_ = under; }

  // Returns kInternal if the marks, by which entries are found, are not of the entries or lie too far apart.
  absl::Status CheckInvariants() const;

 private:
  static constexpr int kNearEntries = 8;
  NodeReader FloorFrom(const NodeReader& at, std::string_view key, int near, NodeReader* before) const;

  // Notes a place at which a reader can begin.
  struct Mark {
    NodeEntryBase base;
    uint16_t at;
    uint16_t index;
  };
  // A mark is this far behind the one before it at least. It is twice as far at most, and one entry more.
  static constexpr size_t kMarkBytes = 64;
  TreeNode() {}  // leaves the bytes as they are
  friend class TreeNodeBuilder;
  friend absl::Status VerifyEntries(std::span<const std::byte> block, TreeNode* node);
  // Notes a mark, unless one is near.
  void MarkIfDue(const NodeEntryBase& base, size_t at, int index) {
    if (mark_count_ > 0 && at < marks_[mark_count_ - 1].at + kMarkBytes) return;
    marks_[mark_count_++] = {base, static_cast<uint16_t>(at), static_cast<uint16_t>(index)};
  }
  // Notes marks before `end` where the last one is far from there.
  void MarkUpTo(size_t end);
  NodeReader ReaderAt(const Mark& mark) const {
    return {bytes_, level_, mark.at, kHeaderBytes + entry_bytes_, mark.base, mark.index};
  }
  std::span<const Mark> marks() const { return std::span(marks_).first(mark_count_); }

  std::byte bytes_[kBlockBytes];
  int level_ = 0;
  int count_ = 0;
  uint64_t entry_bytes_ = 0;
  mutable CheckedUnder checked_under_;
  BlockPointer pointer_;
  size_t mark_count_ = 0;
  std::array<Mark, (kBlockBytes - kHeaderBytes) / kMarkBytes> marks_;
};

// Verifies the structure alone. The caller has verified the header.
absl::Status VerifyNode(std::span<const std::byte> block);

// Builds nodes, one after another, from entries that are added in key order.
class TreeNodeBuilder {
 public:
  explicit TreeNodeBuilder(int level) : level_(level) { Clear(); }
  bool empty() const { return node_->count_ == 0; }
  int level() const { return level_; }
  int count() const { return node_->count_; }
  // Counts the used bytes of kBlockBytes, header included.
  size_t used_bytes() const { return kHeaderBytes + node_->entry_bytes_; }
  // Adds an entry, or returns false if the entry does not fit. CHECKs that no mapping begins before the end of
  // the one before it. The caller sees to the order of all other keys.
  bool Add(const NodeEntry& entry);
  // Adds the entries of `from` behind `first` up to the one at `last`, or as many of them as fit, as bytes.
  // The entry that was added last has the object and the ends of the entry at `first`. Returns where the last
  // entry that was added stands in `from`.
  NodeReader AddRun(const TreeNode& from, const NodeReader& first, const NodeReader& last);
  // Stands before the first entry. The reader is valid until an entry is added or the builder is emptied.
  NodeReader reader() const { return node_->reader(); }

  // Returns the node, sealed for device block `address`, and empties the builder.
  std::shared_ptr<const TreeNode> Finish(const Uuid& uuid, BlockNumber address, Generation generation);

 private:
  void Clear();

  int level_;
  std::shared_ptr<TreeNode> node_;
  NodeEntryBase base_;  // behind the last entry
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_NODE_H_
