// The format does not change by accident: the same edits give the same nodes, byte for byte, as they always did.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/extent/memory_tree.h"

namespace untorn {
namespace {

// A sorted batch of edits of all kinds, from a generator that is the same everywhere.
std::vector<TreeEdit> RandomEdits(std::mt19937_64& random, uint64_t step) {
  const auto below = [&](uint64_t n) { return random() % n; };
  std::vector<TreeEdit> edits;
  const uint64_t objects = 1 + below(6), every = 1 + below(40);
  for (uint64_t object = 1; object <= objects; ++object) {
    for (uint64_t at = below(every); at < 3000; at += 1 + below(2 * every)) {
      const uint64_t count = 1 + below(4);
      if (below(5) == 0) {
        edits.push_back(PunchHole(object, {ObjectBlock(at), BlockCount(count + below(every))}));
      } else {
        const MappingState state = below(4) ? MappingState::kWritten : MappingState::kUnwritten;
        // Some are contiguous with what was there, and are joined to it.
        const uint64_t physical = below(3) ? 100000 * object + at : 1 + below(uint64_t{1} << 40);
        edits.push_back(MapRange(object, {ObjectBlock(at), BlockCount(count)}, BlockNumber(physical), state));
      }
      at += edits.back().mapping.logical.count.value();
    }
  }
  std::set<uint64_t> inodes;
  for (uint64_t n = below(200); n > 0; --n) inodes.insert(1 + below(1000));
  for (uint64_t id : inodes) {
    const std::string key = InodeKey(ObjectId{id});
    if (below(4) == 0) {
      edits.push_back(ErasePoint(key));
    } else {
      edits.push_back(SetPoint(key, InodeValue({ObjectId{id}, step, std::string(1 + id % 200, 'n')})));
    }
  }
  std::set<std::string> names;
  for (uint64_t n = below(200); n > 0; --n) {
    names.insert(std::string(1 + below(250), static_cast<char>('a' + below(26))));
  }
  for (const std::string& name : names) {
    if (below(4) == 0) {
      edits.push_back(ErasePoint(NameKey(name)));
    } else {
      edits.push_back(SetPoint(NameKey(name), NameValue(ObjectId{1 + below(1000)})));
    }
  }
  return edits;
}

TEST(TreeImageTest, SameEditsGiveTheSameNodes) {
  std::mt19937_64 random(20260101);
  MemoryTree tree;
  uint64_t all = 0, nodes = 0;
  for (uint64_t step = 1; step <= 60; ++step) {
    const absl::Status merged = tree.Merge(RandomEdits(random, step));
    ASSERT_TRUE(merged.ok()) << merged;
    // A node's checksum is of all its bytes.
    for (const BlockNumber block : tree.written) {
      uint64_t checksum;
      std::memcpy(&checksum, &tree.blocks[block][offsetof(BlockHeader, checksum)], sizeof(checksum));
      all = all * 0x9e3779b97f4a7c15 + checksum + block.value();
      ++nodes;
    }
  }
  EXPECT_EQ(nodes, 5010u);
  EXPECT_EQ(all, 7842461611514500559u);
}

}  // namespace
}  // namespace untorn
