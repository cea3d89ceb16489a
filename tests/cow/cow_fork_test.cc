// What is accepted and not durable: staging, joining and barriers. The invariants of cow/cow_fork.h hold up
// promises 1, 2, 4 and 5.
#include "cow/cow_fork.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tests/cow/cow_fork_testing.h"

namespace untorn {
namespace {

// ---- Writing again what one change set holds ----

class RestageTest : public CowForkTest {
 protected:
  void SetUp() override { object_->size_bytes = object_->durable_size_bytes = 8 * kBlockBytes; }
  const ChangeSet* Restage(BlockRange range, char value) {
    std::vector<BufferRef> buffers;
    for (BlockCount i; i < range.count; ++i) buffers.push_back(Filled(value));
    const ChangeSet* set = fork_.Restage(*object_, range, buffers);
    // What was there, or what was offered.
    for (const BufferRef& b : buffers) given_back_ += static_cast<char>(b.data()[0]);
    return set;
  }
  std::string given_back_;
};

TEST_F(RestageTest, ReplacesTheContentOfAPendingChangeSetAndNothingElse) {
  const ChangeSetRef set = Write({0, 4}, 'a');
  EXPECT_EQ(Restage({1, 2}, 'b'), set.get());
  EXPECT_EQ(given_back_, "aa");
  EXPECT_EQ(Content({0, 4}), "abba");
  EXPECT_EQ(set->data_blocks, 4);
  EXPECT_EQ(fork_.dirty_blocks(), 4);
  Freeze(set);
  EXPECT_EQ(Frozen(*set), "0:abba ");
  Complete(set);
}

TEST_F(RestageTest, IsRefusedWhereMoreThanContentWouldChange) {
  const auto refused = [&](BlockRange range, const char* why) {
    given_back_.clear();
    EXPECT_EQ(Restage(range, 'x'), nullptr) << why;
    EXPECT_EQ(given_back_, std::string(range.count.value(), 'x')) << why;
  };
  refused({0, 1}, "nothing is pending");
  const ChangeSetRef first = Write({0, 1}, 'a'), second = Write({1, 2}, 'b');
  refused({0, 2}, "two change sets would have to be joined");
  refused({2, 2}, "one block is not pending");
  Write({9, 1}, 'c');
  refused({9, 1}, "it lies beyond the durable size, which the change set has to bring");
  EXPECT_NE(Restage({0, 1}, 'd'), nullptr);
  Freeze(first);
  refused({0, 1}, "its change set is on its way to the device");
  Punch({20, 1});
  refused({1, 2}, "a change of metadata holds all of the object's");
}

TEST_F(RestageTest, IsRefusedAcrossABarrier) {
  Write({0, 1}, 'a');
  Barrier();
  EXPECT_EQ(Restage({0, 1}, 'b'), nullptr);
  EXPECT_EQ(Content({0, 1}), "a");
}

// ---- Joining (invariant 1) ----

TEST_F(CowForkTest, WritesThatShareABlockBecomeOneChangeSet) {
  const ChangeSetRef a = Write({0, 4}, 'a'), b = Write({3, 4}, 'b');
  EXPECT_EQ(Resolve(a), Resolve(b));
  EXPECT_EQ(fork_.pending().size(), 1u);
  EXPECT_EQ(Resolve(a)->data_blocks, 7);
  EXPECT_EQ(fork_.dirty_blocks(), 7);
  EXPECT_EQ(Content({0, 8}), "aaabbbb.");
}

TEST_F(CowForkTest, WritesThatDoNotShareABlockStayApart) {
  const ChangeSetRef a = Write({0, 4}, 'a'), b = Write({4, 4}, 'b'), c = Write({0, 4}, 'c', other_);
  EXPECT_EQ(fork_.pending().size(), 3u);
  EXPECT_NE(Resolve(a), Resolve(b));
  EXPECT_NE(Resolve(a), Resolve(c));
}

TEST_F(CowForkTest, AWriteOverSeveralChangeSetsJoinsThemAll) {
  const ChangeSetRef a = Write({0, 2}, 'a'), b = Write({4, 8}, 'b'), c = Write({20, 2}, 'c'),
                     d = Write({40, 2}, 'd');
  ChangeSetsFound joined;
  fork_.AddSetsOfRange(*object_, {1, 20}, &joined);
  EXPECT_EQ(joined, (ChangeSetsFound{a.get(), b.get(), c.get()}));
  AddSetsOfObject(*object_, fork_.epoch(), &joined);
  EXPECT_EQ(joined, (ChangeSetsFound{a.get(), b.get(), c.get(), d.get()}));
  EXPECT_EQ(fork_.NewBlocks(*object_, {1, 20}), 10);
  const ChangeSetRef all = Write({1, 20}, 'e');
  EXPECT_EQ(Resolve(a), Resolve(all));
  EXPECT_EQ(Resolve(b), Resolve(all));
  EXPECT_EQ(Resolve(c), Resolve(all));
  EXPECT_NE(Resolve(d), Resolve(all));
  EXPECT_EQ(fork_.pending().size(), 2u);
  EXPECT_EQ(fork_.dirty_blocks(), 24);
  Freeze(Resolve(all));
  EXPECT_EQ(Frozen(*Resolve(all)), "0:a" + std::string(20, 'e') + "c ");
}

TEST_F(CowForkTest, JoinedChangeSetsKeepEverythingThatWasAskedOfEach) {
  const ChangeSetRef a = Write({0, 2}, 'a'), b = Write({4, 1}, 'b');
  a->space = Space({.blocks = 2, .tree_entries = 3});
  b->space = Space({.blocks = 1, .tree_entries = 4});
  a->born_ms = 20, b->born_ms = 10;
  b->wanted = b->device_refused = true;
  a->bypass_cache = true;
  int done = 0;
  a->when_done.push_back([&](absl::Status) { ++done; });
  b->when_done.push_back([&](absl::Status) { ++done; });
  const ChangeSetRef all = Join(a, b);
  EXPECT_EQ(all->space.cost(), (SpaceCost{.blocks = 3, .tree_entries = 7}));
  EXPECT_EQ(all->born_ms, 10);
  EXPECT_TRUE(all->wanted && all->device_refused);
  EXPECT_FALSE(all->bypass_cache) << "one of the two wants to stay in the cache";
  for (auto& call : all->when_done) call(absl::OkStatus());
  EXPECT_EQ(done, 2);
}

TEST_F(CowForkTest, JoiningWhatIsJoinedAlreadyChangesNothing) {
  const ChangeSetRef a = Write({0, 2}, 'a'), b = Write({4, 1}, 'b'), c = Write({8, 4}, 'c');
  const ChangeSetRef ab = Join(a, b);
  EXPECT_EQ(Join(a, b), ab);
  const ChangeSetRef all = Join(b, c);
  EXPECT_EQ(Join(c, a), all);
  EXPECT_EQ(all->data_blocks, 7);
  EXPECT_EQ(fork_.pending().size(), 1u);
}

// ---- Barriers (invariant 3, promise 5) ----

TEST_F(CowForkTest, BarrierWithNothingPendingBeginsNoEpoch) {
  Barrier();
  EXPECT_EQ(fork_.epoch(), 0);
  const ChangeSetRef set = Write({0, 1}, 'a');
  Freeze(set);
  Barrier();
  EXPECT_EQ(fork_.epoch(), 1) << "something is committing";
  Complete(set);
  Barrier();
  EXPECT_EQ(fork_.epoch(), 1);
}

TEST_F(CowForkTest, WriteBehindABarrierLeavesTheEarlierChangeSetItsVersion) {
  const ChangeSetRef before = Write({0, 4}, 'a');
  Barrier();
  EXPECT_EQ(fork_.NewBlocks(*object_, {2, 4}), 4);
  const ChangeSetRef behind = Write({2, 4}, 'b');
  EXPECT_NE(before, behind);
  EXPECT_EQ(before->state, ChangeSet::State::kPending);
  EXPECT_EQ(Content({0, 6}), "aabbbb");
  EXPECT_EQ(before->data_blocks, 4);
  EXPECT_EQ(fork_.dirty_blocks(), 8);

  Freeze(before);
  EXPECT_EQ(Frozen(*before), "0:aaaa ");
  EXPECT_TRUE(MustWait(*behind, fork_.pages())) << "the device orders nothing";
  Complete(before);
  EXPECT_FALSE(MustWait(*behind, fork_.pages()));
  Freeze(behind);
  EXPECT_EQ(Frozen(*behind), "2:bbbb ");
  Complete(behind);
  EXPECT_EQ(fork_.dirty_blocks(), 0);
}

TEST_F(CowForkTest, JoiningKeepsTheVersionsThatALaterEpochDetached) {
  const ChangeSetRef a = Write({0, 2}, 'a'), b = Write({4, 2}, 'b');
  Barrier();
  Write({1, 4}, 'c');
  const ChangeSetRef ab = Join(a, b);
  Freeze(ab);
  EXPECT_EQ(Frozen(*ab), "0:aa 4:bb ");
  EXPECT_EQ(Content({0, 6}), "accccb");
}

// ---- Metadata (invariant 2) ----

TEST_F(CowForkTest, MetadataChangeSetTakesInAllPendingChangesOfItsObjectAndLaterOnes) {
  const ChangeSetRef a = Write({0, 2}, 'a'), b = Write({8, 2}, 'b'), c = Write({0, 1}, 'c', other_);
  const ChangeSetRef metadata = fork_.SetForObject(object_);
  fork_.Change(*metadata, object_).name = "renamed";
  EXPECT_EQ(Resolve(a), metadata);
  EXPECT_EQ(Resolve(b), metadata);
  EXPECT_NE(Resolve(c), metadata);
  EXPECT_EQ(Resolve(Write({100, 1}, 'd')), metadata);
  EXPECT_TRUE(metadata->metadata());
  EXPECT_EQ(metadata->data_blocks, 5);
  Barrier();
  EXPECT_NE(Resolve(Write({200, 1}, 'e')), metadata) << "not across a barrier";
}

TEST_F(CowForkTest, NothingOfAnObjectIsSentWhileItsMetadataIsCommitting) {
  const ChangeSetRef metadata = fork_.SetForObject(object_);
  SetSize(metadata, 5);
  Freeze(metadata);
  const ChangeSetRef later = Write({50, 1}, 'a');
  EXPECT_TRUE(MustWait(*later, fork_.pages()));
  EXPECT_FALSE(MustWait(*Write({50, 1}, 'a', other_), fork_.pages()));
  Complete(metadata);
  EXPECT_FALSE(MustWait(*later, fork_.pages()));
}

TEST_F(CowForkTest, MetadataIsNotSentWhileDataOfItsObjectIsCommitting) {
  const ChangeSetRef data = Write({0, 1}, 'a');
  Freeze(data);
  const ChangeSetRef metadata = fork_.SetForObject(object_);
  SetSize(metadata, 5);
  EXPECT_TRUE(MustWait(*metadata, fork_.pages()));
  Complete(data);
  EXPECT_FALSE(MustWait(*metadata, fork_.pages()));
}

TEST_F(CowForkTest, GrowthIsKeptAsTheLargestAndTruncationWithWhatGrewLater) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({9, 1}, 'b');
  fork_.StageGrowth(a, object_, 4096);
  fork_.StageGrowth(b, object_, 40960);
  fork_.StageGrowth(a, object_, 100);  // no growth
  EXPECT_EQ(object_->size_bytes, 40960u);
  EXPECT_FALSE(a->metadata()) << "growth joins nothing";
  const ChangeSetRef set = fork_.SetForObject(object_);
  EXPECT_EQ(fork_.Change(*set, object_).grow_to_bytes, 40960u);
  SetSize(set, 10);
  EXPECT_EQ(object_->size_bytes, 10u);
  EXPECT_EQ(fork_.Change(*set, object_).grow_to_bytes, 0u);
  fork_.StageGrowth(set, object_, 777);
  EXPECT_EQ(fork_.Change(*set, object_).set_size_bytes, 777u);
}

// ---- Holes ----

TEST_F(CowForkTest, HoleTakesBlocksOutOfItsChangeSetAndReadsAsZerosUntilItIsDurable) {
  Write({0, 8}, 'a');
  const ChangeSetRef set = fork_.SetForObject(object_);
  set->space = Space({.blocks = 8, .tree_entries = 4});
  fork_.StageHole(set, object_, {2, 20});
  fork_.CheckInvariants();
  EXPECT_EQ(set->space.cost(), (SpaceCost{.blocks = 2, .tree_entries = 4})) << "space comes back";
  EXPECT_EQ(Content({0, 8}), "aa000000");
  EXPECT_EQ(set->data_blocks, 2);
  EXPECT_EQ(fork_.dirty_blocks(), 2);
  Write({5, 1}, 'b');
  EXPECT_EQ(Content({0, 8}), "aa000b00");
  Freeze(set);
  EXPECT_EQ(Frozen(*set), "0:aa 5:b ");
  EXPECT_EQ(Content({0, 8}), "aa000b00") << "still not durable";
  Complete(set);
  EXPECT_EQ(Content({0, 8}), "aa...b..") << "the mappings tell from here on";
}

TEST_F(CowForkTest, HoleBehindABarrierLeavesTheEarlierChangeSetItsBlocks) {
  const ChangeSetRef before = Write({0, 4}, 'a');
  Barrier();
  const ChangeSetRef hole = fork_.SetForObject(object_);
  hole->space = Space({.blocks = 3});
  fork_.StageHole(hole, object_, {1, 2});
  fork_.CheckInvariants();
  EXPECT_EQ(hole->space.blocks(), 3) << "the earlier one keeps what it reserved";
  EXPECT_EQ(Content({0, 4}), "a00a");
  Freeze(before);
  EXPECT_EQ(Frozen(*before), "0:aaaa ");
  Complete(before);
  EXPECT_EQ(Content({0, 4}), "a00a");
  Commit(hole);
  EXPECT_EQ(fork_.dirty_blocks(), 0);
}

TEST_F(CowForkTest, HoleWhileABlockIsCommittingKeepsTheBlockUntilThen) {
  const ChangeSetRef data = Write({0, 2}, 'a');
  Freeze(data);
  const ChangeSetRef hole = Punch({0, 2});
  EXPECT_TRUE(MustWait(*hole, fork_.pages()));
  Evict(0);
  EXPECT_EQ(Frozen(*data), "0:aa ");
  Complete(data);
  EXPECT_EQ(Content({0, 2}), "00");
  Commit(hole);
  EXPECT_EQ(fork_.pages().memory_bytes(), 0u);
}

}  // namespace
}  // namespace untorn
