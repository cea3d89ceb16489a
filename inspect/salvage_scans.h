// The walks of a salvage over the tree and the free-space map.
#ifndef UNTORN_INSPECT_SALVAGE_SCANS_H_
#define UNTORN_INSPECT_SALVAGE_SCANS_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "extent/tree_keys.h"
#include "inspect/final_mappings.h"
#include "inspect/salvage.h"
#include "inspect/walk_free_map.h"
#include "inspect/walk_tree.h"

namespace untorn::internal {

// The error for a device that answers one read differently from an earlier one.
absl::Status ReadsDiffer();

// Returns the object of a mapping's key. For a key that has no object it returns the first object after the
// key.
ObjectId FirstObjectFrom(std::string_view key);

// Collects the tree's nodes and the blocks that they refer to. Collects objects and names too, unless the log
// says something of them.
class Salvage::NodeScan : public TreeVisitor {
 public:
  explicit NodeScan(Salvage& salvage) : s_(salvage) {}
  void Node(const TreeNode& node) override;
  void Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
               std::optional<std::string_view> limit) override;
  void Entry(const NodeEntry& entry) override;
  void SetRecord(const Inode& inode);

 private:
  void Mapping(const MappingEntry& entry);

  Salvage& s_;
};

// Hands on the final mappings, without the blocks that an earlier mapping or the old tree has.
class Salvage::MappingScan : public TreeVisitor {
 public:
  MappingScan(Salvage& salvage, BlockSet& claimed, KeptFn kept)
      : s_(salvage), final_(salvage.delta_), claimed_(claimed), kept_(kept) {}
  void Node(const TreeNode& node) override;
  void Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
               std::optional<std::string_view> limit) override;
  void Entry(const NodeEntry& entry) override;
  // Is called after the walk. Hands on the rest of the log's mappings.
  absl::Status Finish();

 private:
  void Next(const MappingEntry* entry);
  void Take(ObjectId id, const Mapping& m);

  Salvage& s_;
  FinalMappings final_;
  BlockSet& claimed_;
  KeptFn kept_;
  uint64_t nodes_lost_ = 0;
  absl::Status status_;
};

// Collects the slots that the old free-space map uses. Where mappings are lost, the blocks that the map says
// are in use may be theirs, so they become untouchable.
class Salvage::MapScan : public FreeMapVisitor {
 public:
  explicit MapScan(Salvage& salvage) : s_(salvage) {}
  void Table(const FreeMapNode& node, BlockCount used) override;
  void Bitmap(const FreeMapNode& node, const BlockSet::Words& bits, BlockCount used) override;
  void Null(const FreeMapNode&) override {}
  void Damaged(const FreeMapNode& node, const absl::Status& why) override;
  void WrongCount(const FreeMapNode&, BlockCount, BlockCount) override {}

 private:
  void Slot(const FreeMapNode& node);
  Salvage& s_;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_SALVAGE_SCANS_H_
