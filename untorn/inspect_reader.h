// What fsck and dump share: walks over a store's metadata that survive any damage.
//
// Invariants
//  1. Nothing read from the device is believed before it is verified; every walk ends, because no tree node
//     is read twice and levels only go down.
//  2. Damage is handed to the visitor, with what it covers, and the walk goes on with the rest.
#ifndef UNTORN_INSPECT_READER_H_
#define UNTORN_INSPECT_READER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "device/device.h"
#include "extent/delta.h"
#include "extent/free_map_format.h"
#include "extent/log_reader.h"
#include "extent/superblock.h"
#include "extent/tree_keys.h"
#include "extent/tree_node.h"
#include "untorn/block_set.h"

namespace untorn::internal {

inline absl::string_view View(std::string_view v) { return {v.data(), v.size()}; }

// "mapping of object 5 at block 100", "object 7", "name 'a'"; any bytes.
std::string DescribeKey(std::string_view key);
// What the keys from `first` to before `limit` (nullopt: the end) hold.
std::string DescribeRange(std::string_view first, std::optional<std::string_view> limit);
// "block 7", "blocks 7 to 9".
std::string DescribeRun(Extent extent);

// Reads the log's tail and replays it into `delta`; calls `each` for every record kept. What is wrong with
// the log is in `damage` of the tail. An error only where the device fails.
absl::StatusOr<LogTail> ReplayLog(Device& device, const Superblock& superblock, Delta* delta,
                                  absl::FunctionRef<void(const LogRecord&)> each);

class TreeVisitor {
 public:
  virtual ~TreeVisitor() = default;
  // A sound node, before its entries and children.
  virtual void Node(const TreeNode& node) = 0;
  // The node that `pointer` should lead to is unusable: it would have held the keys from `first` to before
  // `limit`.
  virtual void Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
                       std::optional<std::string_view> limit) = 0;
  virtual void Entry(const TreeNode& leaf, int index) = 0;
};
// Visits the subtrees that may hold keys of [from, to) ("" for `to`: to the end), in key order. An error only where
// the device fails: what cannot be read while the rest can is damage.
absl::Status WalkTree(Device& device, const Superblock& superblock, std::string_view from,
                      std::string_view to, TreeVisitor& visitor);

// A node of the free-space map and the groups it is about.
struct FreeMapNode {
  int level = 0;  // 0: a bitmap
  uint64_t index = 0;
  BlockPointer pointer;
  uint64_t first_group = 0, last_group = 0;  // [first, last)
};
class FreeMapVisitor {
 public:
  virtual ~FreeMapVisitor() = default;
  virtual void Table(const FreeMapNode& node, uint64_t used) = 0;
  virtual void Bitmap(const FreeMapNode& node, const BlockSet::Words& bits, uint64_t used) = 0;
  // Not on disk: nothing in use but the fixed areas.
  virtual void Null(const FreeMapNode& node) = 0;
  virtual void Damaged(const FreeMapNode& node, const absl::Status& why) = 0;
  // The table above says that `said` blocks are in use below this node, which itself says `used`.
  virtual void WrongCount(const FreeMapNode& node, uint64_t said, uint64_t used) = 0;
};
// As WalkTree.
absl::Status WalkFreeMap(Device& device, const Superblock& superblock, FreeMapVisitor& visitor);

// The mappings of the tree overlaid by the log's, in order of object and logical block. No holes.
class FinalMappings {
 public:
  using Fn = absl::FunctionRef<void(ObjectId, const Mapping&, bool from_log)>;
  // `delta` must outlive it and not change.
  explicit FinalMappings(const Delta& delta);
  // The next mapping of the tree; nullptr: there are no more.
  void Tree(const MappingEntry* entry, Fn fn);

 private:
  void LogBefore(ObjectId object, uint64_t logical, bool all, Fn fn);
  const Delta& delta_;
  std::vector<MappingEntry> log_;  // the delta's, holes left out
  size_t next_ = 0;
  ObjectId object_ = ObjectId::kNone;  // of the last mapping of the tree
  uint64_t end_ = 0;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_READER_H_
