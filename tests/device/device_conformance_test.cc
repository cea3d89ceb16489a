// One suite over every Device: what device.h promises, whatever is behind it.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <thread>

#include "device/device.h"
#include "tests/device/device_testing.h"

namespace untorn {
namespace {

constexpr uint64_t kDeviceBytes = 32 << 20;
constexpr uint64_t kUnitBytes = 16384;

class DeviceConformanceTest : public testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::kUring && !HasIoUring()) GTEST_SKIP() << "the kernel refuses io_uring here";
    Open(/*stated_unit_bytes=*/0);
  }

  void Open(uint64_t stated_unit_bytes) {
    device_.reset();
    path_ = std::make_unique<TempPath>();
    auto device = MakeDevice(GetParam(), *path_, kDeviceBytes, stated_unit_bytes);
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
  }

  absl::Status Do(IoOp op, uint64_t offset_bytes, AlignedBuffer& buffer) {
    IoRequest request = Request(op, offset_bytes, buffer);
    return Execute(*device_, &request);
  }

  std::unique_ptr<TempPath> path_;
  std::unique_ptr<Device> device_;
};

TEST_P(DeviceConformanceTest, NamesItsEngineAndSize) {
  const std::map<DeviceKind, std::string> engines = {{DeviceKind::kUring, "io_uring"},
                                                     {DeviceKind::kSystemCalls, "system calls"},
                                                     {DeviceKind::kBuffered, "system calls"},
                                                     {DeviceKind::kMemory, "memory"}};
  EXPECT_EQ(device_->info().engine, engines.at(GetParam()));
  EXPECT_EQ(device_->info().size_bytes, kDeviceBytes);
}

TEST_P(DeviceConformanceTest, UnwrittenBlocksReadAsZeros) {
  AlignedBuffer buffer = Filled(8192, 'x');
  ASSERT_TRUE(Do(IoOp::kRead, kDeviceBytes - 8192, buffer).ok());
  EXPECT_TRUE(AllAre(buffer, 0));
}

