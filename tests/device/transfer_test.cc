// What becomes of a system call's result.
#include "device/transfer.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/device/device_testing.h"

namespace untorn {
namespace {

DeviceInfo InfoWith(AtomicSource source) {
  DeviceInfo info;
  info.path = "/some/store";
  info.size_bytes = 1 << 20;
  info.atomic = {source, 4096, 65536, 0};
  return info;
}

class TransferTest : public testing::Test {
 protected:
  IoRequest Make(IoOp op) { return Request(op, 65536, buffer_); }
  AlignedBuffer buffer_ = Filled(16384, 'x');
};

TEST_F(TransferTest, ShortTransferContinuesAtTheBlockItReached) {
  const DeviceInfo info = InfoWith(AtomicSource::kNone);
  IoRequest request = Make(IoOp::kWrite);
  Transfer transfer(&info, &request);
  EXPECT_FALSE(transfer.Finished(4096 + 512));
  EXPECT_EQ(transfer.offset_bytes(), 65536u + 4096);
  ASSERT_EQ(transfer.iov().size(), 1u);
  EXPECT_EQ(transfer.iov()[0].iov_base, buffer_.data() + 4096);
  EXPECT_EQ(transfer.iov()[0].iov_len, 12288u);
  EXPECT_TRUE(transfer.Finished(12288));
  EXPECT_TRUE(request.status.ok());
}

TEST_F(TransferTest, ContinuationSkipsTheBuffersThatAreDone) {
  const DeviceInfo info = InfoWith(AtomicSource::kNone);
  IoRequest request = Make(IoOp::kRead);
  AlignedBuffer second = Filled(8192, 'y');
  request.iov.push_back({second.data(), second.size()});
  Transfer transfer(&info, &request);
  EXPECT_FALSE(transfer.Finished(16384 + 4096));
  ASSERT_EQ(transfer.iov().size(), 1u);
  EXPECT_EQ(transfer.iov()[0].iov_base, second.data() + 4096);
  EXPECT_EQ(transfer.iov()[0].iov_len, 4096u);
}

TEST_F(TransferTest, InterruptedAndCancelledCallsAreRepeated) {
  const DeviceInfo info = InfoWith(AtomicSource::kNone);
  IoRequest request = Make(IoOp::kWrite);
  Transfer transfer(&info, &request);
  for (int error : {EINTR, EAGAIN, ECANCELED}) EXPECT_FALSE(transfer.Finished(-error));
  EXPECT_EQ(transfer.offset_bytes(), 65536u);
}

TEST_F(TransferTest, ShortAtomicWriteFailsAndIsNotContinued) {
  for (AtomicSource source : {AtomicSource::kHardware, AtomicSource::kStated}) {
    const DeviceInfo info = InfoWith(source);
    IoRequest request = Make(IoOp::kAtomicWrite);
    Transfer transfer(&info, &request);
    EXPECT_TRUE(transfer.Finished(8192));
    EXPECT_EQ(request.status.code(), absl::StatusCode::kInternal);
  }
}

TEST_F(TransferTest, OnlyHardwareAtomicWritesAskTheKernelForAtomicity) {
  const DeviceInfo hardware = InfoWith(AtomicSource::kHardware);
  const DeviceInfo stated = InfoWith(AtomicSource::kStated);
  IoRequest atomic = Make(IoOp::kAtomicWrite);
  IoRequest plain = Make(IoOp::kWrite);
  EXPECT_EQ(Transfer(&hardware, &atomic).flags(), 0x40);
  EXPECT_EQ(Transfer(&hardware, &plain).flags(), 0);
  EXPECT_EQ(Transfer(&stated, &atomic).flags(), 0);
}

TEST_F(TransferTest, DurableWritesAskTheKernelForDurability) {
  const DeviceInfo info = InfoWith(AtomicSource::kHardware);
  for (IoOp op : {IoOp::kWrite, IoOp::kAtomicWrite}) {
    IoRequest request = Make(op);
    const int plain = Transfer(&info, &request).flags();
    request.durable = true;
    EXPECT_EQ(Transfer(&info, &request).flags(), plain | RWF_DSYNC);
  }
}

TEST_F(TransferTest, ReadPastTheEndOfAFileCutShortIsDataLoss) {
  const DeviceInfo info = InfoWith(AtomicSource::kNone);
  IoRequest request = Make(IoOp::kRead);
  Transfer transfer(&info, &request);
  EXPECT_FALSE(transfer.Finished(8192));
  EXPECT_TRUE(transfer.Finished(0));
  EXPECT_EQ(request.status.code(), absl::StatusCode::kDataLoss);
}

TEST_F(TransferTest, ErrorsHaveTheirStatusAndNameTheRange) {
  struct Case {
    IoOp op;
    AtomicSource source;
    int error;
    absl::StatusCode code;
  };
  const Case cases[] = {
      {IoOp::kRead, AtomicSource::kNone, EIO, absl::StatusCode::kDataLoss},
      {IoOp::kWrite, AtomicSource::kNone, EIO, absl::StatusCode::kInternal},
      {IoOp::kFlush, AtomicSource::kNone, EIO, absl::StatusCode::kInternal},
      {IoOp::kWrite, AtomicSource::kNone, ENOSPC, absl::StatusCode::kResourceExhausted},
      {IoOp::kWrite, AtomicSource::kNone, EDQUOT, absl::StatusCode::kResourceExhausted},
      {IoOp::kFlush, AtomicSource::kNone, ENOSPC, absl::StatusCode::kResourceExhausted},
      {IoOp::kAtomicWrite, AtomicSource::kHardware, EINVAL, absl::StatusCode::kUnimplemented},
      {IoOp::kAtomicWrite, AtomicSource::kHardware, EOPNOTSUPP, absl::StatusCode::kUnimplemented},
      {IoOp::kAtomicWrite, AtomicSource::kHardware, EIO, absl::StatusCode::kInternal},
      {IoOp::kAtomicWrite, AtomicSource::kStated, EINVAL, absl::StatusCode::kInternal},
  };
  for (const Case& c : cases) {
    const DeviceInfo info = InfoWith(c.source);
    IoRequest request = Make(c.op);
    Transfer transfer(&info, &request);
    EXPECT_TRUE(transfer.Finished(-c.error));
    EXPECT_EQ(request.status.code(), c.code) << request.status;
    const std::string message(request.status.message());
    EXPECT_NE(message.find("/some/store"), std::string::npos) << message;
    EXPECT_EQ(message.find("offset 65536") != std::string::npos, c.op != IoOp::kFlush) << message;
  }
}

TEST_F(TransferTest, HardwareAtomicWriteOfTwoBuffersIsRefused) {
  AlignedBuffer half = Filled(8192, 'x');
  IoRequest request = Request(IoOp::kAtomicWrite, 65536, half);
  request.iov.push_back({half.data(), half.size()});
  EXPECT_EQ(CheckRequest(InfoWith(AtomicSource::kHardware), 1 << 20, request).code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(CheckRequest(InfoWith(AtomicSource::kStated), 1 << 20, request).ok());
}

TEST(WithinAtomicLimitsTest, CountsSizeAlignmentAndBoundary) {
  const AtomicLimits limits = {AtomicSource::kHardware, 8192, 65536, 131072};
  EXPECT_TRUE(WithinAtomicLimits(limits, {0, 8192}));
  EXPECT_TRUE(WithinAtomicLimits(limits, {65536, 65536}));
  EXPECT_FALSE(WithinAtomicLimits(limits, {0, 4096})) << "below the minimum";
  EXPECT_FALSE(WithinAtomicLimits(limits, {0, 131072})) << "above the maximum";
  EXPECT_FALSE(WithinAtomicLimits(limits, {0, 12288})) << "no power of two";
  EXPECT_FALSE(WithinAtomicLimits(limits, {8192, 16384})) << "misaligned";
  EXPECT_FALSE(WithinAtomicLimits({AtomicSource::kHardware, 4096, 65536, 24576}, {16384, 16384}))
      << "straddles the boundary";
  EXPECT_FALSE(WithinAtomicLimits({AtomicSource::kFileSystem, 4096, 65536, 0}, {0, 4096})) << "not used";
  EXPECT_FALSE(WithinAtomicLimits({}, {0, 4096})) << "no support";
}

}  // namespace
}  // namespace untorn
