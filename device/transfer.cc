#include "device/transfer.h"

#include <limits.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace untorn {
namespace {

constexpr int kRwfAtomic = 0x40;  // RWF_ATOMIC, missing from headers older than Linux 6.11

const char* OpName(IoOp op) {
  switch (op) {
    case IoOp::kRead:
      return "read";
    case IoOp::kWrite:
      return "write";
    case IoOp::kAtomicWrite:
      return "atomic write";
    case IoOp::kFlush:
      return "flush";
  }
  return "request";
}

bool BlockAligned(uint64_t value) { return value % kBlockBytes == 0; }

[[noreturn]] void AbortOnMisuse(const DeviceInfo& info, const IoRequest& request, const char* what) {
  std::fprintf(stderr, "untorn: %s: %s\n", DescribeRequest(info, request).c_str(), what);
  std::abort();
}

}  // namespace

std::string DescribeRequest(const DeviceInfo& info, const IoRequest& request) {
  if (request.op == IoOp::kFlush) return absl::StrCat(info.path, ": flush");
  return absl::StrCat(info.path, ": ", OpName(request.op), " of ", request.length_bytes(),
                      " bytes at offset ", request.offset_bytes);
}

bool WithinAtomicLimits(const AtomicLimits& limits, ByteRange range) {
  if (!limits.usable() || !std::has_single_bit(range.length_bytes)) return false;
  if (range.length_bytes < limits.unit_min_bytes || range.length_bytes > limits.unit_max_bytes) return false;
  if (range.offset_bytes % range.length_bytes != 0) return false;
  if (limits.boundary_bytes == 0) return true;
  const uint64_t last_byte = range.end_bytes() - 1;
  return range.offset_bytes / limits.boundary_bytes == last_byte / limits.boundary_bytes;
}

absl::Status CheckRequest(const DeviceInfo& info, uint64_t size_bytes, const IoRequest& request) {
  if (request.op != IoOp::kRead && info.read_only) {
    AbortOnMisuse(info, request, "the device is open for reading only");
  }
  if (request.op == IoOp::kFlush) return absl::OkStatus();
  bool aligned = BlockAligned(request.offset_bytes) && !request.iov.empty();
  for (const iovec& v : request.iov) {
    aligned = aligned && v.iov_len > 0 && BlockAligned(v.iov_len) &&
              BlockAligned(reinterpret_cast<uintptr_t>(v.iov_base));
  }
  if (!aligned) AbortOnMisuse(info, request, "offset, length or buffer is not a multiple of the block size");

  const uint64_t length_bytes = request.length_bytes();
  if (request.offset_bytes > size_bytes || length_bytes > size_bytes - request.offset_bytes) {
    // A pointer that leads there is damaged.
    const auto code = request.op == IoOp::kRead ? absl::StatusCode::kDataLoss : absl::StatusCode::kOutOfRange;
    return absl::Status(code,
                        absl::StrCat(DescribeRequest(info, request), ": the device ends at ", size_bytes));
  }
  if (request.op != IoOp::kAtomicWrite) return absl::OkStatus();
  if (!WithinAtomicLimits(info.atomic, {request.offset_bytes, length_bytes})) {
    return absl::UnimplementedError(
        absl::StrCat(DescribeRequest(info, request), ": outside the device's atomic limits (source ",
                     AtomicSourceName(info.atomic.source), ", unit ", info.atomic.unit_min_bytes, " to ",
                     info.atomic.unit_max_bytes, " bytes, boundary ", info.atomic.boundary_bytes, ")"));
  }
  // RWF_ATOMIC takes one iovec; without it, one system call's list is the most that stays together.
  const size_t iov_max = info.atomic.source == AtomicSource::kHardware ? 1 : IOV_MAX;
  if (request.iov.size() > iov_max) {
    return absl::UnimplementedError(absl::StrCat(DescribeRequest(info, request), ": ", request.iov.size(),
                                                 " buffers, where an atomic write may have ", iov_max));
  }
  return absl::OkStatus();
}

