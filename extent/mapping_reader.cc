#include "extent/mapping_reader.h"

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "extent/tree_keys.h"

namespace untorn {
namespace {

// Nodes that lie so near share a read. What lies between costs less than another request.
constexpr BlockCount kNodeDistanceMax{4};
constexpr BlockCount kNodeReadBlocksMax = BlocksFor(256 << 10);

// Notes what the walk misses. Returns true if the cursor stands where it was sent, or where nothing follows.
absl::StatusOr<bool> Walked(WalkResult result, const TreeCursor& cursor, MissingNodes* missing) {
  if (result == WalkResult::kDamaged) return cursor.damage();
  if (result == WalkResult::kMissing) {
    missing->push_back(cursor.missing());
    return false;
  }
  return true;
}

absl::Status LostError(const LostEntries& lost) {
  return absl::DataLossError(absl::StrCat("tree node at block ", lost.node.value(),
                                          ": a checkpoint found it damaged, and what it held is lost"));
}

// Returns kDataLoss if nothing is known of the key. The cursor stands at the floor of the key.
absl::Status CheckNotLost(const TreeCursor& cursor, WalkResult result, std::string_view key) {
  if (result != WalkResult::kAtEntry) return absl::OkStatus();
  const std::optional<LostEntries> lost = cursor.entry().lost();
  return lost && lost->Cover(key) ? LostError(*lost) : absl::OkStatus();
}

}  // namespace

// Reads some nodes, in the order of their blocks, and what lies between them.
struct MappingReader::NodeRead {
  explicit NodeRead(absl::Span<const BlockPointer> n) : nodes(n), memory(Bytes(extent().count)) {
    request.op = IoOp::kRead;
    request.offset_bytes = ByteOffset(extent().start);
    request.iov = {{memory.data(), memory.size()}};
  }
  Extent extent() const {
    return {nodes.front().block, nodes.back().block - nodes.front().block + BlockCount(1)};
  }
  std::span<const std::byte> BytesOf(BlockNumber block) const {
    return {memory.data() + Bytes(block - nodes.front().block), kBlockBytes};
  }

