// Stores that grow by themselves, whose limit is raised and lowered, and that find the file system below full. A store that
// grows keeps all promises (1 to 5) at every moment; one that cannot grow refuses, and loses nothing (7).
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/untorn/test_store.h"

namespace untorn {
namespace {

using absl::StatusCode;

constexpr uint64_t kMiB = 1 << 20;

// Writes pieces of 1 MiB behind one another, and knows which of them were accepted.
class Filler {
 public:
  explicit Filler(TestStore& store) : store_(store) {
    auto object = store_->CreateObject("fill", Durability::kSync);
    EXPECT_TRUE(IsOk(object));
    object_ = *object;
  }
  absl::Status WriteOne() {
    absl::Status s =
        object_.Write(count_ * kMiB, Stamped(count_ + 1, kMiB), {.durability = Durability::kSync});
    if (s.ok()) ++count_;
    return s;
  }
  // Writes until the store refuses.
  void Fill() {
    absl::Status s;
    while ((s = WriteOne()).ok()) {
    }
    EXPECT_TRUE(Fails(s, StatusCode::kResourceExhausted));
  }
  void Check() {
    for (uint64_t i = 0; i < count_; ++i) {
      ASSERT_TRUE(ReadAll(object_, i * kMiB, kMiB) == Stamped(i + 1, kMiB)) << "piece " << i;
    }
  }
  void Drop() { object_ = Object(); }
  void Reopen() {
    Drop();
    store_.CloseAndOpen();
    Find();
  }
  void Find() {
    auto object = store_->OpenObject("fill");
    ASSERT_TRUE(IsOk(object));
    object_ = *object;
    Check();
  }
  uint64_t count() const { return count_; }

