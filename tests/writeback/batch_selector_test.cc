// Which pending change sets go with the next commit. The order by barrier epochs holds up promise 5; the
// limits keep a commit within its share of the log.
#include "writeback/batch_selector.h"

#include <gtest/gtest.h>

#include <set>
#include <span>
#include <string>
#include <vector>

#include "tests/cow/cow_fork_testing.h"
#include "writeback/log_entries.h"

namespace untorn {
namespace {

constexpr BatchLimits kNoLimits = {.data_blocks = BlockCount::Max(), .log_blocks = BlockCount::Max()};

class BatchSelectorTest : public CowForkTest {
 protected:
  // `sets` by the names that the test gives them.
  std::string Names(std::span<const ChangeSetRef> sets) const {
    std::string names;
    for (const ChangeSetRef& set : sets) names += names_.contains(set.get()) ? names_.at(set.get()) : '?';
    return names;
  }
  // A change set of its own, four blocks unless told otherwise.
  ChangeSetRef Set(char name, BlockCount blocks = 4) {
    ChangeSetRef set = Write({next_block_, blocks}, name);
    next_block_ += blocks + 1;
    names_[set.get()] = name;
    all_.push_back(set);
    return set;
  }
  // Of all sets, but for those that must wait.
  Batch Select(const BatchLimits& limits, const std::set<const ChangeSet*>& waiting = {}) {
    return SelectBatch(all_, limits, [&](const ChangeSet& set) { return waiting.contains(&set); });
  }

  ObjectBlock next_block_;
  std::vector<ChangeSetRef> all_;
  std::map<const ChangeSet*, char> names_;
};

// ---- SelectBatch ----

TEST_F(BatchSelectorTest, WithinTheLimitsEverythingGoesInItsOrder) {
  Set('a'), Set('b');
  Barrier();
  Set('c');
  const Batch batch = Select(kNoLimits);
  EXPECT_EQ(Names(batch.sets), "abc");
  EXPECT_FALSE(batch.full);
}

TEST_F(BatchSelectorTest, DataLimitEndsTheBatchAndSaysThatThereIsMore) {
  Set('a'), Set('b'), Set('c', 1);
  Batch batch = Select({.data_blocks = 8, .log_blocks = BlockCount::Max()});
  EXPECT_EQ(Names(batch.sets), "ab");
  EXPECT_TRUE(batch.full);
  batch = Select({.data_blocks = 9, .log_blocks = BlockCount::Max()});
  EXPECT_EQ(Names(batch.sets), "abc");
  EXPECT_FALSE(batch.full);
  batch = Select({.data_blocks = 7, .log_blocks = BlockCount::Max()});
  EXPECT_EQ(Names(batch.sets), "a") << "a small one does not pass one that is in order before it";
}

TEST_F(BatchSelectorTest, LogLimitCountsTheWholeRecordOfTheBatch) {
  for (int i = 0; i < 40; ++i) Set('x', 1);
  const uint64_t bytes = LogBytesMax(*all_[0]);
  const Batch batch = Select({.data_blocks = BlockCount::Max(), .log_blocks = 2});
  EXPECT_TRUE(batch.full);
  const uint64_t n = batch.sets.size();
  EXPECT_LE(LogBlocksMax(n * bytes), 2);
  EXPECT_GT(LogBlocksMax((n + 1) * bytes), 2) << "as many as fit";
}

TEST_F(BatchSelectorTest, FirstOneGoesWhateverItsSize) {
  Set('a', 30), Set('b', 1);
  const Batch batch = Select({.data_blocks = 1, .log_blocks = 0});
  EXPECT_EQ(Names(batch.sets), "a");
  EXPECT_TRUE(batch.full);
}

TEST_F(BatchSelectorTest, OneThatMustWaitHoldsBackLaterBarrierEpochsOnly) {
  Set('a');
  const ChangeSetRef waits = Set('b');
  Set('c');
  Barrier();
  Set('d');
  Batch batch = Select(kNoLimits, {waits.get()});
  EXPECT_EQ(Names(batch.sets), "ac") << "those of its own barrier epoch pass it";
  EXPECT_FALSE(batch.full) << "no limit kept anything out";
  batch = Select(kNoLimits, {all_[3].get()});
  EXPECT_EQ(Names(batch.sets), "abc");
}

TEST_F(BatchSelectorTest, WhereAllMustWaitNothingGoes) {
  const ChangeSetRef a = Set('a');
  Barrier();
  Set('b');
  EXPECT_TRUE(Select(kNoLimits, {a.get()}).sets.empty());
}

// ---- Candidates ----

TEST_F(BatchSelectorTest, WhatIsWantedBringsWhatEarlierBarriersPutBeforeIt) {
  Set('a'), Set('b');
  Barrier();
  Set('c');
  Barrier();
  Set('d');
  const ChangeSetRef wanted_set = Set('e');
  Set('f');
  WantedSets wanted;
  wanted.Add(wanted_set);
  wanted.Refresh();
  EXPECT_EQ(Names(Candidates(Take::kWanted, wanted, fork_, 8)), "abce") << "promise 5";
}

TEST_F(BatchSelectorTest, WhereNothingIsWantedThereIsNoCandidate) {
  Set('a');
  WantedSets wanted;
  wanted.Refresh();
  EXPECT_TRUE(Candidates(Take::kWanted, wanted, fork_, 8).empty());
}

TEST_F(BatchSelectorTest, OfWhatIsOldNotMuchMoreThanABatchIsLookedAt) {
  for (char name = 'a'; name <= 'j'; ++name) Set(name);
  const WantedSets wanted;
  EXPECT_EQ(Names(Candidates(Take::kOldest, wanted, fork_, 8)), "abcd");
  EXPECT_EQ(Names(Candidates(Take::kOldest, wanted, fork_, 1000)), "abcdefghij");
}

// ---- WantedSets ----

TEST_F(BatchSelectorTest, WantedSetsAreSortedAndFollowJoinsAndForgetWhatIsNotPending) {
  const ChangeSetRef a = Set('a'), b = Set('b'), c = Set('c');
  Barrier();
  const ChangeSetRef d = Set('d');
  WantedSets wanted;
  for (const ChangeSetRef& set : {d, c, b, a}) wanted.Add(set);
  const ChangeSetRef all = Join(a, c);
  Freeze(b);
  wanted.Refresh();
  EXPECT_EQ(Names({wanted.sets().begin(), wanted.sets().end()}), std::string(1, names_[all.get()]) + "d");
  Complete(b);
  Commit(all);
  Commit(d);
  wanted.Refresh();
  EXPECT_TRUE(wanted.empty());
}

}  // namespace
}  // namespace untorn
