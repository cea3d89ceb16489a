// Stores that become smaller while they are in use: by a lower limit, and by trimming. What is in the way moves, and all
// promises hold meanwhile and after a cut at every moment (1 to 7, 9).
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/untorn/test_store.h"

namespace untorn {
namespace {

using absl::StatusCode;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kPage = 4096;
constexpr WriteOptions kSync = {.durability = Durability::kSync};

void WriteObject(Store& store, const std::string& name, uint64_t stamp, uint64_t bytes) {
  auto object = store.CreateObject(name);
  ASSERT_TRUE(IsOk(object));
  for (uint64_t at = 0; at < bytes; at += kMiB) {
    ASSERT_TRUE(IsOk(object->Write(at, Stamped(stamp + at, std::min(kMiB, bytes - at)), kSync)));
  }
}

// Fills with pairs of objects, and removes one of each pair. So what is left lies all over the store.
void FillAndRemoveHalf(Store& store, int pairs, uint64_t bytes_each) {
  for (int i = 0; i < pairs; ++i) {
    WriteObject(store, absl::StrCat("gone ", i), 1000 + i, bytes_each);
    WriteObject(store, absl::StrCat("kept ", i), 5000 + i, bytes_each);
  }
  for (int i = 0; i < pairs; ++i) ASSERT_TRUE(IsOk(store.Remove(absl::StrCat("gone ", i))));
  ASSERT_TRUE(IsOk(store.Sync()));
}

TEST(ShrinkTest, TrimCutsTheFileToWhatIsInUseAndKeepsAllContent) {
  TestStore store(InAFile(1024 * kMiB, 1024 * kMiB));
  FillAndRemoveHalf(*store, 20, 8 * kMiB);
  const uint64_t length = store.disk()->length_bytes();
  EXPECT_GT(length, 320 * kMiB);
  const auto contents = Contents(*store);
  const auto trimmed = store->Trim();
  ASSERT_TRUE(IsOk(trimmed));
  EXPECT_EQ(trimmed->before_bytes, length);
  EXPECT_EQ(trimmed->after_bytes, store.disk()->length_bytes());
  EXPECT_GT(trimmed->moved_bytes, 20 * kMiB);
  EXPECT_LT(trimmed->after_bytes, (160 + 64) * kMiB);
  EXPECT_EQ(store->info().size_bytes, 1024 * kMiB);
  EXPECT_TRUE(Contents(*store) == contents);
  store.CloseAndOpen();
  EXPECT_TRUE(Contents(*store) == contents);
  // The store grows again.
  WriteObject(*store, "more", 9, 100 * kMiB);
  store.CloseAndOpen();
  EXPECT_EQ(Contents(*store).size(), contents.size() + 1);
}

TEST(ShrinkTest, SecondTrimHasNothingToDo) {
  TestStore store(InAFile(512 * kMiB, 512 * kMiB));
  FillAndRemoveHalf(*store, 10, 8 * kMiB);
  ASSERT_TRUE(IsOk(store->Trim()));
  const uint64_t length = store.disk()->length_bytes();
  const auto again = store->Trim();
  ASSERT_TRUE(IsOk(again));
  EXPECT_LE(again->before_bytes - again->after_bytes, kMiB);
  EXPECT_EQ(store.disk()->length_bytes(), again->after_bytes);
  EXPECT_LE(store.disk()->length_bytes(), length);
}

// Promise 4: what is in the way may be of every kind.
TEST(ShrinkTest, AllKindsOfContentMove) {
  TestStoreOptions options = InAFile(1024 * kMiB, 1024 * kMiB);
  options.atomic = HardwareUnit(4096, 65536);
  TestStore store(options);
  WriteObject(*store, "filler", 1, 150 * kMiB);
  // All of these lie behind the filler.
  WriteObject(*store, "plain", 2, 3 * kMiB);
  auto sparse = store->CreateObject("sparse");
  ASSERT_TRUE(IsOk(sparse));
  for (uint64_t i = 0; i < 40; ++i) {
    ASSERT_TRUE(IsOk(sparse->Write(i * i * i * 50 * kPage + 100, Stamped(300 + i, 5000), kSync)));
  }
  ASSERT_TRUE(IsOk(sparse->Write(uint64_t{1} << 50, Stamped(7, 100), kSync)));
  auto unwritten = store->CreateObject("unwritten");
  ASSERT_TRUE(IsOk(unwritten));
  ASSERT_TRUE(IsOk(unwritten->Preallocate(0, 2 * kMiB)));
  ASSERT_TRUE(IsOk(unwritten->Write(kMiB, Stamped(4, 3 * kPage), kSync)));
  auto in_place = store->CreateObject("in place");
  ASSERT_TRUE(IsOk(in_place));
  ASSERT_TRUE(IsOk(in_place->Write(0, Stamped(5, 64 << 10), kSync)));
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(IsOk(in_place->Write(0, Stamped(60 + i, 64 << 10), kSync)));
  EXPECT_GT(store->stats().change_sets_in_place(), 0u);
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(IsOk(store->CreateObject(absl::StrCat("a name that fills the leaves of the tree ", i))));
  }
  auto small = store->CreateObject("scattered");
  ASSERT_TRUE(IsOk(small));
  for (uint64_t i = 0; i < 2000; ++i) {
    ASSERT_TRUE(IsOk(small->Write(i * 2 * kPage, Stamped(9000 + i, kPage))));
  }
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  auto buffered = store->OpenObject("plain");
  ASSERT_TRUE(IsOk(store->Remove("filler")));
  ASSERT_TRUE(IsOk(buffered->Write(123, Stamped(77, 100'000)))) << "not durable yet";
  const auto size_of = [&](const char* name) { return *store->OpenObject(name)->Size(); };
  const uint64_t sparse_size = size_of("sparse"), unwritten_size = size_of("unwritten");
  const uint64_t length = store.disk()->length_bytes();

  const auto trimmed = store->Trim();
  ASSERT_TRUE(IsOk(trimmed));
  EXPECT_GT(trimmed->moved_bytes, 10 * kMiB);
  EXPECT_LT(store.disk()->length_bytes(), length - 100 * kMiB);
  const auto check = [&] {
    EXPECT_EQ(size_of("sparse"), sparse_size);
    EXPECT_EQ(size_of("unwritten"), unwritten_size);
    const auto read = [&](const char* name, uint64_t at, size_t bytes) {
      return ReadAll(*store->OpenObject(name), at, bytes);
    };
    for (uint64_t i = 3; i < 40; ++i) {
      EXPECT_TRUE(read("sparse", i * i * i * 50 * kPage + 100, 5000) == Stamped(300 + i, 5000)) << i;
    }
    EXPECT_TRUE(read("sparse", uint64_t{1} << 50, 100) == Stamped(7, 100));
    EXPECT_TRUE(read("unwritten", 0, kMiB) == Filled(0, kMiB));
    EXPECT_TRUE(read("unwritten", kMiB, 3 * kPage) == Stamped(4, 3 * kPage));
    EXPECT_TRUE(read("in place", 0, 64 << 10) == Stamped(67, 64 << 10));
    EXPECT_TRUE(read("plain", 123, 100'000) == Stamped(77, 100'000));
    for (uint64_t i = 0; i < 2000; ++i) {
      ASSERT_TRUE(read("scattered", i * 2 * kPage, kPage) == Stamped(9000 + i, kPage)) << i;
    }
    EXPECT_EQ(store->List("a name", 5000)->size(), 3005u);
  };
  check();
  *sparse = *unwritten = *in_place = *small = *buffered = Object();
  store.CrashAndOpen();
  check();
  // What is preallocated still takes its writes on a full store (promise 7).
  while (store->CreateObject("x").ok()) {
    auto x = store->OpenObject("x");
    while (x->Write(*x->Size(), Stamped(1, kMiB), kSync).ok()) {
    }
    break;
  }
  EXPECT_TRUE(IsOk(store->OpenObject("unwritten")->Write(0, Stamped(8, 16 * kPage), kSync)));
  store.CloseAndOpen();
  EXPECT_EQ(size_of("plain"), 3 * kMiB);
}

TEST(ShrinkTest, LowerLimitMovesWhatIsInTheWay) {
  TestStore store(InAFile(1024 * kMiB, 1024 * kMiB));
  FillAndRemoveHalf(*store, 12, 8 * kMiB);
  const auto contents = Contents(*store);
  EXPECT_TRUE(Fails(store->Resize(90 * kMiB), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Contents(*store) == contents);
  ASSERT_TRUE(IsOk(store->Resize(130 * kMiB)));
  EXPECT_EQ(store->info().size_bytes, 130 * kMiB);
  EXPECT_LE(store.disk()->length_bytes(), 130 * kMiB);
  EXPECT_TRUE(Contents(*store) == contents);
  store.CloseAndOpen();
  EXPECT_EQ(store->info().size_bytes, 130 * kMiB);
  EXPECT_TRUE(Contents(*store) == contents);
  // Up again, over the place where it ended.
  ASSERT_TRUE(IsOk(store->Resize(600 * kMiB)));
  WriteObject(*store, "more", 9, 300 * kMiB);
  store.CloseAndOpen();
}

// A block device keeps its size. The store ends earlier on it.
TEST(ShrinkTest, StoreOnABlockDeviceGetsALowerLimitAndIsNotTrimmed) {
  TestStore store({.size_bytes = 256 * kMiB});
  FillAndRemoveHalf(*store, 10, 8 * kMiB);
  const auto contents = Contents(*store);
  EXPECT_TRUE(Fails(store->Trim(), StatusCode::kFailedPrecondition));
  ASSERT_TRUE(IsOk(store->Resize(140 * kMiB)));
  EXPECT_TRUE(Contents(*store) == contents);
  store.CloseAndOpen();
  EXPECT_EQ(store->info().size_bytes, 140 * kMiB);
  EXPECT_EQ(store.disk()->length_bytes(), 256 * kMiB);
  ASSERT_TRUE(IsOk(store->Resize(256 * kMiB)));
  WriteObject(*store, "more", 9, 60 * kMiB);
  store.CloseAndOpen();
  EXPECT_EQ(Contents(*store).size(), contents.size() + 1);
}

TEST(ShrinkTest, LogThatIsInTheWayMoves) {
  TestStore store(InAFile(1024 * kMiB, 1024 * kMiB));
  // The log has moved far behind by the time that half of the store is removed.
  FillAndRemoveHalf(*store, 40, 8 * kMiB);
  EXPECT_EQ(store->info().log_bytes, 16 * kMiB);
  for (int i = 0; i < 38; ++i) ASSERT_TRUE(IsOk(store->Remove(absl::StrCat("kept ", i))));
  const auto contents = Contents(*store);
  ASSERT_TRUE(IsOk(store->Trim()));
  EXPECT_LT(store.disk()->length_bytes(), 80 * kMiB);
  EXPECT_EQ(store->info().log_bytes, 16 * kMiB) << "a log does not become shorter";
  store.CrashAndOpen();
  EXPECT_TRUE(Contents(*store) == contents);
}

// Promise 9: rot must not become valid by being moved.
TEST(ShrinkTest, DamagedDataInTheWayIsNamedAndStaysDamaged) {
  TestStore store(InAFile(512 * kMiB, 512 * kMiB));
  WriteObject(*store, "filler", 1, 100 * kMiB);
  WriteObject(*store, "rotten", 2, 3 * kMiB);
  const std::vector<std::byte> wanted = Stamped(2 + kMiB, kPage);
  ASSERT_TRUE(IsOk(store->Remove("filler")));
  const auto contents = Contents(*store);
  store.CloseAndOpen();
  uint64_t at = 0;
  std::vector<std::byte> block(kPage);
  for (; at < store.disk()->length_bytes(); at += kPage) {
    store.disk()->Peek(at, block.data(), kPage);
    if (block == wanted) break;
  }
  ASSERT_LT(at, store.disk()->length_bytes());
  block[99] ^= std::byte{1};
  store.disk()->Poke(at, block.data(), kPage);

  const uint64_t length = store.disk()->length_bytes();
  const auto refused = store->Trim();
  ASSERT_TRUE(Fails(refused, StatusCode::kDataLoss));
  EXPECT_NE(refused.status().message().find("'rotten': bytes 1048576 to 1052671"), std::string::npos)
      << refused.status();
  EXPECT_EQ(store.disk()->length_bytes(), length);
  auto object = store->OpenObject("rotten");
  EXPECT_TRUE(Fails(object->Read(kMiB, block), StatusCode::kDataLoss));
  // Written anew, it moves.
  ASSERT_TRUE(IsOk(object->Write(kMiB, wanted)));
  ASSERT_TRUE(IsOk(store->Trim()));
  EXPECT_LT(store.disk()->length_bytes(), 64 * kMiB);
  EXPECT_TRUE(Contents(*store) == contents);
  *object = Object();
  ASSERT_TRUE(IsOk(store.Close()));
}

TEST(ShrinkTest, OpenTransactionThatHasWrittenAheadIsInTheWay) {
  TestStore store(InAFile(512 * kMiB, 512 * kMiB));
  WriteObject(*store, "filler", 1, 100 * kMiB);
  auto object = store->CreateObject("o", Durability::kSync);
  {
    Transaction transaction = store->Begin();
    for (uint64_t i = 0; i < 8; ++i) {
      ASSERT_TRUE(IsOk(transaction.Write(*object, i * kMiB, Stamped(20 + i, kMiB))));
    }
    ASSERT_TRUE(IsOk(store->Remove("filler", Durability::kSync)));
    EXPECT_TRUE(Fails(store->Trim(), StatusCode::kFailedPrecondition));
    ASSERT_TRUE(IsOk(transaction.Commit()));
  }
  ASSERT_TRUE(IsOk(store->Trim()));
  EXPECT_LT(store.disk()->length_bytes(), 64 * kMiB);
  for (uint64_t i = 0; i < 8; ++i) EXPECT_TRUE(ReadAll(*object, i * kMiB, kMiB) == Stamped(20 + i, kMiB));
  *object = Object();
  ASSERT_TRUE(IsOk(store.Close()));
}

// Promise 7 goes before a smaller store.
TEST(ShrinkTest, WriterThatNeedsTheSpaceGetsItAndTheTrimGivesUp) {
  TestStore store(InAFile(512 * kMiB, 512 * kMiB));
  FillAndRemoveHalf(*store, 10, 8 * kMiB);
  bool wrote = false;
  ShrinkOptions options;
  options.progress = [&](uint64_t, uint64_t) {
    if (!std::exchange(wrote, true)) WriteObject(*store, "needs space", 3, 100 * kMiB);
    return true;
  };
  const uint64_t length = store.disk()->length_bytes();
  EXPECT_TRUE(Fails(store->Trim(options), StatusCode::kResourceExhausted));
  EXPECT_TRUE(wrote);
  EXPECT_GE(store.disk()->length_bytes(), length);
  EXPECT_TRUE(Contents(*store).at("needs space").size() == 100 * kMiB);
  ASSERT_TRUE(IsOk(store.Close()));
}

TEST(ShrinkTest, TrimThatIsToldToStopChangesNothing) {
  TestStore store(InAFile(512 * kMiB, 512 * kMiB));
  FillAndRemoveHalf(*store, 10, 8 * kMiB);
  const auto contents = Contents(*store);
  uint64_t done = 0, total = 0;
  ShrinkOptions options;
  options.progress = [&](uint64_t done_now, uint64_t total_now) {
    EXPECT_GE(done_now, done);
    done = done_now;
    total = total_now;
    return done < 12 * kMiB;
  };
  const uint64_t length = store.disk()->length_bytes();
  EXPECT_TRUE(Fails(store->Trim(options), StatusCode::kCancelled));
  EXPECT_GE(done, 12 * kMiB);
  EXPECT_GT(total, done);
  EXPECT_GE(store.disk()->length_bytes(), length);
  EXPECT_TRUE(Contents(*store) == contents);
  options.progress = nullptr;
  ASSERT_TRUE(IsOk(store->Trim(options)));
  store.CloseAndOpen();
  EXPECT_TRUE(Contents(*store) == contents);
}

// Right after an opening, little of the free-space map is in memory.
TEST(ShrinkTest, StoreOfSeveralGroupsIsTrimmedRightAfterItIsOpened) {
  TestStore store(InAFile(1024 * kMiB, 1024 * kMiB));
  WriteObject(*store, "kept", 1, 150 * kMiB);
  WriteObject(*store, "gone", 2, 150 * kMiB);
  WriteObject(*store, "in the way", 3, 2 * kMiB);
  ASSERT_TRUE(IsOk(store->Remove("gone")));
  const auto contents = Contents(*store);
  store.CloseAndOpen();
  ASSERT_TRUE(IsOk(store->Trim()));
  EXPECT_LT(store.disk()->length_bytes(), 220 * kMiB);
  store.CloseAndOpen();
  ASSERT_TRUE(IsOk(store->Resize(200 * kMiB)));
  EXPECT_TRUE(Contents(*store) == contents);
  store.CloseAndOpen();
  EXPECT_TRUE(Contents(*store) == contents);
}

// Promise 9: what cannot be read is told before anything changes.
TEST(ShrinkTest, UnreadableMapRefusesTheTrimAndTheStoreGoesOn) {
  TestStore store(InAFile(1024 * kMiB, 1024 * kMiB));
  WriteObject(*store, "kept", 1, 150 * kMiB);
  WriteObject(*store, "gone", 2, 150 * kMiB);
  ASSERT_TRUE(IsOk(store->Remove("gone")));
  store.CloseAndOpen();
  const std::vector<std::byte> zeros(16 * kPage);
  const uint64_t head = 122 * kMiB;  // of the second group
  std::vector<std::byte> before(zeros.size());
  store.disk()->Peek(head, before.data(), before.size());
  store.disk()->Poke(head, zeros.data(), zeros.size());
  EXPECT_TRUE(Fails(store->Trim(), StatusCode::kDataLoss));
  store.disk()->Poke(head, before.data(), before.size());
  WriteObject(*store, "more", 4, kMiB);
  ASSERT_TRUE(IsOk(store->Trim()));
  EXPECT_LT(store.disk()->length_bytes(), 220 * kMiB);
  store.CloseAndOpen();
}

TEST(ShrinkTest, ProgressFunctionMayUseTheObjectThatMoves) {
  TestStore store(InAFile(512 * kMiB, 512 * kMiB));
  FillAndRemoveHalf(*store, 8, 8 * kMiB);
  auto object = store->OpenObject("kept 7");
  int calls = 0;
  ShrinkOptions options;
  options.progress = [&](uint64_t, uint64_t) {
    EXPECT_TRUE(IsOk(object->Write(0, Stamped(++calls, kPage), kSync)));
    return true;
  };
  ASSERT_TRUE(IsOk(store->Trim(options)));
  EXPECT_GT(calls, 3);
  EXPECT_TRUE(ReadAll(*object, 0, kPage) == Stamped(calls, kPage));
  *object = Object();
  store.CloseAndOpen();
}

// A commit that needs a longer log goes before a smaller store.
TEST(ShrinkTest, LargeTransactionDuringATrimGetsItsLog) {
  TestStore store(InAFile(1024 * kMiB, 1024 * kMiB));
  FillAndRemoveHalf(*store, 3, 8 * kMiB);
  auto object = store->CreateObject("o", Durability::kSync);
  bool committed = false;
  ShrinkOptions options;
  options.progress = [&](uint64_t, uint64_t) {
    if (committed) return true;
    Transaction transaction = store->Begin();
    for (uint64_t i = 0; i < 20000; ++i) {
      EXPECT_TRUE(IsOk(transaction.Write(*object, i * 2 * kPage, Stamped(i, kPage))));
    }
    EXPECT_TRUE(IsOk(transaction.Commit()));
    committed = true;
    return true;
  };
  const absl::Status trimmed = store->Trim(options).status();
  EXPECT_TRUE(committed);
  EXPECT_TRUE(trimmed.ok() || absl::IsResourceExhausted(trimmed)) << trimmed;
  *object = Object();
  store.CloseAndOpen();
}

TEST(ShrinkTest, ClosedStoreIsNotTrimmed) {
  TestStore store(InAFile(64 * kMiB, 64 * kMiB));
  ASSERT_TRUE(IsOk(store->Close()));
  EXPECT_TRUE(Fails(store->Trim(), StatusCode::kFailedPrecondition));
  EXPECT_TRUE(Fails(store->Resize(32 * kMiB), StatusCode::kFailedPrecondition));
}

// Promises 2 and 3: others write and read while the store moves their data.
TEST(ShrinkTest, ReadersAndWritersGoOnWhileTheirDataMoves) {
  TestStoreOptions options = InAFile(1024 * kMiB, 1024 * kMiB);
  options.background = true;
  options.atomic = HardwareUnit(4096, 65536);
  TestStore store(options);
  constexpr uint64_t kSlots = 256, kSlot = 4 * kPage;
  auto object = store->CreateObject("slots");
  ASSERT_TRUE(IsOk(object));
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> writes = 0, reads = 0, trims = 0;
  std::vector<uint64_t> last(kSlots, 0);
  for (uint64_t i = 0; i < kSlots; ++i) ASSERT_TRUE(IsOk(object->Write(i * kSlot, Filled(0, kSlot))));
  std::thread writer([&] {
    std::mt19937_64 rng(1);
    for (uint64_t n = 1; !stop; ++n) {
      const uint64_t slot = rng() % kSlots;
      ASSERT_TRUE(IsOk(object->Write(slot * kSlot, Filled(static_cast<int>(n % 256), kSlot),
                                     n % 3 == 0 ? kSync : WriteOptions())));
      last[slot] = n % 256;
      ++writes;
    }
  });
  std::thread reader([&] {
    std::mt19937_64 rng(2);
    while (!stop) {
      std::vector<std::byte> bytes(kSlot);
      ASSERT_TRUE(IsOk(object->Read(rng() % kSlots * kSlot, bytes, {.bypass_cache = true})));
      for (std::byte b : bytes) ASSERT_EQ(b, bytes[0]) << "torn";
      ++reads;
    }
  });
  for (int round = 0; round < 4; ++round) {
    WriteObject(*store, "filler", round, 60 * kMiB);
    ASSERT_TRUE(IsOk(store->Remove("filler")));
    const uint64_t length = store.disk()->length_bytes();
    const auto trimmed = store->Trim();
    // The writers may need the space.
    EXPECT_TRUE(trimmed.ok() || absl::IsResourceExhausted(trimmed.status())) << trimmed.status();
    if (trimmed.ok() && store.disk()->length_bytes() < length) ++trims;
  }
  stop = true;
  writer.join();
  reader.join();
  EXPECT_GT(trims, 0u);
  EXPECT_GT(writes, 10u);
  EXPECT_GT(reads, 10u);
  for (uint64_t i = 0; i < kSlots; ++i) {
    EXPECT_TRUE(ReadAll(*object, i * kSlot, kSlot) == Filled(static_cast<int>(last[i]), kSlot)) << i;
  }
  *object = Object();
  store.CloseAndOpen();
  for (uint64_t i = 0; i < kSlots; ++i) {
    EXPECT_TRUE(ReadAll(*store->OpenObject("slots"), i * kSlot, kSlot) ==
                Filled(static_cast<int>(last[i]), kSlot));
  }
}

// After a cut at any event, the store opens, has what was acknowledged, is clean, and can be trimmed.
TEST(ShrinkTest, PowerCutsWhileTheStoreBecomesSmallerLoseNothing) {
  const uint64_t seed = TestSeed(1);
  TestStoreOptions options = InAFile(512 * kMiB, 512 * kMiB);
  options.atomic = HardwareUnit(4096, 65536);
  uint64_t before_cut = 0, after_cut = 0, done = 0;
  for (uint64_t cut = 1; done < 5; cut += 3) {
    SCOPED_TRACE(absl::StrCat("cut at event ", cut));
    options.seed = seed + cut;
    TestStore store(options);
    // The pair of each lies behind the filler.
    WriteObject(*store, "filler", 1, 24 * kMiB);
    WriteObject(*store, "kept", 2, kMiB / 2);
    auto pages = store->CreateObject("pages");
    ASSERT_TRUE(IsOk(pages));
    for (uint64_t i = 0; i < 200; ++i) {
      ASSERT_TRUE(IsOk(pages->Write(i * 2 * kPage, Stamped(100 + i, kPage))));
    }
    ASSERT_TRUE(IsOk(store->Remove("filler", Durability::kSync)));
    ASSERT_TRUE(IsOk(pages->Write(0, Stamped(7, kPage), kSync)));
    const auto contents = Contents(*store);
    const uint64_t length = store.disk()->length_bytes();
    store.device().CutAfter(cut);
    const bool by_limit = cut % 2 == 0;
    absl::Status s = by_limit ? store->Resize(24 * kMiB) : store->Trim().status();
    if (s.ok()) s = pages->Write(kPage, Stamped(8, kPage), kSync);
    done += s.ok();
    *pages = Object();
    store.CrashAndOpen();
    ASSERT_TRUE(store.is_open());
    (store.disk()->length_bytes() < length ? after_cut : before_cut) += 1;
    const uint64_t limit = store->info().size_bytes;
    EXPECT_TRUE(limit == 512 * kMiB || (by_limit && limit == 24 * kMiB)) << limit;
    auto found = Contents(*store);
    if (s.ok()) {
      EXPECT_TRUE(ReadAll(*store->OpenObject("pages"), kPage, kPage) == Stamped(8, kPage));
    }
    std::copy_n(contents.at("pages").begin() + kPage, kPage, found.at("pages").begin() + kPage);
    ASSERT_TRUE(found == contents);
    ASSERT_TRUE(IsOk(store->Trim()));
    EXPECT_LT(store.disk()->length_bytes(), length);
    ASSERT_TRUE(IsOk(store.Close()));
  }
  EXPECT_GT(before_cut, 50u);
  EXPECT_GT(after_cut, 5u);
}

}  // namespace
}  // namespace untorn
