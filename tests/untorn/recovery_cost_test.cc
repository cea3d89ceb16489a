// Opening a store after a kill reads the log's tail, not the store.
#include <gtest/gtest.h>

#include <iostream>
#include <vector>

#include "inspect/on_device.h"
#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

// Device reads of an open after a kill, of a store with `mappings` mappings of a block each and a tail of 300
// durable writes, the same for every such store.
DeviceCounts ReadsOfOpen(uint64_t mappings) {
  TestStoreOptions options;
  options.size_bytes = uint64_t{12} << 30;  // sparse
  options.shuffle = false;
  options.open.cache_bytes = 64 << 20;
  TestStore store(options);
  if (!store.is_open()) return {};
  auto object = store->CreateObject("a");
  EXPECT_TRUE(IsOk(object));
  // Every other block, so that no two mappings can become one. Reserved blocks cost the simulated disk no
  // memory.
  for (uint64_t i = 0; i < mappings; ++i) {
    const absl::Status status = object->Preallocate(2 * i * kBlockBytes, kBlockBytes);
    if (!status.ok()) {
      ADD_FAILURE() << i << ": " << status;
      return {};
    }
  }
  EXPECT_TRUE(IsOk(store->Sync()));
  EXPECT_TRUE(IsOk(store->Checkpoint()));
  for (uint64_t i = 0; i < 300; ++i) {
    EXPECT_TRUE(IsOk(object->Write(i * 37 % 10000 * 2 * kBlockBytes, Stamped(i, kBlockBytes),
                                   {.durability = Durability::kSync})));
  }
  *object = Object();
  store.Kill();
  EXPECT_TRUE(IsOk(store.Open()));
  const DeviceCounts counts = store.counts();
  object = store->OpenObject("a");
  EXPECT_TRUE(IsOk(object));
  for (uint64_t i = 0; i < 300; ++i) {
    EXPECT_TRUE(ReadAll(*object, i * 37 % 10000 * 2 * kBlockBytes, kBlockBytes) == Stamped(i, kBlockBytes))
        << i;
  }
  EXPECT_GE(store->stats().recovered_records, 300u);
  *object = Object();
  store.Kill();
  SimulatedDeviceOptions device_options;
  device_options.size_bytes = options.size_bytes;
  SimulatedDevice device(store.disk(), device_options);
  auto fsck = FsckDevice(device);
  EXPECT_TRUE(IsOk(fsck));
  if (fsck.ok()) {
    EXPECT_EQ(fsck->findings_total, 0u);
    EXPECT_GE(fsck->mappings, mappings);
  }
  return counts;
}

TEST(RecoveryCostTest, OpeningCostsTheTailNotTheStore) {
  const DeviceCounts small = ReadsOfOpen(10'000);
  const DeviceCounts large = ReadsOfOpen(1'000'000);
  std::cout << "10,000 mappings: " << small.reads << " reads, " << small.bytes_read
            << " bytes; 1,000,000 mappings: " << large.reads << " reads, " << large.bytes_read << " bytes"
            << std::endl;
  EXPECT_GT(small.reads, 0u);
  EXPECT_LE(large.reads, 2 * small.reads);
  EXPECT_LE(large.bytes_read, 2 * small.bytes_read);
}

}  // namespace
}  // namespace untorn
