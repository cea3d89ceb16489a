// Admission makes sure that a change has what it needs before the store accepts the change: space, readable
// metadata, and the old content of partly written blocks. Admission also makes durable what the change must
// not join.
//
// Each step returns a Readiness (base/readiness.h). After kRetry the caller looks at everything again.
//
// Threading: the caller of every method holds the lock.
#ifndef UNTORN_STORE_ADMISSION_H_
#define UNTORN_STORE_ADMISSION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "base/byte_range.h"
#include "base/check.h"
#include "base/lock.h"
#include "base/readiness.h"
#include "cow/cow_fork.h"
#include "extent/mapping_reader.h"
#include "extent/space_ledger.h"
#include "writeback/checkpointer.h"
#include "writeback/committer.h"
#include "writeback/parts.h"
#include "writeback/readers.h"

namespace untorn::internal {

BlockRange BlocksOf(ByteRange range);
// Returns kInvalidArgument if the range of a change is empty, overflows, or ends beyond kObjectBytesMax.
absl::Status CheckRange(ByteRange range);
absl::Status CheckSize(uint64_t size);
absl::Status RemovedError(const ObjectState& object);

// Returns the error for a block whose content is not what the store wrote.
absl::Status DamagedBlockError(const Parts& parts, const ObjectState& object, ObjectBlock block,
                               BlockNumber place);

class Admission {
 public:
  // `set_blocks_max` limits the change sets that joining makes, and the writes that are staged in the cache.
  Admission(const Parts& parts, Committer& committer, Checkpointer& checkpointer, Readers& readers,
            BlockCount set_blocks_max)
      : parts_(parts),
        committer_(committer),
        checkpointer_(checkpointer),
        readers_(readers),
        set_blocks_max_(set_blocks_max) {}

  BlockCount set_blocks_max() const { return set_blocks_max_; }

  // Waits while a large commit changes the object. Fails with kNotFound if the object was removed.
  Readiness AwaitObject(Lock& lock, const ObjectState& object) REQUIRES_STORE_LOCK;
  // Waits while a large commit changes names.
  Readiness AwaitNames(Lock& lock) REQUIRES_STORE_LOCK;
  void SetNamesExclusive(bool exclusive) REQUIRES_STORE_LOCK {
    UNTORN_CHECK(names_exclusive_ != exclusive, "two large commits hold the names");
    names_exclusive_ = exclusive;
  }
  // Waits while too much is dirty.
  Readiness AwaitCleanSpace(Lock& lock) REQUIRES_STORE_LOCK { return committer_.AwaitCleanSpace(lock); }

  // Checks that the next checkpoint can read the parts of the tree that the checkpoint takes apart for a
  // change. Fails with kDataLoss if damage covers such a part. So no accepted change fails for damage later;
  // docs/design.md, "Damage", has the exceptions. `look` does the lookups, and AwaitTree() calls `look` again
  // after it has loaded the nodes that `look` missed. `name` is the object's, for the error. Call AwaitTree()
  // once for each change, before the change is staged.
  using LookFn = absl::FunctionRef<absl::Status(MappingReader&, MissingNodes*)>;
  Readiness AwaitTree(Lock& lock, const std::string& name, LookFn look) REQUIRES_STORE_LOCK;
  // Is AwaitTree() for a write that ends there. New data needs no look at its leaf: a checkpoint writes the
  // mapping beside what is damaged. The inode of an object that grows must be readable.
  Readiness AwaitWritable(Lock& lock, const ObjectState& object, uint64_t end_bytes) REQUIRES_STORE_LOCK;
  // Is AwaitTree() for a change of the object's inode alone.
  Readiness AwaitRecord(Lock& lock, const std::string& name, ObjectId id) REQUIRES_STORE_LOCK;
  // Is AwaitTree() for a hole. `range` includes the partly covered blocks at the edges. If `edges_written`,
  // the edge blocks get mappings of their own. The call then also checks the leaves where the blocks between
  // them begin and end.
  Readiness AwaitHole(Lock& lock, const ObjectState& object, BlockRange range,
                      bool edges_written) REQUIRES_STORE_LOCK;

  // Reserves space into `space`, which must be empty. If too little is free, the call makes space and says
  // kRetry. Fails with kResourceExhausted if no more space can be made.
  Readiness AwaitSpace(Lock& lock, SpaceCost cost, SpaceFor use, Reservation* space) REQUIRES_STORE_LOCK;
  // Takes the space that leases keep. Returns false if they keep none.
  bool RevokeLeases() REQUIRES_STORE_LOCK { return readers_.RevokeAll(); }
  // Is AwaitSpace() for data. Only on a full store it matters whether all blocks of the data are mapped, so that the change
  // is an overwrite. `look` then finds that out with LookMapped(), and may release the lock. *use, which is empty at first,
  // keeps the answer for later turns.
  using LookMappedFn = absl::FunctionRef<absl::Status(bool* mapped)>;
  Readiness AwaitDataSpace(Lock& lock, SpaceCost cost, std::optional<SpaceFor>* use, LookMappedFn look,
                           Reservation* space) REQUIRES_STORE_LOCK;
  // Is AwaitDataSpace() for blocks of one object. `object` may be nullptr if *use is not empty.
  Readiness AwaitDataSpace(Lock& lock, SpaceCost cost, std::optional<SpaceFor>* use,
                           const ObjectState* object, BlockRange range,
                           Reservation* space) REQUIRES_STORE_LOCK;
  // Clears *mapped if one of the blocks is not mapped.
  absl::Status LookMapped(Lock& lock, const ObjectState& object, BlockRange range,
                          bool* mapped) REQUIRES_STORE_LOCK;

  // Is for a change that joins the pending change sets `sets`. If the joined set could take too much of the
  // log, the call waits until the largest of `sets` is durable.
  Readiness AwaitJoin(Lock& lock, const ChangeSetsFound& sets) REQUIRES_STORE_LOCK;
  // Is AwaitJoin() for a write. The joined set must not have more than set_blocks_max() blocks either.
  Readiness AwaitJoinOfRange(Lock& lock, const ObjectState& object, BlockRange range,
                             bool atomic) REQUIRES_STORE_LOCK;
  // Is AwaitJoin() for a change of an object's metadata. Calls AwaitObject() first.
  Readiness AwaitJoinOfObject(Lock& lock, const ObjectState& object) REQUIRES_STORE_LOCK;

  // Makes sure that the content of the block is in the cache, unless the block reads as zeros without a page.
  // May read one block from the device.
  Readiness AwaitCached(Lock& lock, ObjectState& object, ObjectBlock block) REQUIRES_STORE_LOCK;
  // Returns the content of a block that AwaitCached() found, in a new buffer that only the caller has.
  BufferRef CopyOfBlock(const ObjectState& object, ObjectBlock block) REQUIRES_STORE_LOCK;
  // Says whether AwaitCached() found content. A block without content reads as zeros.
  bool HasContent(const ObjectState& object, ObjectBlock block) const REQUIRES_STORE_LOCK;

 private:
  const Parts parts_;
  Committer& committer_;
  Checkpointer& checkpointer_;
  Readers& readers_;
  const BlockCount set_blocks_max_;
  bool names_exclusive_ GUARDED_BY_STORE_LOCK = false;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_ADMISSION_H_
