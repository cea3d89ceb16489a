// A Device by plain system calls (preadv2, pwritev2, fdatasync), for systems that forbid io_uring.
// Invariant: the thread that calls Submit() carries the requests out, one after another; Reap() only hands
// them back. Threading: as Device.
#ifndef UNTORN_DEVICE_SYSCALL_DEVICE_H_
#define UNTORN_DEVICE_SYSCALL_DEVICE_H_

#include <condition_variable>
#include <mutex>
#include <vector>

#include "device/device.h"
#include "device/open_file.h"

namespace untorn {

class SyscallDevice : public Device {
 public:
  SyscallDevice(OpenFile file, DeviceInfo info);
  ~SyscallDevice() override { file_.Unlock(); }

  void Submit(absl::Span<IoRequest* const> requests) override;
  void Reap(bool wait, std::vector<IoRequest*>* completed) override;

 private:
  void Execute(IoRequest* request);

  const OpenFile file_;
  std::mutex mu_;
  std::condition_variable some_done_;
  std::vector<IoRequest*> done_;  // guarded by mu_
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_SYSCALL_DEVICE_H_
