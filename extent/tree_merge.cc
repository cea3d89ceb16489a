#include "extent/tree_merge.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace untorn {
namespace {

using Limit = std::optional<NodeKey>;  // nullopt: the end of the tree

class Merger {
 public:
  Merger(TreeEditSource& edits, TreeEditSource* ahead, ObjectId next_object, const Uuid& uuid,
         Generation generation, TreeMergeSink& sink)
      : edits_(edits),
        ahead_(ahead),
        next_object_(next_object),
        sink_(sink),
        packer_(uuid, generation, sink),
        leaf_(packer_) {
    if (ahead_ != nullptr) next_ahead_ = ahead_->Next();
  }

  absl::StatusOr<TreeRoot> Run(const TreeRoot& old_root) {
    Advance();
    if (edit_ == nullptr && !sink_.MovesNodes()) return old_root;
    if (old_root.root) {
      absl::StatusOr<std::shared_ptr<const TreeNode>> root = sink_.Load(old_root.root);
      // Damage stays where it is.
      if (absl::IsDataLoss(root.status()) && edit_ == nullptr) return old_root;
      if (absl::IsDataLoss(root.status())) {
        const MappingKeyBytes first(ObjectId{1}, 0);
        RETURN_IF_ERROR(MergeDamaged(first, std::nullopt, old_root.root));
      } else {
        RETURN_IF_ERROR(root.status());
        Retire(**root);
        RETURN_IF_ERROR(Walk(**root, std::nullopt));
      }
    }
    // The edits that are left lie behind the last old entry.
    while (edit_ != nullptr) {
      RETURN_IF_ERROR(ApplyEdit());
      Advance();
    }
    RETURN_IF_ERROR(leaf_.Flush());
    absl::StatusOr<TreePacker::Root> top = packer_.Finish();
    if (!top.ok()) return top.status();
    if (!top->pointer) return TreeRoot{};
    if (top->kept) RETURN_IF_ERROR(Collapse(*top));
    const BlockCount nodes = old_root.node_count + packer_.written();
    const uint64_t leaf_bytes = old_root.leaf_bytes + packer_.written_leaf_bytes();
    // A damaged tree may hold more than its root counts.
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
    const TreeEdit* const previous = edit_;
    // The key of a range edit is in edit_bytes_, which the next range edit overwrites.
    const MappingKeyBytes previous_bytes = edit_bytes_;
    edit_ = edits_.Next();
    applied_ = false;
    if (edit_ == nullptr) return;
    const std::string_view previous_key = previous == nullptr  ? std::string_view()
                                          : previous->is_range ? std::string_view(previous_bytes)
                                                               : std::string_view(previous->key);
    if (edit_->is_range) {
      const Mapping& m = edit_->mapping;
      UNTORN_CHECK(edit_->object != ObjectId::kNone && m.logical.count > 0 &&
                       m.logical.count <= kObjectBlocksMax && m.logical.start < kObjectEnd &&
                       (m.state == MappingState::kHole || m.physical != 0) &&
                       (m.state == MappingState::kWritten) == static_cast<bool>(m.checksums),
                   "ill-formed edit");
      UNTORN_CHECK(m.state == MappingState::kHole || m.logical.end() <= kObjectEnd, "edit beyond any object");
      UNTORN_CHECK(previous == nullptr || !previous->is_range || previous->object != edit_->object ||
                       previous->mapping.logical.end() <= m.logical.start,
                   "edits overlap");
      edit_bytes_ = MappingKeyBytes(edit_->object, m.logical.start);
      edit_key_ = edit_bytes_;
    } else {
      edit_key_ = edit_->key;
      UNTORN_CHECK(KeySpaceOf(edit_key_) && KeySpaceOf(edit_key_) != KeySpace::kMapping,
                   "range edits are for mappings, point edits for all else");
    }
    UNTORN_CHECK(previous == nullptr || CompareKeys(previous_key, edit_key_) < 0, "edits out of order");
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
    while (edit_ != nullptr && CompareKeys(edit_key_, key) < 0) {
      RETURN_IF_ERROR(ApplyEdit());
      if (edit_->is_range && CompareKeys(EndOfEdit(), key) > 0) break;
      Advance();
    }
    return absl::OkStatus();
  }
  MappingKeyBytes EndOfEdit() const { return {edit_->object, edit_->mapping.logical.end()}; }

