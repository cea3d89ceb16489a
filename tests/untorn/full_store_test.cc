// Promise 7: lack of space is told at submit, an accepted write never fails for it, and a full store can be
// emptied.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

using absl::StatusCode;

// Writes pieces of `length` at the object's end until one is refused; returns how many were accepted.
uint64_t Fill(const Object& object, uint64_t length, const WriteOptions& options) {
  for (uint64_t n = 0;; ++n) {
    const uint64_t size = object.Size().value_or(0);
    const absl::Status status = object.Write(size, Stamped(n, length), options);
    if (status.ok()) continue;
    EXPECT_TRUE(Fails(status, StatusCode::kResourceExhausted));
    EXPECT_EQ(object.Size().value_or(7), size);
    return n;
  }
}

void ExpectFilled(const Object& object, uint64_t n, uint64_t length) {
  ASSERT_EQ(object.Size().value_or(7), n * length);
  for (uint64_t i = 0; i < n; ++i)
    ASSERT_TRUE(ReadAll(object, i * length, length) == Stamped(i, length)) << i;
}

struct Filling {
  const char* name;
  uint64_t length;
  WriteOptions write;
};

class FullStoreTest : public testing::TestWithParam<Filling> {
 protected:
  FullStoreTest() : store_({.size_bytes = 16 << 20}) {}
  TestStore store_;
};

TEST_P(FullStoreTest, WhatIsAcceptedStaysAndSpaceComesBack) {
  ASSERT_TRUE(store_.is_open());
  const auto [name, length, write] = GetParam();
  for (int round = 0; round < 4; ++round) {
    auto object = store_->CreateObject("a");
    ASSERT_TRUE(IsOk(object));
    const uint64_t n = Fill(*object, length, write);
    // A store of 16 MiB has room for half of it at least, each time again.
    EXPECT_GT(n * length, 8u << 20) << round;
    ASSERT_TRUE(IsOk(store_->Sync())) << round;
    ExpectFilled(*object, n, length);
    switch (round) {
      case 0:
        ASSERT_TRUE(IsOk(store_->Remove("a", Durability::kSync)));
        break;
      case 1:
        ASSERT_TRUE(IsOk(store_->Remove("a")));
        break;
      case 2:
        ASSERT_TRUE(IsOk(object->Truncate(length)));
        ExpectFilled(*object, 1, length);
        ASSERT_TRUE(IsOk(object->Truncate(0)));
        ASSERT_TRUE(IsOk(store_->Remove("a")));
        break;
      case 3:
        store_.CrashAndOpen(0);
        object = store_->OpenObject("a");
        ASSERT_TRUE(IsOk(object));
        ExpectFilled(*object, n, length);
        EXPECT_TRUE(IsOk(store_->Remove("a", Durability::kSync)));
        break;
    }
  }
  EXPECT_TRUE(IsOk(store_.Close()));
}

