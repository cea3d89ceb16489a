#include "inspect/fsck_tree.h"

#include <algorithm>
#include <utility>

#include "inspect/describe.h"
#include "inspect/printable.h"

namespace untorn::internal {
namespace {

// Calls `run` for the parts of the extent that lie in the data area.
void ForEachDataRun(const Geometry& geometry, Extent extent, BlockSet::RunFn run) {
  const BlockNumber end = std::min(extent.end(), geometry.end());
  if (extent.start >= end) return;
  BlockSet data;
  data.Add({extent.start, end - extent.start});
  for (uint64_t group = GroupOf(extent.start); group <= GroupOf(end - 1); ++group) {
    for (Extent area : geometry.FixedAreas(group)) data.Remove(area);
  }
  data.ForEachRun(run);
}

}  // namespace

TreeCheck::TreeCheck(const Superblock& superblock, const Delta& delta, FsckResult& result, Progress& progress,
                     DataCheck* data)
    : sb_(superblock),
      delta_(delta),
      result_(result),
      findings_(result),
      progress_(progress),
      data_(data),
      final_(delta) {
  for (const auto& [id, inode] : delta.inodes()) {
    if (inode) SetInode(*inode);
  }
}

void TreeCheck::Node(const TreeNode& node) {
  ++result_.tree_nodes;
  levels_ = std::max(levels_, node.level() + 1);
  if (node.level() == 0) leaf_bytes_ += node.entry_bytes();
  progress_.Add(1);
  const BlockNumber block = node.pointer().block;
  nodes_.Add({block, 1});
  base_.Add({block, 1}, [&](Extent) {
    findings_.Add(FindingCode::kMappingOverlap, "block ", block,
                  " is a node of the mapping tree and mapped by an object too");
  });
}

void TreeCheck::Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
                        std::optional<std::string_view> limit) {
  ++nodes_lost_;
  progress_.Add(1);
  lost_.Add(first, limit);
  if (sb_.geometry.InDataArea({pointer.block, 1})) {
    nodes_.Add({pointer.block, 1});
    base_.Add({pointer.block, 1});
  }
  findings_.Add(FindingCode::kTreeNodeDamaged, "block ", pointer.block, ": ", Message(why),
                "; what it held is unknown: ", DescribeRange(first, limit));
}

void TreeCheck::Entry(const NodeEntry& entry) {
  if (entry.has_mapping_key()) {
    TreeMapping(entry.mapping);
  } else if (const auto inode = ParseInode(entry.other_key, entry.value)) {
    if (inode->id >= ObjectId{sb_.next_object}) {
      findings_.Add(FindingCode::kCountMismatch, "the superblock says that object number ", sb_.next_object,
                    " is the next to be given, but ", Describe(*inode), " exists");
    }
    if (delta_.FindInode(inode->id) == nullptr) SetInode(*inode);
  } else if (const auto name = ParseName(entry.other_key, entry.value)) {
    if (delta_.FindName(name->first) == nullptr) Name(name->first, name->second);
  }
}

void TreeCheck::Finish() {
  final_.Tree(nullptr, [this](ObjectId id, const Mapping& m, bool) { FinalMapping(id, m); });
  for (const auto& [name, id] : delta_.names()) {
    if (id) Name(name, *id);
  }
  for (const auto& [id, object] : objects_) CheckObject(id, object);
}

std::string TreeCheck::Describe(ObjectId id) const {
  const auto it = objects_.find(id);
  if (it == objects_.end() || !it->second.exists) return absl::StrCat("object ", Value(id));
  return Describe({id, 0, it->second.name});
}

std::string TreeCheck::Describe(const Inode& inode) {
  return absl::StrCat("object ", Value(inode.id), " '", Printable(inode.name), "'");
}

void TreeCheck::TreeMapping(const MappingEntry& entry) {
  const Geometry& g = sb_.geometry;
  const Mapping& m = entry.mapping;
  const auto what = [&] {
    return absl::StrCat("object ", Value(entry.object), ", ", DescribeRun(m.logical), " of it, mapped to ",
                        DescribeRun(m.extent()));
  };
  if (!g.InDataArea(m.extent())) {
    findings_.Add(FindingCode::kMappingOutOfBounds, what(), ": outside the data area");
  }
  const auto use = [&](Extent extent) {
    base_.Add(extent, [&](Extent run) {
      findings_.Add(FindingCode::kMappingOverlap, what(), ": ", DescribeRun(run),
                    " mapped or used by the tree already");
    });
  };
  if (g.InDataArea(m.extent())) {
    use(m.extent());
  } else {
    // The part of a mapping that lies in the data area counts as in use, whatever the rest leads to.
    ForEachDataRun(g, m.extent(), use);
  }
  // The log may write into blocks that the checkpoint has reserved for the object, and may open written ones.
  delta_.Visit(
      entry.object, m.logical,
      [&](const Mapping& piece) {
        const BlockNumber place = m.physical + (piece.logical.start - m.logical.start);
        if (piece.state == MappingState::kHole || piece.physical != place) return;
        const bool keeps_place = m.state == MappingState::kUnwritten || piece.opened > 0;
        if (keeps_place && g.InDataArea(piece.extent())) reserved_.Add(piece.extent());
      },
      [](BlockRange) {});
  final_.Tree(&entry, [this](ObjectId id, const Mapping& part, bool) { FinalMapping(id, part); });
}

void TreeCheck::FinalMapping(ObjectId id, const Mapping& m) {
  if (data_ != nullptr) data_->Check(id, m);
  ++result_.mappings;
  (m.state == MappingState::kWritten ? result_.mapped_blocks : result_.unwritten_blocks) +=
      m.logical.count.value();
  ObjectRecord& object = objects_[id];
  ++object.mappings;
  if (m.logical.start >= object.furthest.start) object.furthest = m.logical;
}

void TreeCheck::SetInode(const Inode& inode) {
  ++result_.objects;
  ObjectRecord& object = objects_[inode.id];
  object.exists = true;
  object.size_bytes = inode.size_bytes;
  object.name = inode.name;
}

void TreeCheck::Name(const std::string& name, ObjectId id) {
  ++result_.names;
  const auto it = objects_.find(id);
  if (it == objects_.end() || !it->second.exists) {
    // The damage that hides the record is a finding already.
    if (lost_.Has(InodeKey(id))) return;
    findings_.Add(FindingCode::kNameWithoutObject, "name '", Printable(name), "' leads to object ", Value(id),
                  ", which does not exist");
    return;
  }
  it->second.named = true;
  if (it->second.name == name) return;
  findings_.Add(FindingCode::kNameMismatch, "name '", Printable(name), "' leads to object ", Value(id),
                ", whose own record says '", Printable(it->second.name), "'");
}

void TreeCheck::CheckObject(ObjectId id, const ObjectRecord& object) {
  if (!object.exists) {
    if (lost_.Has(InodeKey(id))) return;
    findings_.Add(FindingCode::kMappingOfNoObject, "object ", Value(id), " does not exist but has ",
                  object.mappings, " mappings");
    return;
  }
  const auto what = [&, id = id] { return Describe({id, 0, object.name}); };
  if (!object.named && !lost_.Has(NameKey(object.name)))
    findings_.Add(FindingCode::kObjectWithoutName, what(), ": no name leads to it");
  if (object.mappings > 0 && object.furthest.end() > ObjectEnd(object.size_bytes)) {
    findings_.Add(FindingCode::kMappingBeyondSize, what(), " has ", object.size_bytes,
                  " bytes, but a mapping of ", DescribeRun(object.furthest), " of it");
  }
}

}  // namespace untorn::internal
