// What is on its way to the device: frozen change sets, and those that the device refused to write in place
// (promises 2, 4 and 8).
#include <gtest/gtest.h>

#include <string>

#include "cow/cow_fork.h"
#include "tests/cow/cow_fork_testing.h"

namespace untorn {
namespace {

// ---- Committing ----

TEST_F(CowForkTest, WriteToACommittingBlockGetsANewBufferAndANewChangeSet) {
  const ChangeSetRef first = Write({0, 2}, 'a');
  Freeze(first);
  EXPECT_EQ(fork_.pending().size(), 0u);
  EXPECT_EQ(fork_.dirty_blocks(), 2);
  const ChangeSetRef second = Write({0, 1}, 'b');
  EXPECT_NE(second, first);
  EXPECT_EQ(Frozen(*first), "0:aa ");
  EXPECT_EQ(Content({0, 2}), "ba");
  EXPECT_TRUE(MustWait(*second, fork_.pages()));
  Complete(first);
  EXPECT_EQ(first->state, ChangeSet::State::kDone);
  EXPECT_EQ(fork_.dirty_blocks(), 1);
  Commit(second);
  EXPECT_EQ(fork_.dirty_blocks(), 0);
  EXPECT_EQ(Content({0, 2}), "ba") << "clean, and cached";
}

TEST_F(CowForkTest, FailedChangeSetStaysInMemoryForReaders) {
  const ChangeSetRef set = Write({0, 2}, 'a');
  Freeze(set);  // and it is never completed
  Evict(0);
  EXPECT_EQ(Content({0, 2}), "aa") << "promise 8: reads go on";
}

TEST_F(CowForkTest, BypassedBlocksLeaveTheCacheOnceDurable) {
  ChangeSetRef set = fork_.SetForRange(object_, {0, 2});
  set->bypass_cache = true;
  fork_.StageBlock(set, object_, 0, Filled('a'));
  fork_.StageBlock(set, object_, 1, Filled('a'));
  Freeze(set);
  const ChangeSetRef later = Write({1, 1}, 'b');
  Complete(set);
  EXPECT_EQ(Content({0, 2}), ".b");
  Commit(later);
  EXPECT_EQ(Content({0, 2}), ".b");
}

// ---- A change set that the device refused to write in place ----

TEST_F(CowForkTest, UnfrozenSetIsPendingAgainWithItsContent) {
  const ChangeSetRef set = Write({0, 2}, 'a');
  Freeze(set);
  Unfreeze(set);
  EXPECT_EQ(set->state, ChangeSet::State::kPending);
  EXPECT_EQ(fork_.pending().size(), 1u);
  EXPECT_EQ(object_->committing, 0);
  EXPECT_EQ(fork_.dirty_blocks(), 2);
  EXPECT_EQ(Resolve(Write({1, 2}, 'b')), set);
  Freeze(set);
  EXPECT_EQ(Frozen(*set), "0:abb ");
}

TEST_F(CowForkTest, UnfrozenSetIsTheOlderPartOfWhatOverlapsIt) {
  const ChangeSetRef set = Write({0, 4}, 'a');
  Freeze(set);
  const ChangeSetRef later = Write({2, 4}, 'b');
  Unfreeze(set);
  const ChangeSetRef both = Resolve(set);
  EXPECT_EQ(both, Resolve(later));
  EXPECT_EQ(both->data_blocks, 6);
  EXPECT_EQ(fork_.dirty_blocks(), 6);
  Freeze(both);
  EXPECT_EQ(Frozen(*both), "0:aabbbb ");
}

TEST_F(CowForkTest, UnfrozenSetKeepsItsVersionOfABlockThatALaterEpochWrote) {
  const ChangeSetRef set = Write({0, 2}, 'a');
  Freeze(set);
  Barrier();
  const ChangeSetRef later = Write({1, 1}, 'b');
  Unfreeze(set);
  EXPECT_NE(Resolve(set), Resolve(later));
  EXPECT_EQ(Content({0, 2}), "ab");
  Freeze(set);
  EXPECT_EQ(Frozen(*set), "0:aa ");
  Complete(set);
  Commit(later);
  EXPECT_EQ(fork_.dirty_blocks(), 0);
}

TEST_F(CowForkTest, UnfrozenSetGivesUpWhatAHoleOfItsEpochTookMeanwhile) {
  const ChangeSetRef set = Write({0, 4}, 'a');
  Freeze(set);
  const ChangeSetRef hole = Punch({1, 2});
  Unfreeze(set);
  const ChangeSetRef both = Resolve(set);
  EXPECT_EQ(both, Resolve(hole));
  EXPECT_EQ(Content({0, 4}), "a00a");
  EXPECT_EQ(both->data_blocks, 2);
  EXPECT_EQ(fork_.dirty_blocks(), 2);
  Freeze(both);
  EXPECT_EQ(Frozen(*both), "0:a 3:a ");
  Complete(both);
  EXPECT_EQ(fork_.dirty_blocks(), 0);
}

TEST_F(CowForkTest, UnfrozenSetJoinsTheOneOfItsEpochWhoseBlockALaterEpochDetached) {
  const ChangeSetRef first = Write({0, 1}, 'a');
  Freeze(first);
  const ChangeSetRef second = Write({0, 1}, 'b');
  Barrier();
  const ChangeSetRef third = Write({0, 1}, 'c');
  Unfreeze(first);
  // Invariant 1: the first and the second are of one epoch and share a block.
  EXPECT_EQ(Resolve(first), Resolve(second));
  EXPECT_EQ(fork_.dirty_blocks(), 2);
  Freeze(Resolve(second));
  EXPECT_EQ(Frozen(*Resolve(second)), "0:b ");
  EXPECT_EQ(Content({0, 1}), "c");
  Complete(Resolve(second));
  Commit(third);
  EXPECT_EQ(fork_.dirty_blocks(), 0);
}

TEST_F(CowForkTest, UnfrozenSetDoesNotUndoATruncateOfItsEpoch) {
  const ChangeSetRef set = Write({1, 1}, 'a');
  fork_.StageGrowth(set, object_, 2 * kBlockBytes);
  Freeze(set);
  const ChangeSetRef cut = Punch({1, 1});
  SetSize(cut, 100);
  Unfreeze(set);
  const ChangeSetRef both = Resolve(set);
  EXPECT_EQ(both, Resolve(cut));
  EXPECT_EQ(both->changes[object_->id].set_size_bytes, 100u);
  EXPECT_EQ(both->data_blocks, 0);
}

TEST_F(CowForkTest, UnfrozenSetJoinsTheOneOfItsEpochWhoseBlockALaterHoleDetached) {
  const ChangeSetRef first = Write({0, 1}, 'a');
  Freeze(first);
  const ChangeSetRef second = Write({0, 1}, 'b');
  Barrier();
  const ChangeSetRef hole = Punch({0, 1});
  Unfreeze(first);
  EXPECT_EQ(Resolve(first), Resolve(second)) << "invariant 1";
  EXPECT_EQ(fork_.dirty_blocks(), 1);
  Freeze(Resolve(second));
  EXPECT_EQ(Frozen(*Resolve(second)), "0:b ");
  Complete(Resolve(second));
  EXPECT_EQ(Content({0, 1}), "0");
  Commit(hole);
  EXPECT_EQ(fork_.dirty_blocks(), 0);
}

}  // namespace
}  // namespace untorn
