// What all devices do with a request: check it, continue a short transfer, and turn an errno into a status.
// Requests share no state here, so any thread may call these functions.
#ifndef UNTORN_DEVICE_TRANSFER_H_
#define UNTORN_DEVICE_TRANSFER_H_

#include <sys/uio.h>

#include <cstdint>
#include <string>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/byte_range.h"
#include "device/device.h"

namespace untorn {

// Says which request of which device it is, for a message.
std::string DescribeRequest(const DeviceInfo& info, const IoRequest& request);

// True if the device keeps a write of this range whole.
bool WithinAtomicLimits(const AtomicLimits& limits, ByteRange range);

// Checks whether the request can be tried at all, on a device of that size. Errors of the program abort the process: a
// misaligned offset, length or buffer, and a write to a device that is open for reading only.
//  kDataLoss       a read reaches beyond the device
//  kOutOfRange     a write does
//  kUnimplemented  the limits do not cover this atomic write
absl::Status CheckRequest(const DeviceInfo& info, uint64_t size_bytes, const IoRequest& request);

// One read or write under way. It splits lists longer than IOV_MAX, and continues after a call that was cut
// short. An atomic write is one system call or fails.
class Transfer {
 public:
  // `info` and `request` must outlive the transfer.
  Transfer(const DeviceInfo* info, IoRequest* request);

  // The iovecs, the offset and the RWF_ flags of the next system call. The iovecs are valid until the next
  // call of iov() or Finished().
  absl::Span<const iovec> iov();
  uint64_t offset_bytes() const { return request_->offset_bytes + done_bytes_; }
  int flags() const;

  // Takes the result of the system call: a number of bytes, or -errno. Returns true if the request is over,
  // with its status set. Returns false if there is another call to make.
  bool Finished(int64_t result);

  IoRequest* request() const { return request_; }

 private:
  absl::Status ErrorStatus(int error) const;

  const DeviceInfo* info_;
  IoRequest* request_;
  uint64_t length_bytes_;
  uint64_t done_bytes_ = 0;
  absl::InlinedVector<iovec, 2> rest_;  // the result of iov(), unless that is the request's own list
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_TRANSFER_H_