Transfer::Transfer(const DeviceInfo* info, IoRequest* request)
    : info_(info), request_(request), length_bytes_(request->length_bytes()) {}

absl::Span<const iovec> Transfer::iov() {
  if (done_bytes_ == 0 && request_->iov.size() <= IOV_MAX) return request_->iov;
  rest_.clear();
  uint64_t skip_bytes = done_bytes_;
  for (const iovec& v : request_->iov) {
    if (rest_.size() == IOV_MAX) break;
    const uint64_t skipped = std::min<uint64_t>(skip_bytes, v.iov_len);
    skip_bytes -= skipped;
    if (skipped < v.iov_len) rest_.push_back({static_cast<char*>(v.iov_base) + skipped, v.iov_len - skipped});
  }
  return rest_;
}

int Transfer::flags() const {
  const bool atomic = request_->op == IoOp::kAtomicWrite && info_->atomic.source == AtomicSource::kHardware;
  return (atomic ? kRwfAtomic : 0) | (request_->durable ? RWF_DSYNC : 0);
}

bool Transfer::Finished(int64_t result) {
  // ECANCELED: io_uring drops queued work of a thread that exits; nothing of it was done.
  if (result == -EINTR || result == -EAGAIN || result == -ECANCELED) return false;
  if (result < 0) {
    request_->status = ErrorStatus(static_cast<int>(-result));
    // Somebody has lowered RLIMIT_FSIZE since the request was checked. Where writes are cached, the error may be that of an
    // earlier write.
    request_->untried =
        result == -EFBIG && IsWrite(request_->op) && info_->direct_io && !info_->may_cache_writes;
    return true;
  }
  if (request_->op == IoOp::kFlush) {
    request_->status = absl::OkStatus();
    return true;
  }
  const uint64_t transferred_bytes = static_cast<uint64_t>(result);
  if (request_->op == IoOp::kAtomicWrite && transferred_bytes != length_bytes_) {
    request_->status = absl::InternalError(absl::StrCat(DescribeRequest(*info_, *request_), ": only ",
                                                        transferred_bytes, " bytes were written"));
    return true;
  }
  // Direct I/O continues at a block only; the part of a block that did get through is sent again.
  const uint64_t progress_bytes = transferred_bytes / kBlockBytes * kBlockBytes;
  done_bytes_ += progress_bytes;
  if (done_bytes_ == length_bytes_) {
    request_->status = absl::OkStatus();
    return true;
  }
  if (progress_bytes > 0) return false;
  const std::string what = absl::StrCat(DescribeRequest(*info_, *request_), ": ended after ",
                                        done_bytes_ + transferred_bytes, " bytes; was the file cut short?");
  request_->status = request_->op == IoOp::kRead ? absl::DataLossError(what) : absl::InternalError(what);
  return true;
}

absl::Status Transfer::ErrorStatus(int error) const {
  const std::string what = absl::StrCat(DescribeRequest(*info_, *request_), ": ", std::strerror(error));
  switch (request_->op) {
    case IoOp::kRead:
      // The memory that the caller gave.
      if (error == EFAULT) return absl::InvalidArgumentError(what);
      return absl::DataLossError(what);
    case IoOp::kAtomicWrite:
      if ((flags() & kRwfAtomic) != 0 && (error == EINVAL || error == EOPNOTSUPP))
        return absl::UnimplementedError(what);
      break;
    case IoOp::kWrite:
    case IoOp::kFlush:
      break;
  }
  if (error == EFBIG) return absl::ResourceExhaustedError(absl::StrCat(what, " (RLIMIT_FSIZE, ulimit -f)"));
  if (error == ENOSPC || error == EDQUOT) return absl::ResourceExhaustedError(what);
  return absl::InternalError(what);
}

}  // namespace untorn
