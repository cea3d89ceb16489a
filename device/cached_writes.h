// Counts the writes that are not durable by themselves, and what flushes cover of them.
//
// Threading: as the owner says.
#ifndef UNTORN_DEVICE_CACHED_WRITES_H_
#define UNTORN_DEVICE_CACHED_WRITES_H_

#include <cstdint>
#include <vector>

#include "device/device.h"

namespace untorn {

class CachedWrites {
 public:
  // Must be told of every request, when it is queued and when it is over.
  void Queued(const IoRequest& request);
  void Over(const IoRequest& request);
  // Says whether a flush covers every such write that was queued.
  bool all_flushed() const { return flushed_ == queued_; }

 private:
  struct Flush {
    const IoRequest* request;
    uint64_t covers;  // so many writes, from the first one on
  };

  uint64_t queued_ = 0, over_ = 0, flushed_ = 0;
  std::vector<Flush> flushes_;  // under way
};

}  // namespace untorn

#endif  // UNTORN_DEVICE_CACHED_WRITES_H_
