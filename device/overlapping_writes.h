// Durable writes that overlap one which a thread carries out itself.
//
// A durable write may flush, and the kernel tells the failure of that flush only once. Nobody knows in which order a
// write that a thread carries out and one that was submitted meanwhile have ended. So they complete together, and the
// failure of one becomes the failure of all. A flush that is asked for meanwhile is sent after them.
//
// Threading: as the owner says.
#ifndef UNTORN_DEVICE_OVERLAPPING_WRITES_H_
#define UNTORN_DEVICE_OVERLAPPING_WRITES_H_

#include <cstddef>
#include <vector>

#include "device/device.h"

namespace untorn {

class OverlappingWrites {
 public:
  // Says whether the device has one of them.
  bool under_way() const { return !on_device_.empty(); }
  // Adds a durable write that the device is going to have.
  void Add(const IoRequest* write) { on_device_.push_back(write); }
  // Keeps a flush until the device has none of the writes any more.
  void SendLater(IoRequest* flush) { flushes_.push_back(flush); }
  // Holds back those of `completed` that must complete with others. After the last of them, adds all that were held back,
  // and moves the flushes to `outbox`.
  void Complete(std::vector<IoRequest*>* completed, std::vector<IoRequest*>* outbox);
  // Counts the requests that wait here, so that the device does not have them.
  size_t waiting() const { return held_.size() + flushes_.size(); }

 private:
  std::vector<const IoRequest*> on_device_;
  std::vector<IoRequest*> held_;
  std::vector<IoRequest*> flushes_;
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_OVERLAPPING_WRITES_H_
