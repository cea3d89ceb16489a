// The fault model of the simulated disk; numbers are those of simulated_device.h.
#include "sim/simulated_device.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/device/device_testing.h"

namespace untorn {
namespace {

constexpr uint64_t kDiskBytes = 1 << 20;

class SimulatedDeviceTest : public testing::Test {
 protected:
  std::unique_ptr<SimulatedDevice> Open(SimulatedDeviceOptions options = {}) {
    options.atomic = {AtomicSource::kHardware, 4096, 65536, 0};
    return std::make_unique<SimulatedDevice>(disk_, options);
  }

  // How many sectors of the range hold `value`; the others must hold `other`.
  static int CountSectors(const SimulatedDisk& disk, uint64_t offset_bytes, uint64_t length_bytes, char value,
                          char other) {
    AlignedBuffer seen(length_bytes);
    disk.Peek(offset_bytes, seen.data(), length_bytes);
    int count = 0;
    for (uint64_t at = 0; at < length_bytes; at += kSectorBytes) {
      const bool is_value = AllAre(seen.data() + at, kSectorBytes, value);
      EXPECT_TRUE(is_value || AllAre(seen.data() + at, kSectorBytes, other))
          << "sector at " << offset_bytes + at;
      count += is_value ? 1 : 0;
    }
    return count;
  }

