// The part of fsck that checks the tree: its nodes, its entries, and the state after replay.
#ifndef UNTORN_INSPECT_FSCK_TREE_H_
#define UNTORN_INSPECT_FSCK_TREE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/btree_map.h"
#include "inspect/block_set.h"
#include "inspect/final_mappings.h"
#include "inspect/findings.h"
#include "inspect/fsck_data.h"
#include "inspect/lost_keys.h"
#include "inspect/progress.h"
#include "inspect/walk_tree.h"

namespace untorn::internal {

struct ObjectRecord {
  bool exists = false;  // the object has a record of its own
  bool named = false;   // a name leads to the object
  uint64_t size_bytes = 0;
  std::string name;
  uint64_t mappings = 0;
  BlockRange furthest;  // the object's last mapping
};

// Collects the blocks that the checkpoint has in use, and the objects. Adds a finding for every
// contradiction.
class TreeCheck : public TreeVisitor {
 public:
  // `data` may be nullptr. Otherwise it gets every final mapping.
  TreeCheck(const Superblock& superblock, const Delta& delta, FsckResult& result, Progress& progress,
            DataCheck* data);

  const BlockSet& base() const { return base_; }
  // The blocks of base() that are nodes of the tree.
  const BlockSet& nodes() const { return nodes_; }
  const BlockSet& reserved() const { return reserved_; }
  // Where nodes are lost, some of the blocks in use are unknown.
  uint64_t nodes_lost() const { return nodes_lost_; }
  uint64_t leaf_bytes() const { return leaf_bytes_; }
  int levels() const { return levels_; }

  void Node(const TreeNode& node) override;
  void Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
               std::optional<std::string_view> limit) override;
  void Entry(const NodeEntry& entry) override;
  // Is called after the walk. Adds what the log says, and checks objects, names and mappings against each
  // other.
  void Finish();
  // Names an object as its record does. May be called after Finish().
  std::string Describe(ObjectId id) const;

 private:
  static std::string Describe(const Inode& inode);
  void TreeMapping(const MappingEntry& entry);
  void FinalMapping(ObjectId id, const Mapping& m);
  void SetInode(const Inode& inode);

  // All objects are known when the first name comes, because names follow objects in the order of keys.
  void Name(const std::string& name, ObjectId id);
  void CheckObject(ObjectId id, const ObjectRecord& object);

  const Superblock& sb_;
  const Delta& delta_;
  FsckResult& result_;
  Findings findings_;
  Progress& progress_;
  DataCheck* const data_;
  FinalMappings final_;
  BlockSet base_;  // the blocks that the checkpoint has in use
  BlockSet nodes_;
  BlockSet reserved_;  // the blocks of base_ that the log writes into for the same object
  LostKeys lost_;
  uint64_t nodes_lost_ = 0, leaf_bytes_ = 0;
  int levels_ = 0;
  absl::btree_map<ObjectId, ObjectRecord> objects_;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_FSCK_TREE_H_
