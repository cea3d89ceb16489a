// Promise 7 where metadata takes the space: however many nodes the tree comes to have, what was accepted can be
// checkpointed, and afterwards removing, truncating and punching still work.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

using absl::StatusCode;

constexpr uint64_t kBlock = 4096;
constexpr WriteOptions kSync = {.durability = Durability::kSync, .bypass_cache = true};

// A name of `length` bytes, at a place of its own among the names.
std::string NameAt(uint64_t i, size_t length) {
  char text[24];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(i * 0x9e3779b97f4a7c15));
  std::string name(text);
  name.resize(length, 'n');
  return name;
}

class FullStoreMetadataTest : public testing::Test {
 protected:
  void Make(uint64_t size_bytes) {
    store_ = std::make_unique<TestStore>(
        TestStoreOptions{.size_bytes = size_bytes, .open = {.cache_bytes = 32 << 20}});
    ASSERT_TRUE(store_->is_open());
    auto big = (*store_)->CreateObject("big");
    ASSERT_TRUE(IsOk(big));
    big_ = *big;
  }
  Store& store() { return **store_; }

  // Writes at the end of the big object until not even a block is accepted, with all that is accepted durable.
  void FillUp() {
    for (uint64_t length = 256 << 10; length >= kBlock; length /= 2) {
      while (true) {
        const uint64_t size = big_.Size().value_or(0);
        const absl::Status status = big_.Write(size, Filled(7, length), kSync);
        if (status.ok()) continue;
        ASSERT_TRUE(Fails(status, StatusCode::kResourceExhausted));
        break;
      }
    }
  }
  void GiveBack(uint64_t blocks) {
    ASSERT_TRUE(IsOk(big_.Truncate(*big_.Size() - blocks * kBlock, Durability::kSync)));
    Checkpoint();
  }
  void Checkpoint() {
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(IsOk(store().Checkpoint()));
  }

  void ExpectThatItCanBeEmptied(const std::string& other) {
    ASSERT_TRUE(IsOk(store().Sync()));
    ASSERT_TRUE(IsOk(store().Checkpoint()));
    big_ = Object();
    store_->CrashAndOpen();
    big_ = *store().OpenObject("big");
    EXPECT_TRUE(IsOk(big_.PunchHole(100, 3 * kBlock, Durability::kSync)));
    EXPECT_TRUE(IsOk(store().Remove(other, Durability::kSync)));
    EXPECT_TRUE(IsOk(big_.Truncate(10, Durability::kSync)));
    EXPECT_TRUE(IsOk(store().Checkpoint()));
    EXPECT_TRUE(IsOk(big_.Write(0, Filled(1, 1 << 20), kSync)));
    EXPECT_TRUE(IsOk(store().Remove("big", Durability::kSync)));
    EXPECT_TRUE(IsOk(store_->Close()));
  }

  std::unique_ptr<TestStore> store_;
  Object big_;
};

// One new block in every second leaf of a packed tree, so that every change splits a leaf.
TEST_F(FullStoreMetadataTest, ATreeOfPackedLeavesMaySplitThemAll) {
  ASSERT_NO_FATAL_FAILURE(Make(128 << 20));
  auto sparse = store().CreateObject("sparse");
  ASSERT_TRUE(IsOk(sparse));
  constexpr uint64_t kMappings = 20000;
  constexpr uint64_t kApart = 206;  // two leaves
  for (uint64_t i = 0; i < kMappings; ++i) {
    ASSERT_TRUE(IsOk(sparse->Write(i * 4 * kBlock, Filled(1, kBlock), {.bypass_cache = true})));
  }
  ASSERT_TRUE(IsOk(store().Sync()));
  Checkpoint();
  ASSERT_NO_FATAL_FAILURE(FillUp());
  Checkpoint();
  constexpr uint64_t kLeaves = kMappings / kApart + 1;
  GiveBack(kLeaves + kLeaves / 2 + 8);
  uint64_t accepted = 0;
  for (uint64_t i = 0; i < kMappings; i += kApart) {
    const absl::Status status = sparse->Write((i * 4 + 2) * kBlock, Filled(2, kBlock));
    if (status.ok()) {
      ++accepted;
    } else {
      ASSERT_TRUE(Fails(status, StatusCode::kResourceExhausted));
    }
  }
  EXPECT_GT(accepted, 0u);
  ASSERT_TRUE(IsOk(store().Sync()));
  ASSERT_NO_FATAL_FAILURE(FillUp());
  *sparse = Object();
  ExpectThatItCanBeEmptied("sparse");
}

TEST_F(FullStoreMetadataTest, LongNamesUntilTheStoreIsFull) {
  for (const uint64_t before : {0, 2000}) {
    ASSERT_NO_FATAL_FAILURE(Make(32 << 20));
    for (uint64_t i = 0; i < before; ++i) ASSERT_TRUE(IsOk(store().CreateObject(NameAt(i, 255))));
    ASSERT_NO_FATAL_FAILURE(FillUp());
    GiveBack(600);
    absl::Status status;
    uint64_t created = 0;
    for (; status.ok(); ++created) status = store().CreateObject(NameAt(before + created, 255)).status();
    EXPECT_TRUE(Fails(status, StatusCode::kResourceExhausted));
    EXPECT_GT(created, 100u);
    ASSERT_TRUE(IsOk(store().Sync()));
    ASSERT_NO_FATAL_FAILURE(FillUp());
    ExpectThatItCanBeEmptied(NameAt(before, 255));
  }
}

