#include "device/cached_writes.h"

#include <algorithm>

namespace untorn {
namespace {

// Says whether a write counts as cached until it is flushed. Nothing relies on zeros.
bool Caches(const IoRequest& request) { return IsWrite(request.op) && !request.durable && !request.zeros; }

}  // namespace

void CachedWrites::Queued(const IoRequest& request) {
  queued_ += Caches(request);
  // A write that is in flight is not covered.
  if (request.op == IoOp::kFlush && over_ == queued_) flushes_.push_back({&request, queued_});
}

void CachedWrites::Over(const IoRequest& request) {
  over_ += Caches(request);
  if (request.op != IoOp::kFlush) return;
  const auto flush =
      std::find_if(flushes_.begin(), flushes_.end(), [&](const Flush& f) { return f.request == &request; });
  if (flush == flushes_.end()) return;
  if (request.status.ok()) flushed_ = std::max(flushed_, flush->covers);
  flushes_.erase(flush);
}

}  // namespace untorn
