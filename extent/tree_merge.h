// Writing the mapping tree: a checkpoint merges a sorted batch of edits into the old tree and writes every
// node it changes to a new place. The old tree is not touched.
//
//     old tree:   [ root ]                     new tree:   [ root' ]
//                /   |    \                               /   |    \          kept: B
//               A    B     C    + edits in A, C  =>      A'   B     C'       retired: root, A, C
//
// Invariants
//  1. Nodes are emitted children before parents, each exactly once, with the block number the sink gave.
//  2. A node of the old tree is either kept (its pointer is in the new tree) or retired (reported once).
//  3. A mapping of the old tree that the edits cover is reported removed, exactly the covered part
//     (MappingRemoved); where an edit covers only part of an entry the rest stays, as one or two entries.
//  4. Nodes other than the root and the last of each level are at least one third full where their neighbours
//     allow it: an underfull pending node shares evenly with the full one before it, or else absorbs the
//     following sibling, unless that is damaged.
//  5. Damage stays where it is: a damaged node in which no edit falls is kept, unread. One that range edits cover whole
//     is retired, and what it had mapped is not reported removed: that space is leaked, and the counts of the tree
//     stay too high. An edit in part of one is an error. No merge puts keys into the range of a node that is not read
//     which were not in it: an edit falls into no damaged node that it did not fall into before, unless what lay on both
//     sides of it is damaged, or all behind it is gone.
//  6. Memory: two pending nodes per level and one path of the old tree, whatever the number of edits.
//
// Threading: none of its own; the sink may block (it does the I/O).
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

// One change. Point edits (inodes, names; never mappings) set or erase `key`. Range edits (mappings) replace
// whatever the old tree maps in `mapping.logical` of `object` by `mapping` (nothing, for a hole;
// logical.count may reach to kObjectBlocksMax). Edits are sorted by key (a range edit's key is
// MappingKey(object, logical.start)) and do not overlap.
struct TreeEdit {
  bool is_range = false;
  std::string key;                    // point edits
  std::optional<std::string> value;   // point edits; nullopt erases (no error if there is none)
  ObjectId object = ObjectId::kNone;  // range edits
  Mapping mapping;                    // range edits

  std::string SortKey() const { return is_range ? MappingKey(object, mapping.logical.start) : key; }
};

// Edits in key order, read once.
class TreeEditSource {
 public:
  virtual ~TreeEditSource() = default;
  // The next edit, or nullptr at the end. The pointer is valid until the next call but one: the merge may
  // hold the current edit and look at the following one.
  virtual const TreeEdit* Next() = 0;
};

class TreeMergeSink : public TreeNodeSink {
 public:
  // Reads and verifies a node of the old tree.
  virtual absl::StatusOr<std::shared_ptr<const TreeNode>> Load(BlockPointer pointer) = 0;
  // The old node is not part of the new tree.
  virtual void NodeRetired(BlockNumber block) = 0;
  // This physical run is no longer mapped by the entry that held it (it may be mapped again by an edit).
  virtual void MappingRemoved(Extent extent) = 0;
};

// How many nodes at most a tree has more after `entries` more changes, however many merges they are spread over.
// A change is a range edit, or a point edit for every kTreeEntryBytes of the entry it sets; one that erases is one
// too. A merge writes no more nodes than the tree has after it.
//   - A change splits at most one node of every level, and adds a root.
//   - All nodes together are no emptier than invariant 4 allows.
// The bound may be taken part by part: what a merge leaves of it covers the changes still to come.
inline constexpr uint64_t kTreeEntryBytes =
    78;  // two mappings: a range edit may leave its own and split another
inline constexpr uint64_t kTreeEntriesOfName =
    8;  // a new name, and the record of its object with the name in it
BlockCount TreeGrowthMax(const TreeRoot& root, uint64_t entries);

// Merges all of `edits` into `old_root`. New nodes carry `uuid` and `generation`. The counts of the result are
// exact, but for damaged nodes (5). An empty result is TreeRoot{}.
//  kDataLoss: a node of the old tree in which an edit falls, or the root, is damaged, or a node that is taken apart
//  holds an ill-formed entry (named in the message).
//  Any error of the sink.
absl::StatusOr<TreeRoot> MergeTree(TreeRoot old_root, TreeEditSource& edits, const Uuid& uuid,
                                   Generation generation, TreeMergeSink& sink);

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_MERGE_H_
