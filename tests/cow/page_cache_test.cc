// The cache of blocks: reading into it, and evicting from it. Its invariant 1 keeps reads of what is being
// overwritten in memory (promise 2).
#include "cow/page_cache.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "tests/cow/cow_fork_testing.h"

namespace untorn {
namespace {

class PageCacheTest : public CowForkTest {
 protected:
  bool AddReading(ObjectBlock block, uint64_t token) {
    const bool added = fork_.pages().AddReading(*object_, block, token) != nullptr;
    fork_.CheckInvariants();
    return added;
  }
  void FillRead(ObjectBlock block, uint64_t token, BufferRef buffer) {
    fork_.pages().FillRead(*object_, block, token, std::move(buffer));
    fork_.CheckInvariants();
  }
};

// ---- Reading ----

TEST_F(PageCacheTest, ReadFillsItsPageUnlessSomebodyWroteItFirst) {
  ASSERT_TRUE(AddReading(3, 77));
  EXPECT_FALSE(AddReading(3, 78)) << "somebody reads it already";
  FillRead(3, 78, Filled('x'));
  EXPECT_EQ(Content({3, 1}), ".") << "not the read that was announced";
  FillRead(3, 77, Filled('r'));
  EXPECT_EQ(Content({3, 1}), "r");

  ASSERT_TRUE(AddReading(4, 79));
  Write({4, 1}, 'w');
  FillRead(4, 79, Filled('r'));
  EXPECT_EQ(Content({4, 1}), "w") << "the read is older than the write";

  ASSERT_TRUE(AddReading(5, 80));
  Punch({5, 1});
  FillRead(5, 80, Filled('r'));
  EXPECT_EQ(Content({5, 1}), "0");
}

TEST_F(PageCacheTest, ReadThatFailedLeavesNoPage) {
  ASSERT_TRUE(AddReading(3, 77));
  FillRead(3, 77, BufferRef());
  EXPECT_EQ(fork_.pages().memory_bytes(), 0u);
  EXPECT_TRUE(AddReading(3, 78));
}

// ---- Memory (invariant 1) ----

TEST_F(PageCacheTest, EvictionDropsEveryCleanPageAndNoOther) {
  const ChangeSetRef clean = Write({0, 40}, 'c');
  Commit(clean);
  const ChangeSetRef committing = Write({10, 2}, 'f');
  Freeze(committing);
  Write({20, 2}, 'p');
  EXPECT_EQ(Content({0, 40}),
            std::string(10, 'c') + "ff" + std::string(8, 'c') + "pp" + std::string(18, 'c'));
  Evict(fork_.pages().memory_bytes());
  EXPECT_EQ(Content({0, 1}), "c") << "within the limit nothing goes";
  Evict(0);
  EXPECT_EQ(Content({0, 40}),
            std::string(10, '.') + "ff" + std::string(8, '.') + "pp" + std::string(18, '.'));
  Complete(committing);
  Evict(0);
  EXPECT_EQ(Content({10, 2}), "..");
}

TEST_F(PageCacheTest, EvictionStopsAtTheLimitAndTakesWhatWasNotUsedSince) {
  Commit(Write({0, 160}, 'c'));
  Evict(fork_.pages().memory_bytes() / 2);
  const uint64_t left = fork_.pages().memory_bytes();
  EXPECT_GT(left, 50 * kBlockBytes);
  EXPECT_LE(left, 100 * kBlockBytes);
}

TEST_F(PageCacheTest, DropCleanLeavesWhatIsNotDurable) {
  Commit(Write({0, 20}, 'c'));
  Write({5, 1}, 'p');
  fork_.pages().DropClean(*object_, {2, 10});
  fork_.CheckInvariants();
  EXPECT_EQ(Content({0, 20}), "cc...p......cccccccc");
}

}  // namespace
}  // namespace untorn
