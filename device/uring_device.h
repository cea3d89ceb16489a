// A Device that uses io_uring. It has one ring, and the file is registered with the ring.
//
// Invariants
//  1. At most kRingDepth requests are in the ring, so neither of the ring's queues overflows. The rest wait
//     in the backlog, and Reap() refills the ring.
//  2. Every operation carries an atomic that Submit() releases and Reap() acquires. The kernel orders the two
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

  Operation* NewOperation() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Prepare(io_uring_sqe* sqe, Operation* operation);
  void FillRing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  io_uring ring_;

  Mutex mu_;
  std::deque<Operation*> backlog_ ABSL_GUARDED_BY(mu_);
  unsigned in_ring_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::unique_ptr<Operation>> operations_ ABSL_GUARDED_BY(mu_);
  std::vector<Operation*> unused_operations_ ABSL_GUARDED_BY(mu_);
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_URING_DEVICE_H_
