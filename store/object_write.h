// ObjectWriter writes to objects, and makes durable what was written.
//
// Threading: thread-safe. The caller of the public methods must not hold the lock.
#ifndef UNTORN_STORE_OBJECT_WRITE_H_
#define UNTORN_STORE_OBJECT_WRITE_H_

#include <functional>
#include <memory>
#include <mutex>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "base/lock.h"
#include "cow/object_state.h"
#include "store/admission.h"
#include "store/background.h"
#include "store/durable_call.h"
#include "store/io_vector.h"
#include "untorn/options.h"
#include "writeback/committer.h"

namespace untorn::internal {

inline constexpr uint64_t kAtomicBytesMax = 64 << 20;

using WhenDone = std::function<void(absl::Status)>;

// The front holds references to what the parts of this directory work on. The store owns all of it.
struct Front {
  std::mutex& mu;
  Parts parts;
  Admission& admission;
  Committer& committer;
  Background& background;
};

// Takes buffers for data of the application. Clean data gives its memory back if there is none for them.
//  kResourceExhausted   there is no memory but the memory reserve, which is for what was begun
absl::Status TakeBuffers(const Front& front, std::span<BufferRef> buffers) EXCLUDES_STORE_LOCK;

// Ends a change. If the call waits, returns when `sets` are durable. Then lets background work happen. Releases the
// lock meanwhile. An error is the store's failure, or kUnavailable: the file system below has no space, even to overwrite.
absl::Status FinishChange(const Front& front, Lock& lock, ChangeSetRefs sets,
                          const DurableCall& call) REQUIRES_STORE_LOCK;
// Waits until `sets` are durable, and then lets background work happen. Fails with kResourceExhausted if the file system
// below has no space, even to overwrite.
absl::Status FinishSync(const Front& front, Lock& lock, ChangeSetRefs&& sets,
                        const DurableCall& call) REQUIRES_STORE_LOCK;
// Adds `space` to the reservation of the change set. The age of a new change set counts from now.
void PayWith(const Front& front, ChangeSet& set, Reservation space) REQUIRES_STORE_LOCK;
// Queues a callback that calls `done` with `status`. Then ends the call by AfterChange(), which runs the
// callback if there are no threads.
void TellLater(const Front& front, WhenDone done, absl::Status status) EXCLUDES_STORE_LOCK;

class ObjectWriter {
 public:
  explicit ObjectWriter(const Front& front) : front_(front) {}

  // True if the write is atomic and too large to be staged in the cache. Such a write goes as a transaction.
  bool IsLarge(ByteRange range, const WriteOptions& options) const;
  // Checks the range, the size of an atomic write, and the policy kHardwareOnly.
  absl::Status CheckWrite(const ObjectState& object, ByteRange range,
                          const WriteOptions& options) const EXCLUDES_STORE_LOCK;
  // Without `done`, returns when the write is as durable as `options` asks. With `done`, does not wait for
  // that: the store calls `done` then. After an error Write() never calls `done`.
  absl::Status Write(const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector data,
                     const WriteOptions& options, WhenDone done) EXCLUDES_STORE_LOCK;

  absl::Status SyncObject(const ObjectState& object) EXCLUDES_STORE_LOCK;
  absl::Status SyncRange(const ObjectState& object, ByteRange range) EXCLUDES_STORE_LOCK;

 private:
  struct Request;
  using Buffers = absl::InlinedVector<BufferRef, 16>;

  // `out` has an element for each block of the request.
  absl::Status CopyWholeBlocks(const Request& request, Buffers* out) EXCLUDES_STORE_LOCK;
  bool Restage(const Request& request, Buffers& buffers, ChangeSetRefs* sets) REQUIRES_STORE_LOCK;
  absl::Status AwaitAdmission(Lock& lock, const Request& request, Reservation* held,
                              Reservation* space) REQUIRES_STORE_LOCK;
  absl::Status ReserveForParts(Lock& lock, const std::shared_ptr<ObjectState>& object, ByteRange range,
                               Reservation* held) REQUIRES_STORE_LOCK;
  void StageBlock(const Request& request, const ChangeSetRef& set, ObjectBlock block,
                  BufferRef buffer) REQUIRES_STORE_LOCK;
  void StageAtomic(const Request& request, Buffers& buffers, Reservation space,
                   ChangeSetRefs* sets) REQUIRES_STORE_LOCK;
  void StagePlain(const Request& request, Buffers& buffers, Reservation space,
                  ChangeSetRefs* sets) REQUIRES_STORE_LOCK;
  absl::Status Stage(Lock& lock, const Request& request, Buffers& buffers, Reservation* held,
                     ChangeSetRefs* sets) REQUIRES_STORE_LOCK;
  void TellWhenDurable(ChangeSetRefs sets, WhenDone done) REQUIRES_STORE_LOCK;

  const Front front_;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_OBJECT_WRITE_H_