  std::shared_ptr<SimulatedDisk> disk_ = std::make_shared<SimulatedDisk>(kDiskBytes);
  AlignedBuffer a_ = Filled(16384, 'a');
  AlignedBuffer b_ = Filled(16384, 'b');
};

constexpr int kSectors = 16384 / kSectorBytes;

TEST_F(SimulatedDeviceTest, FlushedWriteIsNeverLost) {  // 1
  auto device = Open();
  ASSERT_TRUE(WriteBlocking(*device, 0, a_.data(), 16384).ok());
  ASSERT_TRUE(FlushBlocking(*device).ok());
  device.reset();
  std::mt19937_64 rng(1);
  for (int i = 0; i < 50; ++i) {
    auto clone = disk_->Clone();
    clone->Crash(rng, /*keep_per_mille=*/0);
    EXPECT_EQ(CountSectors(*clone, 0, 16384, 'a', 0), kSectors);
  }
}

TEST_F(SimulatedDeviceTest, FlushDoesNotCoverWritesThatCompleteAfterItsSubmission) {  // 1
  SimulatedDeviceOptions in_order;
  in_order.shuffle = false;
  auto device = Open(in_order);
  IoRequest write = Request(IoOp::kWrite, 0, a_);
  IoRequest flush;
  flush.op = IoOp::kFlush;
  IoRequest* both[] = {&write, &flush};
  device->Submit(both);
  std::vector<IoRequest*> completed;
  device->Reap(/*wait=*/true, &completed);
  ASSERT_EQ(completed.size(), 2u);
  std::mt19937_64 rng(1);
  disk_->Crash(rng, /*keep_per_mille=*/0);
  EXPECT_EQ(CountSectors(*disk_, 0, 16384, 'a', 0), 0);
}

TEST_F(SimulatedDeviceTest, DurableWriteIsNeverLostAndMakesNoOtherWriteDurable) {  // 1
  auto device = Open();
  ASSERT_TRUE(WriteBlocking(*device, 32768, b_.data(), 16384).ok());
  IoRequest durable = Request(IoOp::kWrite, 0, a_);
  durable.durable = true;
  ASSERT_TRUE(Execute(*device, &durable).ok());
  device.reset();
  std::mt19937_64 rng(1);
  auto clone = disk_->Clone();
  clone->Crash(rng, /*keep_per_mille=*/0);
  EXPECT_EQ(CountSectors(*clone, 0, 16384, 'a', 0), kSectors);
  EXPECT_EQ(CountSectors(*clone, 32768, 16384, 'b', 0), 0);
}

TEST_F(SimulatedDeviceTest, WhatWasCachedBeforeNeverComesOverADurableWrite) {  // 1
  auto device = Open();
  ASSERT_TRUE(WriteBlocking(*device, 0, b_.data(), 16384).ok());
  AlignedBuffer middle = Filled(8192, 'a');
  IoRequest durable = Request(IoOp::kWrite, 4096, middle);
  durable.durable = true;
  ASSERT_TRUE(Execute(*device, &durable).ok());
  std::mt19937_64 rng(1);
  for (int i = 0; i < 50; ++i) {
    auto clone = disk_->Clone();
    clone->Crash(rng);
    EXPECT_EQ(CountSectors(*clone, 4096, 8192, 'a', 'b'), kSectors / 2);
  }
  ASSERT_TRUE(FlushBlocking(*device).ok());
  device.reset();
  disk_->Crash(rng, /*keep_per_mille=*/0);
  EXPECT_EQ(CountSectors(*disk_, 4096, 8192, 'a', 'b'), kSectors / 2);
  EXPECT_EQ(CountSectors(*disk_, 0, 4096, 'b', 0) + CountSectors(*disk_, 12288, 4096, 'b', 0), kSectors / 2);
}

TEST_F(SimulatedDeviceTest, UnflushedWriteIsLostKeptOrTornBySector) {  // 2
  auto device = Open();
  ASSERT_TRUE(WriteBlocking(*device, 4096, a_.data(), 16384).ok());
  device.reset();
  std::mt19937_64 rng(7);
  int lost = 0, whole = 0, torn = 0;
  for (int i = 0; i < 400; ++i) {
    auto clone = disk_->Clone();
    clone->Crash(rng);
    const int landed = CountSectors(*clone, 4096, 16384, 'a', 0);
    (landed == 0 ? lost : landed == kSectors ? whole : torn)++;
  }
  EXPECT_GT(lost, 100);
  EXPECT_GT(whole, 50);
  EXPECT_GT(torn, 50);
}

TEST_F(SimulatedDeviceTest, AtomicWriteIsThereWholeOrNotAtAll) {  // 3
  auto device = Open();
  ASSERT_TRUE(WriteBlocking(*device, 0, a_.data(), 16384).ok());
  ASSERT_TRUE(FlushBlocking(*device).ok());
  IoRequest completed = Request(IoOp::kAtomicWrite, 0, b_);
  ASSERT_TRUE(Execute(*device, &completed).ok());
  IoRequest in_flight = Request(IoOp::kAtomicWrite, 65536, b_);
  IoRequest* pointer = &in_flight;
  device->Submit(absl::MakeConstSpan(&pointer, 1));
  device.reset();
  std::mt19937_64 rng(3);
  std::set<int> seen, seen_in_flight;
  for (int i = 0; i < 200; ++i) {
    auto clone = disk_->Clone();
    i % 2 == 0 ? clone->Crash(rng) : clone->Kill(rng);
    seen.insert(CountSectors(*clone, 0, 16384, 'b', 'a'));
    seen_in_flight.insert(CountSectors(*clone, 65536, 16384, 'b', 0));
  }
  EXPECT_EQ(seen, (std::set<int>{0, kSectors}));
  EXPECT_EQ(seen_in_flight, (std::set<int>{0, kSectors}));
}

TEST_F(SimulatedDeviceTest, CacheSurvivesAKillAndWritesInFlightMayLand) {  // 4
  auto device = Open();
  ASSERT_TRUE(WriteBlocking(*device, 0, a_.data(), 16384).ok());
  IoRequest in_flight = Request(IoOp::kWrite, 65536, b_);
  IoRequest* pointer = &in_flight;
  device->Submit(absl::MakeConstSpan(&pointer, 1));
  device.reset();
  std::mt19937_64 rng(5);
  std::set<int> seen;
  for (int i = 0; i < 200; ++i) {
    auto clone = disk_->Clone();
    clone->Kill(rng);
    EXPECT_EQ(CountSectors(*clone, 0, 16384, 'a', 0), kSectors);
    seen.insert(CountSectors(*clone, 65536, 16384, 'b', 0));
  }
  EXPECT_TRUE(seen.contains(0));
  EXPECT_TRUE(seen.contains(kSectors));
  EXPECT_GT(seen.size(), 2u);
}

TEST_F(SimulatedDeviceTest, SameSeedGivesTheSameOrderAnotherSeedAnother) {  // 5
  auto order = [&](uint64_t seed) {
    SimulatedDeviceOptions options;
    options.seed = seed;
    auto device = Open(options);
    std::vector<IoRequest> requests(20);
    std::vector<IoRequest*> pointers, completed;
    for (IoRequest& request : requests) {
      request = Request(IoOp::kWrite, 0, a_);
      pointers.push_back(&request);
    }
    device->Submit(pointers);
    std::vector<ptrdiff_t> result;
    for (size_t i = 1; i <= requests.size(); ++i) {
      device->Reap(/*wait=*/true, &completed);
      EXPECT_EQ(completed.size(), i);
      result.push_back(completed.back() - requests.data());
    }
    return result;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
}

TEST_F(SimulatedDeviceTest, DeviceThatOutlivesACrashHasNoEffectAnyMore) {  // 6
  auto device = Open();
  IoRequest in_flight = Request(IoOp::kWrite, 0, a_);
  IoRequest* pointer = &in_flight;
  device->Submit(absl::MakeConstSpan(&pointer, 1));
  std::mt19937_64 rng(1);
  disk_->Crash(rng, /*keep_per_mille=*/0);
  std::vector<IoRequest*> completed;
  device->Reap(/*wait=*/true, &completed);
  EXPECT_EQ(in_flight.status.code(), absl::StatusCode::kInternal);
  EXPECT_FALSE(WriteBlocking(*device, 0, b_.data(), 16384).ok());
  EXPECT_FALSE(FlushBlocking(*device).ok());
  EXPECT_EQ(CountSectors(*disk_, 0, 16384, 'a', 0), 0);
  auto next = Open();
  EXPECT_TRUE(WriteBlocking(*next, 0, b_.data(), 16384).ok());
}

TEST_F(SimulatedDeviceTest, OperationsFailByNumberAndKind) {  // 7
  auto device = Open();
  device->FailAfter(IoOp::kWrite, 2, absl::InternalError("asked"), 2);
  device->FailAfter(IoOp::kRead, 1, absl::DataLossError("asked"));
  std::vector<bool> ok;
  for (int i = 0; i < 4; ++i) ok.push_back(WriteBlocking(*device, 0, a_.data(), 16384).ok());
  EXPECT_EQ(ok, (std::vector<bool>{true, false, false, true}));
  EXPECT_EQ(ReadBlocking(*device, 0, b_.data(), 16384).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(ReadBlocking(*device, 0, b_.data(), 16384).ok());
}

TEST_F(SimulatedDeviceTest, FailedWriteKeepsNothingAllOrSomeSectors) {  // 7
  std::set<int> seen;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    disk_ = std::make_shared<SimulatedDisk>(kDiskBytes);
    SimulatedDeviceOptions options;
    options.seed = seed;
    auto device = Open(options);
    device->FailAfter(IoOp::kWrite, 1, absl::InternalError("asked"));
    EXPECT_FALSE(WriteBlocking(*device, 0, a_.data(), 16384).ok());
    seen.insert(CountSectors(*disk_, 0, 16384, 'a', 0));
  }
  EXPECT_TRUE(seen.contains(0));
  EXPECT_TRUE(seen.contains(kSectors));
  EXPECT_GT(seen.size(), 2u);
}

TEST_F(SimulatedDeviceTest, FailedFlushLeavesItsWritesVolatile) {  // 7
  auto device = Open();
  ASSERT_TRUE(WriteBlocking(*device, 0, a_.data(), 16384).ok());
  device->FailAfter(IoOp::kFlush, 1, absl::InternalError("asked"));
  EXPECT_FALSE(FlushBlocking(*device).ok());
  auto before_second = disk_->Clone();
  EXPECT_TRUE(FlushBlocking(*device).ok());
  std::mt19937_64 rng(1);
  before_second->Crash(rng, /*keep_per_mille=*/0);
  disk_->Crash(rng, /*keep_per_mille=*/0);
  EXPECT_EQ(CountSectors(*before_second, 0, 16384, 'a', 0), 0);
  EXPECT_EQ(CountSectors(*disk_, 0, 16384, 'a', 0), kSectors);
}

TEST_F(SimulatedDeviceTest, RefusedAtomicWriteHasNoEffect) {
  SimulatedDeviceOptions options;
  options.refuse_atomic_per_mille = 1000;
  auto device = Open(options);
  IoRequest request = Request(IoOp::kAtomicWrite, 0, a_);
  EXPECT_EQ(Execute(*device, &request).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(CountSectors(*disk_, 0, 16384, 'a', 0), 0);
}

TEST_F(SimulatedDeviceTest, PokeChangesMediumAndCache) {
  auto device = Open();
  ASSERT_TRUE(WriteBlocking(*device, 0, a_.data(), 16384).ok());
  disk_->Poke(4000, b_.data(), 200);
  AlignedBuffer seen = Filled(8192, 0);
  ASSERT_TRUE(ReadBlocking(*device, 0, seen.data(), 8192).ok());
  EXPECT_TRUE(AllAre(seen.data() + 4000, 200, 'b'));
  EXPECT_TRUE(AllAre(seen.data(), 4000, 'a'));
  std::mt19937_64 rng(1);
  disk_->Crash(rng, /*keep_per_mille=*/0);
  disk_->Peek(0, seen.data(), 8192);
  EXPECT_TRUE(AllAre(seen.data() + 4000, 200, 'b'));
  EXPECT_TRUE(AllAre(seen.data(), 4000, 0));
}

TEST_F(SimulatedDeviceTest, OperationsAndBytesAreCounted) {
  auto device = Open();
  ASSERT_TRUE(WriteBlocking(*device, 0, a_.data(), 16384).ok());
  ASSERT_TRUE(ReadBlocking(*device, 0, b_.data(), 4096).ok());
  IoRequest atomic = Request(IoOp::kAtomicWrite, 0, a_);
  ASSERT_TRUE(Execute(*device, &atomic).ok());
  ASSERT_TRUE(FlushBlocking(*device).ok());
  EXPECT_EQ(device->counts().writes, 1u);
  EXPECT_EQ(device->counts().atomic_writes, 1u);
  EXPECT_EQ(device->counts().reads, 1u);
  EXPECT_EQ(device->counts().flushes, 1u);
  EXPECT_EQ(device->counts().bytes_written, 32768u);
  EXPECT_EQ(device->counts().bytes_read, 4096u);
}

TEST_F(SimulatedDeviceTest, EachPossibleCutLeavesWhatItSays) {  // 2
  SimulatedDeviceOptions in_order;
  in_order.shuffle = false;
  auto device = Open(in_order);
  ASSERT_TRUE(WriteBlocking(*device, 0, a_.data(), 16384).ok());
  IoRequest write = Request(IoOp::kWrite, 16384, b_);
  IoRequest* pointer = &write;
  device->Submit(absl::MakeConstSpan(&pointer, 1));
  const auto unflushed = disk_->unflushed();
  ASSERT_EQ(unflushed.size(), 2u);
  EXPECT_FALSE(unflushed[0].in_flight);
  EXPECT_TRUE(unflushed[1].in_flight);
  EXPECT_EQ(unflushed[1].first_block, 4);
  EXPECT_EQ(unflushed[1].sectors, static_cast<uint64_t>(kSectors));

  using Landing = SimulatedDisk::Landing;
  Landing half{.lands = true, .sectors = std::vector<bool>(kSectors)};
  for (int s = 0; s < kSectors / 2; ++s) half.sectors[s] = true;
  auto cut = disk_->AfterCut(std::vector<Landing>{{}, half});
  EXPECT_EQ(CountSectors(*cut, 0, 16384, 'a', 0), 0);
  EXPECT_EQ(CountSectors(*cut, 16384, 16384, 'b', 0), kSectors / 2);
  EXPECT_TRUE(cut->unflushed().empty());
  auto killed = disk_->AfterKill(std::vector<Landing>{{}, half});
  EXPECT_EQ(CountSectors(*killed, 0, 16384, 'a', 0), kSectors) << "completed writes are in the cache";
  EXPECT_EQ(killed->unflushed().size(), 2u);
  EXPECT_NE(cut->Fingerprint(), killed->Fingerprint());
  EXPECT_EQ(cut->Fingerprint(), cut->Clone()->Fingerprint());

  half.shorn = true;
  cut = disk_->AfterCut(std::vector<Landing>{{.lands = true}, half});
  EXPECT_TRUE(cut->IsReadable(5));
  EXPECT_FALSE(cut->IsReadable(6));
  SimulatedDevice after(cut, in_order);
  AlignedBuffer seen(4096);
  EXPECT_EQ(ReadBlocking(after, 6 * 4096, seen.data(), 4096).code(), absl::StatusCode::kDataLoss);
  ASSERT_TRUE(WriteBlocking(after, 6 * 4096, a_.data(), 4096).ok());
  EXPECT_TRUE(ReadBlocking(after, 6 * 4096, seen.data(), 4096).ok());
}

TEST_F(SimulatedDeviceTest, CopiesDoNotSeeEachOthersWrites) {
  constexpr uint64_t kAt = 62 * 4096;  // over the end of what copies share as one
  disk_->Poke(kAt, a_.data(), 16384);
  const auto copy = disk_->Clone(), copy_of_copy = copy->Clone();
  copy->Poke(kAt, b_.data(), 16384);
  disk_->Poke(0, b_.data(), 4096);
  EXPECT_EQ(CountSectors(*disk_, kAt, 16384, 'a', 0), kSectors);
  EXPECT_EQ(CountSectors(*copy, kAt, 16384, 'b', 0), kSectors);
  EXPECT_EQ(CountSectors(*copy_of_copy, kAt, 16384, 'a', 0), kSectors);
  EXPECT_EQ(CountSectors(*copy, 0, 4096, 'b', 0), 0);
}

TEST_F(SimulatedDeviceTest, FingerprintIsThatOfTheContent) {
  const uint64_t empty = disk_->Fingerprint();
  disk_->Poke(0, a_.data(), 4096);
  const uint64_t with_a = disk_->Fingerprint();
  EXPECT_NE(with_a, empty);
  disk_->Poke(0, b_.data(), 4096);
  EXPECT_NE(disk_->Fingerprint(), with_a);
  disk_->Poke(0, a_.data(), 4096);
  EXPECT_EQ(disk_->Fingerprint(), with_a);
  disk_->Poke(0, std::vector<char>(4096).data(), 4096);
  EXPECT_EQ(disk_->Fingerprint(), empty);
}

TEST_F(SimulatedDeviceTest, WhatIsReadIsTrackedAsItWasReadFirst) {
  disk_->Poke(0, a_.data(), 4096);
  auto device = Open({.track_reads = true});
  AlignedBuffer seen(8192);
  ASSERT_TRUE(ReadBlocking(*device, 0, seen.data(), 8192).ok());
  ASSERT_TRUE(ReadBlocking(*device, 4096, seen.data(), 4096).ok());
  EXPECT_EQ(device->blocks_read(), (std::vector<BlockNumber>{0, 1}));
  const uint64_t before = disk_->Fingerprint(device->blocks_read());
  EXPECT_EQ(device->reads_fingerprint(), before);
  ASSERT_TRUE(WriteBlocking(*device, 4096, b_.data(), 4096).ok());
  ASSERT_TRUE(ReadBlocking(*device, 4096, seen.data(), 4096).ok());
  EXPECT_EQ(device->reads_fingerprint(), before);
  EXPECT_NE(disk_->Fingerprint(device->blocks_read()), before);
}

TEST_F(SimulatedDeviceTest, WritesAreLostAndMisdirected) {  // 8
  auto device = Open();
  device->Inject({.kind = SimulatedFault::kLostWrite, .first = 2});
  device->Inject({.kind = SimulatedFault::kMisdirectedWrite, .first = 3});
  for (uint64_t at : {0, 16384, 32768}) ASSERT_TRUE(WriteBlocking(*device, at, a_.data(), 16384).ok());
  EXPECT_EQ(device->faults_seen(), 2u);
  EXPECT_EQ(CountSectors(*disk_, 0, 16384, 'a', 0), kSectors);
  EXPECT_LT(CountSectors(*disk_, 32768, 16384, 'a', 0), kSectors);
  EXPECT_GT(CountSectors(*disk_, 16384, kDiskBytes - 16384, 'a', 0), 0);
}

TEST_F(SimulatedDeviceTest, ReadsRotFlipAndAreStale) {  // 9
  SimulatedDeviceOptions options;
  options.keep_previous = true;
  auto device = Open(options);
  ASSERT_TRUE(WriteBlocking(*device, 0, a_.data(), 4096).ok());
  ASSERT_TRUE(WriteBlocking(*device, 0, b_.data(), 4096).ok());
  device->Inject({.kind = SimulatedFault::kStaleRead, .op = IoOp::kRead, .first = 1});
  device->Inject({.kind = SimulatedFault::kBitFlip, .op = IoOp::kRead, .first = 2});
  device->Inject({.kind = SimulatedFault::kBitRot, .op = IoOp::kRead, .first = 4});
  AlignedBuffer seen(4096);
  ASSERT_TRUE(ReadBlocking(*device, 0, seen.data(), 4096).ok());
  EXPECT_TRUE(AllAre(seen, 'a'));
  ASSERT_TRUE(ReadBlocking(*device, 0, seen.data(), 4096).ok());
  EXPECT_FALSE(AllAre(seen, 'b'));
  ASSERT_TRUE(ReadBlocking(*device, 0, seen.data(), 4096).ok());
  EXPECT_TRUE(AllAre(seen, 'b')) << "not for good";
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(ReadBlocking(*device, 0, seen.data(), 4096).ok());
    EXPECT_FALSE(AllAre(seen, 'b')) << "for good";
  }
}

TEST_F(SimulatedDeviceTest, LyingDiskIgnoresFlushAndTearsAtomicWrites) {  // 10
  SimulatedDeviceOptions options;
  options.lies = {.ignore_flush = true, .tear_atomic = true};
  auto device = Open(options);
  IoRequest atomic = Request(IoOp::kAtomicWrite, 0, a_);
  ASSERT_TRUE(Execute(*device, &atomic).ok());
  ASSERT_TRUE(FlushBlocking(*device).ok());
  const auto unflushed = disk_->unflushed();
  ASSERT_EQ(unflushed.size(), 1u);
  EXPECT_TRUE(unflushed[0].may_tear);
}

TEST_F(SimulatedDeviceTest, LatencyPassesInVirtualTimeAndOrdersCompletions) {  // 5
  SimulatedDeviceOptions options;
  options.latency = {.request_ns = 2, .block_ns = 1, .read_ns = 10, .write_ns = 100, .flush_ns = 1000};
  auto device = Open(options);
  IoRequest write = Request(IoOp::kWrite, 0, a_);
  IoRequest read = Request(IoOp::kRead, 65536, b_);
  IoRequest* both[] = {&write, &read};
  device->Submit(both);
  std::vector<IoRequest*> completed;
  device->Reap(/*wait=*/true, &completed);
  ASSERT_EQ(completed.size(), 1u);
  EXPECT_EQ(completed[0], &read);
  EXPECT_EQ(device->virtual_ns(), 22u);  // handed over after the write
  device->Reap(/*wait=*/true, &completed);
  EXPECT_EQ(device->virtual_ns(), 106u);
  ASSERT_TRUE(FlushBlocking(*device).ok());
  EXPECT_EQ(device->virtual_ns(), 1106u);
}

TEST_F(SimulatedDeviceTest, HeldOperationsCompleteLast) {
  auto device = Open();
  device->Hold(IoOp::kWrite, 1, SimulatedDevice::HoldUntil::kNothingElse);
  IoRequest first = Request(IoOp::kWrite, 0, a_), second = Request(IoOp::kWrite, 16384, b_);
  IoRequest* both[] = {&first, &second};
  device->Submit(both);
  EXPECT_EQ(device->held(), 1u);
  std::vector<IoRequest*> completed;
  device->Reap(/*wait=*/true, &completed);
  device->Reap(/*wait=*/false, &completed);
  EXPECT_EQ(completed, std::vector<IoRequest*>{&second});
  device->Reap(/*wait=*/true, &completed);
  EXPECT_EQ(completed, (std::vector<IoRequest*>{&second, &first}));
}

using SimulatedDeviceDeathTest = SimulatedDeviceTest;

TEST_F(SimulatedDeviceDeathTest, BufferChangedInFlightIsReported) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  auto device = Open();
  IoRequest request = Request(IoOp::kWrite, 0, a_);
  IoRequest* pointer = &request;
  device->Submit(absl::MakeConstSpan(&pointer, 1));
  a_.data()[5000] = std::byte{'!'};
  std::vector<IoRequest*> completed;
  EXPECT_DEATH(device->Reap(/*wait=*/true, &completed), "changed in flight");
}

TEST_F(SimulatedDeviceDeathTest, MisalignedRequestIsReported) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  auto device = Open();
  EXPECT_DEATH((void)WriteBlocking(*device, 512, a_.data(), 4096), "multiple of the block size");
}

}  // namespace
}  // namespace untorn
