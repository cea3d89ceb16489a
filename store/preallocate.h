// Preallocate() maps the holes of a range to unwritten extents.
#ifndef UNTORN_STORE_PREALLOCATE_H_
#define UNTORN_STORE_PREALLOCATE_H_

#include <memory>

#include "absl/status/status.h"
#include "store/object_write.h"

namespace untorn::internal {

// Returns once the change is durable. After kResourceExhausted nothing was changed. Thread-safe. The caller
// must not hold the lock. Other changes of the object wait meanwhile.
absl::Status Preallocate(const Front& front, const std::shared_ptr<ObjectState>& object,
                         ByteRange range) EXCLUDES_STORE_LOCK;

}  // namespace untorn::internal

#endif  // UNTORN_STORE_PREALLOCATE_H_
