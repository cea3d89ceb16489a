#include "inspect/salvage_scans.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "inspect/describe.h"

namespace untorn::internal {

absl::Status ReadsDiffer() {
  return absl::InternalError("the device does not read the same twice; the store is as it was");
}

ObjectId FirstObjectFrom(std::string_view key) {
  if (key < MappingKey(ObjectId::kNone, 0)) return ObjectId::kNone;
  uint64_t id = 0;
  for (size_t i = 1; i <= sizeof(id); ++i) id = id << 8 | (i < key.size() ? static_cast<uint8_t>(key[i]) : 0);
  return ObjectId{id};
}

// ---- The tree's nodes ----

void Salvage::NodeScan::Node(const TreeNode& node) {
  s_.progress_.Add(1);
  s_.nodes_.Add({node.pointer().block, 1});
}

void Salvage::NodeScan::Damaged(BlockPointer pointer, const absl::Status&, std::string_view first,
                                std::optional<std::string_view> limit) {
  s_.progress_.Add(1);
  ++s_.nodes_lost_;
  s_.mapping_nodes_lost_ += first < InodeKey(ObjectId::kNone);
  s_.mappings_lost_ = true;
  s_.lost_.Add(first, limit);
  if (s_.sb_.geometry.InDataArea({pointer.block, 1})) s_.untouchable_.Add({pointer.block, 1});
}

void Salvage::NodeScan::Entry(const NodeEntry& entry) {
  if (entry.has_mapping_key()) {
    Mapping(entry.mapping);
  } else if (const auto inode = ParseInode(entry.other_key, entry.value)) {
    s_.next_object_ = std::max(s_.next_object_, Value(inode->id) + 1);
    if (s_.delta_.FindInode(inode->id) == nullptr) SetRecord(*inode);
  } else if (const auto name = ParseName(entry.other_key, entry.value)) {
    if (s_.delta_.FindName(name->first) == nullptr) s_.names_[name->first] = name->second;
  }
}

void Salvage::NodeScan::SetRecord(const Inode& inode) {
  Object& object = s_.objects_[inode.id];
  object.recorded = true;
  object.size_bytes = inode.size_bytes;
  object.preallocated |= inode.preallocated;
  object.name = inode.name;
}

void Salvage::NodeScan::Mapping(const MappingEntry& entry) {
  // No session may take the blocks for its own.
  s_.newest_.epoch = std::max(s_.newest_.epoch, entry.mapping.opened);
  if (s_.IsData(entry.mapping.extent())) {
    s_.untouchable_.Add(entry.mapping.extent());
  } else {
    s_.doubtful_.push_back({entry.object, "a mapping that leads outside the data area"});
  }
}

// ---- The final mappings ----

void Salvage::MappingScan::Node(const TreeNode&) { s_.progress_.Add(1); }

void Salvage::MappingScan::Damaged(BlockPointer, const absl::Status&, std::string_view first,
                                   std::optional<std::string_view>) {
  // The last leaf of mappings may say what is lost behind them.
  nodes_lost_ += first < InodeKey(ObjectId::kNone);
}

void Salvage::MappingScan::Entry(const NodeEntry& entry) {
  if (entry.has_mapping_key()) Next(&entry.mapping);
}

absl::Status Salvage::MappingScan::Finish() {
  Next(nullptr);
  if (status_.ok() && nodes_lost_ != s_.mapping_nodes_lost_) return ReadsDiffer();
  return status_;
}

void Salvage::MappingScan::Next(const MappingEntry* entry) {
  final_.Tree(entry, [this](ObjectId id, const Mapping& m, bool) {
    if (status_.ok()) Take(id, m);
  });
}

void Salvage::MappingScan::Take(ObjectId id, const Mapping& m) {
  // Describes a run of blocks of the store by the object's own block numbers.
  const auto of_it = [&](Extent run) {
    return DescribeRun(BlockRange{m.logical.start + (run.start - m.physical), run.count});
  };
  if (!s_.IsData(m.extent())) {
    s_.Doubt(s_.objects_[id], absl::StrCat(of_it(m.extent()), " of it mapped outside the data area"));
    return;
  }
  const auto contested = [&](Extent run, const char* by) {
    s_.contested_.Add(run);
    s_.Doubt(s_.objects_[id], absl::StrCat(of_it(run), " of it in use by ", by, " too"));
  };
  // A node of the old tree keeps its blocks, because the old tree must stay readable. Of two mappings, the
  // first one keeps the blocks.
  s_.nodes_.ForEachRun(m.extent(), true, [&](Extent run) { contested(run, "the old mapping tree"); });
  s_.nodes_.ForEachRun(m.extent(), false, [&](Extent part) {
    claimed_.ForEachRun(part, true, [&](Extent run) { contested(run, "another mapping"); });
    claimed_.ForEachRun(part, false, [&](Extent run) {
      if (status_.ok()) status_ = kept_(id, m.Part({m.logical.start + (run.start - m.physical), run.count}));
    });
    claimed_.Add(part);
  });
}

// ---- The free-space map ----

void Salvage::MapScan::Table(const FreeMapNode& node, BlockCount) { Slot(node); }

void Salvage::MapScan::Bitmap(const FreeMapNode& node, const BlockSet::Words& bits, BlockCount) {
  Slot(node);
  if (!s_.mappings_lost_) return;
  BlockSet::Difference(node.first_group, bits, {}, [&](Extent run) { s_.untouchable_.Add(run); });
}

void Salvage::MapScan::Damaged(const FreeMapNode& node, const absl::Status&) { Slot(node); }

void Salvage::MapScan::Slot(const FreeMapNode& node) {
  s_.map_slots_[{node.level, node.index}] = node.pointer.block;
}

}  // namespace untorn::internal
