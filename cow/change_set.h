// A change set is a set of changes that a crash leaves whole or not at all. The set holds one atomic write,
// one transaction, one metadata change, or several of these that were joined. A change set has three states:
//
//     pending     later changes may be joined to the set
//     committing  the set is frozen: its blocks are on their way, and a new write to them gets new buffers
//     done        the set is durable
//
// The barrier epoch and the sequence number name a change set.
//
// Threading: the store's mutex guards a change set. The buffers of a frozen range are read without the mutex.
#ifndef UNTORN_COW_CHANGE_SET_H_
#define UNTORN_COW_CHANGE_SET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "cow/buffer_pool.h"
#include "cow/object_change.h"
#include "cow/object_state.h"
#include "cow/range_set.h"
#include "extent/space_ledger.h"
#include "extent/types.h"

namespace untorn {

// Counts the barriers before a change. No later barrier epoch becomes durable before an earlier one.
using BarrierEpoch = StrongInt<struct BarrierEpochTag, uint64_t>;

// A frozen range holds blocks of a committing change set, and the content that the blocks are to have.
struct FrozenRange {
  ObjectState* object = nullptr;
  BlockRange blocks;
  absl::InlinedVector<BufferRef, 1> buffers;  // one for each block

  BufferRef& buffer(ObjectBlock block) { return buffers[(block - blocks.start).value()]; }
  const BufferRef& buffer(ObjectBlock block) const { return buffers[(block - blocks.start).value()]; }
};

struct ChangeSet : std::enable_shared_from_this<ChangeSet> {
  enum class State { kPending, kCommitting, kDone };

  uint64_t sequence = 0;
  BarrierEpoch epoch;
  State state = State::kPending;
  std::shared_ptr<ChangeSet> joined_to;  // the set that this change set is now part of
  // PendingSets links the pending change sets by these two pointers.
  std::shared_ptr<ChangeSet> next_pending;
  ChangeSet* previous_pending = nullptr;

  ObjectChanges changes;
  absl::btree_map<std::string, std::optional<ObjectId>> names;
  // Holds the blocks of this change set whose page already has a newer version, of a later barrier epoch.
  absl::flat_hash_map<std::pair<ObjectId, ObjectBlock>, BufferRef> detached;
  BlockCount data_blocks;
  Reservation space;
  bool bypass_cache = false;
  bool wanted = false;          // somebody waits for the set to become durable
  bool device_refused = false;  // the device refused to write the set whole in place
  // If true, others see the changes of the set when the set is durable, and not when the set is staged. The
  // objects of the set are exclusive meanwhile.
  bool visible_when_durable = false;
  int64_t born_ms = 0;

  absl::InlinedVector<FrozenRange, 1> frozen;  // while committing
  std::vector<std::function<void(absl::Status)>> when_done;

  // Returns the place of the set in the history of the store.
  std::pair<BarrierEpoch, uint64_t> order() const { return {epoch, sequence}; }
  // True if the set changes more than data and growth of any object.
  bool metadata() const {
    if (!names.empty()) return true;
    for (const auto& [id, change] : changes) {
      if (change.metadata()) return true;
    }
    return false;
  }
};

using ChangeSetRef = std::shared_ptr<ChangeSet>;
using ChangeSetRefs = absl::InlinedVector<ChangeSetRef, 2>;

// AddPending() puts the change set on the list of pending sets of the changed object. RemovePending() takes
// the set off that list.
void AddPending(ChangeSet& set, ObjectChange& change);
void RemovePending(const ObjectChange& change);

// Holds the change sets that a change would join, each once.
using ChangeSetsFound = absl::flat_hash_set<ChangeSet*>;
// Adds the object's pending change sets of the given barrier epoch.
void AddSetsOfObject(const ObjectState& object, BarrierEpoch epoch, ChangeSetsFound* sets);

// True if a hole that is not durable yet makes the block read as zeros. The block must not have a page.
bool InPendingHole(const ObjectState& object, ObjectBlock block);

// Returns the inode that the log has to record for this change, or nullopt if the log needs none. The size
// and the name in the inode count as sent from now on.
std::optional<Inode> RecordInode(ObjectChange& change);

// Calls fn(block) for each block of the set.
template <typename Fn>
void ForEachBlock(const RangeSet& set, Fn fn) {
  set.ForEach([&](BlockRange r) {
    for (ObjectBlock b = r.start; b < r.end(); ++b) fn(b);
  });
}

// Returns the change set that `set` has become part of, or `set` itself.
inline ChangeSetRef Resolve(ChangeSetRef set) {
  while (set->joined_to) set = set->joined_to;
  return set;
}

}  // namespace untorn

#endif  // UNTORN_COW_CHANGE_SET_H_
