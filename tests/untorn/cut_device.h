// A simulated device whose power fails at a chosen moment, also in the middle of a call.
//
// Every request that is submitted and every one that completes is an event. When the power goes, at an event
// or by CutNow(), everything in flight stays in flight for good (SimulatedDisk::Crash or Kill decides what of
// it lands), and its submitter is told kInternal; so is whoever submits anything later. The simulated device
// works on copies of the buffers, so that its requests may outlive the store that made them.
//
// Threading: as Device. CutNow and CutAfter may be called by any thread.
#ifndef UNTORN_TESTS_UNTORN_CUT_DEVICE_H_
#define UNTORN_TESTS_UNTORN_CUT_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "sim/simulated_device.h"

namespace untorn {

class CutDevice : public Device {
 public:
  explicit CutDevice(std::unique_ptr<SimulatedDevice> inner);
  ~CutDevice() override;

  uint64_t size_bytes() const override { return inner_->size_bytes(); }
  absl::Status Extend(uint64_t size_bytes) override { return inner_->Extend(size_bytes); }
  // Is an event too, and does nothing once the power is gone.
  absl::Status Shorten(uint64_t size_bytes) override;
  void Submit(absl::Span<IoRequest* const> requests) override;
  void Reap(bool wait, std::vector<IoRequest*>* completed) override;

  // The power goes at the n-th event from now (1: the next). 0: not at all.
  void CutAfter(uint64_t events);
  void CutNow();
  bool cut() const;
  SimulatedDevice& simulated() { return *inner_; }
  // `*pointer` becomes null when the device goes, whoever owns it.
  void ClearWhenGone(CutDevice** pointer) { pointer_to_this_ = pointer; }

 private:
  struct Copy;  // what the simulated device gets in place of a request

  void CutLocked();
  bool CountEventLocked();
  void WakeReaperLocked();

  mutable std::mutex mu_;
  std::unique_ptr<SimulatedDevice> inner_;
  std::unordered_map<IoRequest*, std::unique_ptr<Copy>> in_flight_;  // by the copy's request
  std::vector<IoRequest*> failed_;                                   // to be handed back
  std::unique_ptr<Copy> waker_;
  uint64_t events_left_ = 0;  // 0: no cut is planned
  bool cut_ = false;
  bool reaping_ = false;
  CutDevice** pointer_to_this_ = nullptr;
};

}  // namespace untorn

#endif  // UNTORN_TESTS_UNTORN_CUT_DEVICE_H_
