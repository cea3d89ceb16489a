#include "device/device.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/check.h"

namespace untorn {
namespace {

absl::Status RunBlocking(Device& device, IoRequest* request) {
  device.Submit(absl::MakeConstSpan(&request, 1));
  std::vector<IoRequest*> completed;
  while (completed.empty()) device.Reap(/*wait=*/true, &completed);
  return request->status;
}

}  // namespace

const char* AtomicSourceName(AtomicSource source) {
  switch (source) {
    case AtomicSource::kNone:
      return "none";
    case AtomicSource::kHardware:
      return "hardware";
    case AtomicSource::kFileSystem:
      return "file system";
    case AtomicSource::kStated:
      return "stated";
  }
  return "unknown";
}

void Device::Execute(IoRequest*) {
  UNTORN_CHECK(false, "the device carries nothing out in the calling thread");
}

absl::Status Device::Extend(uint64_t size_bytes) {
  if (size_bytes <= this->size_bytes()) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(info_.path, ": has ", this->size_bytes(),
                                            " bytes, fewer than the ", size_bytes, " that are needed"));
}

absl::Status Device::LockByte(uint64_t, ByteLock) {
  return absl::UnimplementedError(absl::StrCat(info_.path, ": has no locks on bytes"));
}

absl::Status Device::UnlockByte(uint64_t) { return absl::OkStatus(); }

absl::StatusOr<std::optional<uint64_t>> Device::FindLock(uint64_t, uint64_t, ByteLock) const {
  return absl::UnimplementedError(absl::StrCat(info_.path, ": has no locks on bytes"));
}

bool LosesCachedWrites(const IoRequest& request) {
  if (request.op == IoOp::kFlush) return !request.status.ok();
  if (!request.durable) return false;
  // The device did nothing for a write that it refused.
  return !request.status.ok() && !request.untried && !absl::IsUnimplemented(request.status) &&
         !absl::IsOutOfRange(request.status);
}

bool FoundNoSpace(const IoRequest& request, bool direct_io) {
  return IsWrite(request.op) && absl::IsResourceExhausted(request.status) &&
         (direct_io || !request.durable || request.untried);
}

absl::Status ReadBlocking(Device& device, uint64_t offset_bytes, void* buffer, uint64_t length_bytes) {
  IoRequest request;
  request.op = IoOp::kRead;
  request.offset_bytes = offset_bytes;
  request.iov.push_back({buffer, length_bytes});
  return RunBlocking(device, &request);
}

absl::Status WriteBlocking(Device& device, uint64_t offset_bytes, const void* buffer, uint64_t length_bytes) {
  IoRequest request;
  request.op = IoOp::kWrite;
  request.offset_bytes = offset_bytes;
  request.iov.push_back({const_cast<void*>(buffer), length_bytes});
  return RunBlocking(device, &request);
}

absl::Status FlushBlocking(Device& device) {
  IoRequest request;
  request.op = IoOp::kFlush;
  return RunBlocking(device, &request);
}

absl::Status WriteZerosBlocking(Device& device, ByteRange range, const std::function<void(uint64_t)>& done) {
  for (uint64_t at = 0; at < range.length_bytes;) {
    const uint64_t bytes = std::min<uint64_t>(kZeroBytes, range.length_bytes - at);
    if (absl::Status s = WriteBlocking(device, range.offset_bytes + at, Zeros(), bytes); !s.ok()) return s;
    at += bytes;
    if (done) done(at);
  }
  return absl::OkStatus();
}

}  // namespace untorn
