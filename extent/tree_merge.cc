#include "extent/tree_merge.h"

#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "device/check.h"

namespace untorn {
namespace {

#define RETURN_IF_ERROR(expr) \
  if (absl::Status status_ = (expr); !status_.ok()) return status_

constexpr size_t kUnderfullBytes = kBlockBytes / 3;
constexpr uint64_t kEntryBlocksMax = std::numeric_limits<uint32_t>::max();

// Fills the nodes of the new tree, each level from left to right.
class Packer {
 public:
  Packer(const Uuid& uuid, uint64_t generation, TreeMergeSink& sink)
      : uuid_(uuid), generation_(generation), sink_(sink) {}

  absl::Status AddEntry(std::string_view key, std::string_view value) {
    RETURN_IF_ERROR(CheckOrder(key));
    return Append(0, key, value);
  }

  // Writes the pending nodes of `level` and below, so that a kept subtree of that level can follow. False if
  // one of them would stay underfull: the subtree has to be taken apart instead.
  absl::StatusOr<bool> Settle(int level) {
    for (int l = 0; l <= level && l < static_cast<int>(levels_.size()); ++l) {
      Level& at = levels_[l];
      if (at.pending.empty()) continue;
      if (at.pending.used_bytes() < kUnderfullBytes) {
        if (at.full.empty()) return false;
        ShareEvenly(at);
      }
      RETURN_IF_ERROR(WriteLevel(l));
    }
    return true;
  }

  // After Settle(level).
  absl::Status AddKept(int level, std::string_view key, BlockPointer pointer) {
    RETURN_IF_ERROR(CheckOrder(key));
    RETURN_IF_ERROR(Append(level + 1, key, ChildValue(pointer)));
    levels_[level + 1].last_is_kept = true;
    return absl::OkStatus();
  }

  struct Root {
    BlockPointer pointer;
    bool kept = false;
    uint64_t levels = 0;
  };
  // Writes all that is pending.
  absl::StatusOr<Root> Finish() {
    for (int l = 0; l < static_cast<int>(levels_.size()); ++l) {
      Level& at = levels_[l];
      if (at.pending.empty()) continue;
      const bool is_top = l + 1 == static_cast<int>(levels_.size()) ||
                          std::all_of(levels_.begin() + l + 1, levels_.end(),
                                      [](const Level& above) { return above.pending.empty(); });
      if (is_top && at.full.empty()) {
        const uint64_t below = static_cast<uint64_t>(l);
        if (l > 0 && at.pending.count() == 1) return Root{at.sole_child(), at.last_is_kept, below};
        absl::StatusOr<Written> root = Write(at.pending);
        if (!root.ok()) return root.status();
        return Root{root->pointer, false, below + 1};
      }
      RETURN_IF_ERROR(WriteLevel(l));
    }
    return Root{};
  }

  uint64_t written() const { return written_; }
  uint64_t written_leaf_bytes() const { return written_leaf_bytes_; }

 private:
  // `full` is held back until the fate of `pending` is known; it is empty unless `pending` has entries.
  struct Level {
    explicit Level(int level) : full(level), pending(level) {}
    BlockPointer sole_child() { return ParseChildValue(pending.Take().front().second); }
    TreeNodeBuilder full, pending;
    bool last_is_kept = false;
  };
  struct Written {
    std::string first_key;
    BlockPointer pointer;
  };

  absl::Status CheckOrder(std::string_view key) {
    if (key <= last_key_) return absl::DataLossError("mapping tree: entries out of order or overlapping");
    last_key_ = key;
    return absl::OkStatus();
  }

  absl::Status Append(int level, std::string_view key, std::string_view value) {
    while (static_cast<int>(levels_.size()) <= level) levels_.emplace_back(static_cast<int>(levels_.size()));
    Level& at = levels_[level];
    at.last_is_kept = false;
    if (!at.pending.Fits(key, value)) {
      if (!at.full.empty()) RETURN_IF_ERROR(WriteBuilder(level, at.full));
      std::swap(at.full, at.pending);
    }
    at.pending.Add(key, value);
    return absl::OkStatus();
  }

  absl::Status WriteLevel(int level) {
    if (!levels_[level].full.empty()) RETURN_IF_ERROR(WriteBuilder(level, levels_[level].full));
    return WriteBuilder(level, levels_[level].pending);
  }

