// A Device that uses system calls (preadv2, pwritev2, fdatasync). It serves systems that forbid io_uring, and
// files that refuse direct I/O.
//
// Invariants
//  1. The thread that calls Submit() carries the requests out, one after another. Reap() only hands them
//     back.
//  2. Flushes and durable writes run one at a time, and after one has failed all later ones fail. The kernel reports only
//     once that the page cache could not write something back (errseq_t), so of two flushes only one would
//     learn of it.
// Threading is that of Device.
#ifndef UNTORN_DEVICE_SYSCALL_DEVICE_H_
#define UNTORN_DEVICE_SYSCALL_DEVICE_H_

#include <condition_variable>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "device/device.h"
#include "device/file_backed_device.h"

namespace untorn {

class SyscallDevice : public FileBackedDevice {
 public:
  SyscallDevice(OpenFile file, DeviceInfo info);
  ~SyscallDevice() override { file_.Unlock(); }

  void Submit(absl::Span<IoRequest* const> requests) override;
  void Reap(bool wait, std::vector<IoRequest*>* completed) override;
  void Execute(IoRequest* request) override;

 private:
  void MakeDurable(IoRequest* request);  // a flush, or a write that is to be durable

  Mutex mu_;
  std::condition_variable some_done_;
  std::vector<IoRequest*> done_ ABSL_GUARDED_BY(mu_);
  Mutex flush_mu_;
  absl::Status flush_failed_ ABSL_GUARDED_BY(flush_mu_);
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_SYSCALL_DEVICE_H_
