// How calls answer: each bad argument with its code and nothing changed, handles, closing, removing, forking.
// What contents must be, in every order and after every crash, is model_test's.
#include "untorn/store.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tests/untorn/store_test_peer.h"
#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"

namespace untorn {
namespace {

using absl::StatusCode;
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kObjectBytesMax = uint64_t{1} << 60;

class StoreTest : public testing::Test {
 protected:
  StoreTest() : store_(TestStoreOptions()) {}

  void SetUp() override {
    ASSERT_TRUE(store_.is_open());
    auto object = store_->CreateObject("a");
    ASSERT_TRUE(IsOk(object));
    a_ = *object;
    ASSERT_TRUE(IsOk(a_.Write(0, Stamped(1, 50000))));
  }

  TestStore store_;
  Object a_;
};

TEST_F(StoreTest, NamesAreOneTo255BytesAndHaveNoNul) {
  const auto before = Contents(*store_);
  for (const std::string& name : {std::string(), std::string(256, 'x'), std::string("a\0b", 3)}) {
    EXPECT_TRUE(Fails(store_->CreateObject(name), StatusCode::kInvalidArgument)) << name.size();
    EXPECT_TRUE(Fails(store_->OpenObject(name), StatusCode::kInvalidArgument)) << name.size();
    EXPECT_TRUE(Fails(store_->Remove(name), StatusCode::kInvalidArgument)) << name.size();
    EXPECT_TRUE(Fails(store_->Rename("a", name), StatusCode::kInvalidArgument)) << name.size();
    Transaction transaction = store_->Begin();
    EXPECT_TRUE(Fails(transaction.CreateObject(name), StatusCode::kInvalidArgument)) << name.size();
    EXPECT_TRUE(Fails(transaction.Rename("a", name), StatusCode::kInvalidArgument)) << name.size();
  }
  EXPECT_TRUE(Contents(*store_) == before);
  for (const std::string& name : {std::string("b"), std::string(255, 'x'), std::string("\xff\n/ \x01")}) {
    EXPECT_TRUE(IsOk(store_->CreateObject(name)));
    EXPECT_TRUE(IsOk(store_->OpenObject(name)));
  }
}

TEST_F(StoreTest, TakenAndMissingNamesAreTold) {
  ASSERT_TRUE(IsOk(store_->CreateObject("b")));
  const auto before = Contents(*store_);
  EXPECT_TRUE(Fails(store_->CreateObject("a"), StatusCode::kAlreadyExists));
  EXPECT_TRUE(Fails(store_->Rename("a", "b"), StatusCode::kAlreadyExists));
  EXPECT_TRUE(Fails(store_->OpenObject("c"), StatusCode::kNotFound));
  EXPECT_TRUE(Fails(store_->Remove("c"), StatusCode::kNotFound));
  EXPECT_TRUE(Fails(store_->Rename("c", "d"), StatusCode::kNotFound));
  EXPECT_TRUE(Contents(*store_) == before);
}

TEST_F(StoreTest, RangesThatOverflowAreRefused) {
  const auto before = Contents(*store_);
  std::vector<std::byte> buffer(100);
  for (uint64_t offset : {kMax, kMax - 50, kObjectBytesMax, kObjectBytesMax - 99}) {
    EXPECT_TRUE(Fails(a_.Write(offset, buffer), StatusCode::kInvalidArgument)) << offset;
    EXPECT_TRUE(Fails(a_.Write(offset, buffer, {.atomic = false}), StatusCode::kInvalidArgument)) << offset;
    EXPECT_TRUE(Fails(a_.Preallocate(offset, 100), StatusCode::kInvalidArgument)) << offset;
    Transaction transaction = store_->Begin();
    EXPECT_TRUE(Fails(transaction.Write(a_, offset, buffer), StatusCode::kInvalidArgument)) << offset;
  }
  for (uint64_t offset : {kMax, kMax - 50}) {
    EXPECT_TRUE(Fails(a_.Read(offset, buffer), StatusCode::kInvalidArgument)) << offset;
    EXPECT_TRUE(Fails(a_.PunchHole(offset, 100), StatusCode::kInvalidArgument)) << offset;
    EXPECT_TRUE(Fails(a_.SyncRange(offset, 100), StatusCode::kInvalidArgument)) << offset;
    absl::Status told;
    a_.WriteAsync(offset, buffer, {}, [&told](absl::Status status) { told = std::move(status); });
    EXPECT_TRUE(Fails(told, StatusCode::kInvalidArgument)) << offset;
  }
  EXPECT_TRUE(Fails(a_.Truncate(kObjectBytesMax + 1), StatusCode::kInvalidArgument));
  EXPECT_TRUE(Contents(*store_) == before);
  EXPECT_TRUE(IsOk(a_.Write(kObjectBytesMax - 100, buffer)));
  EXPECT_EQ(a_.Size().value_or(0), kObjectBytesMax);
  EXPECT_TRUE(IsOk(a_.Truncate(50000)));
  EXPECT_TRUE(Contents(*store_) == before);
}

TEST_F(StoreTest, EmptyRangesAreRefusedButReadAsNothing) {
  const auto before = Contents(*store_);
  EXPECT_TRUE(Fails(a_.Write(0, {}), StatusCode::kInvalidArgument));
  EXPECT_TRUE(Fails(a_.WriteV(0, {}), StatusCode::kInvalidArgument));
  EXPECT_TRUE(Fails(a_.PunchHole(0, 0), StatusCode::kInvalidArgument));
  EXPECT_TRUE(Fails(a_.Preallocate(0, 0), StatusCode::kInvalidArgument));
  Transaction transaction = store_->Begin();
  EXPECT_TRUE(Fails(transaction.Write(a_, 0, {}), StatusCode::kInvalidArgument));
  EXPECT_EQ(a_.Read(0, {}).value_or(7), 0u);
  EXPECT_TRUE(Contents(*store_) == before);
}

TEST_F(StoreTest, ReadsEndAtTheObjectsEnd) {
  std::vector<std::byte> buffer(100);
  EXPECT_EQ(a_.Read(49990, buffer).value_or(7), 10u);
  EXPECT_EQ(a_.Read(50000, buffer).value_or(7), 0u);
  EXPECT_EQ(a_.Read(uint64_t{1} << 61, buffer).value_or(7), 0u);
}

// Promise 1 for the largest atomic write there is, and the limit said.
TEST(StoreSizeTest, AtomicWritesUpToTheStatedSizeAreWhole) {
  TestStore store({.size_bytes = 256 << 20, .seed = TestSeed(1)});
  ASSERT_TRUE(store.is_open());
  const uint64_t max = store->info().atomic_write_bytes_max;
  ASSERT_GE(max, 64u << 20);
  auto object = store->CreateObject("a", Durability::kSync);
  ASSERT_TRUE(IsOk(object));
  const auto too_large = Filled(1, max + 1);
  EXPECT_TRUE(Fails(object->Write(0, too_large), StatusCode::kInvalidArgument));
  EXPECT_EQ(object->Size().value_or(7), 0u);
  const auto first = Stamped(1, 64 << 20);
  ASSERT_TRUE(IsOk(object->Write(100, first)));
  // It is durable when it returns, being larger than a quarter of the cache.
  store.CrashAndOpen(0);
  object = store->OpenObject("a");
  ASSERT_TRUE(IsOk(object));
  EXPECT_TRUE(ReadAll(*object, 100, first.size()) == first);
  const auto second = Stamped(2, 64 << 20);
  for (uint64_t events : {1, 20, 100, 400}) {
    store.device().CutAfter(events);
    const absl::Status status = object->Write(100, second);
    *object = Object();
    store.CrashAndOpen(500);
    object = store->OpenObject("a");
    ASSERT_TRUE(IsOk(object));
    const auto found = ReadAll(*object, 100, first.size());
    EXPECT_TRUE(found == second || (found == first && !status.ok())) << events;
  }
}

TEST_F(StoreTest, HandlesOfARemovedObjectSayNotFound) {
  const Object other = *store_->OpenObject("a");
  ASSERT_TRUE(IsOk(store_->Remove("a")));
  ASSERT_TRUE(IsOk(store_->CreateObject("a")));  // another one
  std::vector<std::byte> buffer(10);
  for (const Object& object : {a_, other}) {
    EXPECT_TRUE(Fails(object.Name(), StatusCode::kNotFound));
    EXPECT_TRUE(Fails(object.Size(), StatusCode::kNotFound));
    EXPECT_TRUE(Fails(object.Read(0, buffer), StatusCode::kNotFound));
    EXPECT_TRUE(Fails(object.Write(0, buffer), StatusCode::kNotFound));
    EXPECT_TRUE(Fails(object.Truncate(0), StatusCode::kNotFound));
    EXPECT_TRUE(Fails(object.PunchHole(0, 10), StatusCode::kNotFound));
    EXPECT_TRUE(Fails(object.Preallocate(0, 10), StatusCode::kNotFound));
    EXPECT_TRUE(Fails(object.Sync(), StatusCode::kNotFound));
    EXPECT_TRUE(Fails(object.SyncRange(0, 10), StatusCode::kNotFound));
    absl::Status told;
    object.WriteAsync(0, buffer, {}, [&told](absl::Status status) { told = std::move(status); });
    EXPECT_TRUE(Fails(told, StatusCode::kNotFound));
  }
  EXPECT_EQ(store_->OpenObject("a")->Size().value_or(7), 0u);
}

TEST_F(StoreTest, RenamedObjectKeepsItsHandles) {
  ASSERT_TRUE(IsOk(store_->Rename("a", "b", Durability::kSync)));
  EXPECT_EQ(a_.Name().value_or(""), "b");
  EXPECT_EQ(store_->OpenObject("b")->id(), a_.id());
  EXPECT_TRUE(ReadAll(a_, 0, 50000) == Stamped(1, 50000));
}

// Calls everything that a handle, a transaction and a store offer.
void ExpectUseless(Store& store, Object object, Transaction& transaction) {
  constexpr auto kCode = StatusCode::kFailedPrecondition;
  std::vector<std::byte> buffer(10);
  EXPECT_TRUE(Fails(object.Size(), kCode));
  EXPECT_TRUE(Fails(object.Name(), kCode));
  EXPECT_TRUE(Fails(object.Read(0, buffer), kCode));
  EXPECT_TRUE(Fails(object.Write(0, buffer), kCode));
  EXPECT_TRUE(Fails(object.Truncate(0), kCode));
  EXPECT_TRUE(Fails(object.PunchHole(0, 1), kCode));
  EXPECT_TRUE(Fails(object.Preallocate(0, 1), kCode));
  EXPECT_TRUE(Fails(object.Sync(), kCode));
  EXPECT_TRUE(Fails(object.SyncRange(0, 1), kCode));
  std::atomic<int> told = 0;
  object.WriteAsync(0, buffer, {},
                    [&told](absl::Status status) { told += status.code() == kCode ? 1 : 100; });
  object.ReadAsync(0, buffer, {}, [&told](absl::StatusOr<size_t> read) {
    told += read.status().code() == kCode ? 10 : 100;
  });
  EXPECT_EQ(told, 11);
  EXPECT_TRUE(Fails(store.CreateObject("b"), kCode));
  EXPECT_TRUE(Fails(store.OpenObject("a"), kCode));
  EXPECT_TRUE(Fails(store.Rename("a", "b"), kCode));
  EXPECT_TRUE(Fails(store.Remove("a"), kCode));
  EXPECT_TRUE(Fails(store.List(), kCode));
  EXPECT_TRUE(Fails(store.Barrier(), kCode));
  EXPECT_TRUE(Fails(store.Sync(), kCode));
  EXPECT_TRUE(Fails(store.Checkpoint(), kCode));
  EXPECT_TRUE(Fails(transaction.Write(object, 0, buffer), kCode));
  EXPECT_TRUE(Fails(transaction.Read(object, 0, buffer), kCode));
  EXPECT_TRUE(Fails(transaction.Truncate(object, 0), kCode));
  EXPECT_TRUE(Fails(transaction.PunchHole(object, 0, 1), kCode));
  EXPECT_TRUE(Fails(transaction.Size(object), kCode));
  EXPECT_TRUE(Fails(transaction.CreateObject("c"), kCode));
  EXPECT_TRUE(Fails(transaction.OpenObject("a"), kCode));
  EXPECT_TRUE(Fails(transaction.Rename("a", "b"), kCode));
  EXPECT_TRUE(Fails(transaction.Remove("a"), kCode));
  EXPECT_TRUE(Fails(transaction.Absorb(store.Begin()), kCode));
  EXPECT_TRUE(Fails(transaction.Commit(), kCode));
  store.info();
  store.stats();
}

TEST_F(StoreTest, ClosedStoreRefusesEverything) {
  Transaction transaction = store_->Begin();
  ASSERT_TRUE(IsOk(transaction.Write(a_, 0, Stamped(2, 100))));
  ASSERT_TRUE(IsOk(store_->Close()));
  ExpectUseless(*store_, a_, transaction);
}

// On a real file and with the store's own threads, as an application has it. One of these threads may hold the
// store's mutex at the fork(), and then the child's copy of the mutex is held for ever. Here it always is.
TEST(StoreForkTest, ChildCanUseNothingAndHarmsNothing) {
  const std::string path = testing::TempDir() + "/fork_store_" + std::to_string(getpid());
  ASSERT_TRUE(IsOk(Store::Create(path, {.size_bytes = 16 << 20, .force = true})));
  auto store = Store::Open(path, {});
  ASSERT_TRUE(IsOk(store));
  auto a = (*store)->CreateObject("a");
  ASSERT_TRUE(IsOk(a));
  ASSERT_TRUE(IsOk(a->Write(0, Stamped(1, 50000))));
  {
    auto transaction = std::make_optional((*store)->Begin());
    std::unique_lock held(internal::StoreTestPeer::StoreMutex(**store));
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(60);  // kills a child that waits for the mutex
      ExpectUseless(**store, *a, *transaction);
      // All that refers to the store, so that it is destroyed.
      transaction.reset();
      *a = Object();
      store->reset();
      _exit(testing::Test::HasFailure() ? 1 : 0);
    }
    held.unlock();
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  EXPECT_TRUE(ReadAll(*a, 0, 50000) == Stamped(1, 50000));
  EXPECT_TRUE(IsOk(a->Write(0, Stamped(2, 100), {.durability = Durability::kSync})));
  EXPECT_TRUE(IsOk((*store)->Close()));
  auto fsck = Fsck(path);
  ASSERT_TRUE(IsOk(fsck));
  EXPECT_EQ(fsck->findings_total, 0u);
  unlink(path.c_str());
}

// Promise 10.
TEST_F(StoreTest, ReadOnlyStoreReadsAndChangesNothing) {
  ASSERT_TRUE(IsOk(a_.Write(100, Stamped(2, 9000), {.durability = Durability::kSync})));
  const auto before = Contents(*store_);
  store_.Kill();  // what is in the log is replayed in memory only
  OpenOptions open = store_.options().open;
  open.read_only = true;
  ASSERT_TRUE(IsOk(store_.Open(open, 0)));
  EXPECT_TRUE(store_->info().read_only);
  EXPECT_TRUE(Contents(*store_) == before);
  Object a = *store_->OpenObject("a");
  std::vector<std::byte> buffer(10);
  constexpr auto kCode = StatusCode::kFailedPrecondition;
  EXPECT_TRUE(Fails(a.Write(0, buffer), kCode));
  EXPECT_TRUE(Fails(a.Truncate(0), kCode));
  EXPECT_TRUE(Fails(a.PunchHole(0, 10), kCode));
  EXPECT_TRUE(Fails(a.Preallocate(0, 10), kCode));
  EXPECT_TRUE(Fails(store_->CreateObject("b"), kCode));
  EXPECT_TRUE(Fails(store_->Remove("a"), kCode));
  EXPECT_TRUE(Fails(store_->Rename("a", "b"), kCode));
  EXPECT_TRUE(Fails(store_->Checkpoint(), kCode));
  EXPECT_TRUE(Contents(*store_) == before);
  const DeviceCounts& counts = store_.counts();
  EXPECT_EQ(counts.writes + counts.atomic_writes + counts.flushes, 0u);
  EXPECT_TRUE(IsOk(store_.Close()));
}

TEST_F(StoreTest, TransactionIsToldOfConflictsAtCommit) {
  ASSERT_TRUE(IsOk(store_->CreateObject("b")));
  {
    Transaction transaction = store_->Begin();
    ASSERT_TRUE(IsOk(transaction.CreateObject("c")));
    ASSERT_TRUE(IsOk(transaction.Write(a_, 0, Stamped(5, 100))));
    ASSERT_TRUE(IsOk(store_->CreateObject("c")));
    EXPECT_TRUE(Fails(transaction.Commit(), StatusCode::kAborted));
    EXPECT_TRUE(ReadAll(a_, 0, 50000) == Stamped(1, 50000));
    EXPECT_TRUE(Fails(transaction.Write(a_, 0, Stamped(5, 100)), StatusCode::kFailedPrecondition));
  }
  {
    Transaction transaction = store_->Begin();
    ASSERT_TRUE(IsOk(transaction.Write(*store_->OpenObject("b"), 0, Stamped(6, 100))));
    ASSERT_TRUE(IsOk(transaction.Write(a_, 0, Stamped(6, 100))));
    ASSERT_TRUE(IsOk(store_->Remove("b")));
    EXPECT_TRUE(Fails(transaction.Commit(), StatusCode::kAborted));
    EXPECT_TRUE(ReadAll(a_, 0, 50000) == Stamped(1, 50000));
  }
}

TEST_F(StoreTest, AbsorbedChangesCommitTogetherAndWhatClashesIsNotAbsorbed) {
  Object b = store_->CreateObject("b").value();
  Transaction first = store_->Begin(), second = store_->Begin();
  const auto data = Stamped(2, 5000);
  ASSERT_TRUE(IsOk(first.Write(a_, 0, data)));
  ASSERT_TRUE(IsOk(second.Write(b, 100, data)));
  Object c = second.CreateObject("c").value();
  ASSERT_TRUE(IsOk(second.Write(c, 0, data)));
  Transaction clashing = store_->Begin();
  ASSERT_TRUE(IsOk(clashing.Write(b, 0, data)));
  ASSERT_TRUE(IsOk(first.Absorb(std::move(second))));
  EXPECT_TRUE(Fails(first.Absorb(std::move(clashing)), StatusCode::kInvalidArgument));
  EXPECT_EQ(b.Size().value(), 0u);
  EXPECT_TRUE(Fails(second.Commit(), StatusCode::kFailedPrecondition));
  ASSERT_TRUE(IsOk(first.Commit()));
  EXPECT_EQ(b.Size().value(), 5100u);
  EXPECT_EQ(store_->OpenObject("c").value().Size().value(), 5000u);
  // It is as it was.
  ASSERT_TRUE(IsOk(clashing.Commit()));
  std::vector<std::byte> read(5000);
  ASSERT_TRUE(IsOk(b.Read(0, read)));
  EXPECT_TRUE(std::equal(data.begin(), data.end(), read.begin()));
}

TEST_F(StoreTest, AbandonedTransactionLeavesNothing) {
  const auto before = Contents(*store_);
  const uint64_t free_before = store_->stats().space_free;
  {
    Transaction transaction = store_->Begin();
    auto b = transaction.CreateObject("b");
    ASSERT_TRUE(IsOk(b));
    ASSERT_TRUE(IsOk(transaction.Write(*b, 0, Stamped(2, 100000))));
    ASSERT_TRUE(IsOk(transaction.Remove("a")));
    EXPECT_TRUE(Fails(transaction.OpenObject("a"), StatusCode::kNotFound));
    EXPECT_TRUE(IsOk(transaction.OpenObject("b")));
    EXPECT_TRUE(Fails(store_->OpenObject("b"), StatusCode::kNotFound));
    EXPECT_TRUE(Contents(*store_) == before);
  }
  EXPECT_TRUE(Contents(*store_) == before);
  ASSERT_TRUE(IsOk(store_->Checkpoint()));
  EXPECT_GE(store_->stats().space_free + (64 << 10), free_before);
}

// Promise 9: a sector that cannot be read is told, and harms nothing else.
TEST_F(StoreTest, FailedReadIsToldAndContained) {
  ASSERT_TRUE(IsOk(a_.Write(0, Stamped(3, 40960))));
  a_ = Object();
  store_.CloseAndOpen();  // nothing is in the cache
  a_ = *store_->OpenObject("a");
  store_.device().simulated().FailAfter(IoOp::kRead, 1, absl::DataLossError("medium error"));
  std::vector<std::byte> buffer(4096);
  EXPECT_TRUE(Fails(a_.Read(0, buffer), StatusCode::kDataLoss));
  EXPECT_TRUE(ReadAll(a_, 0, 40960) == Stamped(3, 40960));
  EXPECT_TRUE(IsOk(a_.Write(0, Stamped(4, 4096), {.durability = Durability::kSync})));
}

// Promise 8.
TEST_F(StoreTest, FailedFlushIsToldAndSticks) {
  ASSERT_TRUE(IsOk(store_->Sync()));
  store_.device().simulated().FailAfter(IoOp::kFlush, 1, absl::InternalError("no flush today"));
  // So much data is not one durable write, and needs a flush.
  const auto data = Stamped(3, 300000);
  EXPECT_FALSE(a_.Write(0, data, {.durability = Durability::kSync}).ok());
  const absl::Status again = a_.Write(0, data);
  EXPECT_TRUE(Fails(again, StatusCode::kFailedPrecondition));
  EXPECT_NE(again.message().find("no flush today"), std::string::npos) << again;
  EXPECT_TRUE(Fails(store_->Sync(), StatusCode::kFailedPrecondition));
  EXPECT_TRUE(Fails(store_->CreateObject("b"), StatusCode::kFailedPrecondition));
  EXPECT_TRUE(IsOk(a_.Size()));
  EXPECT_TRUE(ReadAll(a_, 0, 300000) == data) << "reads return what was accepted";
  EXPECT_FALSE(store_->Close().ok());
  store_.CrashAndOpen(0);
  EXPECT_TRUE(ReadAll(*store_->OpenObject("a"), 0, 50000) == Stamped(1, 50000));
}

}  // namespace
}  // namespace untorn
