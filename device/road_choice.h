// Chooses between the two roads of a single request: a thread carries the request out itself, or submits it.
//
// Which road is faster depends on the device. On a file in memory a system call takes a tenth of the time of io_uring. On
// a loop device io_uring takes two thirds of the time of a system call, because its worker stays on another processor. So
// the choice compares how long both took lately.
//
// Invariants
//  1. A trial measures the last kTrial requests of the better road against the next kTrial of the other one, by their medians.
//  2. A trial that confirms the choice doubles the number of requests until the next trial, up to kRestMax.
//
// Threading: as the owner says.
#ifndef UNTORN_DEVICE_ROAD_CHOICE_H_
#define UNTORN_DEVICE_ROAD_CHOICE_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace untorn {

enum class Road : uint8_t { kExecute, kSubmit };

class RoadChoice {
 public:
  static constexpr size_t kTrial = 32;
  static constexpr uint64_t kRestMin = 256, kRestMax = 16384;

  Road better() const { return better_; }
  // Returns the road of the next request that is measured.
  Road Next() const { return in_trial_ ? Other() : better_; }
  // Takes how long a request took on that road.
  void Took(Road road, int64_t ns);

 private:
  using Samples = std::array<int64_t, kTrial>;

  Road Other() const { return better_ == Road::kExecute ? Road::kSubmit : Road::kExecute; }
  void EndTrial();

  Road better_ = Road::kExecute;
  bool in_trial_ = false;
  uint64_t rest_ = kRestMin;  // requests between trials
  uint64_t taken_ = 0;        // requests on the present road since the last change
  Samples better_ns_{}, other_ns_{};
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_ROAD_CHOICE_H_
