// What a change needs before it is accepted: each step says that it is there, that it had to wait, or why the
// change is refused. Promises 7 and 9.
#include "store/admission.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/store/store_testing.h"

namespace untorn::internal {
namespace {

class AdmissionTest : public StoreTest {
 protected:
  // Waits for `step` while another thread does `then`, with the lock, once the step sleeps.
  template <typename Step, typename Then>
  Readiness While(Step step, Then then) {
    std::thread other([&] {
      const Lock lock(open_->mu);  // the step has released it
      then();
      parts().progress.Tell();
    });
    Readiness readiness = step();
    lock_.unlock();
    other.join();
    lock_.lock();
    return readiness;
  }
  // Until the step is ready; how often it had to wait.
  template <typename Step>
  int Turns(Step step) {
    int turns = 0;
    const absl::Status status = UntilReady([&] {
      Readiness readiness = step();
      turns += readiness.retry();
      return readiness;
    });
    EXPECT_TRUE(status.ok()) << status;
    return turns;
  }
  // Makes the tree's root, the only node of a small tree, unreadable.
  void DamageTree() {
    ASSERT_TRUE(checkpointer().Checkpoint(lock_).ok());
    const BlockNumber root = volume().superblock().tree.root.block;
    ASSERT_NE(root, 0);
    CutAndOpen();
    const std::string garbage(kBlockBytes, 'x');
    disk_->Poke(ByteOffset(root), garbage.data(), garbage.size());
  }
  static bool IsDamageOf(const Readiness& readiness, const std::string& name) {
    return readiness.failed() && absl::IsDataLoss(readiness.error()) &&
           readiness.error().message().find("'" + name + "'") != std::string::npos;
  }
};

// ---- Arguments ----

TEST(AdmissionArgumentsTest, BlocksOfARangeAreAllThatItTouches) {
  EXPECT_EQ(BlocksOf({0, 1}), (BlockRange{0, 1}));
  EXPECT_EQ(BlocksOf({kBlockBytes - 1, 2}), (BlockRange{0, 2}));
  EXPECT_EQ(BlocksOf({kBlockBytes, kBlockBytes}), (BlockRange{1, 1}));
}

TEST(AdmissionArgumentsTest, RangesAreWithinTheLargestObject) {
  EXPECT_TRUE(CheckRange({0, kObjectBytesMax}).ok());
  for (const ByteRange& range : std::vector<ByteRange>{
           {0, 0}, {1, kObjectBytesMax}, {kObjectBytesMax + 1, 1}, {1, UINT64_MAX}, {UINT64_MAX, 1}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckRange(range)))
        << range.offset_bytes << " " << range.length_bytes;
  }
  EXPECT_TRUE(CheckSize(kObjectBytesMax).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckSize(kObjectBytesMax + 1)));
}

// ---- Objects and names ----

TEST_F(AdmissionTest, ObjectIsThereUnlessItWasRemoved) {
  EXPECT_TRUE(admission().AwaitObject(lock_, *object_).ready());
  object_->removed = true;
  EXPECT_TRUE(absl::IsNotFound(admission().AwaitObject(lock_, *object_).error()));
}

TEST_F(AdmissionTest, ObjectThatALargeCommitHoldsIsWaitedFor) {
  object_->exclusive = true;
  EXPECT_TRUE(
      While([&] { return admission().AwaitObject(lock_, *object_); }, [&] { object_->exclusive = false; })
          .retry());
  EXPECT_TRUE(admission().AwaitObject(lock_, *object_).ready());
}

TEST_F(AdmissionTest, WaitForAnObjectEndsWithTheStoresFailure) {
  object_->exclusive = true;
  const Readiness readiness = While([&] { return admission().AwaitObject(lock_, *object_); },
                                    [&] { open_->health.Fail(absl::InternalError("gone")); });
  EXPECT_EQ(readiness.error(), parts().health.failure());
}

