// A file system that copies on write has no space even for an overwrite (promise 7 there). The store refuses changes
// meanwhile, loses nothing, and goes on when there is room, without being opened again.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/untorn/store_test_peer.h"
#include "tests/untorn/test_store.h"

namespace untorn {
namespace {

using absl::StatusCode;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kPage = 4096;
constexpr WriteOptions kSync = {.durability = Durability::kSync};

Object NewObject(TestStore& store, const char* name, uint64_t stamp) {
  auto object = store->CreateObject(name);
  EXPECT_TRUE(IsOk(object));
  EXPECT_TRUE(IsOk(object->Write(0, Stamped(stamp, 16 * kPage), kSync)));
  return *object;
}

TEST(NoSpaceBelowTest, ChangesAreRefusedAndGoOnWhenRoomIsMade) {
  TestStore store(InAFile(128 * kMiB, 128 * kMiB));
  Object object = NewObject(store, "o", 1);
  store.disk()->SetFull(true);
  const absl::Status accepted = object.Write(0, Stamped(2, kPage), kSync);
  ASSERT_TRUE(Fails(accepted, StatusCode::kUnavailable));
  EXPECT_NE(accepted.message().find("accepted"), std::string::npos) << accepted;
  // Nothing of these happens.
  EXPECT_TRUE(Fails(object.Write(kPage, Stamped(3, kPage), kSync), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(object.Write(0, Stamped(3, kPage)), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(object.Truncate(0), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(object.PunchHole(0, kPage), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(object.Preallocate(kMiB, kMiB), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(store->CreateObject("p"), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(store->Rename("o", "p"), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(store->Remove("o"), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(store->Sync(), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(object.Sync(), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(object.SyncRange(0, kPage), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(store->Checkpoint(), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(store->Resize(100 * kMiB), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(store->Trim(), StatusCode::kResourceExhausted));
  {
    Transaction transaction = store->Begin();
    EXPECT_TRUE(Fails(transaction.Write(object, 0, Stamped(4, kPage)), StatusCode::kResourceExhausted));
  }
  EXPECT_TRUE(ReadAll(object, 0, kPage) == Stamped(2, kPage)) << "what was accepted is seen";
  const auto old = Stamped(1, 16 * kPage);
  EXPECT_TRUE(ReadAll(object, kPage, 15 * kPage) == std::vector(old.begin() + kPage, old.end()));

  store.disk()->SetFull(false);
  ASSERT_TRUE(IsOk(store->Sync()));
  ASSERT_TRUE(IsOk(object.Write(kPage, Stamped(5, kPage), kSync)));
  ASSERT_TRUE(IsOk(store->Trim()));
  internal::StoreTestPeer::CheckInvariants(*store);
  object = Object();
  store.CrashAndOpen();
  object = *store->OpenObject("o");
  EXPECT_TRUE(ReadAll(object, 0, kPage) == Stamped(2, kPage));
  EXPECT_TRUE(ReadAll(object, kPage, kPage) == Stamped(5, kPage));
  object = Object();
  ASSERT_TRUE(IsOk(store.Close()));
}

// The write that found no space may be torn: nobody has been told that it is durable.
TEST(NoSpaceBelowTest, CutWhileThereIsNoSpaceLeavesOldOrNew) {
  const uint64_t seed = TestSeed(1);
  int old_found = 0, new_found = 0;
  for (uint64_t round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    TestStoreOptions options = InAFile(128 * kMiB, 128 * kMiB);
    options.seed = seed + round;
    if (round % 2 == 0) options.atomic = HardwareUnit(4096, 65536);
    TestStore store(options);
    Object object = NewObject(store, "o", 1);
    // With these, the region is open for writes in place.
    for (uint64_t i = 0; i < round % 8; ++i) {
      ASSERT_TRUE(IsOk(object.Write(0, Stamped(10 + i, 16 * kPage), kSync)));
    }
    const auto before = ReadAll(object, 0, 16 * kPage);
    store.disk()->SetFull(true);
    EXPECT_TRUE(Fails(object.Write(0, Stamped(2, 16 * kPage), kSync), StatusCode::kUnavailable));
    EXPECT_TRUE(Fails(store->Sync(), StatusCode::kResourceExhausted));
    const bool heals = round % 3 == 0;
    if (heals) {
      store.disk()->SetFull(false);
      ASSERT_TRUE(IsOk(store->Sync()));
    }
    object = Object();
    store.Crash();
    store.disk()->SetFull(false);
    ASSERT_TRUE(IsOk(store.Open()));
    object = *store->OpenObject("o");
    const auto found = ReadAll(object, 0, 16 * kPage);
    EXPECT_TRUE(found == Stamped(2, 16 * kPage) || (!heals && found == before));
    ++(found == before ? old_found : new_found);
    object = Object();
    ASSERT_TRUE(IsOk(store.Close()));
  }
  EXPECT_GT(old_found, 5);
  EXPECT_GT(new_found, 5);
}

TEST(NoSpaceBelowTest, LargeTransactionIsRefusedAndLeavesNoSpaceTaken) {
  TestStore store(InAFile(128 * kMiB, 128 * kMiB));
  Object object = NewObject(store, "o", 1);
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  const uint64_t free_bytes = store->stats().space_free;
  {
    Transaction transaction = store->Begin();
    absl::Status s;
    for (uint64_t i = 0; s.ok() && i < 16; ++i) {
      if (i == 5) store.disk()->SetFull(true);
      s = transaction.Write(object, i * kMiB, Stamped(i, kMiB));
    }
    EXPECT_TRUE(Fails(s, StatusCode::kResourceExhausted));
    EXPECT_TRUE(Fails(transaction.Commit(), StatusCode::kFailedPrecondition));
  }
  store.disk()->SetFull(false);
  ASSERT_TRUE(IsOk(store->Sync()));
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  EXPECT_EQ(store->stats().space_free, free_bytes);
  EXPECT_TRUE(ReadAll(object, 0, 16 * kPage) == Stamped(1, 16 * kPage));
  object = Object();
  ASSERT_TRUE(IsOk(store.Close()));
}

TEST(NoSpaceBelowTest, CloseSaysThatNotAllIsDurableAndKeepsWhatIs) {
  TestStore store(InAFile(128 * kMiB, 128 * kMiB));
  Object object = NewObject(store, "o", 1);
  ASSERT_TRUE(IsOk(object.Write(kPage, Stamped(2, kPage))));
  store.disk()->SetFull(true);
  object = Object();
  const absl::Status closed = store->Close();
  EXPECT_TRUE(Fails(closed, StatusCode::kFailedPrecondition));
  EXPECT_NE(closed.message().find("no space"), std::string::npos) << closed;
  store.Kill();
  store.disk()->SetFull(false);
  ASSERT_TRUE(IsOk(store.Open()));
  EXPECT_TRUE(ReadAll(*store->OpenObject("o"), 0, kPage) == Stamped(1, kPage));
  ASSERT_TRUE(IsOk(store.Close()));
}

TEST(NoSpaceBelowTest, StoreWithThreadsGoesOnByItself) {
  TestStoreOptions options = InAFile(128 * kMiB, 128 * kMiB);
  options.background = true;
  TestStore store(options);
  Object object = NewObject(store, "o", 1);
  store.disk()->SetFull(true);
  EXPECT_TRUE(Fails(object.Write(0, Stamped(2, kPage), kSync), StatusCode::kUnavailable));
  EXPECT_TRUE(Fails(object.Write(0, Stamped(3, kPage)), StatusCode::kResourceExhausted));
  store.disk()->SetFull(false);
  // Nothing but the threads of the store tries again.
  absl::Status s;
  for (int i = 0; i < 3000 && !(s = object.Write(kPage, Stamped(3, kPage), kSync)).ok(); ++i) {
    EXPECT_TRUE(Fails(s, StatusCode::kResourceExhausted));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(IsOk(s));
  object = Object();
  store.CrashAndOpen();
  EXPECT_TRUE(ReadAll(*store->OpenObject("o"), 0, kPage) == Stamped(2, kPage));
  EXPECT_TRUE(ReadAll(*store->OpenObject("o"), kPage, kPage) == Stamped(3, kPage));
}

// Promises 3 and 7: with the disk full now and then, everything that was accepted becomes durable. Checkpoints and moves
// of the log find no space, too.
TEST(NoSpaceBelowTest, ManyThreadsLoseNothingWhileSpaceComesAndGoes) {
  TestStoreOptions options = InAFile(128 * kMiB, 128 * kMiB);
  options.background = true;
  options.atomic = HardwareUnit(4096, 65536);
  TestStore store(options);
  constexpr int kThreads = 4;
  constexpr uint64_t kSlots = 64;
  std::vector<Object> objects;
  for (int t = 0; t < kThreads; ++t) objects.push_back(NewObject(store, std::to_string(t).c_str(), 1));
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> refused = 0, accepted = 0;
  std::vector<std::vector<int>> newest(kThreads, std::vector<int>(kSlots, -1));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 rng(t);
      for (int n = 0; !stop; ++n) {
        const uint64_t slot = rng() % kSlots;
        const WriteOptions how = n % 3 == 0 ? WriteOptions() : kSync;
        const absl::Status s = objects[t].Write(slot * 2 * kPage, Filled(n % 251, 2 * kPage), how);
        if (absl::IsResourceExhausted(s)) {
          ++refused;
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          continue;
        }
        EXPECT_TRUE(s.ok() || absl::IsUnavailable(s)) << s;
        ++accepted;
        newest[t][slot] = n % 251;
        if (t == 0 && n % 50 == 0) {
          const absl::Status c = store->Checkpoint();
          EXPECT_TRUE(c.ok() || absl::IsResourceExhausted(c)) << c;
        }
      }
    });
  }
  for (int i = 0; i < 30; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    store.disk()->SetFull(true);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    store.disk()->SetFull(false);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(refused, 0u);
  EXPECT_GT(accepted, 0u);
  ASSERT_TRUE(IsOk(store->Sync()));
  objects.clear();
  store.CrashAndOpen();
  for (int t = 0; t < kThreads; ++t) {
    const Object object = *store->OpenObject(std::to_string(t));
    for (uint64_t slot = 0; slot < kSlots; ++slot) {
      if (newest[t][slot] < 0) continue;
      EXPECT_TRUE(ReadAll(object, slot * 2 * kPage, 2 * kPage) == Filled(newest[t][slot], 2 * kPage))
          << t << " " << slot;
    }
  }
  ASSERT_TRUE(IsOk(store.Close()));
}

}  // namespace
}  // namespace untorn
