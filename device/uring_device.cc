#include "device/uring_device.h"

#include <sched.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/memory_reserve.h"

namespace untorn {
namespace {

constexpr int kRegisteredFile = 0;
constexpr unsigned kReapBatch = 64;

// A thread that waits looks this often whether another one has found that the kernel refuses. That thread cannot wake it.
constexpr __kernel_timespec kLookInterval = {.tv_sec = 1, .tv_nsec = 0};
constexpr std::chrono::milliseconds kPollInterval(1);

std::string Refusal(const char* what, int error) {
  const char* hint = "";
  if (error == EPERM || error == ENOSYS || error == EACCES) {
    hint = " (a container's seccomp profile or the sysctl kernel.io_uring_disabled may forbid it)";
  } else if (error == EMFILE || error == ENFILE) {
    hint = " (RLIMIT_NOFILE, ulimit -n)";
  } else if (error == ENOMEM) {
    hint = " (RLIMIT_MEMLOCK, or the memory of the cgroup)";
  }
  return absl::StrCat(what, ": ", std::strerror(error), hint);
}

}  // namespace

UringDevice::UringDevice(const DeviceInfo& info) : FileBackedDevice(info) { info_.engine = "io_uring"; }

absl::StatusOr<std::unique_ptr<Device>> UringDevice::Create(OpenFile& file, const DeviceInfo& info) {
  auto device = std::unique_ptr<UringDevice>(new UringDevice(info));
  int error = io_uring_queue_init(kRingDepth, &device->ring_, 0);
  if (error < 0) {
    device->ring_.ring_fd = -1;
    return absl::UnavailableError(Refusal("io_uring is not available", -error));
  }
  if ((device->ring_.features & IORING_FEAT_EXT_ARG) == 0)
    return absl::UnavailableError("io_uring cannot wait for a limited time here; Linux 5.11 can");
  const int fd = file.fd();
  error = io_uring_register_files(&device->ring_, &fd, 1);
  if (error < 0) {
    return absl::UnavailableError(Refusal("io_uring does not take the file", -error));
  }
  // A filter of system calls may allow a ring to be made, and refuse the call that makes it work.
  error = device->TryRing();
  if (error != 0) return absl::UnavailableError(Refusal("io_uring does no work", error));
  device->file_ = std::move(file);
  return device;
}

UringDevice::~UringDevice() {
  if (ring_.ring_fd < 0) return;
  const MemoryReserve::Use reserve;
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

int UringDevice::TryRing() {
  io_uring_prep_nop(io_uring_get_sqe(&ring_));
  int result = 0;
  do result = io_uring_submit_and_wait(&ring_, 1);
  while (result == -EINTR || result == -EAGAIN);
  io_uring_cqe* done = nullptr;
  if (result < 0) return -result;
  if (io_uring_peek_cqe(&ring_, &done) != 0) return EIO;
  io_uring_cqe_seen(&ring_, done);
  return 0;
}

void UringDevice::LoseRing(int error) {
  int none = 0;
  lost_error_.compare_exchange_strong(none, error);
}

std::string UringDevice::engine_lost() const {
  const int error = lost_error_;
  return error == 0 ? "" : Refusal("io_uring has stopped working", error);
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
  if (lost_error_ != 0) return;
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
    if (result >= 0) continue;
    LoseRing(-result);
    return TakeBack();
  }
}

void UringDevice::TakeBack() {
  const unsigned left = io_uring_sq_ready(&ring_), end = ring_.sq.sqe_tail;
  for (unsigned at = end; at != end - left; --at) {
    const io_uring_sqe& sqe = ring_.sq.sqes[(at - 1) & ring_.sq.ring_mask];
    backlog_.push_front(reinterpret_cast<Operation*>(sqe.user_data));
  }
  // The kernel must not find them, should another thread enter it.
  ring_.sq.sqe_head = ring_.sq.sqe_tail = end - left;
  io_uring_smp_store_release(ring_.sq.ktail, ring_.sq.sqe_tail);
  in_ring_ -= left;
}

void UringDevice::CarryOutBacklog(std::vector<IoRequest*>* completed) {
  std::deque<Operation*> backlog;
  {
    const MutexLock lock(mu_);
    if (in_ring_ > 0) return;
    backlog.swap(backlog_);
  }
  for (Operation* operation : backlog) {
    if (operation->transfer.has_value()) CarryOut(&*operation->transfer);
    completed->push_back(operation->request);
  }
  const MutexLock lock(mu_);
  unused_operations_.insert(unused_operations_.end(), backlog.begin(), backlog.end());
}

void UringDevice::Submit(absl::Span<IoRequest* const> requests) {
  const MutexLock lock(mu_);
  for (IoRequest* request : requests) {
    const bool passed = Check(request);
    Operation* operation = NewOperation();
    operation->request = request;
    operation->transfer.reset();
    if (passed) operation->transfer.emplace(&info_, request);
    backlog_.push_back(operation);
  }
  FillRing();
}

void UringDevice::Reap(bool wait, std::vector<IoRequest*>* completed) {
  const size_t completed_before = completed->size();
  do {
    if (wait && lost_error_ == 0) {
      io_uring_cqe* first = nullptr;
      __kernel_timespec interval = kLookInterval;
      const int error = io_uring_wait_cqe_timeout(&ring_, &first, &interval);
      if (error == -EINTR || error == -EAGAIN) continue;
      if (error < 0 && error != -ETIME) LoseRing(-error);
    }
    if (lost_error_ != 0) {
      CarryOutBacklog(completed);
      if (wait && completed->size() == completed_before) std::this_thread::sleep_for(kPollInterval);
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