  // Takes `node` apart. All that the node holds is below `limit`.
  absl::Status Walk(const TreeNode& node, const Limit& limit) {
    if (node.level() == 0) return MergeLeaf(node);
    if (node.level() == 1) Prefetch(node, limit);
    for (NodeReader at = node.reader(); at.Next();) RETURN_IF_ERROR(MergeChild(node, at, LimitOf(at, limit)));
    return absl::OkStatus();
  }
  // Returns where the child at which the reader stands ends.
  static Limit LimitOf(NodeReader at, const Limit& limit) {
    return at.Next() ? Limit(at.entry().key()) : limit;
  }

  // Asks for the leaves below `node` in which edits fall, all at once.
  void Prefetch(const TreeNode& node, const Limit& limit) {
    std::vector<BlockPointer> leaves;
    for (NodeReader at = node.reader(); (next_ahead_ != nullptr || sink_.MovesNodes()) && at.Next();) {
      const NodeKey key = at.entry().key();
      const Limit end = LimitOf(at, limit);
      while (next_ahead_ != nullptr && EndsBefore(*next_ahead_, key)) next_ahead_ = ahead_->Next();
      const bool touched = next_ahead_ != nullptr && (!end || BeginsBefore(*next_ahead_, *end));
      if (touched || sink_.MustMove(at.entry().child().block)) leaves.push_back(at.entry().child());
    }
    if (leaves.size() > 1) sink_.Prefetch(leaves);
  }
  static bool BeginsBefore(const TreeEdit& edit, std::string_view key) {
    if (!edit.is_range) return CompareKeys(edit.key, key) < 0;
    return CompareKeys(MappingKeyBytes(edit.object, edit.mapping.logical.start), key) < 0;
  }
  static bool EndsBefore(const TreeEdit& edit, std::string_view key) {
    if (!edit.is_range) return CompareKeys(edit.key, key) < 0;
    return CompareKeys(MappingKeyBytes(edit.object, edit.mapping.logical.end()), key) <= 0;
  }

  // Copies the entries between two edits as a run of bytes.
  absl::Status MergeLeaf(const TreeNode& leaf) {
    NodeReader at = leaf.reader();
    while (at.Next()) {
      if (edit_ == nullptr) return leaf_.AddRun(leaf, at, leaf.At(leaf.count() - 1));
      // Only the floor of an edit reaches into the edit, so the entries before it stay as they are.
      NodeReader before;
      const NodeReader floor = leaf.FloorFrom(at, edit_key_, &before);
      if (floor.index() > at.index()) {
        RETURN_IF_ERROR(KeepRun(leaf, at, before));
        at = floor;
      }
      const NodeEntry& entry = at.entry();
      if (entry.has_mapping_key()) {
        RETURN_IF_ERROR(MergeMapping(entry.mapping));
      } else if (const std::optional<LostEntries> lost = entry.lost()) {
        RETURN_IF_ERROR(MergeLost(*lost));
      } else {
        RETURN_IF_ERROR(MergePoint(entry.other_key, entry.value));
      }
    }
    return absl::OkStatus();
  }

  // Keeps the entries from `first` to `last`, which are before the current edit.
  absl::Status KeepRun(const TreeNode& leaf, const NodeReader& first, const NodeReader& last) {
    const MappingEntry& m = last.entry().mapping;
    const bool continues = edit_->is_range && m.Continues(edit_->object, edit_->mapping);
    if (!continues) return leaf_.AddRun(leaf, first, last);
    // One entry will say the last mapping and what the edit maps.
    if (first.index() < last.index()) RETURN_IF_ERROR(leaf_.AddRun(leaf, first, leaf.At(last.index() - 1)));
    return leaf_.AddMapping(m.object, m.mapping);
  }

