// Reports how far a reading of the metadata is.
#ifndef UNTORN_INSPECT_PROGRESS_H_
#define UNTORN_INSPECT_PROGRESS_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

#include "base/block_size.h"

namespace untorn::internal {

// Calls the caller's function with (done, total), once for every 256 blocks or so.
class Progress {
 public:
  Progress(std::function<void(uint64_t, uint64_t)> report, BlockCount total)
      : report_(std::move(report)), total_(total) {}

  void Add(BlockCount blocks) {
    done_ += blocks;
    if (!report_ || done_ < next_) return;
    next_ = done_ + 256;
    // A damaged superblock may name a total that is too small.
    report_(std::min(done_, total_).value(), total_.value());
  }

  void Done() {
    if (report_) report_(total_.value(), total_.value());
  }

 private:
  const std::function<void(uint64_t, uint64_t)> report_;
  const BlockCount total_;
  BlockCount done_, next_;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_PROGRESS_H_
