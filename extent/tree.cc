#include "extent/tree.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "extent/tree_keys.h"

namespace untorn {

void NodeCache::SetLimit(size_t limit_nodes) {
  limit_nodes_ = limit_nodes;
  if (holds_ == 0) Trim();
}

const TreeNode* NodeCache::Peek(BlockPointer pointer) {
  const auto it = map_.find(pointer.block);
  if (it == map_.end() || (*it->second)->pointer() != pointer) {
    ++misses_;
    return nullptr;
  }
  ++hits_;
  lru_.splice(lru_.begin(), lru_, it->second);
  return it->second->get();
}

std::shared_ptr<const TreeNode> NodeCache::Find(BlockPointer pointer) {
  // Peek() has moved the node to the front.
  return Peek(pointer) == nullptr ? nullptr : lru_.front();
}

void NodeCache::Insert(std::shared_ptr<const TreeNode> node) {
  const BlockNumber block = node->pointer().block;
  // The block may have held another node before.
  Erase(block);
  lru_.push_front(std::move(node));
  map_[block] = lru_.begin();
  if (holds_ == 0) Trim();
}

void NodeCache::Trim() {
  while (map_.size() > std::max<size_t>(limit_nodes_, 1)) Erase(lru_.back()->pointer().block);
}

void NodeCache::Erase(BlockNumber block) {
  const auto it = map_.find(block);
  if (it == map_.end()) return;
  lru_.erase(it->second);
  map_.erase(it);
}

absl::Status NodeCache::CheckInvariants() const {
  bool indexed = map_.size() == lru_.size();
  for (auto it = lru_.begin(); indexed && it != lru_.end(); ++it) {
    const auto found = map_.find((*it)->pointer().block);
    indexed = found != map_.end() && Lru::const_iterator(found->second) == it;
  }
  if (!indexed) return absl::InternalError("node cache, invariant 1: the index is not of the list");
  if (holds_ == 0 && map_.size() > std::max<size_t>(limit_nodes_, 1)) {
    return absl::InternalError("node cache, invariant 2: more nodes than the limit");
  }
  return absl::OkStatus();
}

absl::Status CheckChild(const TreeNode& parent, int index, std::optional<std::string_view> limit,
                        const TreeNode& child) {
  auto damaged = [&](auto&&... why) {
    return absl::DataLossError(absl::StrCat("tree node at ", child.pointer().block.value(), ", child ", index,
                                            " of the node at ", parent.pointer().block.value(), ": ",
                                            why...));
  };
  if (child.level() != parent.level() - 1) {
    return damaged("level ", child.level(), " below level ", parent.level());
  }
  if (child.count() == 0) return damaged("no entries");
  if (CompareKeys(child.key(0), parent.key(index)) < 0)
    return damaged("its first key is below the one its parent has");
  if (!limit) return absl::OkStatus();
  const NodeEntry last = child.entry(child.count() - 1);
  if (CompareKeys(last.key(), *limit) >= 0) return damaged("its last key is not below the following node's");
  if (child.level() > 0) return absl::OkStatus();
  // A mapping reaches beyond its key, so its end is compared too.
  const MappingEntry& m = last.mapping;
  if (last.has_mapping_key() && CompareKeys(MappingKeyBytes(m.object, m.mapping.logical.end()), *limit) > 0) {
    return damaged("its last mapping reaches into the following node");
  }
  const std::optional<LostEntries> lost = last.lost();
  if (lost && (lost->limit.empty() || CompareKeys(lost->limit, *limit) > 0)) {
    return damaged("what is lost at its end reaches into the following node");
  }
  return absl::OkStatus();
}

std::optional<MappingEntry> PeekMapping(NodeCache& cache, const TreeRoot& root, ObjectId object,
                                        ObjectBlock block) {
  if (!root.root) return std::nullopt;
  const MappingKeyBytes key(object, block);
  const TreeNode* node = cache.Peek(root.root);
  while (node != nullptr) {
    const NodeReader floor = node->Floor(key);
    if (floor.index() < 0) break;
    const NodeEntry& entry = floor.entry();
    if (node->level() == 0) {
      if (entry.mapping.object != object) break;
      return entry.mapping;
    }
    const TreeNode* const child = cache.Peek(entry.child());
    // Only a cursor checks that the child is what its parent says. Here a note of that check is enough.
    const TreeNode::CheckedUnder under{node->pointer(), floor.index()};
    node = child != nullptr && child->checked_under() == under ? child : nullptr;
  }
  return std::nullopt;
}

WalkResult TreeCursor::Push() {
  const BlockPointer pointer = path_.empty() ? root_.root : path_.back().at.entry().child();
  std::shared_ptr<const TreeNode> node = cache_.Find(pointer);
  if (node == nullptr) {
    missing_ = pointer;
    return WalkResult::kMissing;
  }
  if (path_.empty()) {
    if (node->count() == 0) return WalkResult::kEnd;
  } else {
    // If the limit comes from the parent, one check is enough: the result does not depend on the rest of the
    // tree.
    const TreeNode& parent = *path_.back().node;
    const TreeNode::CheckedUnder under{parent.pointer(), path_.back().at.index()};
    const bool limit_is_parents = under.index + 1 < parent.count();
    if (!limit_is_parents || node->checked_under() != under) {
      damage_ = CheckChild(parent, under.index, next_key(), *node);
      if (!damage_.ok()) return WalkResult::kDamaged;
      if (limit_is_parents) node->NoteCheckedUnder(under);
    }
  }
  NodeReader first = node->reader();
  UNTORN_CHECK(first.Next(), "CheckChild() lets no empty node pass");
  path_.push_back({std::move(node), first});
  return WalkResult::kAtEntry;
}

WalkResult TreeCursor::Descend(std::string_view key) {
  if (!root_.root) return WalkResult::kEnd;
  for (size_t depth = 0;; ++depth) {
    if (depth == path_.size()) {
      if (const WalkResult r = Push(); r != WalkResult::kAtEntry) return r;
    }
    Step& step = path_[depth];
    // The leftmost node may have no floor, and so may a node that begins, for its parent, before its first
    // entry.
    step.at = step.node->Floor(key);
    if (step.at.index() < 0) {
      path_.resize(depth + 1);
      return WalkResult::kNoFloor;
    }
    if (step.node->level() == 0) return WalkResult::kAtEntry;
    // What an earlier call has found stays on the path, as far as it leads to `key`.
    if (depth + 1 < path_.size() && path_[depth + 1].node->pointer() != step.at.entry().child()) {
      path_.resize(depth + 1);
    }
  }
}

WalkResult TreeCursor::SeekFloor(std::string_view key) {
  seek_pending_ = false;
  return Descend(key);
}

WalkResult TreeCursor::Seek(std::string_view key) {
  // A repeated call skips the descent that it has done already, and only steps forward.
  if (!seek_pending_ || seek_key_ != key) {
    const WalkResult r = SeekFloor(key);
    if (r == WalkResult::kAtEntry ? entry().key() == key : r != WalkResult::kNoFloor) return r;
    seek_key_ = key;
    seek_pending_ = true;
  }
  return Next();
}

WalkResult TreeCursor::Next() {
  // A path that ends above the leaves comes from kNoFloor or kMissing. After kMissing the path leads to the
  // next entry already.
  if (!path_.empty() && (path_.back().node->level() == 0 || path_.back().at.index() < 0)) {
    while (!path_.empty() && !path_.back().at.Next()) path_.pop_back();
  }
  WalkResult result = path_.empty() ? WalkResult::kEnd : WalkResult::kAtEntry;
  while (result == WalkResult::kAtEntry && path_.back().node->level() > 0) result = Push();
  if (result != WalkResult::kMissing) seek_pending_ = false;
  return result;
}

const NodeEntry& TreeCursor::entry() const {
  UNTORN_CHECK(!path_.empty() && path_.back().node->level() == 0, "the cursor is not at an entry");
  return path_.back().at.entry();
}

std::optional<NodeKey> TreeCursor::next_key() const {
  for (size_t depth = path_.size(); depth-- > 0;) {
    if (NodeReader next = path_[depth].at; next.Next()) return next.entry().key();
  }
  return std::nullopt;
}

}  // namespace untorn
