#include "extent/tree.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "extent/tree_keys.h"

namespace untorn {

std::shared_ptr<const TreeNode> NodeCache::Find(BlockPointer pointer) {
  const auto it = map_.find(pointer.block);
  if (it == map_.end() || (*it->second)->pointer() != pointer) {
    ++misses_;
    return nullptr;
  }
  ++hits_;
  lru_.splice(lru_.begin(), lru_, it->second);
  return *it->second;
}

void NodeCache::Insert(std::shared_ptr<const TreeNode> node) {
  const uint64_t block = node->pointer().block;
  Erase(block);
  lru_.push_front(std::move(node));
  map_[block] = lru_.begin();
  if (holds_ == 0) Trim();
}

void NodeCache::Trim() {
  while (map_.size() > std::max<size_t>(limit_nodes_, 1)) Erase(lru_.back()->pointer().block);
}

void NodeCache::Erase(uint64_t block) {
  const auto it = map_.find(block);
  if (it == map_.end()) return;
  lru_.erase(it->second);
  map_.erase(it);
}

absl::Status CheckChild(const TreeNode& parent, int index, std::optional<std::string_view> limit,
                        const TreeNode& child) {
  auto damaged = [&](auto&&... why) {
    return absl::DataLossError(absl::StrCat("tree node at ", child.pointer().block, ", child ", index,
                                            " of the node at ", parent.pointer().block, ": ", why...));
  };
  if (child.level() != parent.level() - 1) {
    return damaged("level ", child.level(), " below level ", parent.level());
  }
  if (child.count() == 0) return damaged("no entries");
  if (child.key(0) < parent.key(index)) return damaged("its first key is below the one its parent has");
  if (!limit) return absl::OkStatus();
  const int last = child.count() - 1;
  if (child.key(last) >= *limit) return damaged("its last key is not below the following node's");
  const std::optional<MappingEntry> entry =
      child.level() == 0 ? ParseMapping(child.key(last), child.value(last)) : std::nullopt;
  if (entry && MappingKey(entry->object, entry->mapping.logical.end()) > *limit) {
    return damaged("its last mapping reaches into the following node");
  }
  return absl::OkStatus();
}

absl::Status CheckLeafEntries(const TreeNode& leaf) {
  for (int i = 0; leaf.level() == 0 && i < leaf.count(); ++i) {
    const std::string_view key = leaf.key(i), value = leaf.value(i);
    if (ParseMapping(key, value) || ParseInode(key, value) || ParseName(key, value)) continue;
    return absl::DataLossError(
        absl::StrCat("tree node at ", leaf.pointer().block, ": entry ", i, " is ill-formed"));
  }
  return absl::OkStatus();
}

WalkResult TreeCursor::Push() {
  const BlockPointer pointer = path_.empty() ? root_.root : path_.back().node->child(path_.back().index);
  std::shared_ptr<const TreeNode> node = cache_.Find(pointer);
  if (node == nullptr) {
    missing_ = pointer;
    return WalkResult::kMissing;
  }
  if (path_.empty()) {
    if (node->count() == 0) return WalkResult::kEnd;
  } else {
    damage_ = CheckChild(*path_.back().node, path_.back().index, next_key(), *node);
    if (!damage_.ok()) return WalkResult::kDamaged;
  }
  path_.push_back({std::move(node), 0});
  return WalkResult::kAtEntry;
}

WalkResult TreeCursor::Descend(std::string_view key) {
  if (!root_.root) return WalkResult::kEnd;
  for (size_t depth = 0;; ++depth) {
    if (depth == path_.size()) {
      if (const WalkResult r = Push(); r != WalkResult::kAtEntry) return r;
    }
    Step& step = path_[depth];
    // There is none in the leftmost node, and in one that begins, for its parent, before its first entry.
    step.index = step.node->FloorIndex(key);
    if (step.index < 0) {
      path_.resize(depth + 1);
      return WalkResult::kNoFloor;
    }
    if (step.node->level() == 0) return WalkResult::kAtEntry;
    if (depth + 1 < path_.size() && path_[depth + 1].node->pointer() != step.node->child(step.index)) {
      path_.resize(depth + 1);
    }
  }
}

WalkResult TreeCursor::SeekFloor(std::string_view key) {
  seek_pending_ = false;
  return Descend(key);
}

WalkResult TreeCursor::Seek(std::string_view key) {
  if (!seek_pending_ || seek_key_ != key) {
    const WalkResult r = SeekFloor(key);
    if (r == WalkResult::kAtEntry ? this->key() == key : r != WalkResult::kNoFloor) return r;
    seek_key_ = key;
    seek_pending_ = true;
  }
  return Next();
}

WalkResult TreeCursor::Next() {
  // In a node above leaves it comes from kNoFloor, or from kMissing: then the path leads there already.
  if (!path_.empty() && (path_.back().node->level() == 0 || path_.back().index < 0)) {
    while (!path_.empty() && ++path_.back().index == path_.back().node->count()) path_.pop_back();
  }
  WalkResult result = path_.empty() ? WalkResult::kEnd : WalkResult::kAtEntry;
  while (result == WalkResult::kAtEntry && path_.back().node->level() > 0) result = Push();
  if (result != WalkResult::kMissing) seek_pending_ = false;
  return result;
}

std::string_view TreeCursor::key() const {
  UNTORN_CHECK(!path_.empty() && path_.back().node->level() == 0, "the cursor is not at an entry");
  return path_.back().node->key(path_.back().index);
}

std::optional<std::string_view> TreeCursor::next_key() const {
  for (size_t depth = path_.size(); depth-- > 0;) {
    const Step& step = path_[depth];
    if (step.index + 1 < step.node->count()) return step.node->key(step.index + 1);
  }
  return std::nullopt;
}

std::string_view TreeCursor::value() const {
  UNTORN_CHECK(!path_.empty() && path_.back().node->level() == 0, "the cursor is not at an entry");
  return path_.back().node->value(path_.back().index);
}

}  // namespace untorn
