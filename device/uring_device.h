// A Device that uses io_uring. It has one ring, and the file is registered with the ring.
//
// Invariants
//  1. At most kRingDepth requests are in the ring, so neither of the ring's queues overflows. The rest wait
//     in the backlog, and Reap() refills the ring.
//  2. Once the kernel has refused to do work for the ring, the device does without the ring. Reap() then carries out what is in
//     the backlog, when the ring is empty. So a flush by a system call never overlaps with one in the ring: the kernel tells
//     only one of two such flushes of a failure.
//  3. Every operation carries an atomic that Submit() releases and Reap() acquires. The kernel orders the two
//     threads as well, but a race detector cannot see that.
// Threading is that of Device. One mutex guards the submission side, and only Reap() uses the completion
// side.
#ifndef UNTORN_DEVICE_URING_DEVICE_H_
#define UNTORN_DEVICE_URING_DEVICE_H_

#include <liburing.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "device/device.h"
#include "device/file_backed_device.h"
#include "device/transfer.h"

namespace untorn {

class UringDevice : public FileBackedDevice {
 public:
  // kUnavailable: the system refuses io_uring. `file` is then left as it was.
  static absl::StatusOr<std::unique_ptr<Device>> Create(OpenFile& file, const DeviceInfo& info);
  // Waits for the requests in the ring, and does not hand them back.
  ~UringDevice() override;

  std::string engine_lost() const override;
  void Submit(absl::Span<IoRequest* const> requests) override;
  void Reap(bool wait, std::vector<IoRequest*>* completed) override;

 private:
  static constexpr unsigned kRingDepth = 256;

  struct Operation {
    // Empty for a request that failed its check. Such a request passes through the ring as a no-op, to wake
    // the reaper.
    std::optional<Transfer> transfer;
    IoRequest* request = nullptr;
    std::atomic<bool> submitted = false;
  };

  explicit UringDevice(const DeviceInfo& info);

  // Makes the ring do work once, and returns 0 or an error number.
  int TryRing();
  // Says that the kernel refuses to do work for the ring.
  void LoseRing(int error);
  Operation* NewOperation() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Prepare(io_uring_sqe* sqe, Operation* operation);
  void FillRing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Puts back into the backlog what is in the ring and the kernel has not taken.
  void TakeBack() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CarryOutBacklog(std::vector<IoRequest*>* completed);

  io_uring ring_;
  std::atomic<int> lost_error_ = 0;  // what the kernel said when it refused; 0 while it does not

  Mutex mu_;
  std::deque<Operation*> backlog_ ABSL_GUARDED_BY(mu_);
  unsigned in_ring_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::unique_ptr<Operation>> operations_ ABSL_GUARDED_BY(mu_);
  std::vector<Operation*> unused_operations_ ABSL_GUARDED_BY(mu_);
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_URING_DEVICE_H_
