// Random merges against a model that knows every block by itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <random>

#include "extent/tree_merge.h"
#include "tests/extent/memory_tree.h"
#include "tests/rounds.h"

namespace untorn {
namespace {

constexpr uint64_t kObjects = 9;
constexpr uint64_t kObjectBlocks = 6000;

struct Cell {
  BlockNumber physical;
  MappingState state = MappingState::kHole;
  bool operator==(const Cell&) const = default;
};

// What one round does, how often.
struct Mood {
  int edits_max;
  int holes_percent;     // of the range edits
  int names_percent;     // of all edits
  int removals_percent;  // of the names
};
constexpr Mood kMoods[] = {
    {3, 20, 30, 30},    {40, 30, 40, 40},   {1500, 10, 50, 20},
    {1500, 60, 50, 80}, {10, 100, 30, 100}, {200, 5, 5, 50},
};

class Model {
 public:
  // `names`: how many names and inodes there may be; 6000 make a tree of four levels.
  Model(uint64_t seed, uint64_t names)
      : names_(names), random_(seed), cells_(kObjects, std::vector<Cell>(kObjectBlocks)) {}

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool Percent(int percent) { return Below(100) < static_cast<uint64_t>(percent); }

  // Makes the edits of a round and applies them here. `removed_` is what they cover.
  std::vector<TreeEdit> Round(const Mood& mood) {
    removed_.clear();
    std::map<std::string, TreeEdit> edits;
    const uint64_t count = 1 + Below(mood.edits_max);
    if (Percent(2)) Remove(1 + Below(kObjects), edits);
    for (uint64_t i = 0; i < count; ++i) {
      if (Percent(mood.names_percent)) {
        AddPoint(mood, edits);
      } else {
        AddRange(mood, edits);
      }
    }
    std::vector<TreeEdit> list;
    for (auto& [key, edit] : edits) {
      Apply(edit);
      list.push_back(std::move(edit));
    }
    return list;
  }

  void Compare(const MemoryTree::Contents& contents, std::vector<Extent> removed) {
    std::vector<std::vector<Cell>> found(kObjects, std::vector<Cell>(kObjectBlocks));
    auto point = points_.begin();
    for (const auto& [key, value] : contents.entries) {
      const auto entry = ParseMapping(key, value);
      if (!entry) {
        ASSERT_NE(point, points_.end());
        ASSERT_EQ(key, point->first);
        ASSERT_EQ(value, point->second);
        ++point;
        continue;
      }
      const Mapping& m = entry->mapping;
      ASSERT_LE(Value(entry->object), kObjects);
      ASSERT_LE(m.logical.end(), ObjectBlock(kObjectBlocks));
      for (BlockCount i; i < m.logical.count; ++i) {
        Cell& cell = found[Value(entry->object) - 1][(m.logical.start + i).value()];
        ASSERT_EQ(cell, Cell{}) << "mapped twice";
        cell = {m.physical + i, m.state};
      }
      ASSERT_TRUE(HasTestChecksums(m));
    }
    ASSERT_EQ(point, points_.end());
    for (uint64_t o = 0; o < kObjects; ++o) ASSERT_EQ(found[o], cells_[o]) << "object " << o + 1;

    std::vector<BlockNumber> removed_blocks;
    for (const Extent& run : removed) {
      ASSERT_GT(run.count, 0);
      for (BlockNumber block = run.start; block < run.end(); ++block) removed_blocks.push_back(block);
    }
    std::sort(removed_blocks.begin(), removed_blocks.end());
    std::sort(removed_.begin(), removed_.end());
    ASSERT_EQ(removed_blocks, removed_);
  }

 private:
  void AddPoint(const Mood& mood, std::map<std::string, TreeEdit>& edits) {
    const uint64_t i = 1 + Below(names_);
    const std::string name = std::to_string(10000 + i) + std::string(i % 5 == 0 ? 3 : 230, 'x');
    const bool is_inode = Percent(30);
    const std::string key = is_inode ? InodeKey(ObjectId{i}) : NameKey(name);
    if (Percent(mood.removals_percent)) {
      edits.try_emplace(key, ErasePoint(key));
    } else {
      edits.try_emplace(key, SetPoint(key, is_inode ? InodeValue({ObjectId{i}, Below(1 << 30), name})
                                                    : NameValue(ObjectId{1 + Below(99)})));
    }
  }