TEST_P(FullStoreTest, FullStoreStillTakesOverwritesOrRefusesThemWhole) {
  ASSERT_TRUE(store_.is_open());
  const auto [name, length, write] = GetParam();
  auto object = store_->CreateObject("a");
  ASSERT_TRUE(IsOk(object));
  const uint64_t n = Fill(*object, length, write);
  std::vector<uint64_t> stamp(n);
  for (uint64_t i = 0; i < n; ++i) stamp[i] = i;
  std::mt19937_64 rng(TestSeed(1));
  for (int i = 0; i < 200; ++i) {
    const uint64_t at = rng() % n;
    const absl::Status status = object->Write(at * length, Stamped(1000 + i, length), write);
    if (status.ok()) {
      stamp[at] = 1000 + i;
    } else {
      ASSERT_TRUE(Fails(status, StatusCode::kResourceExhausted));
    }
    ASSERT_TRUE(ReadAll(*object, at * length, length) == Stamped(stamp[at], length));
  }
  ASSERT_TRUE(IsOk(store_->Sync()));
  store_.CrashAndOpen(0);
  object = store_->OpenObject("a");
  ASSERT_TRUE(IsOk(object));
  for (uint64_t i = 0; i < n; ++i) {
    ASSERT_TRUE(ReadAll(*object, i * length, length) == Stamped(stamp[i], length)) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Fillings, FullStoreTest,
                         testing::Values(Filling{"BufferedPages", 4096, {}},
                                         Filling{"SyncPages", 16384, {.durability = Durability::kSync}},
                                         Filling{"PlainAndOdd", 30001, {.atomic = false}},
                                         Filling{"Large", 1 << 20, {.bypass_cache = true}}),
                         [](const testing::TestParamInfo<Filling>& info) {
                           return std::string(info.param.name);
                         });

TEST(SpaceClaimTest, RewritingWhatIsPendingClaimsNothingMore) {
  TestStore store({.size_bytes = 8 << 20});
  Object object = *store->CreateObject("a");
  for (bool atomic : {true, false}) {
    ASSERT_TRUE(IsOk(object.Write(100, Stamped(1, 9000), {.atomic = atomic})));
    const uint64_t claimed = store->stats().space_reserved, free = store->stats().space_free;
    for (int i = 0; i < 1000; ++i) {
      ASSERT_TRUE(IsOk(object.Write(100 + i, Stamped(i + 2, 8000), {.atomic = atomic})));
    }
    EXPECT_EQ(store->stats().space_reserved, claimed);
    EXPECT_EQ(store->stats().space_free, free);
  }
}

TEST(FullStoreTransactionTest, IsRefusedWholeAndLeavesNoClaim) {
  TestStore store({.size_bytes = 16 << 20});
  ASSERT_TRUE(store.is_open());
  auto a = store->CreateObject("a");
  ASSERT_TRUE(IsOk(a));
  ASSERT_TRUE(IsOk(a->Write(0, Stamped(1, 100000))));
  ASSERT_TRUE(IsOk(store->Sync()));
  const auto before = Contents(*store);
  const uint64_t free_before = store->stats().space_free;
  {
    Transaction transaction = store->Begin();
    absl::Status status;
    for (uint64_t i = 0; i < 64 && status.ok(); ++i)
      status = transaction.Write(*a, i << 20, Stamped(i, 1 << 20));
    if (status.ok()) status = transaction.Commit();
    EXPECT_TRUE(Fails(status, StatusCode::kResourceExhausted));
  }
  EXPECT_TRUE(Contents(*store) == before);
  EXPECT_TRUE(Fails(a->Preallocate(0, 64 << 20), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Contents(*store) == before);
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  EXPECT_GE(store->stats().space_free + (128 << 10), free_before);
  EXPECT_TRUE(IsOk(store.Close()));
}

// Written ahead in long pieces, it needs little space besides that of its data: its checksums, and the room in which a
// checkpoint writes them.
TEST(FullStoreTransactionTest, LargeTransactionMayFillTheStore) {
  TestStore store({.size_bytes = 64 << 20});
  ASSERT_TRUE(store.is_open());
  constexpr uint64_t kBytes = 57 << 20;
  {
    Transaction transaction = store->Begin();
    auto a = transaction.CreateObject("a");
    ASSERT_TRUE(IsOk(a));
    for (uint64_t at = 0; at < kBytes; at += 1 << 20) {
      ASSERT_TRUE(IsOk(transaction.Write(*a, at, Stamped(at, 1 << 20)))) << at;
    }
    ASSERT_TRUE(IsOk(transaction.Commit()));
  }
  auto a = store->OpenObject("a");
  ASSERT_TRUE(IsOk(a));
  for (uint64_t at = 0; at < kBytes; at += 1 << 20) {
    ASSERT_TRUE(ReadAll(*a, at, 1 << 20) == Stamped(at, 1 << 20)) << at;
  }
  EXPECT_TRUE(IsOk(store.Close()));
}

TEST(FullStoreTransactionTest, RemovesAndTruncatesInATransactionWorkOnAFullStore) {
  TestStore store({.size_bytes = 16 << 20});
  ASSERT_TRUE(store.is_open());
  auto a = store->CreateObject("a"), b = store->CreateObject("b");
  ASSERT_TRUE(IsOk(a) && IsOk(b));
  ASSERT_TRUE(IsOk(a->Write(0, Stamped(1, 100000))));
  Fill(*b, 4096, {});
  Transaction transaction = store->Begin();
  ASSERT_TRUE(IsOk(transaction.Remove("b")));
  ASSERT_TRUE(IsOk(transaction.Truncate(*a, 10)));
  ASSERT_TRUE(IsOk(transaction.Commit()));
  EXPECT_TRUE(IsOk(store->CreateObject("c")->Write(0, Stamped(3, 4 << 20))));
}

// A full store of 64 MiB: "a" has all that growth may take.
class ReserveTest : public testing::Test {
 protected:
  static constexpr uint64_t kPiece = 64 << 10;
  ReserveTest() : store_({.size_bytes = 64 << 20}) {
    object_ = *store_->CreateObject("a");
    pieces_ = Fill(object_, kPiece, {});
    EXPECT_TRUE(IsOk(store_->Sync()));
    kept_ = store_->info().overwrite_reserve_bytes;
    EXPECT_GE(kept_, 400u << 10);  // of the 2 MiB that are kept, the tree takes a part
  }
  // Overwrites `bytes` in all, in places all over the object, in one transaction.
  absl::Status Overwrite(uint64_t bytes, uint64_t stamp) {
    Transaction transaction = store_->Begin();
    const uint64_t n = bytes / 4096, step = pieces_ * kPiece / 4096 / n;
    for (uint64_t i = 0; i < n; ++i) {
      const absl::Status s = transaction.Write(object_, i * step * 4096, Stamped(stamp + i, 4096));
      if (!s.ok()) return s;
    }
    return transaction.Commit();
  }

  TestStore store_;
  Object object_;
  uint64_t pieces_ = 0, kept_ = 0;
};

TEST_F(ReserveTest, TransactionsThatOnlyOverwriteGoOnForEver) {
  for (uint64_t round = 0; round < 40; ++round) {
    ASSERT_TRUE(IsOk(Overwrite(store_->info().overwrite_reserve_bytes, round << 20))) << round;
    EXPECT_TRUE(Fails(object_.Write(pieces_ * kPiece, Stamped(1, kPiece)), StatusCode::kResourceExhausted));
  }
  ASSERT_TRUE(IsOk(store_->Sync()));
  store_.CrashAndOpen(0);
  object_ = *store_->OpenObject("a");
  EXPECT_TRUE(ReadAll(object_, 0, 4096) == Stamped(uint64_t{39} << 20, 4096));
  EXPECT_TRUE(IsOk(Overwrite(kept_ / 2, 1)));
}

TEST_F(ReserveTest, TransactionThatOverwritesMoreThanIsKeptIsRefusedWhole) {
  const auto before = Contents(*store_);
  EXPECT_TRUE(Fails(Overwrite(4 << 20, 1), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Contents(*store_) == before);
  EXPECT_TRUE(IsOk(Overwrite(kept_ / 2, 1))) << "what it held is free again";
}

TEST_F(ReserveTest, WritesThatOverwriteGoOnForEverAndOthersAreRefused) {
  auto other = store_->OpenObject("a");
  for (uint64_t i = 0; i < 300; ++i) {
    const uint64_t at = i % pieces_ * kPiece;
    ASSERT_TRUE(IsOk(object_.Write(at, Stamped(i, kPiece)))) << i;
    ASSERT_TRUE(IsOk(object_.Write(at + 100, Stamped(i, 5000), {.durability = Durability::kSync}))) << i;
    ASSERT_TRUE(IsOk(object_.Write(at, Stamped(i, kPiece), {.atomic = false}))) << i;
  }
  ASSERT_TRUE(IsOk(object_.Truncate(1 << 30)));  // a hole behind the data
  EXPECT_TRUE(Fails(object_.Write(512 << 20, Stamped(1, kPiece)), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(store_->CreateObject("b")->Write(0, Stamped(1, kPiece)), StatusCode::kResourceExhausted));
  EXPECT_TRUE(Fails(Overwrite(kept_ / 8, 1).ok() ? object_.Preallocate(512 << 20, 1 << 20) : absl::OkStatus(),
                    StatusCode::kResourceExhausted));
}

// Blocks that are not durable yet are mapped when the change comes to need them.
TEST_F(ReserveTest, OverwritesOfWhatIsOnItsWayAreTaken) {
  ASSERT_TRUE(IsOk(object_.Truncate(pieces_ * kPiece - (1 << 20))));
  const uint64_t at = *object_.Size();
  for (int round = 0; round < 3; ++round) {
    Fill(object_, 4096, {});
    for (uint64_t block = at; block < *object_.Size(); block += 4096)
      ASSERT_TRUE(IsOk(object_.Write(block, Stamped(block, 4096), {.durability = Durability::kSync})))
          << block;
    ASSERT_TRUE(IsOk(object_.Truncate(at)));
  }
}

TEST_F(ReserveTest, GrowthBesideOverwritesIsGrowthAndATruncateDoesNotHideIt) {
  const auto before = Contents(*store_);
  {
    Transaction transaction = store_->Begin();
    ASSERT_TRUE(IsOk(transaction.Write(object_, 0, Stamped(1, 4096))));
    auto b = transaction.CreateObject("b");
    ASSERT_TRUE(IsOk(b));
    absl::Status status = transaction.Write(*b, 0, Stamped(2, 256 << 10));
    if (status.ok()) status = transaction.Commit();
    EXPECT_TRUE(Fails(status, StatusCode::kResourceExhausted));
  }
  {
    Transaction transaction = store_->Begin();
    const uint64_t end = pieces_ * kPiece;
    absl::Status status = transaction.Write(object_, end, Stamped(3, 256 << 10));
    if (status.ok()) status = transaction.Truncate(object_, end + (256 << 10));
    if (status.ok()) status = transaction.Commit();
    EXPECT_TRUE(Fails(status, StatusCode::kResourceExhausted));
  }
  EXPECT_TRUE(Contents(*store_) == before);
}

TEST_F(ReserveTest, WhatIsLeftForRemovesIsNotTakenByOverwrites) {
  std::vector<Transaction> open;
  // Each is written ahead, and holds what it has written.
  for (int i = 0; i < 40; ++i) {
    open.push_back(store_->Begin());
    for (uint64_t block = 0; block < 2048; ++block) {
      if (!open.back().Write(object_, (block * 7 % 12000) * 4096, Stamped(block, 4096)).ok()) break;
    }
  }
  ASSERT_TRUE(IsOk(store_->Remove("a", Durability::kSync)));
  open.clear();
  EXPECT_TRUE(IsOk(store_->CreateObject("b")->Write(0, Stamped(1, 16 << 20))));
}

}  // namespace
}  // namespace untorn
