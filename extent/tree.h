// Reading the mapping tree: an immutable copy-on-write B+tree between two checkpoints.
//
// A lookup never does I/O. Where a node is not in the cache it reports which one is missing; the caller loads
// it without holding its locks, puts it in the cache and asks again. Nodes never change once written, so a
// lookup that begins again sees the same tree.
//
// Threading: NodeCache and the cursor are guarded by the caller's mutex.
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

// The root of one version of the tree. A null pointer: an empty tree.
struct TreeRoot {
  BlockPointer root;
  // For space accounting:
  BlockCount node_count;    // nodes in all, each a block
  uint64_t leaf_bytes = 0;  // of the entries of all leaves, their offsets included
  int levels = 0;
  bool operator==(const TreeRoot&) const = default;
};

// Clean nodes by block number, least recently used ones dropped beyond a limit.
//
// Invariants
//  1. Every node is in the index under its own block, and in the list, once.
//  2. There are no more nodes than the limit, or than one, unless a Hold lives.
class NodeCache {
 public:
  // Keeps at least the node inserted last, whatever the limit.
  explicit NodeCache(size_t limit_nodes) : limit_nodes_(limit_nodes) {}
  // nullptr if absent, or if the cached node is not the one the pointer means (the block was reused).
  std::shared_ptr<const TreeNode> Find(BlockPointer pointer);
  // The same, without a reference: it is valid until the cache changes.
  const TreeNode* Peek(BlockPointer pointer);
  void Insert(std::shared_ptr<const TreeNode> node);
  void Erase(BlockNumber block);
  // While one of these lives nothing is evicted: for work that needs many nodes at once.
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
  // kInternal: names an invariant that does not hold.
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

// Whether `child` is what entry `index` of `parent` says: one level below, its first key not below the entry's,
// and all it holds below `limit`, a mapping's last block too. `limit` is where what follows in the tree begins:
// the following entry, or what follows `parent`; nothing at the end. kDataLoss if not.
absl::Status CheckChild(const TreeNode& parent, int index, std::optional<std::string_view> limit,
                        const TreeNode& child);

// The entry of the leaf in which a mapping of the block would be, if the way there is cached, and cursors have been there
// before; nullopt otherwise, or where there is no such entry. Only a cursor can tell these apart.
std::optional<MappingEntry> PeekMapping(NodeCache& cache, const TreeRoot& root, ObjectId object,
                                        ObjectBlock block);

// Whether every entry of a leaf makes sense by its key space; true of other nodes. kDataLoss if not.
absl::Status CheckLeafEntries(const TreeNode& leaf);

enum class WalkResult {
  kAtEntry,
  kNoFloor,  // the key is below the first entry of the leaf, or of the node above, in whose range it falls
  kEnd,
  kMissing,  // a node is not in the cache
  kDamaged,  // a node is sound but is not the child that its parent describes; loading it again does not help
};

// Walks the leaf entries of one tree version in key order through the cache. It pins the nodes on its path.
class TreeCursor {
 public:
  TreeCursor(NodeCache& cache, TreeRoot root) : cache_(cache), root_(root) {}

  // To the last entry with key <= `key` of the leaf in whose range `key` falls; no mapping of an earlier leaf reaches
  // into that range. kNoFloor if there is none: Next() then leads to the first entry behind `key`.
  WalkResult SeekFloor(std::string_view key);
  // To the first entry with key >= `key`.
  WalkResult Seek(std::string_view key);
  // To the following entry. After kMissing: load the node, then call Next() again: it resumes.
  WalkResult Next();

  // After kAtEntry.
  std::string_view key() const;
  std::string_view value() const;
  // After kAtEntry and kNoFloor. No entry that Next() leads to is below it, which is known without its leaf; nothing
  // at the end.
  std::optional<std::string_view> next_key() const;
  // After kMissing: the node to load. After kMissing from Seek or SeekFloor, call them again with the same
  // key; what they have found so far stays pinned, so that they get there even if the cache keeps a single
  // node.
  BlockPointer missing() const { return missing_; }
  // After kDamaged: kDataLoss, naming the blocks.
  const absl::Status& damage() const { return damage_; }

 private:
  struct Step {
    std::shared_ptr<const TreeNode> node;
    int index = 0;  // -1: before the first entry
  };
  WalkResult Descend(std::string_view key);
  WalkResult Push();  // the child that the path points at, or the root
  NodeCache& cache_;
  TreeRoot root_;
  absl::InlinedVector<Step, 4> path_;  // root first; the last is a leaf
  BlockPointer missing_;
  absl::Status damage_;
  // Seek(seek_key_) has passed the floor and waits for a node to step forward.
  bool seek_pending_ = false;
  std::string seek_key_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_H_
