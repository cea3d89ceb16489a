// A change set: a set of changes that a crash leaves whole or not at all. One atomic write is a change set; so is
// one transaction, one metadata operation, or several of them that were joined because they share a block.
//
//     pending     later changes may be joined to it
//     committing  frozen: its blocks are on their way to the device; a new write to them gets new buffers
//     done        durable, or failed
//
// A change set is named by its barrier epoch (how many barriers came before it) and its sequence number.
//
// Threading: guarded by the store's mutex. The buffers of a frozen range are read without it.
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

// How many barriers came before. Changes of a later barrier epoch are not durable before those of an earlier one.
using BarrierEpoch = StrongInt<struct BarrierEpochTag, uint64_t>;

// Blocks of a committing change set, and the content that they are to have.
struct FrozenRange {
  ObjectState* object = nullptr;
  BlockRange blocks;
  absl::InlinedVector<BufferRef, 1> buffers;  // one a block

  BufferRef& buffer(ObjectBlock block) { return buffers[(block - blocks.start).value()]; }
  const BufferRef& buffer(ObjectBlock block) const { return buffers[(block - blocks.start).value()]; }
};

struct ChangeSet : std::enable_shared_from_this<ChangeSet> {
  enum class State { kPending, kCommitting, kDone };

  uint64_t sequence = 0;
  BarrierEpoch epoch;
  State state = State::kPending;
  std::shared_ptr<ChangeSet> joined_to;  // this change set is now part of that one
  // While it is pending: PendingSets has the list.
  std::shared_ptr<ChangeSet> next_pending;
  ChangeSet* previous_pending = nullptr;

  ObjectChanges changes;
  absl::btree_map<std::string, std::optional<ObjectId>> names;
  // Blocks of this change set whose page holds a newer version already, of a later barrier epoch.
  absl::flat_hash_map<std::pair<ObjectId, ObjectBlock>, BufferRef> detached;
  BlockCount data_blocks;
  Reservation space;
  bool bypass_cache = false;
  bool wanted = false;          // somebody waits for it
  bool device_refused = false;  // the device refused to write it atomically in place
  // Others see its changes when it is durable, not when it is staged. Its objects are exclusive meanwhile.
  bool visible_when_durable = false;
  int64_t born_ms = 0;

  absl::InlinedVector<FrozenRange, 1> frozen;  // while committing
  std::vector<std::function<void(absl::Status)>> when_done;

  // Its place in history.
  std::pair<BarrierEpoch, uint64_t> order() const { return {epoch, sequence}; }
  // Whether it changes more than data and growth of any object.
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

// Puts the change set on the list of its object's pending ones; takes it off.
void AddPending(ChangeSet& set, ObjectChange& change);
void RemovePending(const ObjectChange& change);

// Change sets that a change would join, each once.
using ChangeSetsFound = absl::flat_hash_set<ChangeSet*>;
// Adds the object's pending change sets of this barrier epoch.
void AddSetsOfObject(const ObjectState& object, BarrierEpoch epoch, ChangeSetsFound* sets);

// True if the block, which has no page, reads as zeros by a hole that is not durable yet.
bool InPendingHole(const ObjectState& object, ObjectBlock block);

// The inode that the log has to record for this change, if it has to record one. The object's size and name count as sent
// with it.
std::optional<Inode> RecordInode(ObjectChange& change);

// Calls fn(block) for each block of the set.
template <typename Fn>
void ForEachBlock(const RangeSet& set, Fn fn) {
  set.ForEach([&](BlockRange r) {
    for (ObjectBlock b = r.start; b < r.end(); ++b) fn(b);
  });
}

// The change set that `set` has become part of, or itself.
inline ChangeSetRef Resolve(ChangeSetRef set) {
  while (set->joined_to) set = set->joined_to;
  return set;
}

}  // namespace untorn

#endif  // UNTORN_COW_CHANGE_SET_H_
