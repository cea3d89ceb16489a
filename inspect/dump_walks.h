// The visitors with which dump walks over the tree and the free-space map.
#ifndef UNTORN_INSPECT_DUMP_WALKS_H_
#define UNTORN_INSPECT_DUMP_WALKS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "inspect/dump_json.h"
#include "inspect/final_mappings.h"
#include "inspect/walk_free_map.h"
#include "inspect/walk_tree.h"

namespace untorn::internal {

// The first walk over the tree writes its nodes and collects the objects' records.
class NodeDump : public TreeVisitor {
 public:
  explicit NodeDump(Writer* out) : out_(out) {}
  void Node(const TreeNode& node) override;
  void Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
               std::optional<std::string_view> limit) override;
  void Entry(const NodeEntry& entry) override;

  uint64_t damaged() const { return damaged_; }
  std::map<ObjectId, Inode>& inodes() { return inodes_; }

 private:
  Writer* const out_;  // nullptr: the caller does not want the nodes
  uint64_t damaged_ = 0;
  std::map<ObjectId, Inode> inodes_;
};

// The second walk over the tree writes the mappings, object by object, in the order of the objects' numbers.
class ObjectDump : public TreeVisitor {
 public:
  // `only` names the one object to be written, if it is set.
  ObjectDump(Writer& out, const Delta& delta, const std::map<ObjectId, Inode>& inodes,
             std::optional<ObjectId> only)
      : out_(out), inodes_(inodes), only_(only), next_(inodes.begin()), final_(delta) {}

  void Node(const TreeNode&) override {}
  void Damaged(BlockPointer, const absl::Status&, std::string_view,
               std::optional<std::string_view>) override {}
  void Entry(const NodeEntry& entry) override;
  // Is called after the walk. Writes the rest: mappings of the log, and objects without mappings.
  void Finish();

 private:
  void Tree(const MappingEntry* entry);
  void Begin(ObjectId id);
  void End();

  Writer& out_;
  const std::map<ObjectId, Inode>& inodes_;
  const std::optional<ObjectId> only_;
  std::map<ObjectId, Inode>::const_iterator next_;  // the first object that Begin() has not written
  FinalMappings final_;
  ObjectId current_ = ObjectId::kNone;
  bool open_ = false;
};

class FreeMapDump : public FreeMapVisitor {
 public:
  explicit FreeMapDump(Writer& out) : out_(out) {}
  void Table(const FreeMapNode& node, BlockCount used) override;
  void Bitmap(const FreeMapNode& node, const BlockSet::Words&, BlockCount used) override;
  void Null(const FreeMapNode& node) override;
  void Damaged(const FreeMapNode& node, const absl::Status& why) override;
  void WrongCount(const FreeMapNode& node, BlockCount said, BlockCount used) override;

 private:
  static Json NodeJson(const FreeMapNode& node);
  Writer& out_;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_DUMP_WALKS_H_