  void AddRange(const Mood& mood, std::map<std::string, TreeEdit>& edits) {
    const uint64_t object = 1 + Below(kObjects);
    // Often right behind another edit.
    uint64_t start = Percent(30) ? last_end_ % kObjectBlocks : Below(kObjectBlocks);
    if (Percent(mood.holes_percent)) {
      const BlockCount lengths[] = {BlockCount(1 + Below(10)), BlockCount(1 + Below(500)),
                                    kObjectEnd - ObjectBlock(start), kObjectBlocksMax};
      const uint64_t pick = Below(100);
      AddIfFree(PunchHole(object, {ObjectBlock(start), lengths[pick < 70   ? 0
                                                               : pick < 97 ? 1
                                                               : pick < 98 ? 2
                                                                           : 3]}),
                edits);
      return;
    }
    const uint64_t length = std::min(1 + Below(Percent(80) ? 4 : 200), kObjectBlocks - start);
    // In any order, so that the differences between extents have many lengths.
    next_physical_ += BlockCount(64 + Below(9));
    BlockNumber physical(next_physical_.value() ^ (Percent(50) ? Below(1 << 20) << 40 : 0));
    // Sometimes contiguous with the block before.
    if (start > 0 && Percent(20) && cells_[object - 1][start - 1].physical != 0) {
      physical = cells_[object - 1][start - 1].physical + 1;
    }
    AddIfFree(MapRange(object, {ObjectBlock(start), BlockCount(length)}, physical,
                       Percent(25) ? MappingState::kUnwritten : MappingState::kWritten),
              edits);
  }

  void Remove(uint64_t object, std::map<std::string, TreeEdit>& edits) {
    AddIfFree(PunchHole(object, {0, kObjectBlocksMax}), edits);
    edits.try_emplace(InodeKey(ObjectId{object}), ErasePoint(InodeKey(ObjectId{object})));
  }

  void AddIfFree(TreeEdit edit, std::map<std::string, TreeEdit>& edits) {
    const std::string key = edit.SortKey();
    const auto after = edits.lower_bound(key);
    const BlockRange range = edit.mapping.logical;
    if (after != edits.end() && after->second.object == edit.object &&
        after->second.mapping.logical.start < range.end()) {
      return;
    }
    if (after != edits.begin()) {
      const TreeEdit& before = std::prev(after)->second;
      if (before.object == edit.object && before.mapping.logical.end() > range.start) return;
    }
    last_end_ = range.end().value();
    edits.emplace(key, std::move(edit));
  }

  void Apply(const TreeEdit& edit) {
    if (!edit.is_range) {
      if (edit.value) {
        points_[edit.key] = *edit.value;
      } else {
        points_.erase(edit.key);
      }
      return;
    }
    const Mapping& m = edit.mapping;
    const ObjectBlock end = std::min(m.logical.end(), ObjectBlock(kObjectBlocks));
    for (ObjectBlock block = m.logical.start; block < end; ++block) {
      Cell& cell = cells_[Value(edit.object) - 1][block.value()];
      if (cell.physical != 0) removed_.push_back(cell.physical);
      cell = m.state == MappingState::kHole ? Cell{} : Cell{m.physical + (block - m.logical.start), m.state};
    }
  }

