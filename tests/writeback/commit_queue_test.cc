// The commits in flight: when they are flushed, and in which order they are acknowledged. Promise 3 rests on
// it, and the rules of docs/design.md on claims and flushes.
#include "writeback/commit_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/extent/test_checksums.h"
#include "tests/writeback/writeback_testing.h"

namespace untorn {
namespace {

class CommitQueueTest : public WritebackTest {
 protected:
  void SetUp() override {
    MakeStore({.size_bytes = 8 << 20, .atomic = {AtomicSource::kHardware, kBlockBytes, 16 * kBlockBytes, 0}});
  }
  void BeginParts() override {
    queue_ = std::make_unique<CommitQueue>(parts());
    queue_->SetListeners([this](const ChangeSetRef& set) { refused_.push_back(set); },
                         [this] { ++advanced_; });
    device().SetStepped(true);
    flushes_before_ = simulated().counts().flushes;
  }
  void EndParts() override { queue_.reset(); }
  void TearDown() override {
    if (queue_) queue_->CheckInvariants();
  }

  enum class Path { kCow, kInPlace };
  // Sends a commit of one change set. Its writes wait in the device: data first, then the record.
  Commit& Send(const ChangeSetRef& set, Path path = Path::kCow) { return Send(ChangeSetRefs{set}, path); }
  Commit& Send(const ChangeSetRefs& sets, Path path = Path::kCow) {
    auto owned = std::make_unique<Commit>();
    owned->sets = sets;
    owned->has_record = path == Path::kCow;
    owned->in_place = path == Path::kInPlace;
    for (const ChangeSetRef& set : sets) fork().Freeze(set);
    Commit& commit = queue_->Begin(std::move(owned));
    std::vector<LogEntry> entries;
    for (const ChangeSetRef& set : sets) {
      for (const FrozenRange& range : set->frozen) {
        device().SetStepped(false);  // allocating may read
        const Extent extent = Allocate(range.blocks.count);
        device().SetStepped(true);
        Commit::Write& write = commit.data_writes.emplace_back();
        write.request.op = path == Path::kCow ? IoOp::kWrite : IoOp::kAtomicWrite;
        write.request.offset_bytes = ByteOffset(extent.start);
        for (const BufferRef& buffer : range.buffers)
          write.request.iov.push_back({buffer.data(), kBlockBytes});
        if (path == Path::kInPlace) {
          write.in_place = {set.get()};
          commit.overwrites.push_back({set.get(), kId, range.blocks, extent.start,
                                       TestChecksums(extent.start).Copy(range.blocks.count)});
          volume().BeginOverwrite(extent);
        } else {
          entries.push_back(TestMap(kId, range.blocks, extent.start));
        }
      }
    }
    if (commit.has_record) {
      volume().log().Begin(*volume().log().TryReserve(LogWriter::BlocksFor(entries)), std::move(entries),
                           &commit.log);
      volume().log().Encode(&commit.log);
    }
    const size_t waited = device().waiting().size();
    queue_->Send(commit);
    parts().pump.Kick(lock_);
    queue_->CheckInvariants();
    sent_.assign(device().waiting().begin() + static_cast<ptrdiff_t>(waited), device().waiting().end());
    return commit;
  }
  // The writes of the commit that was sent last.
  std::vector<IoRequest*> LastSent() const { return sent_; }
  void Finish(IoRequest* request, const absl::Status& error = absl::OkStatus()) {
    ASSERT_NE(request, nullptr);
    device().Finish(request, error);
    parts().pump.Wait(lock_, [&] { return device().idle(); });
    queue_->CheckInvariants();
    fork().CheckInvariants();
  }
  void FinishAll(const std::vector<IoRequest*>& requests) {
    for (IoRequest* request : requests) Finish(request);
  }
  void FinishFlush(const absl::Status& error = absl::OkStatus()) {
    Finish(device().First(IoOp::kFlush), error);
  }
  size_t flushes() { return device().Waiting(IoOp::kFlush); }
  static bool Done(const ChangeSetRef& set) { return set->state == ChangeSet::State::kDone; }

