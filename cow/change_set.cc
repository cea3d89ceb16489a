#include "cow/change_set.h"

#include <algorithm>

#include "base/check.h"

namespace untorn {

void AddPending(ChangeSet& set, ObjectChange& change) {
  UNTORN_CHECK(set.changes.contains(change.object->id),
               "an object gets a change set that does not change it");
  UNTORN_CHECK(set.state == ChangeSet::State::kPending && !set.joined_to,
               "an object gets a change set that takes no more");
  change.pending_at = change.object->pending.size();
  change.object->pending.push_back(&set);
}

void RemovePending(const ObjectChange& change) {
  ObjectState& object = *change.object;
  UNTORN_CHECK(change.pending_at < object.pending.size(), "a change is taken off the list that is not on it");
  // The last set on the list moves to the place that becomes free, so removal costs the same on a long list.
  ChangeSet* last = object.pending.back();
  object.pending[change.pending_at] = last;
  object.pending.pop_back();
  if (change.pending_at < object.pending.size()) {
    const auto moved = last->changes.find(object.id);
    UNTORN_CHECK(moved != last->changes.end() && moved->second.pending_at == object.pending.size(),
                 "an object knows a change set by another place than the change set itself");
    moved->second.pending_at = change.pending_at;
  }
}

void AddSetsOfObject(const ObjectState& object, BarrierEpoch epoch, ChangeSetsFound* sets) {
  for (ChangeSet* set : object.pending) {
    UNTORN_CHECK(set->state == ChangeSet::State::kPending,
                 "an object takes a change set for pending that is not");
    if (set->epoch == epoch) sets->insert(set);
  }
}

bool InPendingHole(const ObjectState& object, ObjectBlock block) {
  for (const ChangeSet* set : object.hole_sets) {
    auto it = set->changes.find(object.id);
    if (it != set->changes.end() && it->second.holes.Contains(block)) return true;
  }
  return false;
}

std::optional<Inode> RecordInode(ObjectChange& change) {
  ObjectState& object = *change.object;
  // The size is compared with what was sent, and not with what is durable. Records become durable in the
  // order of their LSNs, so the records before this one count when this one does.
  const uint64_t size =
      change.set_size_bytes ? *change.set_size_bytes : std::max(object.sent_size_bytes, change.grow_to_bytes);
  const bool preallocates = !object.preallocated && std::any_of(change.placed.begin(), change.placed.end(),
                                                                [](const PlacedExtent& e) {
                                                                  return e.state == MappingState::kUnwritten;
                                                                });
  if (!change.name && size == object.sent_size_bytes && !preallocates) return std::nullopt;
  UNTORN_CHECK(!change.removed, "the inode of a removed object is recorded");
  UNTORN_CHECK(!change.recorded_size_bytes, "the inode of one change is recorded twice");
  UNTORN_CHECK(size <= kObjectBytesMax, "a size is recorded that no object may have");
  object.sent_size_bytes = size;
  change.recorded_size_bytes = size;
  if (change.name) object.sent_name = *change.name;
  object.preallocated |= preallocates;
  return Inode{object.id, size, object.sent_name, object.preallocated};
}

}  // namespace untorn
