// The part of fsck that goes through the tree: nodes, entries, and the state after replay.
#ifndef UNTORN_FSCK_TREE_H_
#define UNTORN_FSCK_TREE_H_

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_map.h"
#include "untorn/block_set.h"
#include "untorn/fsck_report.h"
#include "untorn/inspect_reader.h"

namespace untorn::internal {

// Ranges of keys that damage has hidden, found in key order.
class LostKeys {
 public:
  struct Range {
    std::string first;
    std::optional<std::string> limit;  // before it; nothing: to the end
  };
  void Add(std::string_view first, std::optional<std::string_view> limit) {
    ranges_.push_back({std::string(first), limit ? std::optional<std::string>(*limit) : std::nullopt});
  }
  bool Has(const std::string& key) const {
    const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), key,
                                        [](const std::string& k, const Range& r) { return k < r.first; });
    if (after == ranges_.begin()) return false;
    const Range& range = *std::prev(after);
    return !range.limit || key < *range.limit;
  }
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

struct ObjectRecord {
  bool exists = false;  // has a record of its own
  bool named = false;   // a name refers to it
  uint64_t size_bytes = 0;
  std::string name;
  uint64_t mappings = 0;
  BlockRange furthest;  // its last mapping
};

// Collects what the checkpoint has in use and who the objects are; tells what contradicts itself.
class TreeCheck : public TreeVisitor {
 public:
  TreeCheck(const Superblock& superblock, const Delta& delta, FsckResult& result, Progress& progress);

  const BlockSet& base() const { return base_; }
  const BlockSet& reserved() const { return reserved_; }
  // Some of the blocks in use are unknown.
  bool mappings_lost() const { return nodes_lost_ > 0 || mappings_ill_formed_; }
  uint64_t nodes_lost() const { return nodes_lost_; }
  uint64_t leaf_bytes() const { return leaf_bytes_; }
  uint64_t levels() const { return levels_; }

  void Node(const TreeNode& node) override;
  void Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
               std::optional<std::string_view> limit) override;
  void Entry(const TreeNode& leaf, int index) override;
  // After the walk: what the log says, and what the parts say of each other.
  void Finish();

 private:
  static std::string Describe(const Inode& inode);
  void TreeMapping(const TreeNode& leaf, const MappingEntry& entry);
  void FinalMapping(ObjectId id, const Mapping& m);
  void SetInode(const Inode& inode);

  // Names come after all objects: in the tree by the order of keys.
  void Name(const std::string& name, ObjectId id);
  void CheckObject(ObjectId id, const ObjectRecord& object);

  const Superblock& sb_;
  const Delta& delta_;
  FsckResult& result_;
  Findings findings_;
  Progress& progress_;
  FinalMappings final_;
  BlockSet base_;      // in use by the checkpoint
  BlockSet reserved_;  // of those, what the log writes into for the same object
  LostKeys lost_;
  uint64_t nodes_lost_ = 0, leaf_bytes_ = 0, levels_ = 0;
  bool mappings_ill_formed_ = false;
  ObjectId last_object_ = ObjectId::kNone;
  uint64_t last_end_ = 0;
  absl::btree_map<ObjectId, ObjectRecord> objects_;
};

}  // namespace untorn::internal

#endif  // UNTORN_FSCK_TREE_H_
