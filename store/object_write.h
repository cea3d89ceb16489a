// Writing objects, and making what was written durable.
//
// Threading: thread-safe; called without the lock.
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
#include "store/io_vector.h"
#include "untorn/options.h"
#include "writeback/committer.h"

namespace untorn::internal {

inline constexpr uint64_t kAtomicBytesMax = 64 << 20;

using WhenDone = std::function<void(absl::Status)>;

// What the parts of the front end work on.
struct Front {
  std::mutex& mu;
  Parts parts;
  Admission& admission;
  Committer& committer;
  Background& background;
};

// Ends a change: makes it durable if asked to, and lets background work happen.
absl::Status FinishChange(const Front& front, Lock& lock, ChangeSetRefs sets,
                          Durability durability) REQUIRES_STORE_LOCK;
// The change set pays with this space. Its age counts from now, if it is new.
void PayWith(const Front& front, ChangeSet& set, Reservation space) REQUIRES_STORE_LOCK;
// Tells `done` later that the change ended with `status`, then ends the call.
void TellLater(const Front& front, WhenDone done, absl::Status status) EXCLUDES_STORE_LOCK;

class ObjectWriter {
 public:
  explicit ObjectWriter(const Front& front) : front_(front) {}

  // Whether an atomic write is larger than what is staged in the cache: it has to go as a transaction.
  bool IsLarge(ByteRange range, const WriteOptions& options) const;
  // Range, size and policy.
  absl::Status CheckWrite(const ObjectState& object, ByteRange range,
                          const WriteOptions& options) const EXCLUDES_STORE_LOCK;
  // `done`, if given, is told when the write is as durable as asked; then this does not wait for that.
  absl::Status Write(const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector data,
                     const WriteOptions& options, WhenDone done) EXCLUDES_STORE_LOCK;

  absl::Status SyncObject(const ObjectState& object) EXCLUDES_STORE_LOCK;
  absl::Status SyncRange(const ObjectState& object, ByteRange range) EXCLUDES_STORE_LOCK;

 private:
  struct Request;
  using Buffers = absl::InlinedVector<BufferRef, 16>;

  Buffers CopyWholeBlocks(const Request& request) EXCLUDES_STORE_LOCK;
  bool Restage(const Request& request, Buffers& buffers, ChangeSetRefs* sets) REQUIRES_STORE_LOCK;
  absl::Status AwaitAdmission(Lock& lock, const Request& request, Reservation* held, Reservation* space,
                              Mappings* mapped) REQUIRES_STORE_LOCK;
  absl::Status ReserveForParts(Lock& lock, const std::shared_ptr<ObjectState>& object, ByteRange range,
                               Reservation* held) REQUIRES_STORE_LOCK;
  void StageBlock(const Request& request, const ChangeSetRef& set, ObjectBlock block,
                  BufferRef buffer) REQUIRES_STORE_LOCK;
  void StageAtomic(const Request& request, Buffers& buffers, Reservation space, Mappings mapped,
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