 private:
  TestStore& store_;
  Object object_;
  uint64_t count_ = 0;
};

TEST(ResizeTest, FileBeginsSmallAndGrowsWithWhatIsWritten) {
  TestStore store(InAFile(512 * kMiB, 400 * kMiB));
  const uint64_t begun = store.disk()->length_bytes();
  EXPECT_LT(begun, 48 * kMiB);
  Filler fill(store);
  while (fill.count() < 200) ASSERT_TRUE(IsOk(fill.WriteOne()));
  EXPECT_GT(store.disk()->length_bytes(), 200 * kMiB);
  EXPECT_LT(store.disk()->length_bytes(), 300 * kMiB);
  EXPECT_EQ(store->info().size_bytes, 400 * kMiB);
  fill.Reopen();
}

// The head of a group is in use from the moment that it is prepared, whatever the checkpoint knew.
TEST(ResizeTest, CutAfterTheStoreHasGrownIntoAnotherGroupLeavesTheCountsExact) {
  constexpr uint64_t kGroup = 122 * kMiB;
  for (const uint64_t keep_per_mille : {0, 500, 1000}) {
    TestStore store(InAFile(512 * kMiB, 400 * kMiB));
    auto object = store->CreateObject("o", Durability::kSync);
    ASSERT_TRUE(IsOk(object));
    for (uint64_t i = 0; store.disk()->length_bytes() <= kGroup + kMiB; ++i) {
      ASSERT_TRUE(IsOk(store->Checkpoint())) << "none comes by itself after the border";
      ASSERT_TRUE(IsOk(object->Preallocate(0, (i + 1) * 8 * kMiB)));
    }
    ASSERT_TRUE(IsOk(object->Write(0, Stamped(1, 4096), {.durability = Durability::kSync})));
    *object = Object();
    // The second time, only the superblock of the first opening says what is prepared.
    store.CrashAndOpen(static_cast<int>(keep_per_mille));
    store.CrashAndOpen();
    ASSERT_TRUE(IsOk(store.Close()));
    ASSERT_TRUE(IsOk(store.Open()));
    EXPECT_TRUE(ReadAll(*store->OpenObject("o"), 0, 4096) == Stamped(1, 4096));
    ASSERT_TRUE(IsOk(store.Close()));
  }
}

TEST(ResizeTest, LogGrowsWithTheStoreAndStays) {
  TestStore store(InAFile(1024 * kMiB, 1024 * kMiB));
  EXPECT_EQ(store->info().log_bytes, 2 * kMiB);
  Filler fill(store);
  uint64_t log_bytes = 2 * kMiB;
  while (fill.count() < 300) {
    ASSERT_TRUE(IsOk(fill.WriteOne()));
    const uint64_t now_bytes = store->info().log_bytes;
    if (now_bytes == log_bytes) continue;
    EXPECT_GE(now_bytes, 2 * log_bytes);
    log_bytes = now_bytes;
    // What is in the new log is found there, after a cut too.
    fill.Drop();
    store.CrashAndOpen();
    fill.Find();
    EXPECT_EQ(store->info().log_bytes, log_bytes);
  }
  EXPECT_EQ(log_bytes, 16 * kMiB) << "a 64th of the limit";
  fill.Reopen();
}

// What a young store has for a log is no limit for its first large transaction.
TEST(ResizeTest, LargeTransactionOfAYoungStoreGetsALongerLog) {
  TestStore store(InAFile(1024 * kMiB, 1024 * kMiB));
  auto object = store->CreateObject("o", Durability::kSync);
  ASSERT_TRUE(IsOk(object));
  Transaction transaction = store->Begin();
  constexpr uint64_t kPages = 20000;
  // Every second block, so that each takes an entry of its own.
  for (uint64_t i = 0; i < kPages; ++i) {
    ASSERT_TRUE(IsOk(transaction.Write(*object, i * 8192, Stamped(i, 4096))));
  }
  ASSERT_TRUE(IsOk(transaction.Commit(Durability::kSync)));
  for (uint64_t i = 0; i < kPages; i += 1999)
    EXPECT_TRUE(ReadAll(*object, i * 8192, 4096) == Stamped(i, 4096));
  *object = Object();
  ASSERT_TRUE(IsOk(store.Close()));
}

TEST(ResizeTest, RaisedLimitIsUsedAtOnceAndAfterOpening) {
  TestStore store(InAFile(1024 * kMiB, 8 * kMiB));
  Filler fill(store);
  fill.Fill();
  for (const uint64_t limit : {20 * kMiB, 150 * kMiB, 300 * kMiB}) {
    const uint64_t before = fill.count();
    ASSERT_TRUE(IsOk(store->Resize(limit)));
    EXPECT_EQ(store->info().size_bytes, limit);
    ASSERT_TRUE(IsOk(fill.WriteOne()));
    fill.Reopen();
    EXPECT_EQ(store->info().size_bytes, limit);
    fill.Fill();
    EXPECT_GT(fill.count(), before + limit / kMiB / 4);
    fill.Reopen();
  }
}

TEST(ResizeTest, BlockDeviceThatHasGrownIsUsedWholeAndOneThatHasNotIsRefused) {
  TestStore store({.size_bytes = 64 * kMiB});
  Filler fill(store);
  fill.Fill();
  EXPECT_TRUE(Fails(store->Resize(65 * kMiB), StatusCode::kOutOfRange));
  fill.Reopen();
}

// The map has a second level of tables from 168 groups on, which are 20 GiB.
TEST(ResizeTest, LimitGoesUpAndDownOverTheLevelsOfTheFreeSpaceMap) {
  TestStore store(InAFile(100 * kMiB, 64 * kMiB));
  Filler fill(store);
  ASSERT_TRUE(IsOk(fill.WriteOne()));
  for (const uint64_t limit :
       {uint64_t{1} << 35, uint64_t{1} << 43, uint64_t{64} << 20, uint64_t{1} << 59, uint64_t{1} << 35}) {
    SCOPED_TRACE(absl::StrCat("limit ", limit));
    ASSERT_TRUE(IsOk(store->Resize(limit)));
    ASSERT_TRUE(IsOk(fill.WriteOne()));
    fill.Reopen();
  }
}

TEST(ResizeTest, LimitThatIsTooLowOrTooHighIsRefusedAndAnyOtherHolds) {
  TestStore store(InAFile(512 * kMiB, 400 * kMiB));
  Filler fill(store);
  while (fill.count() < 100) ASSERT_TRUE(IsOk(fill.WriteOne()));
  EXPECT_TRUE(Fails(store->Resize(100 * kMiB), StatusCode::kResourceExhausted));
  EXPECT_EQ(store->info().size_bytes, 400 * kMiB);
  EXPECT_TRUE(Fails(store->Resize(kMiB), StatusCode::kInvalidArgument));
  EXPECT_TRUE(Fails(store->Resize(uint64_t{1} << 62), StatusCode::kInvalidArgument));
  ASSERT_TRUE(IsOk(store->Resize(250 * kMiB)));
  fill.Fill();
  EXPECT_LE(store.disk()->length_bytes(), 250 * kMiB);
  fill.Reopen();
}

// Promise 7.
TEST(ResizeTest, StoreOnAFullFileSystemRefusesAndGoesOnWhenRoomIsMade) {
  TestStore store(InAFile(64 * kMiB, 1024 * kMiB));
  Filler fill(store);
  fill.Fill();
  const uint64_t full = fill.count();
  EXPECT_TRUE(Fails(fill.WriteOne(), StatusCode::kResourceExhausted));
  fill.Check();
  store.disk()->SetSize(128 * kMiB);
  ASSERT_TRUE(IsOk(fill.WriteOne())) << "without being opened again";
  fill.Fill();
  EXPECT_GT(fill.count(), full + 40);
  fill.Reopen();
}

// After a cut at any event, the store opens, has what was acknowledged, and is clean.
TEST(ResizeTest, PowerCutsWhileTheStoreGrowsAndIsResizedLoseNothing) {
  const uint64_t seed = TestSeed(1);
  uint64_t moved_logs = 0;
  for (uint64_t cut = 1; cut <= 260; ++cut) {
    SCOPED_TRACE(absl::StrCat("cut at event ", cut));
    TestStoreOptions options = InAFile(512 * kMiB, 8 * kMiB);
    options.seed = seed + cut;
    TestStore store(options);
    std::vector<std::vector<std::byte>> written;
    uint64_t limit = 8 * kMiB;
    {
      auto object = store->CreateObject("o", Durability::kSync);
      ASSERT_TRUE(IsOk(object));
      store.device().CutAfter(cut);
      absl::Status s;
      for (uint64_t i = 0; s.ok() && i < 40; ++i) {
        if (i % 8 == 4) {
          s = store->Resize(limit + 140 * kMiB);
          if (s.ok()) limit += 140 * kMiB;
        }
        if (s.ok()) s = object->Write(i * kMiB, Stamped(i + 1, kMiB), {.durability = Durability::kSync});
        if (s.ok()) written.push_back(Stamped(i + 1, kMiB));
      }
    }
    store.CrashAndOpen();
    ASSERT_TRUE(store.is_open());
    const uint64_t found = store->info().size_bytes;
    moved_logs += store->info().log_bytes > kMiB;
    EXPECT_TRUE(found == limit || found == limit + 140 * kMiB) << found;
    {
      auto object = store->OpenObject("o");
      ASSERT_TRUE(IsOk(object));
      for (size_t i = 0; i < written.size(); ++i) {
        ASSERT_TRUE(ReadAll(*object, i * kMiB, kMiB) == written[i]) << "piece " << i;
      }
      ASSERT_TRUE(IsOk(object->Write(100 * kMiB, Stamped(7, kMiB), {.durability = Durability::kSync})));
    }
    ASSERT_TRUE(IsOk(store.Close()));
  }
  EXPECT_GT(moved_logs, 20u);
  EXPECT_LT(moved_logs, 240u);
}

}  // namespace
}  // namespace untorn
