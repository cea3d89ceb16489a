#include "extent/tree_packer.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace untorn {

absl::Status TreePacker::AddEntry(const NodeEntry& entry) {
  const NodeKey key = entry.key();
  RETURN_IF_ERROR(CheckOrder(key));
  NoteLast(entry);
  if (!fence_) return Append(0, entry, key);
  // The entry follows a kept node. If its node begins here, that node begins, for its parent, where the kept
  // node ended.
  const std::optional<std::string> fence = std::exchange(fence_, std::nullopt);
  return Append(0, entry, *fence);
}

absl::StatusOr<bool> TreePacker::Settle(int level, bool underfull) {
  for (int l = 0; l <= level && l < static_cast<int>(levels_.size()); ++l) {
    Level& at = levels_[l];
    if (at.pending.empty()) continue;
    if (at.pending.used_bytes() < kUnderfullBytes) {
      // Only the full node before an underfull one has entries to share.
      if (at.full.empty() && !underfull) return false;
      if (!at.full.empty()) ShareEvenly(at);
    }
    RETURN_IF_ERROR(WriteLevel(l));
  }
  return true;
}

absl::Status TreePacker::AddKept(int level, std::string_view key, std::optional<std::string_view> limit,
                                 BlockPointer pointer) {
  RETURN_IF_ERROR(CheckOrder(key));
  last_key_ = key;
  RETURN_IF_ERROR(Append(level + 1, NodeEntry::OfChild(key, pointer), key));
  // What follows must not widen the key range of the kept node, so the end of this range is noted.
  fence_ = limit;
  levels_[level + 1].last_is_kept = true;
  return absl::OkStatus();
}

absl::StatusOr<TreePacker::Root> TreePacker::Finish() {
  for (int l = 0; l < static_cast<int>(levels_.size()); ++l) {
    Level& at = levels_[l];
    if (at.pending.empty()) continue;
    const bool is_top = l + 1 == static_cast<int>(levels_.size()) ||
                        std::all_of(levels_.begin() + l + 1, levels_.end(),
                                    [](const Level& above) { return above.pending.empty(); });
    if (is_top && at.full.empty()) {
      // A root with a single child is left out, because the child can be the root.
      if (l > 0 && at.pending.count() == 1) return Root{at.sole_child(), at.last_is_kept, l};
      absl::StatusOr<BlockPointer> root = Write(at.pending);
      if (!root.ok()) return root.status();
      return Root{*root, false, l + 1};
    }
    RETURN_IF_ERROR(WriteLevel(l));
  }
  return Root{};
}

absl::Status TreePacker::CheckOrder(std::string_view key) {
  if (CompareKeys(key, last_key_) <= 0)
    return absl::DataLossError("mapping tree: entries out of order or overlapping");
  return absl::OkStatus();
}

void TreePacker::NoteLast(const NodeEntry& entry) {
  const MappingEntry& m = entry.mapping;
  const NodeKey last = entry.has_mapping_key() ? NodeKey(m.object, m.mapping.logical.end() - 1) : entry.key();
  last_key_ = std::string_view(last);
}

TreePacker::Level& TreePacker::LevelAt(int level) {
  while (static_cast<int>(levels_.size()) <= level) levels_.emplace_back(static_cast<int>(levels_.size()));
  return levels_[level];
}

absl::Status TreePacker::NextNode(Level& at) {
  // Only the last two nodes of a level may still share entries, so the one before them is written.
  if (!at.full.empty()) RETURN_IF_ERROR(WriteBuilder(at.full.level(), at.full, at.full_separator));
  std::swap(at.full, at.pending);
  std::swap(at.full_separator, at.pending_separator);
  return absl::OkStatus();
}

// `separator` is where the node begins, for its parent, if this entry is the first of the node.
absl::Status TreePacker::Append(int level, const NodeEntry& entry, std::string_view separator) {
  Level& at = LevelAt(level);
  at.last_is_kept = false;
  if (at.pending.empty()) at.pending_separator = separator;
  if (at.pending.Add(entry)) return absl::OkStatus();
  RETURN_IF_ERROR(NextNode(at));
  at.pending_separator = separator;
  UNTORN_CHECK(at.pending.Add(entry), "an entry is larger than a node");
  return absl::OkStatus();
}

absl::Status TreePacker::AddRun(const TreeNode& leaf, NodeReader first, const NodeReader& last) {
  NoteLast(last.entry());
  while (true) {
    first = levels_[0].pending.AddRun(leaf, first, last);
    if (first.index() == last.index()) return absl::OkStatus();
    UNTORN_CHECK(first.Next(), "a run ends before its end");
    RETURN_IF_ERROR(Append(0, first.entry(), first.entry().key()));
  }
}