  // Merges the child at which `at` stands.
  absl::Status MergeChild(const TreeNode& parent, const NodeReader& at, const Limit& limit) {
    const NodeKey key = at.entry().key();
    const BlockPointer pointer = at.entry().child();
    RETURN_IF_ERROR(ApplyBelow(key));
    // An old entry that reaches into an edit starts at or before the edit, in the same child. No old entry
    // reaches beyond the beginning of the following child.
    const bool touched = edit_ != nullptr && (!limit || CompareKeys(edit_key_, *limit) < 0);
    const bool moved = parent.level() > 1 ? sink_.MovesNodes() : sink_.MustMove(pointer.block);
    const auto keep = [&](bool underfull) -> absl::StatusOr<bool> {
      RETURN_IF_ERROR(leaf_.Flush());
      absl::StatusOr<bool> settled = packer_.Settle(parent.level() - 1, underfull);
      if (!settled.ok() || !*settled) return settled;
      std::string_view from = key;
      // Everything between the last kept node and this child is gone. The child takes over the empty key
      // range only if the child can be read; otherwise the damage would cover more keys.
      const std::optional<std::string> fence = packer_.fence();
      if (fence && CompareKeys(*fence, key) < 0) {
        absl::StatusOr<bool> readable = CanBeRead(parent, at, limit);
        if (!readable.ok()) return readable;
        if (*readable) from = *fence;
      }
      RETURN_IF_ERROR(packer_.AddKept(parent.level() - 1, from, limit, pointer));
      return true;
    };
    if (!touched && !moved) {
      // A child without edits stays, unread, unless a pending node needs its entries to be full enough.
      absl::StatusOr<bool> kept = keep(/*underfull=*/false);
      if (!kept.ok() || *kept) return kept.status();
    }
    absl::StatusOr<std::shared_ptr<const TreeNode>> child = sink_.Load(pointer);
    const absl::Status loaded = child.ok() ? CheckChild(parent, at.index(), limit, **child) : child.status();
    // A damaged child has no entries to give, so the pending node stays underfull.
    if (absl::IsDataLoss(loaded) && !touched) return keep(/*underfull=*/true).status();
    if (absl::IsDataLoss(loaded)) {
      return MergeDamaged(key, limit, pointer);
    }
    RETURN_IF_ERROR(loaded);
    Retire(**child);
    return Walk(**child, limit);
  }

  // Says whether the child and the nodes at its left edge can be read.
  absl::StatusOr<bool> CanBeRead(const TreeNode& parent, const NodeReader& at, const Limit& limit) {
    absl::StatusOr<std::shared_ptr<const TreeNode>> node = sink_.Load(at.entry().child());
    const absl::Status loaded = node.ok() ? CheckChild(parent, at.index(), limit, **node) : node.status();
    if (absl::IsDataLoss(loaded)) return false;
    if (!loaded.ok()) return loaded;
    if ((*node)->level() == 0) return true;
    const NodeReader first = (*node)->At(0);
    return CanBeRead(**node, first, LimitOf(first, limit));
  }

  // Merges the edits into the key range of a damaged node. Entries that say so take the place of what no edit
  // covers. The block of the node stays in use, for a repair. The node still counts, because the bytes in it
  // count too.
  absl::Status MergeDamaged(std::string_view key, const Limit& limit, BlockPointer pointer) {
    // The old tree knows no object from `next_object_` on, so nothing of such an object is lost.
    const std::string ends[] = {MappingKey(next_object_, 0), InodeKey(next_object_), ""};
    const KeySpace spaces[] = {KeySpace::kMapping, KeySpace::kInode, KeySpace::kName};
    for (size_t i = 0; i < std::size(spaces); ++i) {
      const std::string first = std::max(std::string(key), FirstKeyOf(spaces[i]));
      std::string end = ends[i];
      if (limit && (end.empty() || CompareKeys(*limit, end) < 0)) end = std::string_view(*limit);
      if (end.empty() || CompareKeys(first, end) < 0) RETURN_IF_ERROR(MergeLost({first, end, pointer.block}));
    }
    return absl::OkStatus();
  }

  absl::Status MergeLost(const LostEntries& lost) {
    const auto before_limit = [&](std::string_view key) {
      return lost.limit.empty() || CompareKeys(key, lost.limit) < 0;
    };
    std::string at(lost.first);  // everything before it is merged
    while (!at.empty() && before_limit(at)) {
      RETURN_IF_ERROR(ApplyBelow(at));
      if (edit_ != nullptr && CompareKeys(edit_key_, at) <= 0) {
        // The edit says what is here, or that nothing is.
        RETURN_IF_ERROR(ApplyEdit());
        at = EndOfEditKey();
        if (before_limit(at)) Advance();
        continue;
      }
      const bool more = edit_ != nullptr && before_limit(edit_key_);
      const std::string until(more ? edit_key_ : lost.limit);
      // Behind the last object that there can be, the key space has no more keys.
      if (KeySpaceOf(at)) RETURN_IF_ERROR(leaf_.AddPoint(at, LostValue(lost.node, until)));
      if (!more) break;
      at = until;
    }
    return absl::OkStatus();
  }
  // Returns the least key behind what the current edit covers. Is empty if there is none.
  std::string EndOfEditKey() const {
    if (!edit_->is_range) return NextKey(edit_->key);
    return NextKey(MappingKeyBytes(edit_->object, edit_->mapping.logical.end() - 1));
  }

