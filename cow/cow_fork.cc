#include "cow/cow_fork.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "base/check.h"

namespace untorn {

// ---- Staging ----

void CowFork::Barrier() {
  // A barrier with nothing before it needs no new barrier epoch: there is nothing to wait for.
  if (!pending_.empty() || committing_sets_ > 0) ++epoch_;
}

ChangeSet* CowFork::PendingNow(const ObjectState& object, ObjectBlock block) const {
  const Page* page = pages_.Find(object, block);
  if (page == nullptr || page->pending == nullptr || page->pending->epoch != epoch_) return nullptr;
  return page->pending;
}

BlockCount CowFork::NewBlocks(const ObjectState& object, BlockRange range) const {
  BlockCount n;
  for (ObjectBlock b = range.start; b < range.end(); ++b) {
    if (PendingNow(object, b) == nullptr) ++n;
  }
  return n;
}

BlockCount CowFork::AddSetsOfRange(const ObjectState& object, BlockRange range, ChangeSetsFound* sets) const {
  if (object.metadata_set != nullptr && object.metadata_set->epoch == epoch_)
    sets->insert(object.metadata_set);
  BlockCount fresh;
  for (ObjectBlock b = range.start; b < range.end(); ++b) {
    if (ChangeSet* const set = PendingNow(object, b)) {
      sets->insert(set);
    } else {
      ++fresh;
    }
  }
  return fresh;
}

ChangeSetRef CowFork::NewChangeSet() {
  auto set = std::make_shared<ChangeSet>();
  set->sequence = next_sequence_++;
  set->epoch = epoch_;
  pending_.Add(set);
  return set;
}

void CowFork::StageWhole(const ChangeSetRef& set) {
  UNTORN_CHECK(set->data_blocks == 0, "a change set has data that no page shows");
  UNTORN_CHECK(set->sequence == 0, "a change set is staged twice");
  set->visible_when_durable = true;
  set->sequence = next_sequence_++;
  set->epoch = epoch_;
  for (auto& [id, change] : set->changes) {
    UNTORN_CHECK(change.object->pending.empty() && change.object->committing == 0,
                 "an exclusive object has changes of its own");
    ObjectBlock end;
    for (const PlacedExtent& extent : change.placed) {
      UNTORN_CHECK(extent.blocks.start >= end && extent.blocks.count > 0,
                   "the placed extents of a change are out of order, or overlap");
      end = extent.blocks.end();
    }
    AddPending(*set, change);
  }
  pending_.Add(set);
}

ObjectChange& CowFork::Change(ChangeSet& set, const std::shared_ptr<ObjectState>& object) {
  ObjectChange& change = set.changes[object->id];
  if (!change.object) {
    change.object = object;
    AddPending(set, change);
  }
  return change;
}

// Moves what `from` changes of one object to `into`.
void CowFork::JoinChange(ChangeSet& into, ChangeSet& from, ObjectChange& theirs) {
  ObjectState& object = *theirs.object;
  UNTORN_CHECK(theirs.placed.empty(), "a change is joined whose extents have their places already");
  RemovePending(theirs);
  if (object.metadata_set == &from) object.metadata_set = &into;
  ObjectChange& ours = Change(into, theirs.object);
  ForEachBlock(theirs.data, [&](ObjectBlock b) {
    Page* page = pages_.Find(object, b);
    // Otherwise the block is detached, and Join() moves it with the detached blocks.
    if (page != nullptr && page->pending == &from) page->pending = &into;
  });
  if (!theirs.holes.empty()) {
    std::erase(object.hole_sets, &from);
    if (std::find(object.hole_sets.begin(), object.hole_sets.end(), &into) == object.hole_sets.end()) {
      object.hole_sets.push_back(&into);
    }
  }
  ours.data.AddAll(theirs.data);
  ours.holes.AddAll(theirs.holes);
  // By invariant 2 at most one of the two sets has metadata changes, so at most one has a size that was set.
  UNTORN_CHECK(!theirs.set_size_bytes || !ours.set_size_bytes,
               "invariant 2: two change sets set the size of one object");
  if (theirs.set_size_bytes) {
    ours.set_size_bytes = std::max(*theirs.set_size_bytes, ours.grow_to_bytes);
  } else if (ours.set_size_bytes) {
    ours.set_size_bytes = std::max(*ours.set_size_bytes, theirs.grow_to_bytes);
  }
  ours.grow_to_bytes = std::max(ours.grow_to_bytes, theirs.grow_to_bytes);
  if (theirs.name) ours.name = theirs.name;
  ours.removed |= theirs.removed;
}

ChangeSetRef CowFork::Join(ChangeSetRef into, ChangeSetRef from) {
  // Either set may have been joined to another on the way here, even to the other of the two.
  into = Resolve(std::move(into));
  from = Resolve(std::move(from));
  if (into == from) return into;
  UNTORN_CHECK(into->epoch == from->epoch, "invariant 3: change sets are joined across a barrier");
  UNTORN_CHECK(into->state == ChangeSet::State::kPending && from->state == ChangeSet::State::kPending,
               "a change set is joined that is not pending");
  UNTORN_CHECK(!into->visible_when_durable && !from->visible_when_durable,
               "a change set is joined that nobody sees yet");
  // The smaller set moves, because every block that moves costs a look-up.
  if (from->data_blocks > into->data_blocks) std::swap(into, from);
  for (auto& [id, theirs] : from->changes) JoinChange(*into, *from, theirs);
  names_.Join(*into, *from);
  for (auto& [key, buffer] : from->detached) into->detached[key] = std::move(buffer);
  into->data_blocks += from->data_blocks;
  into->space.Add(std::move(from->space));
  // One cached write keeps the pages of both sets. One waiter makes the joined set wanted. One refusal rules
  // out another try in place.
  into->bypass_cache &= from->bypass_cache;
  into->wanted |= from->wanted;
  into->device_refused |= from->device_refused;
  if (into->born_ms == 0 || (from->born_ms != 0 && from->born_ms < into->born_ms))
    into->born_ms = from->born_ms;
  std::move(from->when_done.begin(), from->when_done.end(), std::back_inserter(into->when_done));
  from->when_done.clear();
  from->changes.clear();
  from->detached.clear();
  from->joined_to = into;
  pending_.Erase(*from);
  return into;
}

ChangeSetRef CowFork::SetForRange(const std::shared_ptr<ObjectState>& object, BlockRange range,
                                  ChangeSetRef set) {
  UNTORN_CHECK(range.count > 0, "a change has no blocks");
  UNTORN_CHECK(!object->removed && !object->exclusive, "an object is written that takes no changes");
  const auto add = [&](ChangeSet* other) {
    if (other->epoch != epoch_) return;
    set = set ? Join(set, other->shared_from_this()) : other->shared_from_this();
  };
  // Each join lets the pages name the joined set, so no set comes up twice below.
  if (object->metadata_set != nullptr) add(object->metadata_set);
  for (ObjectBlock b = range.start; b < range.end(); ++b) {
    const Page* page = pages_.Find(*object, b);
    if (page != nullptr && page->pending != nullptr && page->pending != set.get()) add(page->pending);
  }
  UNTORN_CHECK(!set || set->epoch == epoch_,
               "invariant 3: a change set of another barrier epoch takes a change");
  UNTORN_CHECK(!set || !set->joined_to, "a change goes to a change set that is part of another");
  return set ? set : NewChangeSet();
}

ChangeSetRef CowFork::SetForObject(const std::shared_ptr<ObjectState>& object) {
  UNTORN_CHECK(!object->removed && !object->exclusive,
               "the metadata of an object changes that takes no changes");
  // The sets are collected first, because Join() changes object->pending.
  std::vector<ChangeSetRef> sets;
  for (ChangeSet* other : object->pending) {
    if (other->epoch == epoch_) sets.push_back(other->shared_from_this());
  }
  ChangeSetRef set;
  for (const ChangeSetRef& other : sets) {
    ChangeSetRef now = Resolve(other);
    set = set ? Join(set, now) : now;
  }
  if (!set) set = NewChangeSet();
  UNTORN_CHECK(set->state == ChangeSet::State::kPending && set->epoch == epoch_,
               "invariant 2: a change set that takes no more holds the metadata");
  Change(*set, object);
  object->metadata_set = set.get();
  return set;
}

// Makes room for content of a later barrier epoch in the page: the pending change set keeps its own version.
void CowFork::Detach(Page& page, ObjectState& object, ObjectBlock block) {
  UNTORN_CHECK(page.pending->epoch < epoch_, "invariant 1: a block of this barrier epoch is detached");
  UNTORN_CHECK(page.buffer, "invariant 4: a block is detached without content");
  BufferRef& kept = page.pending->detached[{object.id, block}];
  UNTORN_CHECK(!kept, "invariant 4: a block is detached twice");
  kept = std::move(page.buffer);
  page.pending = nullptr;
}

void CowFork::StageBlock(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object,
                         ObjectBlock block, BufferRef buffer) {
  UNTORN_CHECK(set->state == ChangeSet::State::kPending && set->epoch == epoch_,
               "content is staged in a change set that takes no more");
  UNTORN_CHECK(!set->joined_to, "content is staged in a change set that is part of another");
  UNTORN_CHECK(buffer, "a block is staged without content");
  Page& page = pages_.Get(*object, block);
  // By invariant 1 only a set of an earlier barrier epoch can hold the page besides `set`.
  if (page.pending != nullptr && page.pending != set.get()) Detach(page, *object, block);
  if (page.pending == nullptr) {
    page.pending = set.get();
    Change(*set, object).data.Add({block, 1});
    ++set->data_blocks;
    ++dirty_blocks_;
  }
  page.buffer = std::move(buffer);
  // A read that is still under way would bring older content.
  page.read_token = 0;
  page.referenced = true;
  page.drop_when_clean = set->bypass_cache;
}

ChangeSet* CowFork::Restage(ObjectState& object, BlockRange range, std::span<BufferRef> buffers) {
  // The list is sorted. So after this check every pending set is of this barrier epoch.
  if (pending_.empty() || pending_.front()->epoch != epoch_) return nullptr;
  // In these cases the write has a size to bring, or an order to keep.
  if (object.metadata_set != nullptr || object.committing_metadata > 0 ||
      ByteOffset(range.end()) > object.durable_size_bytes) {
    return nullptr;
  }
  UNTORN_CHECK(buffers.size() == range.count.value(), "a range is staged with too few buffers");
  absl::InlinedVector<Page*, Chunk::kPages> pages;
  for (ObjectBlock b = range.start; b < range.end(); ++b) {
    Page* page = pages_.Find(object, b);
    if (page == nullptr || page->pending == nullptr || page->drop_when_clean) return nullptr;
    if (!pages.empty() && page->pending != pages[0]->pending) return nullptr;
    pages.push_back(page);
  }
  UNTORN_CHECK(pages[0]->pending->state == ChangeSet::State::kPending,
               "invariant 4: a page names a change set as pending that is not");
  // Nothing is changed before all pages have passed.
  for (size_t i = 0; i < pages.size(); ++i) {
    std::swap(pages[i]->buffer, buffers[i]);
    pages[i]->referenced = true;
  }
  return pages[0]->pending;
}

void CowFork::StageGrowth(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object,
                          uint64_t size_bytes) {
  // The growth is recorded even if a pending set makes the object larger still. This set may become durable
  // without the other one.
  object->size_bytes = std::max(object->size_bytes, size_bytes);
  ObjectChange& change = Change(*set, object);
  change.grow_to_bytes = std::max(change.grow_to_bytes, size_bytes);
  if (change.set_size_bytes) change.set_size_bytes = std::max(*change.set_size_bytes, size_bytes);
}

void CowFork::StageSize(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object,
                        uint64_t size_bytes) {
  UNTORN_CHECK(object->metadata_set == set.get(),
               "invariant 2: a size is set outside of the change set that holds all changes of the object");
  object->size_bytes = size_bytes;
  ObjectChange& change = Change(*set, object);
  change.set_size_bytes = size_bytes;
  // Growth that came before the truncate counts no more.
  change.grow_to_bytes = 0;
}

void CowFork::StageHole(const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object,
                        BlockRange range) {
  if (range.count == 0) return;
  UNTORN_CHECK(set->epoch == epoch_ && object->metadata_set == set.get(),
               "invariant 2: a hole is outside of the change set that holds all changes of the object");
  UNTORN_CHECK(range.start < kObjectEnd && range.count <= kObjectEnd - range.start,
               "a hole reaches beyond the largest object");
  ObjectChange& change = Change(*set, object);
  change.holes.Add(range);
  BlockCount taken;
  for (ObjectBlock block : pages_.BlocksWithPages(*object, range)) {
    Page* page = pages_.Find(*object, block);
    if (page->pending == set.get()) {
      ++taken;
    } else if (page->pending != nullptr) {
      // A set of an earlier barrier epoch takes its version out of the page before the page goes.
      Detach(*page, *object, block);
    }
    pages_.Drop(*object, block);
  }
  change.data.Remove(range);
  if (std::find(object->hole_sets.begin(), object->hole_sets.end(), set.get()) == object->hole_sets.end()) {
    object->hole_sets.push_back(set.get());
  }
  UNTORN_CHECK(set->data_blocks >= taken && dirty_blocks_ >= taken,
               "a hole takes more blocks out of a change set than it has");
  set->data_blocks -= taken;
  dirty_blocks_ -= taken;
  // A set that a test made may have reserved nothing.
  set->space.ReleaseBlocks(std::min(taken, set->space.blocks()));
}

void CowFork::CheckInvariants() const {
  BlockCount pending_blocks;
  for (const ChangeSetRef& set : pending_) {
    UNTORN_CHECK(set->state == ChangeSet::State::kPending && !set->joined_to,
                 "a change set is pending that is not");
    UNTORN_CHECK(!set->next_pending || set->order() < set->next_pending->order(),
                 "pending change sets are out of order");
    BlockCount blocks;
    for (const auto& [id, change] : set->changes) {
      const ObjectState& object = *change.object;
      UNTORN_CHECK(
          change.pending_at < object.pending.size() && object.pending[change.pending_at] == set.get(),
          "an object does not know a change set of its own");
      if (set->visible_when_durable) continue;
      for (const ChangeSet* other : object.pending) {
        UNTORN_CHECK(other == set.get() || other->epoch != set->epoch || !change.metadata(),
                     "invariant 2: a change of the object stands beside one of its metadata");
      }
      ForEachBlock(change.data, [&, id = id](ObjectBlock b) {
        ++blocks;
        const Page* page = pages_.Find(object, b);
        const bool here = page != nullptr && page->pending == set.get();
        UNTORN_CHECK(here != set->detached.contains({id, b}),
                     "invariant 4: a block is in no page, or in two places");
        UNTORN_CHECK(PendingWith(object, b, set->epoch, set.get()) == nullptr,
                     "invariant 1: two change sets of one barrier epoch have one block");
        UNTORN_CHECK(here || page == nullptr || page->pending == nullptr || page->pending->epoch > set->epoch,
                     "invariant 3: a block was detached by nothing newer");
      });
    }
    UNTORN_CHECK(blocks == set->data_blocks, "a change set counts other blocks than it has");
    pending_blocks += blocks;
  }
  UNTORN_CHECK(pending_blocks <= dirty_blocks_, "fewer blocks are dirty than pending");
  objects_.ForEach([&](const ObjectState& object) { pages_.CheckInvariants(object); });
}

}  // namespace untorn