  absl::Status WriteBuilder(int level, TreeNodeBuilder& builder) {
    if (level > kTreeLevelMax) return absl::DataLossError("mapping tree: more than 16 levels");
    absl::StatusOr<Written> node = Write(builder);
    if (!node.ok()) return node.status();
    return Append(level + 1, node->first_key, ChildValue(node->pointer));
  }

  absl::StatusOr<Written> Write(TreeNodeBuilder& builder) {
    absl::StatusOr<uint64_t> address = sink_.AllocateNode();
    if (!address.ok()) return address.status();
    UNTORN_CHECK(*address != 0, "block 0 is no place for a node");
    if (builder.level() == 0) written_leaf_bytes_ += builder.entry_bytes();
    Written node{std::string(builder.first_key()), builder.Finish(uuid_, *address, generation_, block_)};
    RETURN_IF_ERROR(sink_.WriteNode(*address, block_));
    ++written_;
    return node;
  }

  static void ShareEvenly(Level& at) {
    const size_t half = (at.full.used_bytes() + at.pending.used_bytes()) / 2;
    auto entries = at.full.Take();
    for (auto& entry : at.pending.Take()) entries.push_back(std::move(entry));
    for (const auto& [key, value] : entries) {
      (at.pending.empty() && at.full.used_bytes() < half ? at.full : at.pending).Add(key, value);
    }
  }

  const Uuid& uuid_;
  const uint64_t generation_;
  TreeMergeSink& sink_;
  std::deque<Level> levels_;  // references stay valid while a level is added
  uint64_t written_ = 0, written_leaf_bytes_ = 0;
  std::string last_key_;
  alignas(kBlockBytes) std::array<std::byte, kBlockBytes> block_;
};

// Appends mappings to the packer, joining what is contiguous.
class LeafWriter {
 public:
  explicit LeafWriter(Packer& packer) : packer_(packer) {}

  absl::Status AddMapping(ObjectId object, Mapping mapping) {
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

  absl::Status AddPoint(std::string_view key, std::string_view value) {
    RETURN_IF_ERROR(Flush());
    return packer_.AddEntry(key, value);
  }

  absl::Status Flush() {
    if (held_.object == ObjectId::kNone) return absl::OkStatus();
    const Mapping& m = held_.mapping;
    const std::string key = MappingKey(std::exchange(held_.object, ObjectId::kNone), m.logical.start);
    return packer_.AddEntry(key, MappingValue(m.physical, static_cast<uint32_t>(m.logical.count), m.state));
  }

 private:
  bool Continues(ObjectId object, const Mapping& next, uint64_t count) const {
    const Mapping& m = held_.mapping;
    return held_.object == object && m.state == next.state && m.logical.end() == next.logical.start &&
           m.extent().end() == next.physical && m.logical.count + count <= kEntryBlocksMax;
  }

  Packer& packer_;
  MappingEntry held_;  // kNone: nothing
};

class Merger {
 public:
  Merger(TreeEditSource& edits, const Uuid& uuid, uint64_t generation, TreeMergeSink& sink)
      : edits_(edits), sink_(sink), packer_(uuid, generation, sink), leaf_(packer_) {}

  absl::StatusOr<TreeRoot> Run(const TreeRoot& old_root) {
    Advance();
    if (edit_ == nullptr) return old_root;
    if (old_root.root) {
      absl::StatusOr<std::shared_ptr<const TreeNode>> root = sink_.Load(old_root.root);
      if (!root.ok()) return root.status();
      Retire(**root);
      RETURN_IF_ERROR(Walk(**root, std::nullopt));
    }
    while (edit_ != nullptr) {
      RETURN_IF_ERROR(ApplyEdit());
      Advance();
    }
    RETURN_IF_ERROR(leaf_.Flush());
    absl::StatusOr<Packer::Root> top = packer_.Finish();
    if (!top.ok()) return top.status();
    if (top->kept) RETURN_IF_ERROR(Collapse(*top));
    const uint64_t nodes = old_root.node_count + packer_.written();
    const uint64_t leaf_bytes = old_root.leaf_bytes + packer_.written_leaf_bytes();
    if (retired_ > nodes || retired_leaf_bytes_ > leaf_bytes) {
      return absl::DataLossError("mapping tree: more nodes, or more in them, than the root counts");
    }
    return TreeRoot{top->pointer, nodes - retired_, leaf_bytes - retired_leaf_bytes_, top->levels};
  }