TEST_F(AdmissionTest, NamesThatALargeCommitHoldsAreWaitedFor) {
  EXPECT_TRUE(admission().AwaitNames(lock_).ready());
  admission().SetNamesExclusive(true);
  EXPECT_TRUE(
      While([&] { return admission().AwaitNames(lock_); }, [&] { admission().SetNamesExclusive(false); })
          .retry());
  EXPECT_TRUE(admission().AwaitNames(lock_).ready());
}

// ---- Metadata that can be read ----

TEST_F(AdmissionTest, WriteLooksAtTheTreeOnlyIfTheObjectGrows) {
  WriteToDevice({0, 4}, 'a');
  ASSERT_TRUE(checkpointer().Checkpoint(lock_).ok());
  CutAndOpen();
  const uint64_t reads = simulated().counts().reads;
  EXPECT_TRUE(admission().AwaitWritable(lock_, *object_, object_->size_bytes).ready());
  EXPECT_EQ(simulated().counts().reads, reads);
  EXPECT_TRUE(admission().AwaitWritable(lock_, *object_, object_->size_bytes + 1).retry());
  EXPECT_TRUE(admission().AwaitWritable(lock_, *object_, object_->size_bytes + 1).ready());
}

TEST_F(AdmissionTest, DamageRefusesTheChangesThatNeedWhatItCovers) {
  WriteToDevice({0, 4}, 'a');
  DamageTree();
  EXPECT_TRUE(admission().AwaitWritable(lock_, *object_, object_->size_bytes).ready()) << "promise 9";
  EXPECT_TRUE(IsDamageOf(admission().AwaitWritable(lock_, *object_, object_->size_bytes + 1), "object"));
  EXPECT_TRUE(IsDamageOf(admission().AwaitCached(lock_, *object_, 3), "object")) << "for a part of a block";
  EXPECT_TRUE(IsDamageOf(admission().AwaitRecord(lock_, "object", kId), "object"));
  EXPECT_TRUE(IsDamageOf(admission().AwaitHole(lock_, *object_, {0, 4}, false), "object"));
  EXPECT_FALSE(parts().health.failed()) << "it is contained";
}

TEST_F(AdmissionTest, HoleAndRecordAreReadyOnceTheirLeavesAreLoaded) {
  WriteToDevice({0, 4}, 'a');
  ASSERT_TRUE(checkpointer().Checkpoint(lock_).ok());
  CutAndOpen();
  EXPECT_EQ(Turns([&] { return admission().AwaitHole(lock_, *object_, {0, 4}, true); }), 1);
  EXPECT_EQ(Turns([&] { return admission().AwaitRecord(lock_, "object", kId); }), 0);
}

// ---- Space (promise 7) ----

TEST_F(AdmissionTest, SpaceThatIsThereIsReservedAtOnce) {
  Reservation space;
  EXPECT_TRUE(admission().AwaitSpace(lock_, {10, 2}, SpaceFor::kGrowth, &space).ready());
  EXPECT_EQ(space.cost(), (SpaceCost{10, 2}));
}

TEST_F(AdmissionTest, SpaceIsPreparedWhereThereIsNotEnough) {
  MakeStore({.size_bytes = 128 << 20, .needs_preparing = true});
  const BlockCount prepared = volume().space().prepared_blocks();
  Reservation space;
  const auto step = [&] {
    return admission().AwaitSpace(lock_, {prepared + 1000, 2}, SpaceFor::kGrowth, &space);
  };
  EXPECT_TRUE(step().retry());
  EXPECT_TRUE(space.empty());
  Turns(step);
  EXPECT_EQ(space.blocks(), prepared + 1000);
  EXPECT_GT(volume().space().prepared_blocks(), prepared);
}

TEST_F(AdmissionTest, SpaceThatDirtyDataGivesBackIsMadeUseOf) {
  WriteToDevice({0, 500}, 'a');
  ASSERT_TRUE(checkpointer().Checkpoint(lock_).ok());
  const SpaceCost cost = {volume().space().ReservableBlocks() + 200, 2};
  const ChangeSetRef hole = Punch({0, 500});
  Reservation space;
  EXPECT_TRUE(admission().AwaitSpace(lock_, cost, SpaceFor::kGrowth, &space).retry());
  EXPECT_EQ(hole->state, ChangeSet::State::kDone);
  EXPECT_TRUE(admission().AwaitSpace(lock_, cost, SpaceFor::kGrowth, &space).ready());
}

