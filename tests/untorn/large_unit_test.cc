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