 private:
  void Retire(const TreeNode& node) {
    ++retired_;
    if (node.level() == 0) retired_leaf_bytes_ += node.entry_bytes();
    sink_.NodeRetired(node.pointer().block);
  }

  void Advance() {
    const TreeEdit* const previous = std::exchange(edit_, edits_.Next());
    applied_ = false;
    if (edit_ == nullptr) return;
    UNTORN_CHECK(previous == nullptr || previous->key < edit_->key, "edits out of order");
    const bool is_mapping = KeySpaceOf(edit_->key) == KeySpace::kMapping;
    UNTORN_CHECK(edit_->is_range == is_mapping, "range edits are for mappings, point edits for all else");
    if (!edit_->is_range) return;
    const Mapping& m = edit_->mapping;
    UNTORN_CHECK(edit_->key == MappingKey(edit_->object, m.logical.start), "edit with another range's key");
    UNTORN_CHECK(m.logical.count > 0 && m.logical.count <= kObjectBlocksMax &&
                     (m.state == MappingState::kHole || m.physical != 0),
                 "ill-formed edit");
    UNTORN_CHECK(m.state == MappingState::kHole || m.logical.end() <= kObjectBlocksMax,
                 "edit beyond any object");
    UNTORN_CHECK(previous == nullptr || !previous->is_range || previous->object != edit_->object ||
                     previous->mapping.logical.end() <= m.logical.start,
                 "edits overlap");
  }

  // Puts what the edit sets into the new tree, once.
  absl::Status ApplyEdit() {
    if (std::exchange(applied_, true)) return absl::OkStatus();
    if (edit_->is_range) {
      if (edit_->mapping.state == MappingState::kHole) return absl::OkStatus();
      return leaf_.AddMapping(edit_->object, edit_->mapping);
    }
    return edit_->value ? leaf_.AddPoint(edit_->key, *edit_->value) : absl::OkStatus();
  }

  // Applies the edits below `key`. A range that reaches beyond `key` stays the current edit.
  absl::Status ApplyBelow(std::string_view key) {
    while (edit_ != nullptr && edit_->key < key) {
      RETURN_IF_ERROR(ApplyEdit());
      if (edit_->is_range && MappingKey(edit_->object, edit_->mapping.logical.end()) > key) break;
      Advance();
    }
    return absl::OkStatus();
  }

  // Takes `node` apart. `limit`: all its keys are below it; nothing for the rightmost path.
  absl::Status Walk(const TreeNode& node, std::optional<std::string_view> limit) {
    if (limit && node.key(node.count() - 1) >= *limit)
      return Damaged(node, "its last key is not below the following node's");
    for (int i = 0; i < node.count(); ++i) {
      if (node.level() == 0) {
        RETURN_IF_ERROR(MergeEntry(node, i));
      } else {
        RETURN_IF_ERROR(MergeChild(node, i, i + 1 < node.count() ? node.key(i + 1) : limit));
      }
    }
    return absl::OkStatus();
  }

  absl::Status MergeChild(const TreeNode& parent, int index, std::optional<std::string_view> limit) {
    const std::string_view key = parent.key(index);
    if (!KeySpaceOf(key)) return IllFormed(parent, index);
    RETURN_IF_ERROR(ApplyBelow(key));
    // An old entry that reaches into an edit starts at or before it, in the same child: keys are exact.
    const bool touched = edit_ != nullptr && (!limit || edit_->key < *limit);
    if (!touched) {
      RETURN_IF_ERROR(leaf_.Flush());
      absl::StatusOr<bool> settled = packer_.Settle(parent.level() - 1);
      if (!settled.ok()) return settled.status();
      if (*settled) return packer_.AddKept(parent.level() - 1, key, parent.child(index));
    }
    absl::StatusOr<std::shared_ptr<const TreeNode>> child = sink_.Load(parent.child(index));
    if (!child.ok()) return child.status();
    RETURN_IF_ERROR(CheckChild(parent, index, **child));
    Retire(**child);
    return Walk(**child, limit);
  }

