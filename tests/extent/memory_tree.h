// A mapping tree in memory for tests: the sink of merges, and what a whole walk finds.
#ifndef UNTORN_TESTS_EXTENT_MEMORY_TREE_H_
#define UNTORN_TESTS_EXTENT_MEMORY_TREE_H_

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "extent/tree.h"
#include "extent/tree_keys.h"
#include "extent/tree_merge.h"
#include "extent/tree_node.h"
#include "tests/extent/entry_strings.h"

namespace untorn {

inline constexpr Uuid kTestUuid = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

// Hands out edits, each dying when the interface allows it to.
class EditList : public TreeEditSource {
 public:
  explicit EditList(std::vector<TreeEdit> edits) : edits_(std::move(edits)) {}
  const TreeEdit* Next() override {
    handed_out_[turn_ ^= 1].reset();
    if (next_ == edits_.size()) return nullptr;
    handed_out_[turn_] = std::make_unique<TreeEdit>(edits_[next_++]);
    return handed_out_[turn_].get();
  }

 private:
  std::vector<TreeEdit> edits_;
  size_t next_ = 0;
  int turn_ = 0;
  std::unique_ptr<TreeEdit> handed_out_[2];
};

inline TreeEdit SetPoint(std::string key, std::string value) {
  TreeEdit edit;
  edit.key = std::move(key);
  edit.value = std::move(value);
  return edit;
}
inline TreeEdit ErasePoint(std::string key) {
  TreeEdit edit;
  edit.key = std::move(key);
  return edit;
}
inline TreeEdit MapRange(uint64_t object, BlockRange range, BlockNumber physical,
                         MappingState state = MappingState::kWritten) {
  TreeEdit edit;
  edit.is_range = true;
  edit.object = ObjectId{object};
  edit.mapping.logical = range;
  edit.mapping.state = state;
  edit.mapping.physical = physical;
  edit.mapping = WithTestChecksums(edit.mapping);
  return edit;
}
inline TreeEdit PunchHole(uint64_t object, BlockRange range) {
  return MapRange(object, range, 0, MappingState::kHole);
}

class MemoryTree : public TreeMergeSink {
 public:
  absl::StatusOr<std::shared_ptr<const TreeNode>> Load(BlockPointer pointer) override {
    ++loads;
    if (pointer.block == fails_at) return absl::InternalError("the device has failed");
    const auto it = blocks.find(pointer.block);
    if (it == blocks.end())
      return absl::DataLossError("no such node: " + std::to_string(pointer.block.value()));
    // As in a store, a node that was written is in memory, with its marks.
    const auto written = cached.find(pointer.block);
    if (written != cached.end() && written->second->pointer() == pointer &&
        std::equal(it->second.begin(), it->second.end(), written->second->block().begin())) {
      return written->second;
    }
    return TreeNode::Parse(it->second, kTestUuid, pointer);
  }
  void Prefetch(std::span<const BlockPointer> leaves) override {
    for (const BlockPointer& leaf : leaves) prefetched.insert(leaf.block);
  }
  absl::StatusOr<BlockNumber> AllocateNode() override {
    if (allocations_left == 0) return absl::ResourceExhaustedError("no node left");
    --allocations_left;
    ++next_block;
    return next_block - 1;
  }
  absl::Status WriteNode(std::shared_ptr<const TreeNode> node) override {
    const std::span<const std::byte> block = node->block();
    const absl::Status verified = VerifyNode(block);
    EXPECT_TRUE(verified.ok()) << verified;
    const absl::Status marks = node->CheckInvariants();
    EXPECT_TRUE(marks.ok()) << marks;
    EXPECT_TRUE(blocks.try_emplace(node->pointer().block, block.begin(), block.end()).second)
        << "written twice";
    written.insert(node->pointer().block);
    cached[node->pointer().block] = std::move(node);
    return absl::OkStatus();
  }
  void NodeRetired(BlockNumber block) override {
    EXPECT_TRUE(retired.insert(block).second) << "retired twice";
  }
  void MappingRemoved(Extent extent) override { removed.push_back(extent); }
  bool MovesNodes() const override { return moves_from.has_value(); }
  bool MustMove(BlockNumber block) const override { return moves_from && block >= *moves_from; }

  // Merges, and takes the new tree as the current one if that succeeds. Retired nodes are gone then.
  absl::Status Merge(std::vector<TreeEdit> edits) {
    retired.clear();
    written.clear();
    removed.clear();
    EditList source(edits), ahead(std::move(edits));
    absl::StatusOr<TreeRoot> merged =
        MergeTree(root, next_object, source, &ahead, kTestUuid, ++generation, *this);
    if (!merged.ok()) return merged.status();
    root = *merged;
    for (const BlockNumber block : retired) {
      blocks.erase(block);
      cached.erase(block);
    }
    return absl::OkStatus();
  }

  // What a walk of the whole tree finds; checks separators, levels, order and fill on its way.
  struct Contents {
    std::vector<EntryStrings> entries;
    std::set<BlockNumber> nodes;
    int height = 0;
    uint64_t leaf_bytes = 0, leaves = 0;
  };
  Contents Walk() {
    Contents contents;
    if (root.root) WalkNode(root.root, nullptr, 0, std::nullopt, contents);
    for (size_t i = 1; i < contents.entries.size(); ++i) {
      if (contents.entries[i - 1].first >= contents.entries[i].first) ADD_FAILURE() << "entries out of order";
    }
    return contents;
  }

  std::map<BlockNumber, std::vector<std::byte>> blocks;
  std::map<BlockNumber, std::shared_ptr<const TreeNode>> cached;
  TreeRoot root;
  Generation generation;
  BlockNumber next_block = 100;
  uint64_t loads = 0, allocations_left = ~uint64_t{0};
  ObjectId next_object{1000000};
  std::optional<BlockNumber> fails_at;
  std::optional<BlockNumber> moves_from;  // nodes from there on are written anew
  std::set<BlockNumber> written, retired, prefetched;
  std::vector<Extent> removed;

 private:
  static size_t UsedBytes(const TreeNode& node) { return kHeaderBytes + node.entry_bytes(); }

  // `limit`: nothing for the last node of each level.
  void WalkNode(BlockPointer pointer, const TreeNode* parent, int index,
                std::optional<std::string_view> limit, Contents& contents) {
    const auto node = Load(pointer);
    ASSERT_TRUE(node.ok()) << node.status();
    if (parent == nullptr) {
      contents.height = (*node)->level() + 1;
      ASSERT_GT((*node)->count(), (*node)->level() == 0 ? 0 : 1) << "the root should have collapsed";
    } else {
      const absl::Status checked = CheckChild(*parent, index, limit, **node);
      ASSERT_TRUE(checked.ok()) << checked;
      if (limit) {
        EXPECT_GE(UsedBytes(**node), kBlockBytes / 3) << "level " << (*node)->level();
      }
    }
    EXPECT_TRUE(contents.nodes.insert(pointer.block).second) << "a node with two parents";
    if ((*node)->level() == 0) {
      ++contents.leaves;
      contents.leaf_bytes += UsedBytes(**node);
      for (EntryStrings& entry : StringsOf(**node)) contents.entries.push_back(std::move(entry));
      return;
    }
    for (int i = 0; i < (*node)->count(); ++i) {
      const bool is_last = i + 1 == (*node)->count();
      const auto next = is_last ? std::nullopt : std::optional((*node)->key(i + 1));
      WalkNode((*node)->child(i), node->get(), i, is_last ? limit : next, contents);
    }
  }
};

}  // namespace untorn

#endif  // UNTORN_TESTS_EXTENT_MEMORY_TREE_H_
