// Truncate() and PunchHole() take space from objects.
//
// Threading: thread-safe. The caller must not hold the lock, except for SetsBefore().
#ifndef UNTORN_STORE_OBJECT_RESIZE_H_
#define UNTORN_STORE_OBJECT_RESIZE_H_

#include <memory>

#include "absl/status/status.h"
#include "store/object_write.h"

namespace untorn::internal {

absl::Status Truncate(const Front& front, const std::shared_ptr<ObjectState>& object, uint64_t size,
                      Durability durability) EXCLUDES_STORE_LOCK;
absl::Status PunchHole(const Front& front, const std::shared_ptr<ObjectState>& object, ByteRange range,
                       Durability durability) EXCLUDES_STORE_LOCK;

// Returns the change sets that must be durable before a metadata change of the object may become durable: all
// with changes of the object, and all of earlier barrier epochs.
ChangeSetRefs SetsBefore(const Front& front, const ObjectState& object) REQUIRES_STORE_LOCK;

}  // namespace untorn::internal

#endif  // UNTORN_STORE_OBJECT_RESIZE_H_
