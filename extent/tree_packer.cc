#include "extent/tree_packer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/status_macros.h"

namespace untorn {
namespace {

constexpr uint64_t kEntryBlocksMax = std::numeric_limits<uint32_t>::max();

}  // namespace

absl::Status TreePacker::AddEntry(std::string_view key, std::string_view value) {
  RETURN_IF_ERROR(CheckOrder(key));
  const std::optional<std::string> fence = std::exchange(fence_, std::nullopt);
  return Append(0, key, value, fence ? std::string_view(*fence) : key);
}

absl::StatusOr<bool> TreePacker::Settle(int level, bool underfull) {
  for (int l = 0; l <= level && l < static_cast<int>(levels_.size()); ++l) {
    Level& at = levels_[l];
    if (at.pending.empty()) continue;
    if (at.pending.used_bytes() < kUnderfullBytes) {
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
  RETURN_IF_ERROR(Append(level + 1, key, ChildValue(pointer), key));
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
      const uint64_t below = static_cast<uint64_t>(l);
      if (l > 0 && at.pending.count() == 1) return Root{at.sole_child(), at.last_is_kept, below};
      absl::StatusOr<BlockPointer> root = Write(at.pending);
      if (!root.ok()) return root.status();
      return Root{*root, false, below + 1};
    }
    RETURN_IF_ERROR(WriteLevel(l));
  }
  return Root{};
}

absl::Status TreePacker::CheckOrder(std::string_view key) {
  if (key <= last_key_) return absl::DataLossError("mapping tree: entries out of order or overlapping");
  last_key_ = key;
  return absl::OkStatus();
}

// `separator`: where the node begins if this entry is its first.
absl::Status TreePacker::Append(int level, std::string_view key, std::string_view value,
                                std::string_view separator) {
  while (static_cast<int>(levels_.size()) <= level) levels_.emplace_back(static_cast<int>(levels_.size()));
  Level& at = levels_[level];
  at.last_is_kept = false;
  if (!at.pending.Fits(key, value)) {
    if (!at.full.empty()) RETURN_IF_ERROR(WriteBuilder(level, at.full, at.full_separator));
    std::swap(at.full, at.pending);
    std::swap(at.full_separator, at.pending_separator);
  }
  if (at.pending.empty()) at.pending_separator = separator;
  at.pending.Add(key, value);
  return absl::OkStatus();
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
  return Append(level + 1, separator, ChildValue(*node), separator);
}

absl::StatusOr<BlockPointer> TreePacker::Write(TreeNodeBuilder& builder) {
  absl::StatusOr<uint64_t> address = sink_.AllocateNode();
  if (!address.ok()) return address.status();
  UNTORN_CHECK(*address != 0, "block 0 is no place for a node");
  if (builder.level() == 0) written_leaf_bytes_ += builder.entry_bytes();
  const BlockPointer node = builder.Finish(uuid_, *address, generation_, block_);
  RETURN_IF_ERROR(sink_.WriteNode(node, block_));
  ++written_;
  return node;
}

void TreePacker::ShareEvenly(Level& at) {
  const size_t half = (at.full.used_bytes() + at.pending.used_bytes()) / 2;
  auto entries = at.full.Take();
  for (auto& entry : at.pending.Take()) entries.push_back(std::move(entry));
  for (const auto& [key, value] : entries) {
    (at.pending.empty() && at.full.used_bytes() < half ? at.full : at.pending).Add(key, value);
  }
  at.pending_separator = at.pending.first_key();
}

absl::Status TreeLeafWriter::AddMapping(ObjectId object, Mapping mapping) {
  while (mapping.logical.count > 0) {
    const uint64_t count = std::min(mapping.logical.count, kEntryBlocksMax);
    if (Continues(object, mapping, count)) {
      held_.mapping.logical.count += count;
    } else {
      RETURN_IF_ERROR(Flush());
      held_ = {object, mapping};
      held_.mapping.logical.count = count;
    }
    mapping.logical = {mapping.logical.start + count, mapping.logical.count - count};
    mapping.physical += count;
  }
  return absl::OkStatus();
}

absl::Status TreeLeafWriter::AddPoint(std::string_view key, std::string_view value) {
  RETURN_IF_ERROR(Flush());
  return packer_.AddEntry(key, value);
}

absl::Status TreeLeafWriter::Flush() {
  if (held_.object == ObjectId::kNone) return absl::OkStatus();
  const Mapping& m = held_.mapping;
  const std::string key = MappingKey(std::exchange(held_.object, ObjectId::kNone), m.logical.start);
  return packer_.AddEntry(key, MappingValue(m.physical, static_cast<uint32_t>(m.logical.count), m.state));
}

bool TreeLeafWriter::Continues(ObjectId object, const Mapping& next, uint64_t count) const {
  const Mapping& m = held_.mapping;
  return held_.object == object && m.state == next.state && m.logical.end() == next.logical.start &&
         m.extent().end() == next.physical && m.logical.count + count <= kEntryBlocksMax;
}

}  // namespace untorn
