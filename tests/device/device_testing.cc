#include "tests/device/device_testing.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "device/file_device.h"
#include "device/syscall_device.h"
#include "sim/simulated_device.h"

namespace untorn {

TempPath::TempPath() {
  static std::atomic<int> next = 0;
  path_ = testing::TempDir() + "/untorn_" + std::to_string(getpid()) + "_" + std::to_string(next++);
}

TempPath::~TempPath() { unlink(path_.c_str()); }

AlignedBuffer Filled(uint64_t length_bytes, char value) {
  AlignedBuffer buffer(length_bytes);
  std::memset(buffer.data(), value, length_bytes);
  return buffer;
}

bool AllAre(const std::byte* data, uint64_t length_bytes, char value) {
  return std::all_of(data, data + length_bytes,
                     [value](std::byte b) { return static_cast<char>(b) == value; });
}

IoRequest Request(IoOp op, uint64_t offset_bytes, AlignedBuffer& buffer) {
  IoRequest request;
  request.op = op;
  request.offset_bytes = offset_bytes;
  request.iov.push_back({buffer.data(), buffer.size()});
  return request;
}

absl::Status Execute(Device& device, IoRequest* request) {
  device.Submit(absl::MakeConstSpan(&request, 1));
  std::vector<IoRequest*> completed;
  device.Reap(/*wait=*/true, &completed);
  EXPECT_EQ(completed, std::vector<IoRequest*>{request});
  return request->status;
}

bool HasIoUring() {
  io_uring ring;
  if (io_uring_queue_init(1, &ring, 0) != 0) return false;
  io_uring_queue_exit(&ring);
  return true;
}

std::string DeviceKindName(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kUring:
      return "IoUring";
    case DeviceKind::kSystemCalls:
      return "SystemCalls";
    case DeviceKind::kBuffered:
      return "Buffered";
    case DeviceKind::kMemory:
      return "Memory";
  }
  return "Unknown";
}

absl::StatusOr<std::unique_ptr<Device>> MakeDevice(DeviceKind kind, const TempPath& path, uint64_t size_bytes,
                                                   uint64_t stated_unit_bytes) {
  if (kind == DeviceKind::kMemory) {
    SimulatedDeviceOptions options;
    options.size_bytes = size_bytes;
    if (stated_unit_bytes != 0) {
      options.atomic = {AtomicSource::kStated, kBlockBytes, static_cast<uint32_t>(stated_unit_bytes), 0};
    }
    return std::make_unique<SimulatedDevice>(std::make_shared<SimulatedDisk>(size_bytes), options);
  }
  if (absl::Status status = CreateStoreFile(path.str()); !status.ok()) return status;
  if (truncate(path.str().c_str(), static_cast<off_t>(size_bytes)) != 0)
    return absl::InternalError("truncate");
  if (kind == DeviceKind::kBuffered) {
    // As where the file system refuses direct I/O, which those at hand do not.
    DeviceInfo info;
    info.path = path.str();
    info.size_bytes = size_bytes;
    if (stated_unit_bytes != 0) {
      info.atomic = {AtomicSource::kStated, kBlockBytes, static_cast<uint32_t>(stated_unit_bytes), 0};
    }
    return std::make_unique<SyscallDevice>(OpenFile(open(path.str().c_str(), O_RDWR | O_CLOEXEC)), info);
  }
  FileDeviceOptions options;
  options.use_io_uring = kind == DeviceKind::kUring;
  options.stated_unit_bytes = stated_unit_bytes;
  return OpenFileDevice(path.str(), options);
}

}  // namespace untorn
