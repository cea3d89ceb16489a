// What a transaction has changed of one object. That a block knows which of its bytes were written keeps
// transactions from undoing each other's (promise 6).
#include "store/transaction_draft.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace untorn::internal {
namespace {

using Written = std::vector<std::pair<uint32_t, uint32_t>>;
constexpr auto kBlock = static_cast<uint32_t>(kBlockBytes);

class DraftBlockTest : public testing::Test {
 protected:
  DraftBlock Block(Written written) {
    DraftBlock block;
    block.buffer = pool_.New();
    std::memset(block.buffer.data(), 'd', kBlockBytes);
    block.written = std::move(written);
    return block;
  }
  BufferPool pool_;
};

TEST_F(DraftBlockTest, RangesThatTouchOrOverlapBecomeOne) {
  DraftBlock block = Block({{10, 20}, {40, 50}});
  block.Note(60, 70);
  EXPECT_EQ(block.written, (Written{{10, 20}, {40, 50}, {60, 70}}));
  block.Note(20, 25);
  EXPECT_EQ(block.written, (Written{{10, 25}, {40, 50}, {60, 70}}));
  block.Note(24, 61);
  EXPECT_EQ(block.written, (Written{{10, 70}}));
  block.Note(0, 5);
  EXPECT_EQ(block.written, (Written{{0, 5}, {10, 70}}));
  EXPECT_FALSE(block.whole());
}

TEST_F(DraftBlockTest, BlockIsWholeOnceAllItsBytesWereWrittenAndStaysSo) {
  DraftBlock block = Block({{0, 100}});
  block.Note(200, kBlock);
  EXPECT_FALSE(block.whole());
  block.Note(100, 200);
  EXPECT_TRUE(block.whole());
  block.Note(5, 6);
  EXPECT_TRUE(block.whole());
}

TEST_F(DraftBlockTest, OnlyItsOwnBytesAreCopied) {
  const DraftBlock block = Block({{1, 3}, {5, 6}});
  std::string to(kBlockBytes, '.');
  block.CopyWritten(reinterpret_cast<std::byte*>(to.data()));
  EXPECT_EQ(to.substr(0, 8), ".dd..d..");
  EXPECT_EQ(to.find('d', 6), std::string::npos);
}

TEST_F(DraftBlockTest, RandomNotesLeaveTheBytesThatAModelHas) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    DraftBlock block;
    std::string model(kBlockBytes, '.'), got(kBlockBytes, '.');
    for (int i = 0; i < 12; ++i) {
      const auto from = static_cast<uint32_t>(random() % kBlock);
      const auto to = static_cast<uint32_t>(from + 1 + random() % (kBlock - from));
      i == 0 ? block.written = {{from, to}} : (block.Note(from, to), Written());
      model.replace(from, to - from, to - from, 'd');
      got.assign(kBlockBytes, block.whole() ? 'd' : '.');
      uint32_t last = 0;
      for (const auto& [a, b] : block.written) {
        ASSERT_TRUE(a < b && (last == 0 || a > last)) << "sorted, and apart";
        last = b;
        got.replace(a, b - a, b - a, 'd');
      }
      ASSERT_EQ(got, model) << "seed " << seed;
    }
  }
}

TEST(ObjectDraftTest, DataIsWhatIsInMemoryAndWhatIsSpilled) {
  ObjectDraft draft;
  draft.blocks[3];
  draft.blocks[4];
  draft.spilled[5] = {.count = 4};
  draft.spilled[20] = {.count = 1};
  std::vector<BlockRange> runs;
  draft.Data().ForEach([&](BlockRange r) { runs.push_back(r); });
  EXPECT_EQ(runs, (std::vector<BlockRange>{{3, 6}, {20, 1}}));
}

TEST(ObjectDraftTest, ReadingAloneChangesNothing) {
  ObjectDraft draft;
  draft.size = 100;
  draft.name = "n";
  EXPECT_FALSE(draft.changed());
  EXPECT_FALSE(draft.needs_size());
}

TEST(ObjectDraftTest, EveryChangeCountsAndThoseOfMetadataNeedTheSizeBeforeThem) {
  const struct {
    const char* what;
    void (*change)(ObjectDraft&);
    bool needs_size;
  } kCases[] = {
      {"data", [](ObjectDraft& d) { d.blocks[0]; }, false},
      {"spilled data", [](ObjectDraft& d) { d.spilled[0] = {.count = 1}; }, false},
      {"growth", [](ObjectDraft& d) { d.grow_to = 1; }, false},
      {"truncate", [](ObjectDraft& d) { d.set_size = true; }, true},
      {"hole",
       [](ObjectDraft& d) {
         d.holes.Add({0, 1});
       },
       true},
      {"rename", [](ObjectDraft& d) { d.renamed = true; }, true},
      {"remove", [](ObjectDraft& d) { d.removed = true; }, true},
  };
  for (const auto& test : kCases) {
    ObjectDraft draft;
    test.change(draft);
    EXPECT_TRUE(draft.changed()) << test.what;
    EXPECT_EQ(draft.needs_size(), test.needs_size) << test.what;
  }
}

}  // namespace
}  // namespace untorn::internal
