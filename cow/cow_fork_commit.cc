// This file freezes change sets on their way to the device, completes them, and takes them back.
#include <utility>
#include <vector>

#include "base/check.h"
#include "cow/cow_fork.h"
#include "cow/rules.h"

namespace untorn {

bool MustWait(const ChangeSet& set, const PageCache& pages) {
  for (const auto& [id, change] : set.changes) {
    const ObjectState& object = *change.object;
    // The records of metadata keep the order of their change sets. So a change with metadata waits for every
    // committing set of its object, and every change waits for committing metadata of its object.
    if (object.committing_metadata > 0 || (change.metadata() && object.committing > 0)) {
      if (!rules::MayPassOneThatWritesTheSameBlock()) return true;
    }
    if (object.committing == 0) continue;
    bool wait = false;
    ForEachBlock(change.data, [&](ObjectBlock b) {
      const Page* page = pages.Find(object, b);
      if (page == nullptr || page->committing == nullptr) return;
      UNTORN_CHECK(page->committing->state == ChangeSet::State::kCommitting,
                   "a page waits for a change set that is not on its way");
      wait = true;
    });
    if (wait && !rules::MayPassOneThatWritesTheSameBlock()) return true;
  }
  return false;
}

void CowFork::Freeze(const ChangeSetRef& set) {
  UNTORN_CHECK(set->state == ChangeSet::State::kPending, "a change set is frozen twice");
  UNTORN_CHECK(!set->joined_to, "a change set is frozen that is part of another");
  UNTORN_CHECK(set->frozen.empty(), "a pending change set has frozen content");
  BlockCount blocks;
  size_t detached = 0;
  set->state = ChangeSet::State::kCommitting;
  ++committing_sets_;
  pending_.Erase(*set);
  for (auto& [id, change] : set->changes) {
    ObjectState& object = *change.object;
    RemovePending(change);
    if (object.metadata_set == set.get()) object.metadata_set = nullptr;
    ++object.committing;
    if (change.metadata()) ++object.committing_metadata;
    set->frozen.reserve(set->frozen.size() + change.data.runs());
    change.data.ForEach([&, id = id](BlockRange r) {
      FrozenRange& range = set->frozen.emplace_back();
      range.object = &object;
      range.blocks = r;
      blocks += r.count;
      range.buffers.reserve(r.count.value());
      for (ObjectBlock b = r.start; b < r.end(); ++b) {
        // A hole of a later barrier epoch may have dropped the page. MustWait() needs a page to look at.
        Page& page = pages_.Get(object, b);
        if (page.pending == set.get()) {
          // The page still shows this buffer. A later write replaces the buffer in the page only.
          range.buffers.push_back(page.buffer);
          page.pending = nullptr;
        } else {
          auto it = set->detached.find({id, b});
          UNTORN_CHECK(it != set->detached.end(), "invariant 4: a block of a change set is in no page");
          range.buffers.push_back(std::move(it->second));
          ++detached;
        }
        UNTORN_CHECK(range.buffers.back(), "invariant 4: a block is frozen without content");
        page.committing = set.get();
      }
    });
  }
  UNTORN_CHECK(blocks == set->data_blocks, "a change set freezes other blocks than it counts");
  UNTORN_CHECK(detached == set->detached.size(),
               "a change set keeps versions of blocks that it does not change");
  set->detached.clear();
}

// Shows the change of a change set that is visible when durable. Readers see the change from now on.
void CowFork::ShowNow(ObjectChange& change) {
  ObjectState& object = *change.object;
  UNTORN_CHECK(object.pending.empty() && object.committing == 0,
               "an object that a large commit holds has other changes");
  if (change.removed) {
    object.removed = true;
    pages_.DropClean(object, {0, kObjectBlocksMax});
    // The size and the name of a removed object do not matter any more.
    return;
  }
  // The mappings changed behind the cache, so clean pages of the changed blocks hold old content.
  if (change.recorded_size_bytes) object.size_bytes = *change.recorded_size_bytes;
  if (change.name) object.name = *change.name;
  change.holes.ForEach([&](BlockRange r) { pages_.DropClean(object, r); });
  for (const PlacedExtent& extent : change.placed) {
    // Unwritten extents take the place of holes, and read as holes do.
    if (extent.state == MappingState::kWritten) pages_.DropClean(object, extent.blocks);
  }
}

void CowFork::CompleteChange(ChangeSet& set, ObjectChange& change) {
  ObjectState& object = *change.object;
  UNTORN_CHECK(object.committing > 0, "an object completes more changes than it began");
  --object.committing;
  if (change.metadata()) {
    UNTORN_CHECK(object.committing_metadata > 0,
                 "an object completes more changes of metadata than it began");
    --object.committing_metadata;
  }
  std::erase(object.hole_sets, &set);
  if (change.recorded_size_bytes) object.durable_size_bytes = *change.recorded_size_bytes;
}

void CowFork::Complete(const ChangeSetRef& set) {
  UNTORN_CHECK(set->state == ChangeSet::State::kCommitting,
               "a change set is completed that is not committing");
  UNTORN_CHECK(committing_sets_ > 0, "more change sets are completed than were frozen");
  --committing_sets_;
  set->state = ChangeSet::State::kDone;
  for (FrozenRange& range : set->frozen) {
    for (ObjectBlock b = range.blocks.start; b < range.blocks.end(); ++b) {
      Page* page = pages_.Find(*range.object, b);
      if (page == nullptr || page->committing != set.get()) continue;
      page->committing = nullptr;
      if (page->pending != nullptr) continue;
      if (page->drop_when_clean) {
        pages_.Drop(*range.object, b);
      } else if (page->unused()) {
        pages_.EraseIfUnused(*range.object, b);
      }
    }
    UNTORN_CHECK(dirty_blocks_ >= range.blocks.count, "more blocks become clean than were dirty");
    dirty_blocks_ -= range.blocks.count;
  }
  set->frozen.clear();
  for (auto& [id, change] : set->changes) {
    CompleteChange(*set, change);
    if (set->visible_when_durable) ShowNow(change);
  }
  names_.Complete(*set);
  set->changes.clear();
}

ChangeSet* CowFork::PendingWith(const ObjectState& object, ObjectBlock block, BarrierEpoch epoch,
                                const ChangeSet* except) {
  for (ChangeSet* other : object.pending) {
    if (other == except || other->epoch != epoch) continue;
    auto change = other->changes.find(object.id);
    if (change != other->changes.end() && change->second.data.Contains(block)) return other;
  }
  return nullptr;
}

// Takes the blocks of `range` out of a pending change set, because a later hole of the same barrier epoch
// covers the blocks.
void CowFork::TakeBlocksOut(ChangeSet& set, ObjectChange& change, BlockRange range) {
  RangeSet kept = change.data;
  kept.Remove(range);
  ForEachBlock(change.data, [&](ObjectBlock b) {
    if (b < range.start || b >= range.end()) return;
    UNTORN_CHECK(set.data_blocks > 0 && dirty_blocks_ > 0, "a change set gives up more blocks than it has");
    set.detached.erase({change.object->id, b});
    --set.data_blocks;
    --dirty_blocks_;
  });
  change.data = std::move(kept);
}

void CowFork::Unfreeze(const ChangeSetRef& set) {
  UNTORN_CHECK(set->state == ChangeSet::State::kCommitting,
               "a change set is unfrozen that is not committing");
  UNTORN_CHECK(set->frozen.size() == 1 && committing_sets_ > 0,
               "a change set is unfrozen that did not go in place");
  UNTORN_CHECK(!set->metadata(), "a change set with metadata went in place");
  --committing_sets_;
  set->state = ChangeSet::State::kPending;
  pending_.Add(set);
  for (auto& [id, change] : set->changes) {
    UNTORN_CHECK(change.object->committing > 0, "an object takes back more changes than it began");
    --change.object->committing;
    if (change.metadata()) --change.object->committing_metadata;
    AddPending(*set, change);
    // A set that went in place ends within the durable size of its object. A truncate may have come
    // meanwhile. The set may be joined to the truncate, and must not make the object larger again.
    change.grow_to_bytes = 0;
  }
  std::vector<ChangeSetRef> overlapping;
  for (FrozenRange& range : set->frozen) {
    for (ObjectBlock b = range.blocks.start; b < range.blocks.end(); ++b) {
      Page& page = pages_.Get(*range.object, b);
      page.committing = nullptr;
      BufferRef& buffer = range.buffer(b);
      if (ChangeSet* newer = PendingWith(*range.object, b, set->epoch, set.get())) {
        // The newer version counts, and the older one goes. The sets are joined below.
        overlapping.push_back(newer->shared_from_this());
        set->changes[range.object->id].data.Remove({b, 1});
        --set->data_blocks;
        --dirty_blocks_;
      } else if (page.pending == nullptr && page.buffer) {
        page.pending = set.get();  // still the newest content
      } else {
        // A later barrier epoch has the page, or a hole dropped the content. The set keeps its own version.
        set->detached[{range.object->id, b}] = std::move(buffer);
      }
      // A hole may have dropped the page meanwhile, so nothing may be left of the page now.
      if (page.unused()) pages_.EraseIfUnused(*range.object, b);
    }
  }
  set->frozen.clear();
  // A metadata change of the same object and barrier epoch may have come meanwhile. By invariant 2 that
  // change holds everything before it, so the two sets are joined. Blocks under the holes of that change stay
  // out, or old data would come back.
  for (auto& [id, change] : set->changes) {
    for (ChangeSet* other : change.object->pending) {
      auto theirs = other->changes.find(id);
      if (other == set.get() || other->epoch != set->epoch || theirs == other->changes.end() ||
          !theirs->second.metadata()) {
        continue;
      }
      theirs->second.holes.ForEach(
          [&, &change = change](BlockRange hole) { TakeBlocksOut(*set, change, hole); });
      overlapping.push_back(other->shared_from_this());
    }
  }
  ChangeSetRef all = set;
  for (const ChangeSetRef& other : overlapping) all = Join(all, Resolve(other));
}

}  // namespace untorn