  const uint64_t names_;
  std::mt19937_64 random_;
  std::vector<std::vector<Cell>> cells_;
  std::map<std::string, std::string> points_;
  std::vector<BlockNumber> removed_;
  BlockNumber next_physical_ = 1000;
  uint64_t last_end_ = 0;
};

// As TreeGrowthMax counts them.
uint64_t Entries(const std::vector<TreeEdit>& edits) {
  uint64_t entries = 0;
  for (const TreeEdit& edit : edits) {
    const size_t bytes = edit.value ? 6 + edit.key.size() + edit.value->size() : 0;
    entries += edit.is_range && edit.mapping.state == MappingState::kWritten
                   ? TreeEntriesOfBlocks(edit.mapping.logical.count)
                   : std::max<uint64_t>(1, (bytes + kTreeEntryBytes - 1) / kTreeEntryBytes);
  }
  return entries;
}

void RunRounds(uint64_t seed, uint64_t names, int rounds) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  Model model(seed, names);
  MemoryTree tree;
  std::set<BlockNumber> nodes;
  uint64_t edits_made = 0, nodes_written = 0;
  BlockCount budget;
  uint64_t entries_left = 0;
  int height_max = 0;
  Mood mood = kMoods[0];
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    if (model.Percent(10)) mood = kMoods[model.Below(std::size(kMoods))];
    std::vector<TreeEdit> edits = model.Round(mood);
    edits_made += edits.size();
    const BlockCount count_before = tree.root.node_count;
    const uint64_t entries = Entries(edits);
    // Space is kept back by this bound, and taken merge by merge.
    const BlockCount growth_max = TreeGrowthMax(tree.root, entries);
    if (round % 7 == 0) {
      budget = count_before + TreeGrowthMax(tree.root, 8 * entries + 100);
      entries_left = 8 * entries + 100;
    }
    const absl::Status merged = tree.Merge(std::move(edits));
    ASSERT_TRUE(merged.ok()) << merged;

    const MemoryTree::Contents contents = tree.Walk();
    std::set<BlockNumber> expected = nodes;
    for (const BlockNumber block : tree.retired)
      ASSERT_EQ(expected.erase(block), 1) << "retired no node of the old tree";
    expected.insert(tree.written.begin(), tree.written.end());
    ASSERT_EQ(contents.nodes, expected);
    ASSERT_EQ(tree.root.node_count, BlockCount(contents.nodes.size()));
    ASSERT_EQ(tree.root.node_count,
              count_before - BlockCount(tree.retired.size()) + BlockCount(tree.written.size()));
    nodes = contents.nodes;
    ASSERT_EQ(tree.root.leaf_bytes, contents.leaf_bytes - contents.leaves * kHeaderBytes);
    ASSERT_EQ(tree.root.levels, contents.height);
    ASSERT_LE(tree.root.node_count, count_before + growth_max);
    ASSERT_LE(BlockCount(tree.written.size()), tree.root.node_count);
    if (entries <= entries_left) {
      entries_left -= entries;
      ASSERT_LE(tree.root.node_count + TreeGrowthMax(tree.root, entries_left), budget);
    } else {
      entries_left = 0;
    }
    if (contents.leaves > 20) {
      ASSERT_GT(contents.leaf_bytes, contents.leaves * kBlockBytes / 2) << "average fill";
    }
    model.Compare(contents, tree.removed);
    if (testing::Test::HasFailure()) return;
    nodes_written += tree.written.size();
    height_max = std::max(height_max, contents.height);
  }
  const MemoryTree::Contents contents = tree.Walk();
  std::printf(
      "seed %llu: %d rounds, %llu edits, %llu nodes written, at the end %zu nodes, leaves %llu%% full, "
      "height up to %d\n",
      static_cast<unsigned long long>(seed), rounds, static_cast<unsigned long long>(edits_made),
      static_cast<unsigned long long>(nodes_written), contents.nodes.size(),
      static_cast<unsigned long long>(contents.leaf_bytes * 100 / std::max<uint64_t>(contents.leaves, 1) /
                                      kBlockBytes),
      height_max);
}

// UNTORN_TEST_SEED=<n> runs that seed alone; without it one seed of a run is fresh.
void RunSeeds(uint64_t names, int rounds) {
  if (const char* seed = std::getenv("UNTORN_TEST_SEED")) {
    RunRounds(std::strtoull(seed, nullptr, 10), names, rounds);
    return;
  }
  for (const uint64_t seed : {uint64_t{1}, uint64_t{2}, uint64_t{3}, uint64_t{std::random_device()()}}) {
    RunRounds(seed, names, rounds);
  }
}

TEST(TreeMergeModelTest, MergesOfMostlyMappingsEqualTheModel) { RunSeeds(100, Rounds(800)); }

TEST(TreeMergeModelTest, MergesOfAllKeySpacesEqualTheModel) { RunSeeds(1500, Rounds(600)); }

TEST(TreeMergeModelTest, MergesInTallTreesEqualTheModel) { RunSeeds(6000, Rounds(300)); }

}  // namespace
}  // namespace untorn