  absl::Status MergeEntry(const TreeNode& leaf, int index) {
    const std::string_view key = leaf.key(index), value = leaf.value(index);
    if (KeySpaceOf(key) == KeySpace::kMapping) {
      const std::optional<MappingEntry> entry = ParseMapping(key, value);
      if (!entry) return IllFormed(leaf, index);
      const BlockRange range = entry->mapping.logical;
      if (entry->object == old_object_ && range.start < old_end_) return Damaged(leaf, "mappings overlap");
      old_object_ = entry->object;
      old_end_ = range.end();
      return MergeMapping(*entry);
    }
    if (!ParseInode(key, value) && !ParseName(key, value)) return IllFormed(leaf, index);
    RETURN_IF_ERROR(ApplyBelow(key));
    if (edit_ == nullptr || edit_->key != key) return leaf_.AddPoint(key, value);
    RETURN_IF_ERROR(ApplyEdit());
    Advance();
    return absl::OkStatus();
  }

  absl::Status MergeMapping(MappingEntry entry) {
    Mapping& old = entry.mapping;
    auto skip = [&old](uint64_t blocks) {
      old.logical = {old.logical.start + blocks, old.logical.count - blocks};
      old.physical += blocks;
    };
    while (old.logical.count > 0) {
      RETURN_IF_ERROR(ApplyBelow(MappingKey(entry.object, old.logical.start)));
      if (edit_ == nullptr || edit_->object != entry.object ||
          edit_->mapping.logical.start >= old.logical.end()) {
        return leaf_.AddMapping(entry.object, old);
      }
      const BlockRange range = edit_->mapping.logical;
      if (old.logical.start < range.start) {
        Mapping head = old;
        head.logical.count = range.start - old.logical.start;
        RETURN_IF_ERROR(leaf_.AddMapping(entry.object, head));
        skip(head.logical.count);
      }
      RETURN_IF_ERROR(ApplyEdit());
      const uint64_t covered = std::min(old.logical.end(), range.end()) - old.logical.start;
      sink_.MappingRemoved({old.physical, covered});
      skip(covered);
    }
    return absl::OkStatus();
  }

  // A kept node that is now the root gives way to its child while it has only one.
  absl::Status Collapse(Packer::Root& root) {
    for (;;) {
      absl::StatusOr<std::shared_ptr<const TreeNode>> node = sink_.Load(root.pointer);
      if (!node.ok()) return node.status();
      if ((*node)->level() == 0 || (*node)->count() > 1) return absl::OkStatus();
      Retire(**node);
      root.pointer = (*node)->child(0);
      --root.levels;
    }
  }

  static absl::Status Damaged(const TreeNode& node, const char* why) {
    return absl::DataLossError(absl::StrCat("tree node at ", node.pointer().block, ": ", why));
  }
  static absl::Status IllFormed(const TreeNode& node, int index) {
    return Damaged(node, absl::StrCat("entry ", index, " is ill-formed").c_str());
  }

  TreeEditSource& edits_;
  TreeMergeSink& sink_;
  Packer packer_;
  LeafWriter leaf_;
  const TreeEdit* edit_ = nullptr;
  bool applied_ = false;
  uint64_t retired_ = 0, retired_leaf_bytes_ = 0;
  ObjectId old_object_ = ObjectId::kNone;  // of the last old mapping seen
  uint64_t old_end_ = 0;
};

}  // namespace

uint64_t TreeGrowthMax(const TreeRoot& root, uint64_t entries) {
  if (entries == 0) return 0;
  // Where it is lower now it may become higher meanwhile.
  const uint64_t levels = std::max<uint64_t>(root.levels, 6);
  const uint64_t splits = entries * (levels + 1);
  // A leaf that is a third full holds 1301 bytes. Of long names, a node above leaves holds four or more: they add a
  // third at most. Of every level the last node may be emptier.
  constexpr uint64_t kLeafBytesMin = kUnderfullBytes - kHeaderBytes;
  const uint64_t leaves = (root.leaf_bytes + entries * kTreeEntryBytes) / kLeafBytesMin + 1;
  const uint64_t nodes = leaves + leaves / 3 + levels + 1;
  return std::min(splits, nodes - std::min(nodes, root.node_count));
}

absl::StatusOr<TreeRoot> MergeTree(TreeRoot old_root, TreeEditSource& edits, const Uuid& uuid,
                                   uint64_t generation, TreeMergeSink& sink) {
  return Merger(edits, uuid, generation, sink).Run(old_root);
}

}  // namespace untorn