absl::Status TreePacker::WriteLevel(int level) {
  Level& at = levels_[level];
  if (!at.full.empty()) RETURN_IF_ERROR(WriteBuilder(level, at.full, at.full_separator));
  return WriteBuilder(level, at.pending, at.pending_separator);
}

absl::Status TreePacker::WriteBuilder(int level, TreeNodeBuilder& builder, const std::string& separator) {
  if (level > kTreeLevelMax) return absl::DataLossError("mapping tree: more than 16 levels");
  absl::StatusOr<BlockPointer> node = Write(builder);
  if (!node.ok()) return node.status();
  return Append(level + 1, NodeEntry::OfChild(separator, *node), separator);
}

absl::StatusOr<BlockPointer> TreePacker::Write(TreeNodeBuilder& builder) {
  absl::StatusOr<BlockNumber> address = sink_.AllocateNode();
  if (!address.ok()) return address.status();
  UNTORN_CHECK(*address != 0, "block 0 is no place for a node");
  std::shared_ptr<const TreeNode> node = builder.Finish(uuid_, *address, generation_);
  if (node->level() == 0) written_leaf_bytes_ += node->entry_bytes();
  ++written_;
  const BlockPointer pointer = node->pointer();
  RETURN_IF_ERROR(sink_.WriteNode(std::move(node)));
  return pointer;
}

void TreePacker::ShareEvenly(Level& at) {
  // The first entry of `full` stays the first, so only the separator of `pending` changes.
  const size_t half = (at.full.used_bytes() + at.pending.used_bytes()) / 2;
  TreeNodeBuilder left(at.full.level()), right(at.full.level());
  for (const TreeNodeBuilder* from : {&at.full, &at.pending}) {
    for (NodeReader entries = from->reader(); entries.Next();) {
      const bool to_left = right.empty() && left.used_bytes() < half;
      if (!to_left && right.empty()) at.pending_separator = std::string_view(entries.entry().key());
      UNTORN_CHECK((to_left ? left : right).Add(entries.entry()), "half of two nodes does not fit one");
    }
  }
  std::swap(at.full, left);
  std::swap(at.pending, right);
}

absl::Status TreeLeafWriter::AddMapping(ObjectId object, const Mapping& mapping) {
  // Several entries say a mapping that is longer than one entry can say.
  const BlockCount most = MappingEntryBlocksMax(mapping.state);
  for (ObjectBlock at = mapping.logical.start; at < mapping.logical.end();) {
    const BlockCount count = std::min(mapping.logical.end() - at, most);
    RETURN_IF_ERROR(AddEntry(object, mapping.Part({at, count})));
    at += count;
  }
  return absl::OkStatus();
}

absl::Status TreeLeafWriter::AddEntry(ObjectId object, const Mapping& mapping) {
  // An entry is held back for as long as the next mapping may continue it.
  const bool continues = held_.Continues(object, mapping);
  if (continues) {
    held_.mapping.logical.count += mapping.logical.count;
  } else {
    RETURN_IF_ERROR(Flush());
    held_ = {object, mapping};
    held_checksums_.clear();
  }
  if (!mapping.checksums) return absl::OkStatus();
  for (BlockCount at; at < mapping.logical.count; ++at) held_checksums_.push_back(mapping.checksums.at(at));
  held_.mapping.checksums = ChecksumsRef(held_checksums_);
  return absl::OkStatus();
}

absl::Status TreeLeafWriter::AddPoint(std::string_view key, std::string_view value) {
  RETURN_IF_ERROR(Flush());
  return packer_.AddEntry(NodeEntry::OfPoint(key, value));
}

absl::Status TreeLeafWriter::AddRun(const TreeNode& leaf, const NodeReader& first, const NodeReader& last) {
  const NodeEntry& entry = first.entry();
  if (entry.has_mapping_key()) {
    // The entry may continue what was added before.
    RETURN_IF_ERROR(AddEntry(entry.mapping.object, entry.mapping.mapping));
  } else {
    RETURN_IF_ERROR(AddPoint(entry.other_key, entry.value));
  }
  if (first.index() == last.index()) return absl::OkStatus();
  RETURN_IF_ERROR(Flush());
  return packer_.AddRun(leaf, first, last);
}

absl::Status TreeLeafWriter::Flush() {
  const ObjectId object = std::exchange(held_.object, ObjectId::kNone);
  if (object == ObjectId::kNone) return absl::OkStatus();
  return packer_.AddEntry(NodeEntry::OfMapping(object, held_.mapping));
}

}  // namespace untorn
