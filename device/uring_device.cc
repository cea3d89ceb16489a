#include "device/uring_device.h"

#include <sched.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace untorn {
namespace {

constexpr int kRegisteredFile = 0;
constexpr unsigned kReapBatch = 64;

[[noreturn]] void AbortOnRingError(const char* call, int error) {
  std::fprintf(stderr, "untorn: %s: %s\n", call, std::strerror(error));
  std::abort();
}

}  // namespace

UringDevice::UringDevice(const DeviceInfo& info) : FileBackedDevice(info) { info_.engine = "io_uring"; }

absl::StatusOr<std::unique_ptr<Device>> UringDevice::Create(OpenFile& file, const DeviceInfo& info) {
  auto device = std::unique_ptr<UringDevice>(new UringDevice(info));
  int error = io_uring_queue_init(kRingDepth, &device->ring_, 0);
  if (error < 0) {
    device->ring_.ring_fd = -1;
    return absl::UnavailableError(absl::StrCat("io_uring is not available: ", std::strerror(-error)));
  }
  const int fd = file.fd();
  error = io_uring_register_files(&device->ring_, &fd, 1);
  if (error < 0) {
    return absl::UnavailableError(absl::StrCat("io_uring does not take the file: ", std::strerror(-error)));
  }
  device->file_ = std::move(file);
  return device;
}

UringDevice::~UringDevice() {
  if (ring_.ring_fd < 0) return;
  std::vector<IoRequest*> abandoned;
  while (in_ring_ > 0) Reap(/*wait=*/true, &abandoned);
  if (!file_.is_open()) {
    io_uring_queue_exit(&ring_);
    return;
  }
  // The kernel takes a ring down in the background, with the files registered in it.
  io_uring_unregister_files(&ring_);
  io_uring_queue_exit(&ring_);
  file_.Unlock();
}

UringDevice::Operation* UringDevice::NewOperation() {
  if (unused_operations_.empty()) {
    operations_.push_back(std::make_unique<Operation>());
    return operations_.back().get();
  }
  Operation* operation = unused_operations_.back();
  unused_operations_.pop_back();
  return operation;
}

void UringDevice::Prepare(io_uring_sqe* sqe, Operation* operation) {
  if (!operation->transfer.has_value()) {
    io_uring_prep_nop(sqe);
  } else {
    Transfer& transfer = *operation->transfer;
    const absl::Span<const iovec> iov = transfer.iov();
    const unsigned count = static_cast<unsigned>(iov.size());
    switch (operation->request->op) {
      case IoOp::kRead:
        io_uring_prep_readv2(sqe, kRegisteredFile, iov.data(), count, transfer.offset_bytes(),
                             transfer.flags());
        break;
      case IoOp::kWrite:
      case IoOp::kAtomicWrite:
        io_uring_prep_writev2(sqe, kRegisteredFile, iov.data(), count, transfer.offset_bytes(),
                              transfer.flags());
        break;
      case IoOp::kFlush:
        io_uring_prep_fsync(sqe, kRegisteredFile, IORING_FSYNC_DATASYNC);
        break;
    }
    sqe->flags |= IOSQE_FIXED_FILE;
  }
  io_uring_sqe_set_data(sqe, operation);
}

void UringDevice::FillRing() {
  while (!backlog_.empty() && in_ring_ < kRingDepth) {
    // Never null: what was prepared before has been submitted, and the queue holds kRingDepth.
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    Operation* operation = backlog_.front();
    backlog_.pop_front();
    Prepare(sqe, operation);
    ++in_ring_;
    operation->submitted.store(true, std::memory_order_release);
  }
  while (io_uring_sq_ready(&ring_) > 0) {
    const int result = io_uring_submit(&ring_);
    if (result == -EINTR) continue;
    if (result == -EAGAIN || result == -EBUSY || result == -ENOMEM) {
      sched_yield();
      continue;
    }
    if (result < 0) AbortOnRingError("io_uring_enter", -result);
  }
}

void UringDevice::Submit(absl::Span<IoRequest* const> requests) {
  const MutexLock lock(mu_);
  for (IoRequest* request : requests) {
    request->status = CheckRequest(info_, size_bytes(), *request);
    Operation* operation = NewOperation();
    operation->request = request;
    operation->transfer.reset();
    if (request->status.ok()) operation->transfer.emplace(&info_, request);
    backlog_.push_back(operation);
  }
  FillRing();
}

void UringDevice::Reap(bool wait, std::vector<IoRequest*>* completed) {
  const size_t completed_before = completed->size();
  do {
    if (wait) {
      io_uring_cqe* first = nullptr;
      const int error = io_uring_wait_cqe(&ring_, &first);
      if (error == -EINTR || error == -EAGAIN) continue;
      if (error < 0) AbortOnRingError("io_uring_wait_cqe", -error);
    }
    io_uring_cqe* cqes[kReapBatch];
    const unsigned count = io_uring_peek_batch_cqe(&ring_, cqes, kReapBatch);
    if (count == 0) continue;

    Operation* over[kReapBatch];
    Operation* unfinished[kReapBatch];
    unsigned over_count = 0;
    unsigned unfinished_count = 0;
    for (unsigned i = 0; i < count; ++i) {
      auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(cqes[i]));
      (void)operation->submitted.load(std::memory_order_acquire);
      if (!operation->transfer.has_value() || operation->transfer->Finished(cqes[i]->res)) {
        completed->push_back(operation->request);
        over[over_count++] = operation;
      } else {
        unfinished[unfinished_count++] = operation;
      }
    }
    io_uring_cq_advance(&ring_, count);

    const MutexLock lock(mu_);
    in_ring_ -= count;
    unused_operations_.insert(unused_operations_.end(), over, over + over_count);
    backlog_.insert(backlog_.begin(), unfinished, unfinished + unfinished_count);
    FillRing();
  } while (wait && completed->size() == completed_before);
}

}  // namespace untorn
