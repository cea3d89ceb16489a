// What the device tests share: temporary files, filled buffers, and one device of every kind.
#ifndef UNTORN_TESTS_DEVICE_DEVICE_TESTING_H_
#define UNTORN_TESTS_DEVICE_DEVICE_TESTING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "device/device.h"

namespace untorn {

// A path in the test's directory that no other test uses; the file is removed at the end.
class TempPath {
 public:
  TempPath();
  ~TempPath();
  const std::string& str() const { return path_; }

 private:
  std::string path_;
};

AlignedBuffer Filled(uint64_t length_bytes, char value);
// True if all bytes have this value.
bool AllAre(const std::byte* data, uint64_t length_bytes, char value);
inline bool AllAre(const AlignedBuffer& buffer, char value) {
  return AllAre(buffer.data(), buffer.size(), value);
}

IoRequest Request(IoOp op, uint64_t offset_bytes, AlignedBuffer& buffer);

// Submits and reaps one request.
absl::Status Execute(Device& device, IoRequest* request);

// True if the kernel lets this process have a ring.
bool HasIoUring();

enum class DeviceKind { kUring, kSystemCalls, kBuffered, kMemory };
std::string DeviceKindName(DeviceKind kind);

// A device of `size_bytes` of zeros that takes atomic writes of up to `stated_unit_bytes` (0: none).
// The file behind it, if any, is `path`.
absl::StatusOr<std::unique_ptr<Device>> MakeDevice(DeviceKind kind, const TempPath& path, uint64_t size_bytes,
                                                   uint64_t stated_unit_bytes);

}  // namespace untorn

#endif  // UNTORN_TESTS_DEVICE_DEVICE_TESTING_H_
