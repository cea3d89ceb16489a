// Preallocating space for a range of an object.
#ifndef UNTORN_STORE_PREALLOCATE_H_
#define UNTORN_STORE_PREALLOCATE_H_

#include <memory>

#include "absl/status/status.h"
#include "store/object_write.h"

namespace untorn::internal {

// Durable when it returns. Thread-safe; called without the lock.
absl::Status Preallocate(const Front& front, const std::shared_ptr<ObjectState>& object,
                         ByteRange range) EXCLUDES_STORE_LOCK;

}  // namespace untorn::internal

#endif  // UNTORN_STORE_PREALLOCATE_H_
