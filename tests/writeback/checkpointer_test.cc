// When checkpoints are made and space is prepared, and that one checkpoint is made at a time.
#include "writeback/checkpointer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tests/extent/test_checksums.h"
#include "tests/writeback/writeback_testing.h"

namespace untorn {
namespace {

class CheckpointerTest : public WritebackTest {
 protected:
  void BeginParts() override { checkpointer_ = std::make_unique<Checkpointer>(parts()); }
  void EndParts() override { checkpointer_.reset(); }

  // A durable record that maps the range to new blocks. Their content does not matter here.
  void Commit(BlockRange range) {
    std::vector<LogEntry> entries = {TestMap(kId, range, Allocate(range.count).start)};
    LogAppend& append = appends_.emplace_back();
    std::optional<LogReservation> room = volume().log().TryReserve(LogWriter::BlocksFor(entries));
    ASSERT_TRUE(room.has_value());
    volume().log().Begin(*std::move(room), std::move(entries), &append);
    volume().log().Encode(&append);
    for (IoRequest& request : append.requests) ASSERT_TRUE(parts().pump.Run(lock_, &request).ok());
    ASSERT_TRUE(volume().RecordsDurable(append).ok());
  }
  uint64_t checkpoints() { return volume().counters().checkpoints; }

  std::unique_ptr<Checkpointer> checkpointer_;
  std::deque<LogAppend> appends_;
};

// ---- When one is due ----

TEST_F(CheckpointerTest, NothingIsDueInAFreshStore) {
  EXPECT_FALSE(checkpointer_->StepDue());
  EXPECT_FALSE(checkpointer_->Step(lock_));
}

TEST_F(CheckpointerTest, CheckpointIsDueOnceMoreThanHalfTheLogIsUsed) {
  const BlockCount half = volume().geometry().log.count / 2;
  while (volume().log().blocks_used() < half) Commit({0, 1});
  EXPECT_FALSE(checkpointer_->StepDue());
  Commit({0, 1});
  EXPECT_TRUE(checkpointer_->StepDue());
  EXPECT_TRUE(checkpointer_->Step(lock_));
  EXPECT_EQ(checkpoints(), 1u);
  EXPECT_EQ(volume().log().blocks_used(), 0);
  EXPECT_FALSE(checkpointer_->StepDue());
}

TEST_F(CheckpointerTest, LogBlocksReservedForACommitCountAsUsed) {
  const std::optional<LogReservation> room = volume().log().TryReserve(volume().geometry().log.count / 2 + 1);
  EXPECT_TRUE(checkpointer_->StepDue());
}

TEST_F(CheckpointerTest, CheckpointIsDueOnceTheChangesMapAnEighthOfWhatIsPrepared) {
  MakeStore({.size_bytes = 256 << 20});
  ObjectBlock mapped;
  while (!checkpointer_->StepDue()) {
    Commit({mapped, 512});
    mapped += 512;
    ASSERT_LT(mapped, ObjectBlockAt(256 << 20));
  }
  EXPECT_GT(mapped - ObjectBlock(0), volume().space().prepared_blocks() / 8);
  EXPECT_LE(mapped - ObjectBlock(512), volume().space().prepared_blocks() / 8) << "not earlier";
  EXPECT_LT(volume().log().blocks_used(), volume().geometry().log.count / 2);
  EXPECT_TRUE(checkpointer_->Step(lock_));
  EXPECT_EQ(checkpoints(), 1u);
}

TEST_F(CheckpointerTest, CheckpointOfALargeTreeWaitsForMoreChangesWithinABound) {
  EXPECT_EQ(Checkpointer::ChangesMax(BlockCount(0)), 64u << 10);
  EXPECT_EQ(Checkpointer::ChangesMax(BlockCount(24 << 10)), 96u << 10);
  EXPECT_EQ(Checkpointer::ChangesMax(kStoreBlocksMax), 128u << 10) << "promise 10: memory is bounded";
}

// ---- One at a time ----

TEST_F(CheckpointerTest, ThoseWhoComeWhileOneIsMadeShareTheNext) {
  Commit({0, 1});
  std::atomic<int> entered = 0;
  std::vector<std::thread> others;
  device().OnSubmit([&](const IoRequest&) {
    if (!others.empty()) return;
    for (int i = 0; i < 2; ++i) {
      others.emplace_back([&] {
        Lock lock(open_->mu);
        ++entered;
        const absl::Status status = checkpointer_->Checkpoint(lock);
        EXPECT_TRUE(status.ok()) << status;
        EXPECT_EQ(checkpoints(), 2u) << "the first may have begun before what they want in it";
      });
    }
    while (entered < 2) std::this_thread::yield();
  });
  EXPECT_TRUE(checkpointer_->Checkpoint(lock_).ok());
  lock_.unlock();
  for (std::thread& other : others) other.join();
  lock_.lock();
  device().OnSubmit({});
  EXPECT_EQ(checkpoints(), 2u);
}

TEST_F(CheckpointerTest, NoneIsDueWhileOneIsMade) {
  while (!checkpointer_->StepDue()) Commit({0, 1});
  bool due = false;
  device().OnSubmit([&](const IoRequest&) {
    const Lock lock(open_->mu);
    due |= checkpointer_->StepDue();
  });
  EXPECT_TRUE(checkpointer_->Step(lock_));
  device().OnSubmit({});
  EXPECT_FALSE(due);
}

TEST_F(CheckpointerTest, FailedCheckpointFailsTheStoreAndNoneFollows) {
  Commit({0, 1});
  simulated().FailAfter(IoOp::kWrite, 1, absl::InternalError("the disk has gone"));
  const absl::Status status = checkpointer_->Checkpoint(lock_);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(parts().health.failure(), status) << "promise 8";
  const uint64_t writes = simulated().counts().writes;
  EXPECT_EQ(checkpointer_->Checkpoint(lock_), status);
  EXPECT_FALSE(checkpointer_->Step(lock_));
  EXPECT_EQ(simulated().counts().writes, writes);
}

TEST_F(CheckpointerTest, ClosedStoreHasNoSteps) {
  while (!checkpointer_->StepDue()) Commit({0, 1});
  open_->health.Close();
  EXPECT_FALSE(checkpointer_->Step(lock_));
}

// ---- Preparing ----

class PreparingTest : public CheckpointerTest {
 protected:
  void SetUp() override {
    MakeStore({.size_bytes = 64 << 20, .needs_preparing = true});
    EXPECT_FALSE(checkpointer_->StepDue());
    Commit({0, 2 * kPrepareStepBlocks});  // of what is prepared when the store is made
  }
  BlockCount prepared() { return volume().space().prepared_blocks(); }
};

TEST_F(PreparingTest, SpaceIsPreparedInStepsUntilEnoughIsFreeAhead) {
  const BlockCount before = prepared();
  ASSERT_TRUE(checkpointer_->StepDue());
  EXPECT_TRUE(checkpointer_->Step(lock_));
  EXPECT_EQ(prepared(), before + kPrepareStepBlocks);
  while (checkpointer_->Step(lock_)) {
  }
  EXPECT_GE(volume().space().free_blocks(), std::max(kPrepareStepBlocks, prepared() / 4))
      << "a store begins small";
  EXPECT_LT(prepared(), volume().geometry().total_blocks) << "no further than is of use";
  EXPECT_FALSE(checkpointer_->StepDue());
  EXPECT_EQ(checkpoints(), 0u);
}

TEST_F(PreparingTest, StoreWithShortRunsGrowsBeforeTheCheckpointWhoseNodesNeedLongOnes) {
  MakeStore({.size_bytes = 256 << 20, .needs_preparing = true});
  SpaceLedger& space = volume().space();
  const Extent kept = Allocate(1024);
  // In the end every second of the blocks that were free is free.
  for (bool steps = true; steps; steps = checkpointer_->Step(lock_)) {
    while (true) {
      const absl::StatusOr<Extent> run = space.Allocate(lock_, {.want_blocks = 1024, .min_blocks = 2});
      if (!run.ok()) break;
      for (BlockNumber b = run->start; b < run->end(); b += 2) {
        ASSERT_TRUE(space.ReturnUnused({b, 1}).ok());
      }
    }
  }
  while (volume().log().blocks_used() <= volume().geometry().log.count / 2) Commit({0, 1});
  ASSERT_TRUE(space.Allocate(lock_, {.want_blocks = 64}).ok());
  ASSERT_TRUE(space.fragmented());
  // Growth has its turn after so many other writes.
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(space.WriteZeros(lock_, kept).ok());
  const BlockCount before = prepared();
  EXPECT_TRUE(checkpointer_->Step(lock_));
  EXPECT_EQ(prepared(), before + kPrepareStepBlocks);
  EXPECT_EQ(checkpoints(), 0u);
  ASSERT_TRUE(space.Allocate(lock_, {.want_blocks = 1 << 20}).ok());
  EXPECT_TRUE(checkpointer_->Step(lock_));
  EXPECT_EQ(prepared(), before + kPrepareStepBlocks) << "other writes have most of the disk";
  EXPECT_EQ(checkpoints(), 1u);
}

TEST_F(PreparingTest, FullFileSystemBelowIsNoFailureAndIsNotTriedAgain) {
  simulated().FailAfter(IoOp::kWrite, 1, absl::ResourceExhaustedError("the file system is full"));
  EXPECT_FALSE(checkpointer_->Step(lock_));
  EXPECT_FALSE(parts().health.failed()) << "promise 7: the write that needs space is told";
  EXPECT_FALSE(checkpointer_->StepDue());
}

TEST_F(PreparingTest, OtherErrorsOfPreparingFailTheStore) {
  simulated().FailAfter(IoOp::kWrite, 1, absl::InternalError("the disk has gone"));
  EXPECT_FALSE(checkpointer_->Step(lock_));
  EXPECT_TRUE(parts().health.failed());
}

}  // namespace
}  // namespace untorn
