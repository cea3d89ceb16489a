// Reports how far a reading of the metadata is.
#ifndef UNTORN_INSPECT_PROGRESS_H_
#define UNTORN_INSPECT_PROGRESS_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

namespace untorn::internal {

// Calls the caller's function with (done, total), once for every 256 blocks or so.
class Progress {
 public:
  Progress(std::function<void(uint64_t, uint64_t)> report, uint64_t total)
      : report_(std::move(report)), total_(total) {}

  void Add(uint64_t blocks) {
    done_ += blocks;
    if (!report_ || done_ < next_) return;
    next_ = done_ + 256;
    // A damaged superblock may name a total that is too small.
    report_(std::min(done_, total_), total_);
  }

  void Done() {
    if (report_) report_(total_, total_);
  }

 private:
  const std::function<void(uint64_t, uint64_t)> report_;
  const uint64_t total_;
  uint64_t done_ = 0, next_ = 0;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_PROGRESS_H_
