// What every Device does with a request whatever carries it out: the checks before, the continuation of a
// short transfer, and the meaning of an errno. No state shared between requests, so any thread.
#ifndef UNTORN_DEVICE_TRANSFER_H_
#define UNTORN_DEVICE_TRANSFER_H_

#include <sys/uio.h>

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "device/device.h"

namespace untorn {

// True if the device keeps a write of this range whole.
bool WithinAtomicLimits(const AtomicLimits& limits, uint64_t offset_bytes, uint64_t length_bytes);

// Whether the request can be tried at all: kOutOfRange beyond the device, kUnimplemented for an atomic write
// that the limits do not cover. Aborts on a misaligned offset, length or buffer, and on a write to a device
// that is open for reading only: those are errors of the program.
absl::Status CheckRequest(const DeviceInfo& info, const IoRequest& request);

// One read or write under way. Splits lists longer than IOV_MAX and continues what was cut short, except for
// an atomic write, which is one system call or nothing.
class Transfer {
 public:
  // Neither is owned; both outlive the transfer.
  Transfer(const DeviceInfo* info, IoRequest* request);

  // The next system call: its iovecs (valid until the next call of iov() or Finished()), offset and RWF_
  // flags.
  absl::Span<const iovec> iov();
  uint64_t offset_bytes() const { return request_->offset_bytes + done_bytes_; }
  int flags() const;

  // Takes what that call returned (bytes, or -errno). True if the request is over, with its status set;
  // false if there is another call to make.
  bool Finished(int64_t result);

  IoRequest* request() const { return request_; }

 private:
  absl::Status ErrorStatus(int error) const;

  const DeviceInfo* info_;
  IoRequest* request_;
  uint64_t length_bytes_;
  uint64_t done_bytes_ = 0;
  absl::InlinedVector<iovec, 2> rest_;  // what iov() returned, where it is not the request's own list
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_TRANSFER_H_
