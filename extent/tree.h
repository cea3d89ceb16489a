// Reads the mapping tree, which is a copy-on-write B+tree that does not change between two checkpoints.
//
// A lookup never does I/O. If a node is not in the cache, the lookup reports the missing node. The caller
// loads the node without holding its locks, puts the node in the cache and asks again. Nodes never change
// once they are written, so a lookup that begins again sees the same tree.
//
// Threading: the caller's mutex guards NodeCache and the cursor.
#ifndef UNTORN_EXTENT_TREE_H_
#define UNTORN_EXTENT_TREE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "extent/tree_keys.h"
#include "extent/tree_node.h"
#include "extent/types.h"

namespace untorn {

// Names the root of one version of the tree. A null pointer stands for an empty tree.
struct TreeRoot {
  BlockPointer root;
  // The other fields are for space accounting.
  BlockCount node_count;    // nodes in all, each a block
  uint64_t leaf_bytes = 0;  // of the entries of all leaves
  int levels = 0;
  bool operator==(const TreeRoot&) const = default;
};

// Caches nodes by block number, and drops the least recently used ones beyond a limit.
//
// Invariants
//  1. The list has every node once, and the index has every node once, under the block of the node.
//  2. Unless a Hold lives, there are no more nodes than the limit, or than one if the limit is 0.
class NodeCache {
 public:
  // Keeps at least the node that was inserted last, whatever the limit is.
  explicit NodeCache(size_t limit_nodes) : limit_nodes_(limit_nodes) {}
  void SetLimit(size_t limit_nodes);
  // Returns nullptr if the node is absent, or if the cached node is another than the pointer means because
  // the block was reused.
  std::shared_ptr<const TreeNode> Find(BlockPointer pointer);
  // Does the same without a reference. The result is valid until the cache changes.
  const TreeNode* Peek(BlockPointer pointer);
  void Insert(std::shared_ptr<const TreeNode> node);
  void Erase(BlockNumber block);
  // While a Hold lives nothing is evicted. Work that needs many nodes at once takes a Hold.
  class Hold {
   public:
    explicit Hold(NodeCache& cache) : cache_(cache) { ++cache_.holds_; }
    ~Hold() {
      if (--cache_.holds_ == 0) cache_.Trim();
    }
    Hold(const Hold&) = delete;

   private:
    NodeCache& cache_;
  };
  size_t size() const { return map_.size(); }
  // Returns kInternal and names the invariant, if an invariant does not hold.
  absl::Status CheckInvariants() const;
  uint64_t hits() const { return hits_; }
  uint64_t misses() const { return misses_; }

 private:
  using Lru = std::list<std::shared_ptr<const TreeNode>>;
  void Trim();

  size_t limit_nodes_;
  int holds_ = 0;
  uint64_t hits_ = 0, misses_ = 0;
  Lru lru_;
  absl::flat_hash_map<BlockNumber, Lru::iterator> map_;
};

// Returns kDataLoss unless `child` is what entry `index` of `parent` says. The child must be one level
// below, and its first key must not be below the key of the entry. All that the child holds must be below
// `limit`, also the last block of a mapping. `limit` is where the following part of the tree begins: the
// following entry, or what follows `parent`. At the end of the tree `limit` is nullopt.
absl::Status CheckChild(const TreeNode& parent, int index, std::optional<std::string_view> limit,
                        const TreeNode& child);

// Returns the entry of the leaf in which a mapping of the block would be. Returns nullopt if there is no
// such entry, if the way there is not cached, or if no cursor has checked the way. Only a cursor can tell
// these cases apart.
std::optional<MappingEntry> PeekMapping(NodeCache& cache, const TreeRoot& root, ObjectId object,
                                        ObjectBlock block);

enum class WalkResult {
  kAtEntry,
  kNoFloor,  // the key is below the first entry of the leaf, or of the node above, in whose range it falls
  kEnd,
  kMissing,  // a node is not in the cache
  kDamaged,  // a node is sound but is not the child that its parent describes; loading it again does not help
};

// Walks the leaf entries of one tree version in key order, through the cache. The cursor keeps references to
// the nodes on its path, so they stay in memory.
class TreeCursor {
 public:
  TreeCursor(NodeCache& cache, TreeRoot root) : cache_(cache), root_(root) {}

  // Goes to the last entry with key <= `key` of the leaf in whose range `key` falls. No mapping of an
  // earlier leaf reaches into that range. Returns kNoFloor if there is no such entry; Next() then leads to
  // the first entry behind `key`.
  WalkResult SeekFloor(std::string_view key);
  // Goes to the first entry with key >= `key`.
  WalkResult Seek(std::string_view key);
  // Goes to the following entry. After kMissing the caller loads the node and calls Next() again, which
  // resumes.
  WalkResult Next();

  // May be called after kAtEntry. Views in the entry are valid until the cursor moves.
  const NodeEntry& entry() const;
  // May be called after kAtEntry and kNoFloor. Returns a key from the path, without reading the next leaf.
  // No entry to which Next() leads is below this key. Returns nullopt at the end of the tree.
  std::optional<NodeKey> next_key() const;
  // Names the node to load after kMissing. After kMissing from Seek or SeekFloor, the caller repeats the
  // call with the same key. The cursor keeps the nodes that it has found, so it gets there even if the cache
  // keeps a single node.
  BlockPointer missing() const { return missing_; }
  // Is kDataLoss after kDamaged, and names the blocks.
  const absl::Status& damage() const { return damage_; }

 private:
  struct Step {
    std::shared_ptr<const TreeNode> node;
    NodeReader at;  // with index -1 before the first entry
  };
  WalkResult Descend(std::string_view key);
  WalkResult Push();  // the child that the path points at, or the root
  NodeCache& cache_;
  TreeRoot root_;
  absl::InlinedVector<Step, 4> path_;  // root first; the last is a leaf
  BlockPointer missing_;
  absl::Status damage_;
  // True while Seek(seek_key_) has passed the floor and waits for a node to step forward.
  bool seek_pending_ = false;
  std::string seek_key_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_H_
