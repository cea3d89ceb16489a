#include "device/road_choice.h"

#include <algorithm>
#include <utility>

namespace untorn {
namespace {

template <size_t kCount>
int64_t Median(std::array<int64_t, kCount> samples) {
  std::nth_element(samples.begin(), samples.begin() + kCount / 2, samples.end());
  return samples[kCount / 2];
}

}  // namespace

void RoadChoice::Took(Road road, int64_t ns) {
  // A request that was under way when the road changed counts for neither.
  if (road != Next()) return;
  (in_trial_ ? other_ns_ : better_ns_)[taken_++ % kTrial] = ns;
  if (in_trial_ && taken_ == kTrial) return EndTrial();
  if (!in_trial_ && taken_ == rest_) {
    in_trial_ = true;
    taken_ = 0;
  }
}

void RoadChoice::EndTrial() {
  in_trial_ = false;
  taken_ = 0;
  if (Median(other_ns_) >= Median(better_ns_)) {
    rest_ = std::min(2 * rest_, kRestMax);
    return;
  }
  better_ = Other();
  rest_ = kRestMin;
}

}  // namespace untorn