  std::unique_ptr<CommitQueue> queue_;
  std::vector<IoRequest*> sent_;
  ChangeSetRefs refused_;
  int advanced_ = 0;
  uint64_t flushes_before_ = 0;
};

// ---- Flushing (invariant 1) ----

TEST_F(CommitQueueTest, FlushIsSentOnlyOnceAllWritesAreComplete) {
  const ChangeSetRef a = Write({0, 2}, 'a'), b = Write({8, 2}, 'b');
  Send({a, b});
  std::vector<IoRequest*> writes = LastSent();
  ASSERT_EQ(writes.size(), 3u) << "two extents and the record";
  while (!writes.empty()) {
    EXPECT_EQ(flushes(), 0u) << writes.size() << " writes are outstanding";
    Finish(writes.back());
    writes.pop_back();
  }
  EXPECT_EQ(flushes(), 1u);
  EXPECT_FALSE(Done(a));
  FinishFlush();
  EXPECT_TRUE(Done(a) && Done(b));
  EXPECT_TRUE(queue_->empty());
  EXPECT_EQ(OnDevice({0, 10}), "aa......bb");
  EXPECT_EQ(a->space.cost(), SpaceCost()) << "what is left of its space goes back";
  EXPECT_EQ(volume().space().reserved().blocks, 0);
}

TEST_F(CommitQueueTest, FlushDoesNotCoverWhatCompletesWhileItIsUnderWay) {
  const ChangeSetRef a = Write({0, 2}, 'a'), b = Write({8, 2}, 'b');
  Send(a);
  FinishAll(LastSent());
  Send(b);
  FinishAll(LastSent());
  EXPECT_EQ(flushes(), 1u) << "one at a time";
  FinishFlush();
  EXPECT_TRUE(Done(a));
  EXPECT_FALSE(Done(b));
  ASSERT_EQ(flushes(), 1u);
  FinishFlush();
  EXPECT_TRUE(Done(b));
}

TEST_F(CommitQueueTest, CommitsThatCompleteDuringOneFlushShareTheNext) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b'), c = Write({16, 1}, 'c');
  Send(a);
  FinishAll(LastSent());
  Send(b);
  FinishAll(LastSent());
  Send(c);
  FinishAll(LastSent());
  FinishFlush();
  FinishFlush();
  EXPECT_TRUE(Done(b) && Done(c));
  EXPECT_EQ(flushes(), 0u);
  EXPECT_EQ(simulated().counts().flushes - flushes_before_, 2u);
}

TEST_F(CommitQueueTest, DataMayGoFirstAndCountsWithTheRest) {
  const ChangeSetRef a = Write({0, 1}, 'a');
  fork().Freeze(a);
  auto owned = std::make_unique<Commit>();
  owned->sets = {a};
  Commit& commit = queue_->Begin(std::move(owned));
  commit.in_place = true;
  Commit::Write& write = commit.data_writes.emplace_back();
  write.request.op = IoOp::kAtomicWrite;
  write.request.offset_bytes = (8 << 20) - kBlockBytes;
  write.request.iov = {{a->frozen[0].buffers[0].data(), kBlockBytes}};
  queue_->QueueData(commit);
  parts().pump.Kick(lock_);
  Finish(device().First(IoOp::kAtomicWrite));
  EXPECT_EQ(flushes(), 0u) << "the rest of the commit is not queued yet";
  queue_->Send(commit);
  parts().pump.Kick(lock_);
  ASSERT_EQ(device().waiting().size(), 1u) << "the data is not written twice";
  FinishFlush();
  EXPECT_TRUE(Done(a));
}

TEST_F(CommitQueueTest, OneWriteThatIsAloneIsDurableByItself) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b'), c = Write({16, 1}, 'c');
  Send(a, Path::kInPlace);
  ASSERT_EQ(LastSent().size(), 1u);
  EXPECT_TRUE(LastSent()[0]->durable);
  const std::vector<IoRequest*> alone = LastSent();
  Send(b, Path::kInPlace);
  EXPECT_FALSE(LastSent()[0]->durable) << "it shares a flush";
  const std::vector<IoRequest*> beside = LastSent();
  Send(c);
  for (IoRequest* write : LastSent()) EXPECT_FALSE(write->durable);
  FinishAll(alone);
  EXPECT_TRUE(Done(a));
  EXPECT_EQ(flushes(), 0u) << "nothing else is written";
  FinishAll(beside);
  EXPECT_EQ(flushes(), 1u);
}

