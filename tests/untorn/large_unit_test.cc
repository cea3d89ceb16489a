// Units and batches that would not fit the log are sent in parts, and those that are sent fit it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr uint64_t kBlock = 4096;

// Truncates and then, after a barrier, writes that make the objects larger again: each needs a record of the
// object, which the durable size alone does not tell.
TEST(LargeUnitTest, RecordsOfManyObjectsInEveryEpochOfABatchFitTheLog) {
  TestStore store({.size_bytes = 64 << 20, .open = {.cache_bytes = 32 << 20}});
  ASSERT_TRUE(store.is_open());
  std::vector<Object> objects;
  for (int i = 0; i < 1750; ++i) {
    std::string name = std::to_string(i) + std::string(251, 'n');
    auto object = store->CreateObject(name);
    ASSERT_TRUE(IsOk(object));
    ASSERT_TRUE(IsOk(object->Write(0, Filled(1, 2 * kBlock))));
    objects.push_back(*object);
  }
  ASSERT_TRUE(IsOk(store->Sync()));
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  for (size_t from = 0; from < objects.size(); from += 600) {
    const size_t to = std::min(objects.size(), from + 600);
    for (size_t i = from; i < to; ++i) ASSERT_TRUE(IsOk(objects[i].Truncate(0)));
    ASSERT_TRUE(IsOk(store->Barrier()));
    for (size_t i = from; i < to; ++i) ASSERT_TRUE(IsOk(objects[i].Write(0, Filled(2, kBlock))));
    ASSERT_TRUE(IsOk(store->Barrier()));
  }
  ASSERT_TRUE(IsOk(store->Sync()));
  for (const Object& object : objects) ASSERT_EQ(object.Size().value_or(0), kBlock);
  objects.clear();
  EXPECT_TRUE(IsOk(store.Close()));
}

// Promise 7: a hole inside what a transaction has written makes extents and holes, and each needs its reservation.
TEST(LargeUnitTest, HolesInsideWhatATransactionHasWrittenArePaidFor) {
  TestStore store({.size_bytes = 64 << 20});
  ASSERT_TRUE(store.is_open());
  Object object = store->CreateObject("a").value();
  Transaction transaction = store->Begin();
  // All holes that follow lie within this one.
  ASSERT_TRUE(IsOk(transaction.Truncate(object, 8 << 20)));
  ASSERT_TRUE(IsOk(transaction.PunchHole(object, 0, 8 << 20)));
  std::vector<std::byte> expected = Stamped(1, 4 << 20);
  ASSERT_TRUE(IsOk(transaction.Write(object, 0, expected)));
  for (uint64_t at = 0; at < 400 * 2 * kBlock; at += 2 * kBlock) {
    ASSERT_TRUE(IsOk(transaction.PunchHole(object, at, kBlock)));
    std::fill_n(expected.begin() + static_cast<ptrdiff_t>(at), kBlock, std::byte{0});
  }
  ASSERT_TRUE(IsOk(transaction.Commit()));
  EXPECT_TRUE(ReadAll(object, 0, expected.size()) == expected);
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  EXPECT_TRUE(ReadAll(object, 0, expected.size()) == expected);
}

// A write that finds no space has changed a part of its blocks already. A commit would make the part durable.
TEST(LargeUnitTest, TransactionCanOnlyBeAbandonedAfterAWriteThatFoundNoSpace) {
  TestStore store({.size_bytes = 16 << 20, .open = {.cache_bytes = 4 << 20}});
  ASSERT_TRUE(store.is_open());
  Object object = store->CreateObject("a").value(), filler = store->CreateObject("filler").value();
  for (uint64_t at = 0; store->stats().space_free > (1 << 20); at += 16 * kBlock) {
    ASSERT_TRUE(IsOk(filler.Write(at, Filled(1, 16 * kBlock))));
  }
  ASSERT_TRUE(IsOk(store->Sync()));
  Transaction transaction = store->Begin();
  absl::Status status;
  uint64_t written = 0;
  const std::vector<std::byte> data = Stamped(2, 8 * kBlock);
  for (; status.ok() && written < 400; ++written) {
    status = transaction.Write(object, written * 16 * kBlock, data);
  }
  ASSERT_TRUE(Fails(status, absl::StatusCode::kResourceExhausted));
  ASSERT_TRUE(IsOk(filler.Truncate(0)));
  ASSERT_TRUE(IsOk(store->Sync()));
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  EXPECT_TRUE(Fails(transaction.Write(object, 0, data), absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(Fails(transaction.Size(object), absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(Fails(transaction.Commit(), absl::StatusCode::kFailedPrecondition));
  transaction.Abandon();
  EXPECT_EQ(*object.Size(), 0u);
  Transaction again = store->Begin();
  for (uint64_t i = 0; i < written; ++i) {
    ASSERT_TRUE(IsOk(again.Write(object, i * 16 * kBlock, data))) << i;
  }
  ASSERT_TRUE(IsOk(again.Commit()));
  for (uint64_t i = 0; i < written; ++i) {
    ASSERT_TRUE(ReadAll(object, i * 16 * kBlock, data.size()) == data) << i;
  }
}

// Metadata changes of six objects, each a unit that takes a good part of the log, and a transaction that makes one
// of them all.
TEST(LargeUnitTest, TransactionOverManyLargeUnitsIsSentInPartsTheLogCanHold) {
  TestStore store({.size_bytes = uint64_t{3} << 30, .shuffle = false});
  ASSERT_TRUE(store.is_open());
  std::vector<Object> objects;
  for (int i = 0; i < 6; ++i) {
    auto object = store->CreateObject(std::to_string(i));
    ASSERT_TRUE(IsOk(object));
    ASSERT_TRUE(IsOk(object->Truncate(uint64_t{1} << 40, Durability::kSync)));
    objects.push_back(*object);
  }
  const uint64_t records = store->stats().log_records;
  for (const Object& object : objects) {
    for (uint64_t hole = 0; hole < 230000; ++hole)
      ASSERT_TRUE(IsOk(object.PunchHole(hole * 4 * kBlock, kBlock)));
  }
  EXPECT_LT(store->stats().log_records, records + 200) << "the units were sent before the transaction";
  {
    Transaction transaction = store->Begin();
    for (const Object& object : objects) ASSERT_TRUE(IsOk(transaction.Write(object, 0, Filled(1, kBlock))));
    ASSERT_TRUE(IsOk(transaction.Commit(Durability::kSync)));
  }
  ASSERT_TRUE(IsOk(objects[0].Truncate(0, Durability::kSync)));
  objects.clear();
  EXPECT_TRUE(IsOk(store.Close()));
}

}  // namespace
}  // namespace untorn
