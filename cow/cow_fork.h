// The COW fork of a store knows which blocks have content that is accepted and not durable, and which change
// sets hold the content.
//
// Invariants
//  1. Pending change sets of one barrier epoch never overlap: staging joins two sets that share a block.
//  2. A pending change set with metadata changes of an object holds all pending changes of the object in its
//     barrier epoch. Later changes of the object in that barrier epoch join the set. So a set that is durable
//     brings all changes of the object before the set.
//  3. Joining never crosses a barrier. A later barrier epoch may overwrite a block of a pending change set;
//     the set then keeps its own version of the block (ChangeSet::detached).
//  4. A block of a pending change set is either in a page that names the set, or detached.
//
// The invariants leave out change sets that are visible when durable: their objects are exclusive.
//
// The COW fork does no I/O. Threading: the store's mutex guards the fork.
#ifndef UNTORN_COW_COW_FORK_H_
#define UNTORN_COW_COW_FORK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/lock.h"
#include "cow/change_set.h"
#include "cow/object_table.h"
#include "cow/page_cache.h"
#include "cow/pending_names.h"
#include "cow/pending_sets.h"
#include "extent/types.h"

namespace untorn {

class CowFork {
 public:
  PageCache& pages() { return pages_; }
  const PageCache& pages() const { return pages_; }
  ObjectTable& objects() { return objects_; }
  PendingNames& names() { return names_; }

  // ---- Staging ----
  BarrierEpoch epoch() const { return epoch_; }
  // Begins a new barrier epoch if anything is pending or committing.
  void Barrier();
  // Counts the blocks of the range that are in no pending change set of this barrier epoch. Those blocks need
  // space of their own.
  BlockCount NewBlocks(const ObjectState& object, BlockRange range) const;
  // Makes a new pending change set in this barrier epoch.
  ChangeSetRef NewChangeSet();
  // Accepts a change set that was made outside the fork, and that others see when the set is durable. The
  // objects of the set must be exclusive until then, and nothing of them may be pending or committing.
  void StageWhole(const ChangeSetRef& set);
  // Returns the pending change set of this barrier epoch for an atomic change of these blocks. The function
  // joins the sets that the change touches, and `set` too if it is given. Makes a new set if there is none.
  ChangeSetRef SetForRange(const std::shared_ptr<ObjectState>& object, BlockRange range,
                           ChangeSetRef set = nullptr);
  // Returns the pending change set of this barrier epoch for a metadata change of the object. The function
  // joins all pending sets of the object in this barrier epoch, or makes a new set.
  ChangeSetRef SetForObject(const std::shared_ptr<ObjectState>& object);
  // Adds the change sets that SetForRange would join, and returns NewBlocks().
  BlockCount AddSetsOfRange(const ObjectState& object, BlockRange range, ChangeSetsFound* sets) const;
  // Makes one change set of two pending ones of one barrier epoch, and returns the result. Either of the two
  // may be the one that stays.
  ChangeSetRef Join(ChangeSetRef into, ChangeSetRef from);
  // Returns the part of the change set that concerns this object. Makes an empty part if there is none.
  ObjectChange& Change(ChangeSet& set, const std::shared_ptr<ObjectState>& object);
  // Puts new content of one block into the change set.
  void StageBlock(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object, ObjectBlock block,
                  BufferRef buffer);
  // Is for the cheap case of an atomic write: one change set holds all these blocks already, and nothing but
  // their content changes. Swaps the content of the blocks with `buffers`. Otherwise does nothing, and
  // returns nullptr.
  ChangeSet* Restage(ObjectState& object, BlockRange range, std::span<BufferRef> buffers);
  // Makes the object at least this large.
  void StageGrowth(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object, uint64_t size_bytes);
  // Makes the object exactly this large. The caller must make holes of the blocks beyond the new size.
  void StageSize(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object, uint64_t size_bytes);
  // Makes the blocks read as zeros. Drops the pages of the blocks, takes the blocks out of the change set,
  // and gives back the space that was reserved for them. The change set must hold all pending changes of the
  // object in this barrier epoch.
  void StageHole(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object,
                 BlockRange range) REQUIRES_STORE_LOCK;

  // ---- Committing ----
  const PendingSets& pending() const { return pending_; }
  // Freezes a pending change set. The content of the set moves to ChangeSet::frozen.
  void Freeze(const ChangeSetRef& set);
  // Must be called when a committing change set is durable. The set is done then.
  void Complete(const ChangeSetRef& set);
  // Makes a frozen change set pending again, as the older part of whatever overlaps the set now. The set must
  // have one range, within the durable size of its object.
  void Unfreeze(const ChangeSetRef& set);
  BlockCount dirty_blocks() const { return dirty_blocks_; }  // pending and committing

  // Stops the process if a numbered invariant, of this class or of the page cache, does not hold.
  void CheckInvariants() const;

 private:
  // Returns the pending change set of this barrier epoch that has the block in a page, or nullptr.
  ChangeSet* PendingNow(const ObjectState& object, ObjectBlock block) const;
  static ChangeSet* PendingWith(const ObjectState& object, ObjectBlock block, BarrierEpoch epoch,
                                const ChangeSet* except);
  void Detach(Page& page, ObjectState& object, ObjectBlock block);
  void JoinChange(ChangeSet& into, ChangeSet& from, ObjectChange& theirs);
  void TakeBlocksOut(ChangeSet& set, ObjectChange& change, BlockRange range);
  static void CompleteChange(ChangeSet& set, ObjectChange& change);
  void ShowNow(ObjectChange& change);

  PageCache pages_;
  ObjectTable objects_;
  PendingNames names_;
  BarrierEpoch epoch_;
  uint64_t next_sequence_ = 1;
  BlockCount dirty_blocks_;
  uint64_t committing_sets_ = 0;
  PendingSets pending_;
};

// True if something is committing that has to be durable before this change set is sent.
bool MustWait(const ChangeSet& set, const PageCache& pages);

}  // namespace untorn

#endif  // UNTORN_COW_COW_FORK_H_
