#include "device/syscall_device.h"

#include <utility>

#include "device/transfer.h"

namespace untorn {

SyscallDevice::SyscallDevice(OpenFile file, DeviceInfo info) : FileBackedDevice(std::move(info)) {
  file_ = std::move(file);
  info_.engine = "system calls";
  info_.submit_blocks = true;
}

void SyscallDevice::Execute(IoRequest* request) {
  if (!Check(request)) return;
  if (request->op == IoOp::kFlush || request->durable) return MakeDurable(request);
  Transfer transfer(&info_, request);
  CarryOut(&transfer);
}

void SyscallDevice::MakeDurable(IoRequest* request) {
  const MutexLock lock(flush_mu_);
  request->status = flush_failed_;
  if (!flush_failed_.ok()) return;
  Transfer transfer(&info_, request);
  CarryOut(&transfer);
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
