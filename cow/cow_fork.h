// The copy-on-write fork of the whole store: which blocks have content that is accepted and not durable, and in
// which change sets.
//
// Invariants
//  1. Change sets of one barrier epoch that share a block are joined when the later one is staged: pending
//     change sets of one barrier epoch never overlap.
//  2. A pending change set with metadata changes of an object holds all pending changes of that object of its
//     barrier epoch, and later ones join it: so whatever is durable of it brings all before it.
//  3. Joining never crosses a barrier: where a later barrier epoch overwrites a block of a pending change set,
//     that change set keeps its version (ChangeSet::detached).
//  4. A block of a pending change set is in a page that names it, or detached.
//
// Change sets that are visible when durable stand apart from 1 to 4: their objects are exclusive.
//
// Does no I/O. Threading: guarded by the store's mutex.
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
  // Blocks of the range that are not part of a pending change set of this barrier epoch: those need space of their own.
  BlockCount NewBlocks(const ObjectState& object, BlockRange range) const;
  // A new pending change set.
  ChangeSetRef NewChangeSet();
  // Accepts a change set that was made outside, and that others see when it is durable. Its objects are exclusive until
  // then, and nothing of them is pending or committing.
  void StageWhole(const ChangeSetRef& set);
  // The pending change set of this barrier epoch that an atomic change of these blocks belongs to: existing ones are
  // joined, to `set` if that is given.
  ChangeSetRef SetForRange(const std::shared_ptr<ObjectState>& object, BlockRange range,
                           ChangeSetRef set = nullptr);
  // ... that a metadata change of this object belongs to.
  ChangeSetRef SetForObject(const std::shared_ptr<ObjectState>& object);
  // Adds the change sets that SetForRange would join.
  void AddSetsOfRange(const ObjectState& object, BlockRange range, ChangeSetsFound* sets) const;
  // Makes `into` and `from` one change set; both pending, of one barrier epoch. Returns it.
  ChangeSetRef Join(ChangeSetRef into, ChangeSetRef from);
  // The part of the change set that concerns this object.
  ObjectChange& Change(ChangeSet& set, const std::shared_ptr<ObjectState>& object);
  // Puts new content of one block into the change set.
  void StageBlock(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object, ObjectBlock block,
                  BufferRef buffer);
  // The cheap case of an atomic write: one change set holds all these blocks already, and nothing but their content
  // changes. Puts `buffers` in their place, and what was there into `buffers`. nullptr, and nothing done, if it is not so.
  ChangeSet* Restage(ObjectState& object, BlockRange range, std::span<BufferRef> buffers);
  // Makes the object at least this large.
  void StageGrowth(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object, uint64_t size_bytes);
  // Makes the object exactly this large. Blocks beyond have to be made holes by the caller.
  void StageSize(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object, uint64_t size_bytes);
  // Makes the blocks read as zeros: drops their pages, takes them out of the change set (which holds all of the
  // object's pending changes of this barrier epoch), and gives back the space that they had reserved.
  void StageHole(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object,
                 BlockRange range) REQUIRES_STORE_LOCK;

  // ---- Committing ----
  const PendingSets& pending() const { return pending_; }
  // Freezes a pending change set: its content moves to ChangeSet::frozen.
  void Freeze(const ChangeSetRef& set);
  // The change set is durable.
  void Complete(const ChangeSetRef& set);
  // Makes a frozen change set, of one range within the durable size of its object, pending again, as the older part of
  // whatever overlaps it now.
  void Unfreeze(const ChangeSetRef& set);
  BlockCount dirty_blocks() const { return dirty_blocks_; }  // pending and committing

  // Stops the process if a numbered invariant, of this class or of the page cache, does not hold.
  void CheckInvariants() const;

 private:
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