  absl::Span<const BlockPointer> nodes;
  AlignedBuffer memory;
  IoRequest request;
};

absl::Status MappingReader::LookupInTree(ObjectId object, BlockRange gap, Mappings* out,
                                         MissingNodes* missing) {
  ObjectBlock at = gap.start;
  const auto hole_until = [&](ObjectBlock end) {
    if (at < end) out->push_back({{at, end - at}, MappingState::kHole, 0, 0, 0});
    at = std::max(at, end);
  };
  const TreeRoot& tree = state_.superblock.tree;
  // In the usual case one entry says everything about the gap.
  if (const std::optional<MappingEntry> entry = PeekMapping(nodes_, tree, object, gap.start);
      entry && entry->mapping.logical.end() >= gap.end()) {
    RETURN_IF_ERROR(space_.CheckPlace(entry->mapping.extent()));
    out->push_back(entry->mapping.Part(gap));
    return absl::OkStatus();
  }
  const MappingKeyBytes end_key(object, gap.end());
  TreeCursor cursor(nodes_, tree);
  WalkResult result = cursor.SeekFloor(MappingKeyBytes(object, gap.start));
  while (result != WalkResult::kEnd) {
    if (result != WalkResult::kAtEntry && result != WalkResult::kNoFloor) {
      return Walked(result, cursor, missing).status();
    }
    const NodeEntry* const entry = result == WalkResult::kAtEntry ? &cursor.entry() : nullptr;
    if (const auto lost = entry != nullptr ? entry->lost() : std::nullopt) {
      if (CompareKeys(lost->first, end_key) >= 0) break;
      if (lost->limit.empty() || CompareKeys(lost->limit, MappingKeyBytes(object, at)) > 0) {
        return LostError(*lost);
      }
    }
    // The first entry may end before the gap, or belong to the object before. Without a floor there is no
    // entry here.
    if (entry != nullptr && entry->mapping.object == object && entry->mapping.mapping.logical.end() > at) {
      const Mapping& m = entry->mapping.mapping;
      RETURN_IF_ERROR(space_.CheckPlace(m.extent()));
      // The leaf may begin, for its parent, before its first entry.
      if (m.logical.start >= gap.end()) break;
      const ObjectBlock start = std::max(at, m.logical.start), end = std::min(gap.end(), m.logical.end());
      hole_until(start);
      out->push_back(m.Part({start, end - start}));
      at = end;
    }
    // A leaf that holds nothing of the range is not read, because it may be damaged.
    if (at == gap.end()) break;
    const std::optional<NodeKey> next = cursor.next_key();
    if (!next || CompareKeys(*next, end_key) >= 0) break;
    result = cursor.Next();
  }
  hole_until(gap.end());
  return absl::OkStatus();
}

absl::Status MappingReader::Lookup(ObjectId object, BlockRange range, Mappings* out, MissingNodes* missing) {
  out->clear();
  absl::Status status;
  bool complete = true;
  const auto in_tree = [&](BlockRange gap) REQUIRES_STORE_LOCK {
    // The caller repeats the lookup, so nothing is looked up behind a missing node.
    if (!status.ok() || !complete) return;
    const size_t missed = missing->size();
    status = LookupInTree(object, gap, out, missing);
    complete = missing->size() == missed;
  };
  const auto add = [&](const Mapping& m) { out->push_back(m); };
  // Every layer is asked only for what the layers above say nothing of.
  state_.active->Visit(object, range, add, [&](BlockRange gap) REQUIRES_STORE_LOCK {
    if (state_.frozen) {
      state_.frozen->Visit(object, gap, add, in_tree);
    } else {
      in_tree(gap);
    }
  });
  return status;
}

absl::Status MappingReader::ReachEdges(ObjectId object, BlockRange range, MissingNodes* missing) {
  for (ObjectBlock block : {range.start, range.end() - 1}) {
    TreeCursor cursor(nodes_, state_.superblock.tree);
    // Keys that are lost may be taken away.
    ASSIGN_OR_RETURN(const bool walked,
                     Walked(cursor.SeekFloor(MappingKeyBytes(object, block)), cursor, missing));
    if (!walked) break;
  }
  return absl::OkStatus();
}

absl::Status MappingReader::FindInode(ObjectId object, std::optional<Inode>* out, MissingNodes* missing) {
  for (const Delta* delta : {state_.active.get(), state_.frozen.get()}) {
    if (delta == nullptr) continue;
    if (const std::optional<Inode>* found = delta->FindInode(object)) {
      *out = *found;
      return absl::OkStatus();
    }
  }
  out->reset();
  // The deltas say nothing of the object, so the tree decides.
  const std::string key = InodeKey(object);
  TreeCursor cursor(nodes_, state_.superblock.tree);
  const WalkResult result = cursor.SeekFloor(key);
  ASSIGN_OR_RETURN(const bool walked, Walked(result, cursor, missing));
  RETURN_IF_ERROR(CheckNotLost(cursor, result, key));
  if (!walked || result != WalkResult::kAtEntry || cursor.entry().key() != key) return absl::OkStatus();
  *out = ParseInode(key, cursor.entry().value);
  return absl::OkStatus();
}

absl::Status MappingReader::FindName(const std::string& name, std::optional<ObjectId>* out,
                                     MissingNodes* missing) {
  for (const Delta* delta : {state_.active.get(), state_.frozen.get()}) {
    if (delta == nullptr) continue;
    if (const std::optional<ObjectId>* found = delta->FindName(name)) {
      *out = *found;
      return absl::OkStatus();
    }
  }
  out->reset();
  const std::string key = NameKey(name);
  TreeCursor cursor(nodes_, state_.superblock.tree);
  const WalkResult result = cursor.SeekFloor(key);
  ASSIGN_OR_RETURN(const bool walked, Walked(result, cursor, missing));
  RETURN_IF_ERROR(CheckNotLost(cursor, result, key));
  if (!walked || result != WalkResult::kAtEntry || cursor.entry().key() != key) return absl::OkStatus();
  if (const auto parsed = ParseName(key, cursor.entry().value)) *out = parsed->second;
  return absl::OkStatus();
}

absl::Status MappingReader::NextName(const std::string& after,
                                     std::optional<std::pair<std::string, ObjectId>>* out,
                                     MissingNodes* missing) {
  out->reset();
  std::string at = after;
  while (true) {
    // Each layer gives its least name > `at`. The topmost layer that has the least of all decides.
    std::optional<std::pair<std::string, std::optional<ObjectId>>> least;
    for (const Delta* delta : {state_.active.get(), state_.frozen.get()}) {
      if (delta == nullptr) continue;
      auto it = delta->names().upper_bound(at);
      if (it != delta->names().end() && (!least || it->first < least->first)) least = *it;
    }
    TreeCursor cursor(nodes_, state_.superblock.tree);
    // No name holds a NUL, so this is the least key above the key of `at`.
    const std::string behind = NameKey(at) + std::string(1, '\0');
    const WalkResult floor = cursor.SeekFloor(behind);
    ASSIGN_OR_RETURN(bool walked, Walked(floor, cursor, missing));
    if (!walked) return absl::OkStatus();
    RETURN_IF_ERROR(CheckNotLost(cursor, floor, behind));
    const WalkResult result = cursor.Seek(behind);
    ASSIGN_OR_RETURN(walked, Walked(result, cursor, missing));
    if (!walked) return absl::OkStatus();
    if (result == WalkResult::kAtEntry) {
      const NodeEntry& entry = cursor.entry();
      const auto lost = entry.lost();
      if (lost && (!least || CompareKeys(lost->first, NameKey(least->first)) <= 0)) return LostError(*lost);
      const auto parsed = ParseName(entry.other_key, entry.value);
      if (parsed && (!least || parsed->first < least->first)) least = {parsed->first, parsed->second};
    }
    if (!least) return absl::OkStatus();
    if (least->second) {
      *out = {least->first, *least->second};
      return absl::OkStatus();
    }
    // A delta says that this name is gone, so the search goes on behind the name.
    at = least->first;
  }
}

absl::Status MappingReader::LoadNodes(Lock& lock, const MissingNodes& missing) {
  // Several gaps of one lookup may miss the same node.
  std::vector<BlockPointer> nodes(missing.begin(), missing.end());
  std::sort(nodes.begin(), nodes.end(), [](BlockPointer a, BlockPointer b) {
    return std::tie(a.block, a.checksum) < std::tie(b.block, b.checksum);
  });
  nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
  for (const BlockPointer& node : nodes) {
    if (state_.superblock.geometry.InDataArea({node.block, 1})) continue;
    return absl::DataLossError(
        absl::StrCat("mapping tree: a pointer leads outside the data area, to block ", node.block.value()));
  }
  std::vector<NodeRead> reads;
  for (size_t first = 0, end; first < nodes.size(); first = end) {
    end = first + 1;
    while (end < nodes.size() && nodes[end].block - nodes[end - 1].block <= kNodeDistanceMax &&
           nodes[end].block - nodes[first].block < kNodeReadBlocksMax) {
      ++end;
    }
    reads.emplace_back(absl::MakeConstSpan(nodes).subspan(first, end - first));
  }
  // The blocks are pinned, so that none is reused before it is read: a checkpoint may retire the node
  // meanwhile.
  std::vector<ReadPin> pins;
  for (const BlockPointer& node : nodes) pins.push_back(space_.PinRead({node.block, 1}));
  RunReads(lock, &reads);
  const Uuid uuid = state_.superblock.uuid;
  std::vector<std::shared_ptr<const TreeNode>> parsed;
  absl::Status status;
  {
    const Unlocked unlocked(lock);
    for (const NodeRead& read : reads) {
      status.Update(read.request.status);
      if (!read.request.status.ok()) continue;
      for (const BlockPointer& pointer : read.nodes) {
        absl::StatusOr<std::shared_ptr<const TreeNode>> node =
            TreeNode::Parse(read.BytesOf(pointer.block), uuid, pointer);
        status.Update(node.status());
        if (node.ok()) parsed.push_back(*std::move(node));
      }
    }
  }
  for (std::shared_ptr<const TreeNode>& node : parsed) nodes_.Insert(std::move(node));
  return status;
}

void MappingReader::RunReads(Lock& lock, std::vector<NodeRead>* reads) {
  const auto run = [&](std::vector<NodeRead>& some) REQUIRES_STORE_LOCK {
    std::vector<IoRequest*> requests;
    for (NodeRead& read : some) requests.push_back(&read.request);
    return pump_.RunAll(lock, requests);
  };
  if (run(*reads).ok()) return;
  // A read of several nodes may have failed for a block between two of them, or for one of them.
  std::vector<NodeRead> alone;
  for (const NodeRead& read : *reads) {
    if (read.request.status.ok() || read.nodes.size() == 1) continue;
    for (size_t i = 0; i < read.nodes.size(); ++i) alone.emplace_back(read.nodes.subspan(i, 1));
  }
  std::erase_if(*reads,
                [](const NodeRead& read) { return !read.request.status.ok() && read.nodes.size() > 1; });
  run(alone).IgnoreError();
  for (NodeRead& read : alone) reads->push_back(std::move(read));
}

absl::StatusOr<std::shared_ptr<const TreeNode>> MappingReader::ReadNode(Lock& lock, BlockPointer pointer) {
  while (true) {
    // LoadNodes() releases the lock, so another thread may evict the node again before it is found.
    if (std::shared_ptr<const TreeNode> node = nodes_.Find(pointer)) return node;
    RETURN_IF_ERROR(LoadNodes(lock, {pointer}));
  }
}

}  // namespace untorn