TEST_F(AdmissionTest, SpaceThatIsNowhereIsRefusedAndNothingIsReserved) {
  Reservation space;
  const Readiness readiness =
      admission().AwaitSpace(lock_, {volume().geometry().total_blocks, 2}, SpaceFor::kGrowth, &space);
  ASSERT_TRUE(readiness.failed());
  EXPECT_TRUE(absl::IsResourceExhausted(readiness.error())) << readiness.error();
  EXPECT_TRUE(space.empty());
  EXPECT_EQ(volume().space().reserved().blocks, 0);
  EXPECT_FALSE(parts().health.failed());
}

TEST_F(AdmissionTest, FailureWhileSpaceIsPreparedFailsTheStore) {
  MakeStore({.size_bytes = 128 << 20, .needs_preparing = true});
  simulated().FailAfter(IoOp::kWrite, 1, absl::InternalError("the disk has gone"));
  Reservation space;
  const Readiness readiness =
      admission().AwaitSpace(lock_, {volume().space().prepared_blocks(), 2}, SpaceFor::kGrowth, &space);
  EXPECT_EQ(readiness.error(), parts().health.failure());
  EXPECT_TRUE(parts().health.failed());
}

// ---- Joining ----

TEST_F(AdmissionTest, SetsThatFitOneCommitMayBeJoined) {
  EXPECT_TRUE(admission().AwaitJoin(lock_, {}).ready());
  ChangeSetsFound sets = {Write({0, 1}, 'a').get(), Write({8, 1}, 'b').get()};
  EXPECT_TRUE(admission().AwaitJoin(lock_, sets).ready());
}

TEST_F(AdmissionTest, OfSetsThatTogetherTakeTooMuchOfTheLogTheLargestIsSentFirst) {
  const auto many_names = [&](char first, int n) {
    const ChangeSetRef set = fork().NewChangeSet();
    for (int i = 0; i < n; ++i) {
      std::string name = std::string(1, first) + std::to_string(i);
      name.resize(kNameBytesMax, 'n');
      fork().names().Stage(*set, name, object_);
    }
    return set;
  };
  const ChangeSetRef small = many_names('a', 500), large = many_names('b', 510);
  EXPECT_TRUE(admission().AwaitJoin(lock_, {small.get(), large.get()}).retry());
  EXPECT_EQ(large->state, ChangeSet::State::kDone);
  EXPECT_EQ(small->state, ChangeSet::State::kPending);
  EXPECT_TRUE(admission().AwaitJoin(lock_, {small.get()}).ready());
}

TEST_F(AdmissionTest, WriteMakesNoChangeSetThatIsTooLarge) {
  const ChangeSetRef a = Write({0, kSetBlocksMax - 4}, 'a');
  EXPECT_TRUE(admission().AwaitJoinOfRange(lock_, *object_, {100, kSetBlocksMax}, true).ready())
      << "it joins nothing";
  EXPECT_TRUE(admission().AwaitJoinOfRange(lock_, *object_, {0, 4}, true).ready());
  for (bool atomic : {false, true}) {
    const ChangeSetRef largest = atomic ? Write({0, kSetBlocksMax - 4}, 'b') : a;
    EXPECT_TRUE(admission().AwaitJoinOfRange(lock_, *object_, {0, 5}, atomic).retry());
    EXPECT_EQ(largest->state, ChangeSet::State::kDone);
    EXPECT_TRUE(admission().AwaitJoinOfRange(lock_, *object_, {0, 5}, atomic).ready());
  }
}