TEST_F(FullStoreMetadataTest, LongNamesInATransactionThatIsWrittenAhead) {
  ASSERT_NO_FATAL_FAILURE(Make(48 << 20));
  ASSERT_NO_FATAL_FAILURE(FillUp());
  Checkpoint();
  GiveBack(4400);
  bool committed = false;
  for (int names = 900; names > 0 && !committed; names /= 2) {
    Transaction transaction = store().Begin();
    auto data = transaction.CreateObject("data");
    ASSERT_TRUE(IsOk(data));
    ASSERT_TRUE(IsOk(transaction.Write(*data, 0, Filled(9, 16 << 20))));
    for (int i = 0; i < names; ++i) ASSERT_TRUE(IsOk(transaction.CreateObject(NameAt(i, 255))));
    const absl::Status status = transaction.Commit(Durability::kSync);
    committed = status.ok();
    ASSERT_TRUE(committed || absl::IsResourceExhausted(status)) << status;
  }
  EXPECT_TRUE(committed);
  ASSERT_NO_FATAL_FAILURE(FillUp());
  ExpectThatItCanBeEmptied("data");
}

TEST_F(FullStoreMetadataTest, PreallocationInFragmentedSpace) {
  ASSERT_NO_FATAL_FAILURE(Make(48 << 20));
  ASSERT_NO_FATAL_FAILURE(FillUp());
  const uint64_t blocks = *big_.Size() / kBlock;
  for (uint64_t b = 1; b < blocks; b += 2) ASSERT_TRUE(IsOk(big_.PunchHole(b * kBlock, kBlock)));
  ASSERT_TRUE(IsOk(store().Sync()));
  Checkpoint();
  auto reserved = store().CreateObject("reserved");
  ASSERT_TRUE(IsOk(reserved));
  absl::Status status = absl::ResourceExhaustedError("");
  uint64_t want = blocks / 2;
  for (; absl::IsResourceExhausted(status) && want > 10; want -= want / 10) {
    status = reserved->Preallocate(0, want * kBlock);
    if (!status.ok()) {
      EXPECT_EQ(*reserved->Size(), 0u);
    }
  }
  ASSERT_TRUE(IsOk(status));
  EXPECT_GT(want, blocks / 8);
  ASSERT_NO_FATAL_FAILURE(FillUp());
  *reserved = Object();
  ExpectThatItCanBeEmptied("reserved");
}

// A write that grows an object records the name that the object has by then, which a unit sent with it may have
// made longer. Wherever the log's end is: there must be room.
TEST(LogRoomTest, NamesThatGrowInTheSameCommitFitTheLog) {
  constexpr int kGroup = 150, kGroups = 3;
  const auto short_name = [](int i) { return "a" + std::to_string(i); };
  const auto long_name = [](int i) { return std::string(250, 'n') + std::to_string(i); };
  for (int position = 118; position < 128; ++position) {
    SCOPED_TRACE(position);
    TestStore store({.size_bytes = 64 << 20, .shuffle = false, .open = {.cache_bytes = 64 << 20}});
    std::vector<Object> objects;
    for (int i = 0; i < kGroup * kGroups; ++i) objects.push_back(*store->CreateObject(short_name(i)));
    Object pages = *store->CreateObject("pages");
    ASSERT_TRUE(IsOk(store->Sync()));
    ASSERT_TRUE(IsOk(store->Checkpoint()));
    for (int i = 0; i < position; ++i) {
      ASSERT_TRUE(IsOk(pages.Write(0, Stamped(i + 1, 4096), {.durability = Durability::kSync})));
    }
    for (int first = 0; first < kGroup * kGroups; first += kGroup) {
      for (int i = first; i < first + kGroup; ++i) {
        ASSERT_TRUE(IsOk(store->Rename(short_name(i), long_name(i))));
      }
      ASSERT_TRUE(IsOk(store->Barrier()));
      for (int i = first; i < first + kGroup; ++i) ASSERT_TRUE(IsOk(objects[i].Write(0, Stamped(1, 4096))));
      ASSERT_TRUE(IsOk(store->Barrier()));
      for (int i = first; i < first + kGroup; ++i) {
        ASSERT_TRUE(IsOk(store->Rename(long_name(i), short_name(i))));
      }
      ASSERT_TRUE(IsOk(store->Barrier()));
    }
    ASSERT_TRUE(IsOk(store->Sync()));
  }
}

TEST_F(FullStoreMetadataTest, RenamesToLongNamesLeaveWhatRemovingNeeds) {
  ASSERT_NO_FATAL_FAILURE(Make(32 << 20));
  for (uint64_t i = 0; i < 2000; ++i) ASSERT_TRUE(IsOk(store().CreateObject(NameAt(i, 20))));
  ASSERT_TRUE(IsOk(store().Sync()));
  Checkpoint();
  ASSERT_NO_FATAL_FAILURE(FillUp());
  Checkpoint();
  GiveBack(400);
  absl::Status status;
  uint64_t renamed = 0;
  for (; status.ok() && renamed < 2000; ++renamed) {
    status = store().Rename(NameAt(renamed, 20), NameAt(renamed + 100000, 255));
  }
  EXPECT_TRUE(Fails(status, StatusCode::kResourceExhausted));
  EXPECT_GT(renamed, 10u);
  ExpectThatItCanBeEmptied(NameAt(100000, 255));
}

}  // namespace
}  // namespace untorn