// What a large transaction has written ahead waits for the flush of the commit that names it.
TEST_F(CommitQueueTest, RecordThatNamesDataWrittenBeforeNeedsAFlush) {
  auto owned = std::make_unique<Commit>();
  owned->has_record = true;
  Commit& commit = queue_->Begin(std::move(owned));
  device().SetStepped(false);
  const Extent extent = Allocate(1);
  device().SetStepped(true);
  std::vector<LogEntry> entries = {TestMap(kId, {0, 1}, extent.start)};
  volume().log().Begin(*volume().log().TryReserve(LogWriter::BlocksFor(entries)), std::move(entries),
                       &commit.log);
  volume().log().Encode(&commit.log);
  queue_->Send(commit);
  parts().pump.Kick(lock_);
  EXPECT_FALSE(device().First(IoOp::kWrite)->durable);
  Finish(device().First(IoOp::kWrite));
  EXPECT_EQ(flushes(), 1u);
  FinishFlush();
  EXPECT_EQ(volume().log().durable_lsn(), 1);
}

TEST_F(CommitQueueTest, DurableWriteMakesNoOtherWriteDurable) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b');
  Send(a, Path::kInPlace);
  const std::vector<IoRequest*> durable = LastSent();
  Send(b);
  FinishAll(LastSent());
  FinishAll(durable);
  EXPECT_TRUE(Done(a));
  EXPECT_FALSE(Done(b)) << "its flush is under way";
  FinishFlush();
  EXPECT_TRUE(Done(b));
}

// ---- Acknowledging (invariant 2) ----

TEST_F(CommitQueueTest, RecordsAreAcknowledgedInTheOrderOfTheirLsns) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b');
  Send(a);
  const std::vector<IoRequest*> earlier = LastSent();
  Send(b);
  FinishAll(LastSent());
  FinishFlush();
  EXPECT_FALSE(Done(b)) << "recovery would stop at the gap";
  EXPECT_EQ(volume().log().durable_lsn(), 0);
  FinishAll(earlier);
  FinishFlush();
  EXPECT_TRUE(Done(a) && Done(b));
  EXPECT_EQ(volume().log().durable_lsn(), 2);
}

TEST_F(CommitQueueTest, WithoutARecordItWaitsForNoRecordBeforeIt) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b');
  Send(a);
  Send(b, Path::kInPlace);
  FinishAll(LastSent());
  FinishFlush();
  EXPECT_TRUE(Done(b));
  EXPECT_FALSE(Done(a));
  EXPECT_EQ(queue_->size(), 1u);
}

TEST_F(CommitQueueTest, SettlingRecordIsAcknowledgedAsAnyOther) {
  auto owned = std::make_unique<Commit>();
  owned->has_record = true;
  Commit& commit = queue_->Begin(std::move(owned));
  volume().log().Begin(*volume().log().TryReserve(1), {}, &commit.log);
  volume().log().Encode(&commit.log);
  queue_->Send(commit);
  parts().pump.Kick(lock_);
  EXPECT_FALSE(queue_->AnyBefore(BarrierEpoch::Max())) << "it belongs to no barrier epoch";
  Finish(device().First(IoOp::kWrite));
  EXPECT_EQ(volume().log().durable_lsn(), 1);
  EXPECT_TRUE(queue_->empty());
}

TEST_F(CommitQueueTest, WritersAreToldWithoutTheLockOnceItIsDurable) {
  const ChangeSetRef a = Write({0, 1}, 'a');
  std::vector<absl::Status> told;
  a->when_done.push_back([&](absl::Status status) { told.push_back(std::move(status)); });
  Send(a);
  FinishAll(LastSent());
  EXPECT_TRUE(parts().callbacks.empty());
  const int advanced = advanced_;
  FinishFlush();
  EXPECT_GT(advanced_, advanced);
  EXPECT_TRUE(told.empty()) << "the lock is held";
  parts().callbacks.Run(lock_);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_TRUE(told[0].ok());
}

TEST_F(CommitQueueTest, KnowsWhatOfEarlierBarrierEpochsIsInFlight) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b');
  Send(a);
  EXPECT_TRUE(queue_->AnyBefore(1));
  EXPECT_FALSE(queue_->AnyBefore(0));
  EXPECT_FALSE(queue_->InPlaceBefore(1));
  Send(b, Path::kInPlace);
  EXPECT_TRUE(queue_->InPlaceBefore(1));
  EXPECT_FALSE(queue_->InPlaceBefore(0));
}

// ---- Refused atomic writes ----

