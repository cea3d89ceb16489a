// Writes the mapping tree. A checkpoint merges a sorted list of edits into the old tree, and writes every
// node that it changes to a new place. The old tree is not touched.
//
//     old tree:   [ root ]                     new tree:   [ root' ]
//                /   |    \                               /   |    \          kept: B
//               A    B     C    + edits in A, C  =>      A'   B     C'       retired: root, A, C
//
// Invariants
//  1. The merge emits children before parents, each node exactly once, with the block number that the sink
//     gave.
//  2. A node of the old tree is either kept or retired. The new tree has the pointer of a kept node. A
//     retired node is reported once.
//  3. If an edit covers a mapping of the old tree, exactly the covered part is reported removed
//     (MappingRemoved). If an edit covers only part of an entry, the rest stays, as one or two entries.
//  4. Nodes other than the root and the last of each level are at least one third full where their
//     neighbours allow it. An underfull pending node shares evenly with the full one before it. Without a
//     full one the pending node absorbs the following sibling, unless the sibling is damaged.
//  5. Damage stays where it is.
//     - A damaged node in which no edit falls is kept, unread.
//     - A damaged node in which an edit falls gives way to entries that say what is lost (LostEntries). They
//       cover what no edit covers. The node is not reported retired, nor is what it had mapped reported
//       removed. That space is leaked, and the counts of the tree may stay too high. A repair gives the space
//       back.
//     - No merge extends the range of an unread node over keys that were not in the range. So an edit falls
//       into a damaged node only if it did so before, with two exceptions. In the first, what lay on both
//       sides of the edit is damaged. In the second, everything behind the edit is gone.
//  6. A merge holds two pending nodes per level and one path of the old tree, whatever the number of edits.
//
// Threading: a merge has none of its own. The sink does the I/O, and may block.
#ifndef UNTORN_EXTENT_TREE_MERGE_H_
#define UNTORN_EXTENT_TREE_MERGE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "extent/tree.h"
#include "extent/tree_keys.h"
#include "extent/tree_node.h"
#include "extent/tree_packer.h"

namespace untorn {

// Describes one change. A point edit sets or erases `key`, which is an inode or a name, and never a mapping.
// A range edit replaces whatever the old tree maps in `mapping.logical` of `object` by `mapping`. For a
// hole, a range edit maps nothing, and logical.count may be as much as kObjectBlocksMax. Edits are sorted by
// key and do not overlap. The key of a range edit is MappingKey(object, logical.start).
struct TreeEdit {
  bool is_range = false;
  std::string key;                    // point edits
  std::optional<std::string> value;   // point edits; nullopt erases (no error if there is none)
  ObjectId object = ObjectId::kNone;  // range edits
  Mapping mapping;                    // range edits

  std::string SortKey() const { return is_range ? MappingKey(object, mapping.logical.start) : key; }
};

// Gives the edits in key order, once.
class TreeEditSource {
 public:
  virtual ~TreeEditSource() = default;
  // Returns the next edit, or nullptr at the end. The pointer is valid until the next call but one. So the
  // merge may hold the current edit and look at the following one.
  virtual const TreeEdit* Next() = 0;
};

class TreeMergeSink : public TreeNodeSink {
 public:
  // Reads and verifies a node of the old tree.
  virtual absl::StatusOr<std::shared_ptr<const TreeNode>> Load(BlockPointer pointer) = 0;
  // Says whether some nodes of the old tree must be written anew, even if no edit falls in them.
  virtual bool MovesNodes() const { return false; }
  // Says whether the node at the block is one of them. A merge that moves nodes reads all nodes above the leaves, and
  // writes these anew too. A damaged node stays where it is.
  virtual bool MustMove(BlockNumber) const { return false; }
  // Says that the merge loads these leaves soon, in this order, as long as nothing fails.
  virtual void Prefetch(std::span<const BlockPointer>) {}
  // Says that the old node is not part of the new tree.
  virtual void NodeRetired(BlockNumber block) = 0;
  // Says that the entry that held this physical run does not map the run any more. An edit may map the run
  // again.
  virtual void MappingRemoved(Extent extent) = 0;
};

// TreeGrowthMax returns how many nodes at most a tree gains by `entries` more changes, however many merges
// they are spread over. A range edit is TreeEntriesOfBlocks() changes. A point edit is one change for every
// kTreeEntryBytes of the entry that it sets. A point edit that erases is one change. A merge writes no more nodes than the tree
// has after the merge. The result is the smaller of two bounds:
//   - A change splits at most one node of every level, and adds a root.
//   - All nodes together are no emptier than invariant 4 allows.
// The bound may be taken part by part: what a merge leaves of the bound covers the changes that are still to
// come.
// A range edit may leave a mapping of its own and split another mapping, or keys that are lost. The entry behind
// both may take more bytes than before, because its numbers are told from another entry. The lost keys have 53 bytes,
// and each of the others has kNumberEntryBytesMax. The first block adds a checksum.
inline constexpr uint64_t kTreeEntryBytes = 136;
// Every further block adds a checksum, and every kWrittenEntryBlocksMax of them an entry.
constexpr uint64_t TreeEntriesOfBlocks(BlockCount written_blocks) {
  constexpr uint64_t kBlocks = 15;
  static_assert(kBlocks * kChecksumBytes + kNumberEntryBytesMax * kBlocks / kWrittenEntryBlocksMax.value() <=
                kTreeEntryBytes);
  return 1 + (written_blocks.value() - 1) / kBlocks;
}
// Counts the changes where such an edit may also cut a mapping of the tree in three.
constexpr uint64_t TreeEntriesOfCut(BlockCount written_blocks) {
  return TreeEntriesOfBlocks(written_blocks) + 2;
}
// A new name, the record of its object with the name in it, and lost keys around both: 1374 bytes at most.
inline constexpr uint64_t kTreeEntriesOfName = 11;
BlockCount TreeGrowthMax(const TreeRoot& root, uint64_t entries);

// Merges all of `edits` into `old_root`, which has no object from `next_object` on. `ahead` gives the same edits
// once more, and tells what to prefetch; nullptr stands for no prefetching. New nodes carry `uuid` and
// `generation`. The counts of the result are exact, except for damaged nodes (invariant 5). An empty result is
// TreeRoot{}. Errors of the sink are returned as they are.
//  kDataLoss  the root counts fewer nodes or bytes than there are, or the new tree would be too high
absl::StatusOr<TreeRoot> MergeTree(TreeRoot old_root, ObjectId next_object, TreeEditSource& edits,
                                   TreeEditSource* ahead, const Uuid& uuid, Generation generation,
                                   TreeMergeSink& sink);

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_MERGE_H_