// Beyond the limit of the process the kernel sends SIGXFSZ, which would end this test.
TEST_P(DeviceConformanceTest, WriteBeyondTheFileSizeLimitIsNotTriedAndLosesNothing) {
  if (GetParam() == DeviceKind::kMemory) GTEST_SKIP() << "no file";
  AlignedBuffer a = Filled(8192, 'a');
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit limit = {4 * kBlockBytes + 1, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  for (const bool durable : {false, true}) {
    for (const uint64_t offset : {3 * kBlockBytes, 4 * kBlockBytes, 5 * kBlockBytes}) {
      IoRequest request = Request(IoOp::kWrite, offset, a);
      request.durable = durable;
      const absl::Status status = Execute(*device_, &request);
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      EXPECT_TRUE(request.untried);
      EXPECT_TRUE(FoundNoSpace(request, device_->info().direct_io));
      EXPECT_FALSE(LosesCachedWrites(request));
    }
    IoRequest within = Request(IoOp::kWrite, 2 * kBlockBytes, a);
    within.durable = durable;
    EXPECT_TRUE(Execute(*device_, &within).ok()) << within.status;
    EXPECT_FALSE(within.untried);
  }
  EXPECT_TRUE(absl::IsResourceExhausted(device_->Extend(kDeviceBytes + kBlockBytes)));
  EXPECT_TRUE(FlushBlocking(*device_).ok());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_TRUE(Do(IoOp::kWrite, 4 * kBlockBytes, a).ok());
}

TEST_P(DeviceConformanceTest, ReadReturnsWhatWasWritten) {
  AlignedBuffer a = Filled(12288, 'a');
  AlignedBuffer b = Filled(4096, 'b');
  ASSERT_TRUE(Do(IoOp::kWrite, 8192, a).ok());
  ASSERT_TRUE(Do(IoOp::kWrite, 12288, b).ok());
  AlignedBuffer seen = Filled(12288, 0);
  ASSERT_TRUE(Do(IoOp::kRead, 8192, seen).ok());
  EXPECT_TRUE(AllAre(seen.data(), 4096, 'a'));
  EXPECT_TRUE(AllAre(seen.data() + 4096, 4096, 'b'));
  EXPECT_TRUE(AllAre(seen.data() + 8192, 4096, 'a'));
}

TEST_P(DeviceConformanceTest, DurableWritesAreDone) {
  Open(kUnitBytes);
  for (IoOp op : {IoOp::kWrite, IoOp::kAtomicWrite}) {
    AlignedBuffer a = Filled(kUnitBytes, op == IoOp::kWrite ? 'a' : 'b');
    IoRequest request = Request(op, kUnitBytes, a);
    request.durable = true;
    ASSERT_TRUE(Execute(*device_, &request).ok()) << request.status;
    AlignedBuffer seen = Filled(kUnitBytes, 0);
    ASSERT_TRUE(Do(IoOp::kRead, kUnitBytes, seen).ok());
    EXPECT_TRUE(AllAre(seen, op == IoOp::kWrite ? 'a' : 'b'));
  }
}

TEST_P(DeviceConformanceTest, ExecuteReturnsWithTheRequestOver) {
  Open(kUnitBytes);
  if (!device_->info().can_execute) GTEST_SKIP() << "the device carries nothing out in the calling thread";
  AlignedBuffer a = Filled(kUnitBytes, 'a'), seen = Filled(kUnitBytes, 0);
  IoRequest write = Request(IoOp::kAtomicWrite, kUnitBytes, a), read = Request(IoOp::kRead, kUnitBytes, seen);
  write.durable = true;
  IoRequest flush, beyond = Request(IoOp::kRead, kDeviceBytes, seen);
  flush.op = IoOp::kFlush;
  for (IoRequest* r : {&write, &flush, &read}) {
    device_->Execute(r);
    EXPECT_TRUE(r->status.ok()) << r->status;
  }
  EXPECT_TRUE(AllAre(seen, 'a'));
  device_->Execute(&beyond);
  EXPECT_TRUE(absl::IsDataLoss(beyond.status)) << beyond.status;
  std::vector<IoRequest*> completed;
  device_->Reap(/*wait=*/false, &completed);
  EXPECT_TRUE(completed.empty());
}

TEST_P(DeviceConformanceTest, BlockingHelpersReadWriteAndFlush) {
  AlignedBuffer a = Filled(4096, 'a');
  AlignedBuffer seen = Filled(4096, 0);
  EXPECT_TRUE(WriteBlocking(*device_, 4096, a.data(), 4096).ok());
  EXPECT_TRUE(FlushBlocking(*device_).ok());
  EXPECT_TRUE(ReadBlocking(*device_, 4096, seen.data(), 4096).ok());
  EXPECT_TRUE(AllAre(seen, 'a'));
}

TEST_P(DeviceConformanceTest, MoreRequestsThanFitInFlightAreEachHandedBackOnce) {
  constexpr uint64_t kCount = 2000;
  AlignedBuffer block = Filled(kBlockBytes, 'q');
  std::vector<IoRequest> requests;
  std::vector<IoRequest*> pointers;
  requests.reserve(kCount);
  for (uint64_t i = 0; i < kCount; ++i) {
    requests.push_back(Request(IoOp::kWrite, i * kBlockBytes, block));
    requests.back().status = absl::UnknownError("not set");
    pointers.push_back(&requests.back());
  }
  device_->Submit(pointers);
  std::vector<IoRequest*> completed;
  while (completed.size() < kCount) device_->Reap(/*wait=*/true, &completed);
  device_->Reap(/*wait=*/false, &completed);
  std::sort(completed.begin(), completed.end());
  EXPECT_EQ(completed, pointers);
  for (const IoRequest& request : requests) ASSERT_TRUE(request.status.ok()) << request.status;
}

TEST_P(DeviceConformanceTest, MoreBuffersThanASystemCallTakesAreAllTransferred) {
  constexpr uint64_t kCount = 2500;
  AlignedBuffer data(kCount * kBlockBytes);
  for (uint64_t i = 0; i < kCount; ++i) {
    std::memset(data.data() + i * kBlockBytes, static_cast<int>(i % 251), kBlockBytes);
  }
  IoRequest write;
  write.op = IoOp::kWrite;
  write.offset_bytes = 4096;
  // Backwards, so that no two buffers are one in memory.
  for (uint64_t i = kCount; i-- > 0;) write.iov.push_back({data.data() + i * kBlockBytes, kBlockBytes});
  ASSERT_TRUE(Execute(*device_, &write).ok());

  AlignedBuffer seen = Filled(kCount * kBlockBytes, 0);
  IoRequest read = write;
  read.op = IoOp::kRead;
  read.iov.clear();
  for (uint64_t i = kCount; i-- > 0;) read.iov.push_back({seen.data() + i * kBlockBytes, kBlockBytes});
  ASSERT_TRUE(Execute(*device_, &read).ok());
  EXPECT_EQ(std::memcmp(seen.data(), data.data(), data.size()), 0);

  AlignedBuffer first = Filled(kBlockBytes, 0);
  ASSERT_TRUE(Do(IoOp::kRead, 4096, first).ok());
  EXPECT_TRUE(AllAre(first, static_cast<char>((kCount - 1) % 251)));
}

TEST_P(DeviceConformanceTest, RequestBeyondTheEndIsOutOfRange) {
  AlignedBuffer buffer = Filled(8192, 'x');
  EXPECT_EQ(Do(IoOp::kRead, kDeviceBytes - 4096, buffer).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Do(IoOp::kWrite, kDeviceBytes, buffer).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Do(IoOp::kWrite, ~uint64_t{0} / 4096 * 4096, buffer).code(), absl::StatusCode::kOutOfRange);
  AlignedBuffer last = Filled(4096, 'x');
  ASSERT_TRUE(Do(IoOp::kRead, kDeviceBytes - 4096, last).ok());
  EXPECT_TRUE(AllAre(last, 0));
}

TEST_P(DeviceConformanceTest, AtomicWriteWithoutSupportIsRefusedAndWritesNothing) {
  if (device_->info().atomic.usable()) GTEST_SKIP() << "the disk here has atomic writes";
  AlignedBuffer a = Filled(4096, 'a');
  EXPECT_EQ(Do(IoOp::kAtomicWrite, 4096, a).code(), absl::StatusCode::kUnimplemented);
  AlignedBuffer seen = Filled(4096, 'x');
  ASSERT_TRUE(Do(IoOp::kRead, 4096, seen).ok());
  EXPECT_TRUE(AllAre(seen, 0));
}

TEST_P(DeviceConformanceTest, AtomicWriteWithinTheStatedUnitIsWritten) {
  Open(kUnitBytes);
  EXPECT_EQ(device_->info().atomic.source, AtomicSource::kStated);
  AlignedBuffer a = Filled(kUnitBytes, 'a');
  ASSERT_TRUE(Do(IoOp::kAtomicWrite, 2 * kUnitBytes, a).ok());
  AlignedBuffer seen = Filled(kUnitBytes, 0);
  ASSERT_TRUE(Do(IoOp::kRead, 2 * kUnitBytes, seen).ok());
  EXPECT_TRUE(AllAre(seen, 'a'));
}

TEST_P(DeviceConformanceTest, AtomicWriteOutsideTheLimitsIsRefused) {
  Open(kUnitBytes);
  AlignedBuffer three_blocks = Filled(3 * 4096, 'a');
  AlignedBuffer unit = Filled(kUnitBytes, 'a');
  AlignedBuffer two_units = Filled(2 * kUnitBytes, 'a');
  EXPECT_EQ(Do(IoOp::kAtomicWrite, 0, three_blocks).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Do(IoOp::kAtomicWrite, 4096, unit).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(Do(IoOp::kAtomicWrite, 0, two_units).code(), absl::StatusCode::kUnimplemented);
  AlignedBuffer seen = Filled(2 * kUnitBytes, 'x');
  ASSERT_TRUE(Do(IoOp::kRead, 0, seen).ok());
  EXPECT_TRUE(AllAre(seen, 0));
}

TEST_P(DeviceConformanceTest, RequestThatFailsItsCheckWakesTheReaper) {
  std::thread submitter;
  AlignedBuffer buffer = Filled(4096, 'x');
  IoRequest request = Request(IoOp::kRead, kDeviceBytes, buffer);
  submitter = std::thread([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    IoRequest* pointer = &request;
    device_->Submit(absl::MakeConstSpan(&pointer, 1));
  });
  std::vector<IoRequest*> completed;
  device_->Reap(/*wait=*/true, &completed);
  submitter.join();
  EXPECT_EQ(completed, std::vector<IoRequest*>{&request});
  EXPECT_EQ(request.status.code(), absl::StatusCode::kDataLoss);
}

TEST_P(DeviceConformanceTest, ThreadsSubmitWhileAnotherReaps) {
  constexpr int kThreads = 4;
  constexpr int kEach = 300;
  struct Slot {
    AlignedBuffer buffer;
    IoRequest request;
  };
  std::vector<std::vector<Slot>> slots(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      slots[t].resize(kEach);
      for (int i = 0; i < kEach; ++i) {
        Slot& slot = slots[t][i];
        slot.buffer = Filled(kBlockBytes, static_cast<char>('a' + t));
        if (i % 50 == 49) {
          slot.request.op = IoOp::kFlush;
        } else {
          slot.request =
              Request(IoOp::kWrite, (static_cast<uint64_t>(t) * kEach + i) * kBlockBytes, slot.buffer);
        }
        IoRequest* pointer = &slot.request;
        device_->Submit(absl::MakeConstSpan(&pointer, 1));
      }
    });
  }
  std::vector<IoRequest*> completed;
  while (completed.size() < kThreads * kEach) {
    const size_t before = completed.size();
    device_->Reap(/*wait=*/true, &completed);
    for (size_t i = before; i < completed.size(); ++i) {
      ASSERT_TRUE(completed[i]->status.ok()) << completed[i]->status;
    }
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < kThreads; ++t) {
    AlignedBuffer seen = Filled(49 * kBlockBytes, 0);
    ASSERT_TRUE(Do(IoOp::kRead, static_cast<uint64_t>(t) * kEach * kBlockBytes, seen).ok());
    EXPECT_TRUE(AllAre(seen, static_cast<char>('a' + t)));
  }
}

INSTANTIATE_TEST_SUITE_P(EveryDevice, DeviceConformanceTest,
                         testing::Values(DeviceKind::kUring, DeviceKind::kSystemCalls, DeviceKind::kBuffered,
                                         DeviceKind::kMemory),
                         [](const auto& info) { return DeviceKindName(info.param); });

}  // namespace
}  // namespace untorn
