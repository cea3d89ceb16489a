// What the devices of a file or a block device have in common: the open file, its lock, and its size.
#ifndef UNTORN_DEVICE_FILE_BACKED_DEVICE_H_
#define UNTORN_DEVICE_FILE_BACKED_DEVICE_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "device/device.h"
#include "device/open_file.h"
#include "device/transfer.h"

namespace untorn {

class FileBackedDevice : public Device {
 public:
  uint64_t size_bytes() const override { return size_bytes_.load(std::memory_order_acquire); }
  absl::Status Extend(uint64_t size_bytes) override;
  absl::Status CheckHolds(uint64_t bytes) const override;
  absl::Status Shorten(uint64_t size_bytes) override;
  absl::Status LockByte(uint64_t byte, ByteLock kind) override;
  absl::Status UnlockByte(uint64_t byte) override;
  absl::StatusOr<std::optional<uint64_t>> FindLock(uint64_t first, uint64_t count,
                                                   ByteLock kind) const override;
  void Execute(IoRequest* request) override;

 protected:
  explicit FileBackedDevice(DeviceInfo info);

  // Checks a request before it is carried out, and sets its status.
  bool Check(IoRequest* request) const;
  // Carries out by system calls what is left of a transfer. Its request has passed its check.
  void CarryOut(Transfer* transfer) const;

  OpenFile file_;

 private:
  absl::Status SetSize(uint64_t size_bytes);
  // Returns the size now; kDataLoss if a file has fewer bytes.
  absl::StatusOr<uint64_t> SizeIfHolds(uint64_t bytes) const;

  std::atomic<uint64_t> size_bytes_;
};

// Returns kResourceExhausted if the process may not write so far into a file (RLIMIT_FSIZE). Beyond the limit the kernel sends
// SIGXFSZ, which ends the process unless the process ignores the signal. So nothing is tried there. The threads of a store
// block the signal, in case somebody lowers the limit after the check. `what` begins the message.
absl::Status CheckFileLimit(absl::FunctionRef<std::string()> what, uint64_t end_bytes);

// Reads the size of an open file or block device, in whole blocks. Returns the error of the system.
absl::StatusOr<uint64_t> SizeOfFile(int fd, const DeviceInfo& info);

}  // namespace untorn

#endif  // UNTORN_DEVICE_FILE_BACKED_DEVICE_H_
