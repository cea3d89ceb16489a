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
    if (edit_ == nullptr) return old_root;
    if (old_root.root) {
      absl::StatusOr<std::shared_ptr<const TreeNode>> root = sink_.Load(old_root.root);
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
                       (m.state == MappingState::kHole || m.physical != 0),
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

  // Takes `node` apart. All that the node holds is below `limit`, which is nullopt for the rightmost path.
  absl::Status Walk(const TreeNode& node, std::optional<std::string_view> limit) {
    if (node.level() == 0) return MergeLeaf(node);
    if (node.level() == 1) Prefetch(node, limit);
    for (int i = 0; i < node.count(); ++i) {
      RETURN_IF_ERROR(MergeChild(node, i, i + 1 < node.count() ? node.key(i + 1) : limit));
    }
    return absl::OkStatus();
  }

  // Asks for the leaves below `node` in which edits fall, all at once.
  void Prefetch(const TreeNode& node, std::optional<std::string_view> limit) {
    std::vector<BlockPointer> leaves;
    for (int i = 0; i < node.count() && next_ahead_ != nullptr; ++i) {
      const std::string_view key = node.key(i);
      const std::optional<std::string_view> end = i + 1 < node.count() ? node.key(i + 1) : limit;
      while (next_ahead_ != nullptr && EndsBefore(*next_ahead_, key)) next_ahead_ = ahead_->Next();
      if (next_ahead_ != nullptr && (!end || BeginsBefore(*next_ahead_, *end)))
        leaves.push_back(node.child(i));
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

  // Copies the entries between two edits as a run of bytes. The last mapping of a run is added apart,
  // because one entry may have to say the mapping and what follows it.
  absl::Status MergeLeaf(const TreeNode& leaf) {
    int run = 0;         // the entries [run, i) are a run
    MappingEntry last;   // the last entry of the run, if `joins`
    bool joins = false;  // the last entry of the run is a mapping
    const auto end_run = [&](int end) -> absl::Status {
      if (run == end) return absl::OkStatus();
      RETURN_IF_ERROR(leaf_.AddRun(leaf, run, joins ? end - 1 : end));
      return joins ? leaf_.AddMapping(last.object, last.mapping) : absl::OkStatus();
    };
    for (int i = 0; i < leaf.count(); ++i) {
      const auto [key, value] = leaf.entry(i);
      MappingEntry entry;
      const bool is_mapping = ParseMapping(key, value, &entry);
      if (!is_mapping && !IsWellFormed(key, value)) return IllFormed(leaf, i);
      if (const std::optional<LostEntries> lost = is_mapping ? std::nullopt : ParseLost(key, value)) {
        RETURN_IF_ERROR(end_run(i));
        run = i + 1;
        RETURN_IF_ERROR(MergeLost(*lost));
        continue;
      }
      if (is_mapping) RETURN_IF_ERROR(CheckOldOrder(leaf, entry));
      const bool untouched = is_mapping ? NoEditBefore(entry.object, entry.mapping.logical.end())
                                        : edit_ == nullptr || CompareKeys(edit_key_, key) > 0;
      const bool continues = is_mapping && (run == i ? leaf_.Continues(entry.object, entry.mapping)
                                                     : joins && last.Continues(entry));
      // An entry that continues the one before is taken out of the run, so that one entry says both.
      if (untouched && !continues) {
        joins = is_mapping;
        if (is_mapping) last = entry;
        continue;
      }
      RETURN_IF_ERROR(end_run(i));
      run = i + 1;
      RETURN_IF_ERROR(is_mapping ? MergeMapping(entry) : MergePoint(key, value));
    }
    return end_run(leaf.count());
  }

  // Returns kDataLoss if old mappings overlap.
  absl::Status CheckOldOrder(const TreeNode& leaf, const MappingEntry& entry) {
    const BlockRange range = entry.mapping.logical;
    if (entry.object == old_object_ && range.start < old_end_) return Damaged(leaf, "mappings overlap");
    old_object_ = entry.object;
    old_end_ = range.end();
    return absl::OkStatus();
  }

  absl::Status MergeChild(const TreeNode& parent, int index, std::optional<std::string_view> limit) {
    const std::string_view key = parent.key(index);
    if (!KeySpaceOf(key)) return IllFormed(parent, index);
    RETURN_IF_ERROR(ApplyBelow(key));
    // An old entry that reaches into an edit starts at or before the edit, in the same child. No old entry
    // reaches beyond the beginning of the following child.
    const bool touched = edit_ != nullptr && (!limit || CompareKeys(edit_key_, *limit) < 0);
    const auto keep = [&](bool underfull) -> absl::StatusOr<bool> {
      RETURN_IF_ERROR(leaf_.Flush());
      absl::StatusOr<bool> settled = packer_.Settle(parent.level() - 1, underfull);
      if (!settled.ok() || !*settled) return settled;
      std::string_view from = key;
      // Everything between the last kept node and this child is gone. The child takes over the empty key
      // range only if the child can be read; otherwise the damage would cover more keys.
      const std::optional<std::string> fence = packer_.fence();
      if (fence && *fence < key) {
        absl::StatusOr<bool> readable = CanBeRead(parent, index, limit);
        if (!readable.ok()) return readable;
        if (*readable) from = *fence;
      }
      RETURN_IF_ERROR(packer_.AddKept(parent.level() - 1, from, limit, parent.child(index)));
      return true;
    };
    if (!touched) {
      // A child without edits stays, unread, unless a pending node needs its entries to be full enough.
      absl::StatusOr<bool> kept = keep(/*underfull=*/false);
      if (!kept.ok() || *kept) return kept.status();
    }
    absl::StatusOr<std::shared_ptr<const TreeNode>> child = sink_.Load(parent.child(index));
    const absl::Status loaded = child.ok() ? CheckChild(parent, index, limit, **child) : child.status();
    // A damaged child has no entries to give, so the pending node stays underfull.
    if (absl::IsDataLoss(loaded) && !touched) return keep(/*underfull=*/true).status();
    if (absl::IsDataLoss(loaded)) {
      return MergeDamaged(key, limit, parent.child(index));
    }
    RETURN_IF_ERROR(loaded);
    Retire(**child);
    return Walk(**child, limit);
  }

  // Says whether the child and the nodes at its left edge can be read.
  absl::StatusOr<bool> CanBeRead(const TreeNode& parent, int index, std::optional<std::string_view> limit) {
    absl::StatusOr<std::shared_ptr<const TreeNode>> node = sink_.Load(parent.child(index));
    const absl::Status loaded = node.ok() ? CheckChild(parent, index, limit, **node) : node.status();
    if (absl::IsDataLoss(loaded)) return false;
    if (!loaded.ok()) return loaded;
    if ((*node)->level() == 0) return true;
    return CanBeRead(**node, 0, (*node)->count() > 1 ? (*node)->key(1) : limit);
  }

  // Merges the edits into the key range of a damaged node. Entries that say so take the place of what no edit
  // covers. The block of the node stays in use, for a repair. The node still counts, because the bytes in it
  // count too.
  absl::Status MergeDamaged(std::string_view key, std::optional<std::string_view> limit,
                            BlockPointer pointer) {
    // The old tree knows no object from `next_object_` on, so nothing of such an object is lost.
    const std::string ends[] = {MappingKey(next_object_, 0), InodeKey(next_object_), ""};
    const KeySpace spaces[] = {KeySpace::kMapping, KeySpace::kInode, KeySpace::kName};
    for (size_t i = 0; i < std::size(spaces); ++i) {
      const std::string first = std::max(std::string(key), FirstKeyOf(spaces[i]));
      std::string end = ends[i];
      if (limit && (end.empty() || CompareKeys(*limit, end) < 0)) end = *limit;
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
    auto skip = [&old](BlockCount blocks) {
      old.logical = {old.logical.start + blocks, old.logical.count - blocks};
      old.physical += blocks;
    };
    while (old.logical.count > 0) {
      RETURN_IF_ERROR(ApplyBelow(MappingKeyBytes(entry.object, old.logical.start)));
      if (NoEditBefore(entry.object, old.logical.end())) {
        return leaf_.AddMapping(entry.object, old);
      }
      const BlockRange range = edit_->mapping.logical;
      if (old.logical.start < range.start) {
        // The part before the edit stays mapped.
        Mapping head = old;
        head.logical.count = range.start - old.logical.start;
        RETURN_IF_ERROR(leaf_.AddMapping(entry.object, head));
        skip(head.logical.count);
      }
      RETURN_IF_ERROR(ApplyEdit());
      // Several edits may fall into one old mapping, so only the part that this edit covers goes.
      const BlockCount covered = std::min(old.logical.end(), range.end()) - old.logical.start;
      sink_.MappingRemoved({old.physical, covered});
      skip(covered);
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
  static absl::Status IllFormed(const TreeNode& node, int index) {
    return Damaged(node, absl::StrCat("entry ", index, " is ill-formed").c_str());
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
  ObjectId old_object_ = ObjectId::kNone;  // of the last old mapping seen
  ObjectBlock old_end_;
};

}  // namespace

BlockCount TreeGrowthMax(const TreeRoot& root, uint64_t entries) {
  if (entries == 0) return 0;
  // A tree that is lower now may become higher while the changes are made.
  const uint64_t levels = static_cast<uint64_t>(std::max(root.levels, 6));
  const BlockCount splits(entries * (levels + 1));
  // A leaf that is a third full holds 1301 bytes. A node above the leaves holds four long names or more, so
  // such nodes add a third at most. The last node of every level may be emptier.
  constexpr uint64_t kLeafBytesMin = kUnderfullBytes - kHeaderBytes;
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
