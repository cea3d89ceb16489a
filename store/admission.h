// What a change needs before it is accepted: space, readable metadata, the old content of partly written blocks, and
// nothing in its way that it must not be joined to.
//
// Each step is a Readiness (base/readiness.h): after kRetry everything has to be looked at again.
//
// Threading: methods are called with the lock held.
#ifndef UNTORN_STORE_ADMISSION_H_
#define UNTORN_STORE_ADMISSION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/byte_range.h"
#include "base/lock.h"
#include "base/readiness.h"
#include "cow/cow_fork.h"
#include "extent/mapping_reader.h"
#include "extent/space_ledger.h"
#include "writeback/checkpointer.h"
#include "writeback/committer.h"
#include "writeback/parts.h"

namespace untorn::internal {

BlockRange BlocksOf(ByteRange range);
// The range of a change: not empty, no overflow, within kObjectBytesMax.
absl::Status CheckRange(ByteRange range);
absl::Status CheckSize(uint64_t size);
absl::Status RemovedError(const ObjectState& object);

class Admission {
 public:
  // `set_blocks_max`: the largest change set that joining may make, and the largest write that is staged in the cache.
  Admission(const Parts& parts, Committer& committer, Checkpointer& checkpointer, BlockCount set_blocks_max)
      : parts_(parts), committer_(committer), checkpointer_(checkpointer), set_blocks_max_(set_blocks_max) {}

  BlockCount set_blocks_max() const { return set_blocks_max_; }

  // Waits while a large commit changes the object. kNotFound if it was removed.
  Readiness AwaitObject(Lock& lock, const ObjectState& object) REQUIRES_STORE_LOCK;
  // Waits while a large commit changes names.
  Readiness AwaitNames(Lock& lock) REQUIRES_STORE_LOCK;
  void SetNamesExclusive(bool exclusive) REQUIRES_STORE_LOCK { names_exclusive_ = exclusive; }
  // Waits while too much is dirty.
  Readiness AwaitCleanSpace(Lock& lock) REQUIRES_STORE_LOCK { return committer_.AwaitCleanSpace(lock); }

  // Whether the next checkpoint can read what a change makes it take apart of the tree. `look` does the lookups; it is
  // called again after nodes that it missed were loaded. So damage refuses the changes of what it covers, with kDataLoss,
  // and nothing that is accepted fails for it later. Once for a change, before it is staged. `name`: the object's.
  using LookFn = absl::FunctionRef<absl::Status(MappingReader&, MissingNodes*)>;
  Readiness AwaitTree(Lock& lock, const std::string& name, LookFn look) REQUIRES_STORE_LOCK;
  // ... for a write. `mapped` gets the mappings of its blocks, if they had to be looked up.
  Readiness AwaitWritable(Lock& lock, const ObjectState& object, ByteRange bytes,
                          Mappings* mapped) REQUIRES_STORE_LOCK;
  // ... for a change of the object's record alone.
  Readiness AwaitRecord(Lock& lock, const std::string& name, ObjectId id) REQUIRES_STORE_LOCK;
  // ... for a hole. `range`: with its partly covered edges. `edges_written`: these bring mappings that end within them.
  Readiness AwaitHole(Lock& lock, const ObjectState& object, BlockRange range,
                      bool edges_written) REQUIRES_STORE_LOCK;

  // Reserves space, or makes some. kResourceExhausted: there is none.
  Readiness AwaitSpace(Lock& lock, SpaceCost cost, EmergencyReserve reserve,
                       Reservation* space) REQUIRES_STORE_LOCK;

  // For a change that makes one change set of these, which are pending: sends the largest first where together they would
  // take too much of the log.
  Readiness AwaitJoin(Lock& lock, const ChangeSetsFound& sets) REQUIRES_STORE_LOCK;
  // ... for a write, which must not make too large a change set either.
  Readiness AwaitJoinOfRange(Lock& lock, const ObjectState& object, BlockRange range,
                             bool atomic) REQUIRES_STORE_LOCK;
  // ... for a change of an object's metadata; waits for the object first.
  Readiness AwaitJoinOfObject(Lock& lock, const ObjectState& object) REQUIRES_STORE_LOCK;

  // Makes sure that the block's content is in the cache, if it has any besides zeros.
  Readiness AwaitCached(Lock& lock, ObjectState& object, ObjectBlock block) REQUIRES_STORE_LOCK;
  // The content of a block that AwaitCached() found: a new buffer of the caller's own.
  BufferRef CopyOfBlock(const ObjectState& object, ObjectBlock block) REQUIRES_STORE_LOCK;
  // Whether AwaitCached() found content besides zeros.
  bool HasContent(const ObjectState& object, ObjectBlock block) const REQUIRES_STORE_LOCK;

 private:
  const Parts parts_;
  Committer& committer_;
  Checkpointer& checkpointer_;
  const BlockCount set_blocks_max_;
  bool names_exclusive_ GUARDED_BY_STORE_LOCK = false;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_ADMISSION_H_