TEST_F(AdmissionTest, BlocksOfAPlainWriteJoinOnlyWhatTheyMeetOneByOne) {
  Write({0, 6}, 'a'), Write({8, 6}, 'b');
  EXPECT_TRUE(admission().AwaitJoinOfRange(lock_, *object_, {4, 6}, /*atomic=*/false).ready());
  EXPECT_TRUE(admission().AwaitJoinOfRange(lock_, *object_, {4, 6}, /*atomic=*/true).retry());
}

TEST_F(AdmissionTest, MetadataChangeWaitsForItsObject) {
  Write({0, 1}, 'a');
  EXPECT_TRUE(admission().AwaitJoinOfObject(lock_, *object_).ready());
  object_->removed = true;
  EXPECT_TRUE(absl::IsNotFound(admission().AwaitJoinOfObject(lock_, *object_).error()));
}

TEST_F(AdmissionTest, WriterWaitsWhileTooMuchIsDirty) {
  EXPECT_TRUE(admission().AwaitCleanSpace(lock_).ready());
  Write({0, WholeBlocks(kCacheBytes / 2) + 1}, 'a');
  EXPECT_TRUE(admission().AwaitCleanSpace(lock_).retry());
  EXPECT_TRUE(admission().AwaitCleanSpace(lock_).ready());
}

// ---- Old content ----

TEST_F(AdmissionTest, ContentOnTheDeviceIsReadAndThenThere) {
  WriteToDevice({0, 2}, 'a');
  EXPECT_FALSE(admission().HasContent(*object_, 1));
  EXPECT_TRUE(admission().AwaitCached(lock_, *object_, 1).retry());
  EXPECT_TRUE(admission().AwaitCached(lock_, *object_, 1).ready());
  EXPECT_TRUE(admission().HasContent(*object_, 1));
  EXPECT_EQ(Cached(1), 'a');
  const BufferRef copy = admission().CopyOfBlock(*object_, 1);
  EXPECT_EQ(copy.data()[0], std::byte{'a'});
  EXPECT_NE(copy.data(), fork().pages().Find(*object_, 1)->buffer.data()) << "it is going to be changed";
}

TEST_F(AdmissionTest, WhereThereIsNoContentNothingIsRead) {
  WriteToDevice({0, 8}, 'a');
  Preallocate({20, 1});
  Punch({4, 1});
  object_->size_bytes = 100 * kBlockBytes;
  const uint64_t reads = device_reads();
  for (ObjectBlock block : {ObjectBlock(4), ObjectBlock(10), ObjectBlock(20), ObjectBlock(100)}) {
    EXPECT_TRUE(admission().AwaitCached(lock_, *object_, block).ready()) << block;
    EXPECT_FALSE(admission().HasContent(*object_, block));
    EXPECT_EQ(admission().CopyOfBlock(*object_, block).data()[0], std::byte{0});
  }
  EXPECT_EQ(device_reads(), reads);
}

TEST_F(AdmissionTest, BlockThatAReaderIsReadingAlreadyGetsItsContentFromTheWriter) {
  WriteToDevice({0, 1}, 'a');
  const uint64_t readers = fork().pages().NewReadToken();
  ASSERT_NE(fork().pages().AddReading(*object_, 0, readers), nullptr);
  EXPECT_TRUE(admission().AwaitCached(lock_, *object_, 0).retry());
  EXPECT_EQ(Cached(0), 'a');
  fork().pages().FillRead(*object_, 0, readers, BufferRef());
  EXPECT_EQ(Cached(0), 'a') << "the reader's read failed, or came late";
}

TEST_F(AdmissionTest, BlockThatCannotBeReadRefusesTheWriteAndLeavesNoPage) {
  WriteToDevice({0, 1}, 'a');
  simulated().FailAfter(IoOp::kRead, 1, absl::DataLossError("the sector is gone"));
  EXPECT_TRUE(absl::IsDataLoss(admission().AwaitCached(lock_, *object_, 0).error()));
  EXPECT_EQ(fork().pages().Find(*object_, 0), nullptr);
  EXPECT_FALSE(parts().health.failed());
  EXPECT_FALSE(volume().space().ReadOutstanding(MappingsOf({0, 1})[0].extent()));
}

}  // namespace
}  // namespace untorn::internal
