#include "device/syscall_device.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "device/transfer.h"

namespace untorn {
namespace {

int64_t Call(int fd, Transfer* transfer) {
  const IoOp op = transfer->request()->op;
  const absl::Span<const iovec> iov = transfer->iov();
  const int count = static_cast<int>(iov.size());
  const off_t offset = static_cast<off_t>(transfer->offset_bytes());
  int64_t result = 0;
  if (op == IoOp::kFlush) {
    result = fdatasync(fd);
  } else if (op == IoOp::kRead) {
    result = preadv2(fd, iov.data(), count, offset, transfer->flags());
  } else {
    result = pwritev2(fd, iov.data(), count, offset, transfer->flags());
  }
  return result < 0 ? -errno : result;
}

}  // namespace

SyscallDevice::SyscallDevice(OpenFile file, DeviceInfo info) : FileBackedDevice(std::move(info)) {
  file_ = std::move(file);
  info_.engine = "system calls";
  info_.submit_blocks = true;
}

void SyscallDevice::Execute(IoRequest* request) {
  request->status = CheckRequest(info_, size_bytes(), *request);
  if (!request->status.ok()) return;
  if (request->op == IoOp::kFlush || request->durable) return MakeDurable(request);
  Transfer transfer(&info_, request);
  while (!transfer.Finished(Call(file_.fd(), &transfer))) {
  }
}

void SyscallDevice::MakeDurable(IoRequest* request) {
  const MutexLock lock(flush_mu_);
  request->status = flush_failed_;
  if (!flush_failed_.ok()) return;
  Transfer transfer(&info_, request);
  while (!transfer.Finished(Call(file_.fd(), &transfer))) {
  }
  if (LosesCachedWrites(*request) && !FoundNoSpace(*request, info_.direct_io))
    flush_failed_ = request->status;
}

void SyscallDevice::Submit(absl::Span<IoRequest* const> requests) {
  for (IoRequest* request : requests) {
    Execute(request);
    const MutexLock lock(mu_);
    done_.push_back(request);
    some_done_.notify_one();
  }
}

void SyscallDevice::Reap(bool wait, std::vector<IoRequest*>* completed) {
  MutexLock lock(mu_);
  while (wait && done_.empty()) some_done_.wait(lock.unique_lock());
  completed->insert(completed->end(), done_.begin(), done_.end());
  done_.clear();
}

}  // namespace untorn