  absl::Status MergePoint(std::string_view key, std::string_view value) {
    RETURN_IF_ERROR(ApplyBelow(key));
    if (edit_ == nullptr || edit_key_ != key) return leaf_.AddPoint(key, value);
    RETURN_IF_ERROR(ApplyEdit());
    Advance();
    return absl::OkStatus();
  }

  // Says whether the current edit concerns nothing before that block of the object.
  bool NoEditBefore(ObjectId object, ObjectBlock block) const {
    if (edit_ == nullptr || !edit_->is_range) return true;  // point edits follow all mappings
    if (edit_->object != object) return edit_->object > object;
    return edit_->mapping.logical.start >= block;
  }

  absl::Status MergeMapping(MappingEntry entry) {
    Mapping& old = entry.mapping;
    while (old.logical.count > 0) {
      RETURN_IF_ERROR(ApplyBelow(MappingKeyBytes(entry.object, old.logical.start)));
      if (NoEditBefore(entry.object, old.logical.end())) {
        return leaf_.AddMapping(entry.object, old);
      }
      const BlockRange range = edit_->mapping.logical;
      if (old.logical.start < range.start) {
        // The part before the edit stays mapped.
        RETURN_IF_ERROR(leaf_.AddMapping(entry.object, old.Before(range.start)));
        old = old.From(range.start);
      }
      RETURN_IF_ERROR(ApplyEdit());
      // Several edits may fall into one old mapping, so only the part that this edit covers goes.
      const ObjectBlock covered_end = std::min(old.logical.end(), range.end());
      sink_.MappingRemoved(old.Before(covered_end).extent());
      old = old.From(covered_end);
    }
    return absl::OkStatus();
  }

  // A kept node that is now the root gives way to its child while the node has only one child.
  absl::Status Collapse(TreePacker::Root& root) {
    for (;;) {
      absl::StatusOr<std::shared_ptr<const TreeNode>> node = sink_.Load(root.pointer);
      // A damaged root stays, as all damage does. Its first use tells the error.
      if (absl::IsDataLoss(node.status())) return absl::OkStatus();
      if (!node.ok()) return node.status();
      if ((*node)->level() + 1 != root.levels)
        return Damaged(**node, "its level is not the one its parent describes");
      if ((*node)->level() == 0 || (*node)->count() > 1) return absl::OkStatus();
      Retire(**node);
      root.pointer = (*node)->child(0);
      --root.levels;
    }
  }

  static absl::Status Damaged(const TreeNode& node, const char* why) {
    return absl::DataLossError(absl::StrCat("tree node at ", node.pointer().block.value(), ": ", why));
  }

  TreeEditSource& edits_;
  TreeEditSource* const ahead_;
  const TreeEdit* next_ahead_ = nullptr;
  const ObjectId next_object_;
  TreeMergeSink& sink_;
  TreePacker packer_;
  TreeLeafWriter leaf_;
  const TreeEdit* edit_ = nullptr;
  MappingKeyBytes edit_bytes_{ObjectId::kNone, 0};
  std::string_view edit_key_;  // of edit_: its own, or edit_bytes_
  bool applied_ = false;
  BlockCount retired_;
  uint64_t retired_leaf_bytes_ = 0;
};

}  // namespace

BlockCount TreeGrowthMax(const TreeRoot& root, uint64_t entries) {
  if (entries == 0) return 0;
  // A tree that is lower now may become higher while the changes are made.
  const uint64_t levels = static_cast<uint64_t>(std::max(root.levels, 6));
  const BlockCount splits(entries * (levels + 1));
  // A leaf that is a third full holds 1301 bytes, and its first entry may take more there than it took behind
  // another one. A node above the leaves holds four long names or more, so such nodes add a third at most. The
  // last node of every level may be emptier.
  constexpr uint64_t kLeafBytesMin = kUnderfullBytes - kHeaderBytes - kNumberEntryBytesMax;
  const uint64_t leaves = (root.leaf_bytes + entries * kTreeEntryBytes) / kLeafBytesMin + 1;
  const BlockCount nodes(leaves + leaves / 3 + levels + 1);
  return std::min(splits, nodes - std::min(nodes, root.node_count));
}

absl::StatusOr<TreeRoot> MergeTree(TreeRoot old_root, ObjectId next_object, TreeEditSource& edits,
                                   TreeEditSource* ahead, const Uuid& uuid, Generation generation,
                                   TreeMergeSink& sink) {
  return Merger(edits, ahead, next_object, uuid, generation, sink).Run(old_root);
}

}  // namespace untorn
