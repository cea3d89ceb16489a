// From pending to durable, on a simulated disk: select, plan, place, build, send, complete. Promises 1, 3, 5
// and 8.
#include "writeback/committer.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/writeback/writeback_testing.h"

namespace untorn {
namespace {

const AtomicLimits kUnit64K = {AtomicSource::kHardware, kBlockBytes, 16 * kBlockBytes, 0};

class CommitterTest : public WritebackTest {
 protected:
  void BeginParts() override {
    checkpointer_ = std::make_unique<Checkpointer>(parts());
    CommitterOptions options;
    options.limits = device().info().atomic;
    options.dirty_limit_blocks = 100;
    committer_ = std::make_unique<Committer>(parts(), *checkpointer_, options);
  }
  void EndParts() override {
    committer_.reset();
    checkpointer_.reset();
  }
  void MakeStoreWithUnit(int refuse_per_mille = 0) {
    MakeStore({.size_bytes = 8 << 20, .atomic = kUnit64K, .refuse_atomic_per_mille = refuse_per_mille});
  }
  void Check() {
    committer_->CheckInvariants();
    fork().CheckInvariants();
  }
  absl::Status Sync(const ChangeSetRef& set) {
    absl::Status status = committer_->Sync(lock_, {set});
    Check();
    return status;
  }
  void WriteDurably(BlockRange range, char value) {
    const absl::Status status = Sync(Write(range, value));
    ASSERT_TRUE(status.ok()) << status;
  }
  static bool Done(const ChangeSetRef& set) { return Resolve(set)->state == ChangeSet::State::kDone; }

  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<Committer> committer_;
};

// ---- Durability (promise 3) ----

TEST_F(CommitterTest, SyncedChangeSetIsThereAfterAPowerCutAndCostsOneFlush) {
  const DeviceCounts before = simulated().counts();
  WriteDurably({3, 4}, 'a');
  EXPECT_EQ(simulated().counts().flushes - before.flushes, 1u);
  EXPECT_EQ(simulated().counts().writes - before.writes, 2u) << "data and record";
  EXPECT_EQ(OnDevice({0, 10}), "...aaaa...");
  CutAndOpen();
  EXPECT_EQ(OnDevice({0, 10}), "...aaaa...");
}

TEST_F(CommitterTest, WhatIsNotSyncedStaysPendingUntilAllIs) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b');
  EXPECT_TRUE(Sync(a).ok());
  EXPECT_TRUE(Done(a));
  EXPECT_FALSE(Done(b));
  EXPECT_TRUE(committer_->SyncAll(lock_).ok());
  EXPECT_TRUE(Done(b));
  EXPECT_EQ(fork().dirty_blocks(), 0);
  EXPECT_EQ(volume().space().reserved().blocks, 0);
}

TEST_F(CommitterTest, SyncBringsWhatABarrierPutBeforeIt) {
  const ChangeSetRef a = Write({0, 1}, 'a');
  fork().Barrier();
  const ChangeSetRef b = Write({0, 2}, 'b');
  EXPECT_TRUE(Sync(b).ok());
  EXPECT_TRUE(Done(a)) << "promise 5";
  EXPECT_EQ(OnDevice({0, 2}), "bb");
}

TEST_F(CommitterTest, SyncOfAJoinedChangeSetWaitsForTheWholeOne) {
  const ChangeSetRef a = Write({0, 4}, 'a');
  const ChangeSetRef both = Write({3, 4}, 'b');
  EXPECT_TRUE(Sync(a).ok());
  EXPECT_TRUE(Done(both));
  EXPECT_EQ(OnDevice({0, 7}), "aaabbbb");
}

TEST_F(CommitterTest, SyncOfNothingReturnsAtOnce) {
  EXPECT_TRUE(committer_->Sync(lock_, {}).ok());
  EXPECT_TRUE(committer_->SyncAll(lock_).ok());
  EXPECT_EQ(stats().commits, 0u);
}

TEST_F(CommitterTest, ExtentLongerThanAnEntryCanNameIsSeveralEntries) {
  MakeStore({.size_bytes = 64 << 20});
  WriteDurably({0, 2 * kMapEntryBlocksMax + 5}, 'a');
  EXPECT_EQ(OnDevice({0, 2 * kMapEntryBlocksMax + 6}),
            std::string((2 * kMapEntryBlocksMax + 5).value(), 'a') + ".");
  for (const Mapping& m : MappingsOf({0, 2 * kMapEntryBlocksMax + 5})) {
    EXPECT_LE(m.logical.count, kMapEntryBlocksMax);
  }
  CutAndOpen();
  EXPECT_EQ(OnDevice({ObjectBlock(0) + 2 * kMapEntryBlocksMax, 6}), "aaaaa.");
}

TEST_F(CommitterTest, ThreadsThatWaitShareCommits) {
  lock_.unlock();
  constexpr int kThreads = 6, kWrites = 20;
  const auto first_block_of = [](int t) { return ObjectBlock(100 * static_cast<uint64_t>(t)); };
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t, first_block_of] {
      for (uint64_t i = 0; i < kWrites; ++i) {
        Lock lock(open_->mu);
        const ChangeSetRef set = Write({first_block_of(t) + BlockCount(i), 1}, static_cast<char>('a' + t));
        EXPECT_TRUE(committer_->Sync(lock, {set}).ok());
        EXPECT_TRUE(Done(set));
        Check();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  lock_.lock();
  EXPECT_LE(stats().commits, static_cast<uint64_t>(kThreads * kWrites));
  for (int t = 0; t < kThreads; ++t) {
    EXPECT_EQ(OnDevice({first_block_of(t), BlockCount(kWrites)}),
              std::string(kWrites, static_cast<char>('a' + t)));
  }
}

// A checkpoint that is made while a batch waits for room in the log would leave the whole tree in memory.
TEST_F(CommitterTest, BatchThatWaitsForRoomInTheLogHoldsNoNodes) {
  constexpr uint64_t kWrites = 2000;
  constexpr size_t kNodes = 2;
  MakeStore({.size_bytes = 64 << 20, .atomic = kUnit64K});
  for (uint64_t i = 0; i < kWrites; ++i) {
    Write({ObjectBlock(2 * i), 1}, 'a');
    if (i % 90 == 0) {
      ASSERT_TRUE(committer_->SyncAll(lock_).ok());
    }
  }
  ASSERT_TRUE(committer_->SyncAll(lock_).ok());
  ASSERT_TRUE(checkpointer_->Checkpoint(lock_).ok());
  node_cache_nodes_ = kNodes;
  CutAndOpen();
  ASSERT_GT(volume().superblock().tree.node_count, BlockCount(2 * kNodes));
  size_t cached = 0;  // when the superblock is written
  device().OnSubmit([&](const IoRequest& request) {
    if (request.op != IoOp::kWrite || request.offset_bytes != ByteOffset(kSuperblockSlots[0])) return;
    Lock lock(open_->mu);
    cached = std::max(cached, volume().mappings().node_cache().size());
  });
  for (uint64_t i = 0; stats().checkpoints == 0 && cached == 0; ++i) {
    ASSERT_LT(i, 10 * kWrites) << "no write has waited for the log";
    WriteDurably({ObjectBlock(2 * (i * 7 % kWrites)), 3}, 'b');
  }
  EXPECT_GT(cached, 0u);
  EXPECT_LE(cached, kNodes);
}

// ---- Ways to the device ----

TEST_F(CommitterTest, ThirdOverwriteOfARangeSettlesItAndGoesInPlaceAsAllAfterIt) {
  MakeStoreWithUnit();
  WriteDurably({8, 4}, 'a');
  EXPECT_EQ(Counted(PathReason::kUnmapped), 1u);
  WriteDurably({8, 4}, 'b');
  EXPECT_EQ(Counted(PathReason::kUnsettled), 1u);
  WriteDurably({8, 4}, 'c');
  EXPECT_EQ(stats().settling_records, 2u) << "one opens the range, and one claims that";
  EXPECT_EQ(Counted(PathReason::kInPlace), 1u);
  const DeviceCounts before = simulated().counts();
  WriteDurably({8, 4}, 'd');
  EXPECT_EQ(stats().settling_records, 2u);
  EXPECT_EQ(simulated().counts().atomic_writes - before.atomic_writes, 1u);
  EXPECT_EQ(simulated().counts().writes - before.writes, 0u) << "no record";
  EXPECT_EQ(simulated().counts().flushes - before.flushes, 0u);
  CutAndOpen();
  EXPECT_EQ(OnDevice({8, 4}), "dddd");
}

TEST_F(CommitterTest, RefusedWriteInPlaceGoesByCowAndItsWriterWaitsForThat) {
  MakeStoreWithUnit(/*refuse_per_mille=*/1000);
  WriteDurably({8, 4}, 'a');
  WriteDurably({8, 4}, 'a');
  const BlockNumber place = MappingsOf({8, 4})[0].physical;
  WriteDurably({8, 4}, 'b');
  EXPECT_EQ(Counted(PathReason::kDeviceRefused), 1u);
  EXPECT_EQ(Counted(PathReason::kInPlace), 0u);
  EXPECT_NE(MappingsOf({8, 4})[0].physical, place);
  CutAndOpen();
  EXPECT_EQ(OnDevice({8, 4}), "bbbb");
}

TEST_F(CommitterTest, NewDataGoesIntoPreallocatedBlocks) {
  const Extent extent = Allocate(8);
  auto set = std::make_shared<ChangeSet>();
  ObjectChange& change = set->changes[kId];
  change.object = object_;
  AddUnwritten({0, 8}, extent.start, &change.placed);
  fork().StageWhole(set);
  ASSERT_TRUE(Sync(set).ok());
  EXPECT_EQ(OnDevice({0, 9}), "________.");
  WriteDurably({2, 3}, 'a');
  EXPECT_EQ(OnDevice({0, 9}), "__aaa___.");
  EXPECT_EQ(MappingsOf({2, 3})[0].physical, extent.start + 2);
  CutAndOpen();
  EXPECT_EQ(OnDevice({0, 9}), "__aaa___.");
}

TEST_F(CommitterTest, LargeOneIsSeenAtOnceWhenItIsDurable) {
  object_ = fork().objects().Add({kId, 4 * kBlockBytes, "object"});
  WriteDurably({0, 4}, 'a');
  const Extent extent = Allocate(4);
  std::vector<char> data(4 * kBlockBytes, 'b');
  disk_->Poke(ByteOffset(extent.start), data.data(), data.size());
  const iovec piece = {data.data(), data.size()};
  auto set = std::make_shared<ChangeSet>();
  ObjectChange& change = set->changes[kId];
  change.object = object_;
  change.placed.push_back(
      {{2, 4}, extent.start, MappingState::kWritten, DataChecksums::Of({&piece, 1}, volume().data_key())});
  change.grow_to_bytes = 6 * kBlockBytes;
  fork().StageWhole(set);
  EXPECT_EQ(object_->size_bytes, 4 * kBlockBytes);
  EXPECT_NE(fork().pages().Find(*object_, 2), nullptr) << "the old content is what others see";
  ASSERT_TRUE(Sync(set).ok());
  EXPECT_EQ(object_->size_bytes, 6 * kBlockBytes);
  EXPECT_EQ(OnDevice({0, 6}), "aabbbb");
  const Page* page = fork().pages().Find(*object_, 2);
  EXPECT_TRUE(page == nullptr || !page->buffer) << "the cache must not go on showing what was there";
  EXPECT_NE(fork().pages().Find(*object_, 1), nullptr);
}

// ---- The log ----

TEST_F(CommitterTest, FullLogIsEmptiedByACheckpoint) {
  const uint64_t log_blocks = volume().geometry().log.count.value();
  for (uint64_t i = 0; i < log_blocks + 20; ++i) {
    EXPECT_TRUE(volume().lanes().GiveBack().ok());  // so the commit takes a block of the ring
    WriteDurably({ObjectBlock(i % 7), 1}, static_cast<char>('a' + i % 26));
  }
  EXPECT_EQ(volume().counters().checkpoints, 1u);
  const std::string content = OnDevice({0, 7});
  CutAndOpen();
  EXPECT_EQ(OnDevice({0, 7}), content);
}

// ---- Writing back what nobody waits for ----

TEST_F(CommitterTest, WritebackBeginsAtHalfTheDirtyLimit) {
  const ChangeSetRef a = Write({0, 50}, 'a');
  EXPECT_FALSE(committer_->WriteBackDue());
  EXPECT_FALSE(committer_->WriteBack(lock_));
  Write({60, 1}, 'b');
  EXPECT_TRUE(committer_->WriteBackDue());
  EXPECT_TRUE(committer_->WriteBack(lock_));
  EXPECT_EQ(a->state, ChangeSet::State::kCommitting);
  Check();
  EXPECT_TRUE(committer_->SyncAll(lock_).ok());
}

TEST_F(CommitterTest, WriterWaitsWhileMoreThanTheLimitIsDirty) {
  EXPECT_TRUE(committer_->AwaitCleanSpace(lock_).ready());
  Write({0, 101}, 'a');
  EXPECT_TRUE(committer_->AwaitCleanSpace(lock_).retry()) << "the lock was released";
  EXPECT_LE(fork().dirty_blocks(), 100);
  EXPECT_TRUE(committer_->AwaitCleanSpace(lock_).ready());
  Check();
}

TEST_F(CommitterTest, WantedIsSentWithoutAnybodyWhoWaits) {
  const ChangeSetRef a = Write({0, 1}, 'a');
  EXPECT_FALSE(committer_->WantedDue());
  committer_->Want(a);
  EXPECT_TRUE(committer_->WantedDue());
  EXPECT_TRUE(committer_->WriteBack(lock_));
  EXPECT_FALSE(committer_->WantedDue());
  EXPECT_TRUE(Sync(a).ok());
}

// ---- Failure (promise 8) ----

TEST_F(CommitterTest, FailureIsToldToEveryWaiterAndEveryLaterOne) {
  const ChangeSetRef a = Write({0, 2}, 'a'), b = Write({8, 1}, 'b');
  std::vector<absl::Status> told;
  for (const ChangeSetRef& set : {a, b}) {
    set->when_done.push_back([&](absl::Status status) { told.push_back(std::move(status)); });
  }
  simulated().FailAfter(IoOp::kWrite, 1, absl::InternalError("the disk has gone"));
  const absl::Status status = Sync(a);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(status.message().find("the disk has gone"), std::string::npos) << status;
  parts().callbacks.Run(lock_);
  ASSERT_EQ(told.size(), 2u) << "the one that was not sent is told too";
  EXPECT_EQ(told[0], status);
  EXPECT_EQ(told[1], status);
  EXPECT_EQ(Sync(b), status);
  EXPECT_FALSE(committer_->WriteBack(lock_));
  for (ObjectBlock block : {ObjectBlock(0), ObjectBlock(1), ObjectBlock(8)}) {
    const Page* page = fork().pages().Find(*object_, block);
    ASSERT_TRUE(page != nullptr && page->buffer) << "reads go on";
  }
}

TEST_F(CommitterTest, FailedFlushFailsTheStoreAndNothingIsRetried) {
  const ChangeSetRef a = Write({0, 2}, 'a');
  simulated().FailAfter(IoOp::kFlush, 1, absl::InternalError("the disk has gone"));
  const uint64_t flushes = simulated().counts().flushes;
  EXPECT_TRUE(absl::IsFailedPrecondition(Sync(a)));
  EXPECT_TRUE(absl::IsFailedPrecondition(Sync(a)));
  EXPECT_EQ(simulated().counts().flushes - flushes, 1u);
  EXPECT_FALSE(Done(a));
}

}  // namespace
}  // namespace untorn