TEST_F(CommitQueueTest, RefusedWriteComesBackPendingAndNothingOfItIsAcknowledged) {
  const ChangeSetRef a = Write({0, 2}, 'a');
  int told = 0;
  a->when_done.push_back([&](absl::Status) { ++told; });
  Send(a, Path::kInPlace);
  Finish(device().First(IoOp::kAtomicWrite), absl::UnimplementedError("no"));
  EXPECT_EQ(a->state, ChangeSet::State::kPending);
  EXPECT_TRUE(a->device_refused);
  EXPECT_EQ(refused_, ChangeSetRefs{a});
  EXPECT_TRUE(queue_->empty());
  EXPECT_EQ(flushes(), 0u) << "nothing was written";
  EXPECT_EQ(Counted(PathReason::kInPlace), 0u);
  EXPECT_EQ(stats().in_place_bytes, 0u);
  EXPECT_EQ(a->space.blocks(), 2) << "it needs the space now";
  parts().callbacks.Run(lock_);
  EXPECT_EQ(told, 0);
  EXPECT_EQ(open_->logged.size(), 1u);

  Send(a);
  FinishAll(LastSent());
  FinishFlush();
  EXPECT_EQ(OnDevice({0, 2}), "aa");
}

TEST_F(CommitQueueTest, RefusalIsLoggedOnce) {
  for (ObjectBlock at = 0; at < 24; at += 8) {
    Send(Write({at, 1}, 'a'), Path::kInPlace);
    Finish(device().First(IoOp::kAtomicWrite), absl::UnimplementedError("no"));
  }
  parts().callbacks.Run(lock_);
  EXPECT_EQ(open_->logged.size(), 1u);
}

TEST_F(CommitQueueTest, OthersOfTheCommitGoOnWithoutTheRefusedOne) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b');
  Send({a, b}, Path::kInPlace);
  const std::vector<IoRequest*> writes = LastSent();
  Finish(writes[0], absl::UnimplementedError("no"));
  EXPECT_EQ(a->state, ChangeSet::State::kCommitting) << "not while the other is in flight";
  Finish(writes[1]);
  EXPECT_EQ(a->state, ChangeSet::State::kPending);
  FinishFlush();
  EXPECT_TRUE(Done(b));
  EXPECT_TRUE(queue_->empty());
}

// ---- Failure (invariant 3, promise 8) ----

TEST_F(CommitQueueTest, AfterAFailedWriteNothingIsFlushedOrAcknowledged) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b');
  Send(a);
  const std::vector<IoRequest*> first = LastSent();
  Send(b);
  const std::vector<IoRequest*> second = LastSent();
  Finish(first[0], absl::InternalError("the disk has gone"));
  EXPECT_TRUE(parts().health.failed());
  Finish(first[1]);
  FinishAll(second);
  EXPECT_EQ(flushes(), 0u);
  EXPECT_FALSE(Done(a) || Done(b));
  EXPECT_EQ(queue_->size(), 2u) << "their content stays for readers";
}

TEST_F(CommitQueueTest, AfterAFailedDurableWriteNothingIsAcknowledged) {
  const ChangeSetRef a = Write({0, 1}, 'a');
  Send(a, Path::kInPlace);
  Finish(LastSent()[0], absl::InternalError("the disk has gone"));
  EXPECT_TRUE(parts().health.failed());
  EXPECT_FALSE(Done(a));
  EXPECT_EQ(flushes(), 0u);
}

TEST_F(CommitQueueTest, WriteThatFailsDuringAFlushKeepsWhatTheFlushCoversFromBeingAcknowledged) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b');
  Send(a);
  FinishAll(LastSent());
  Send(b);
  Finish(LastSent()[0], absl::InternalError("the disk has gone"));
  FinishFlush();
  EXPECT_FALSE(Done(a));
}

TEST_F(CommitQueueTest, AfterAFailedFlushNothingIsAcknowledged) {
  const ChangeSetRef a = Write({0, 1}, 'a'), b = Write({8, 1}, 'b');
  Send(a);
  FinishAll(LastSent());
  Send(b);
  FinishAll(LastSent());
  FinishFlush(absl::InternalError("the disk has gone"));
  EXPECT_TRUE(parts().health.failed());
  EXPECT_FALSE(Done(a) || Done(b));
  EXPECT_EQ(flushes(), 0u) << "a second flush would not bring back what the first has lost";
  EXPECT_EQ(volume().log().durable_lsn(), 0);
}

}  // namespace
}  // namespace untorn
