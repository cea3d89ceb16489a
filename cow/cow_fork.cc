#include "cow/cow_fork.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "base/check.h"

namespace untorn {
namespace {

// Calls fn(block) for each block of the set.
template <typename Fn>
void ForEachBlock(const RangeSet& set, Fn fn) {
  set.ForEach([&](BlockRange r) {
    for (uint64_t b = r.start; b < r.end(); ++b) fn(b);
  });
}

}  // namespace

// ---- Objects and names ----

std::shared_ptr<ObjectState> CowFork::FindObject(ObjectId id) const {
  auto it = objects_.find(id);
  return it == objects_.end() ? nullptr : it->second;
}

std::shared_ptr<ObjectState> CowFork::AddObject(const Inode& inode) {
  auto object = std::make_shared<ObjectState>();
  object->id = inode.id;
  object->name = object->sent_name = inode.name;
  object->size_bytes = object->sent_size_bytes = object->durable_size_bytes = inode.size_bytes;
  objects_[inode.id] = object;
  return object;
}

const CowFork::PendingName* CowFork::FindName(const std::string& name) const {
  auto it = names_.find(name);
  return it == names_.end() ? nullptr : &it->second;
}

void CowFork::ForgetIdleObjects() {
  absl::erase_if(objects_, [](const auto& v) {
    const ObjectState& o = *v.second;
    return v.second.use_count() == 1 && o.chunks.empty() && o.pending.empty() && o.committing == 0;
  });
}

// ---- Pages ----

Chunk* CowFork::FindChunk(ObjectState& object, uint64_t block) const {
  auto it = object.chunks.find(block / Chunk::kBlocks);
  return it == object.chunks.end() ? nullptr : it->second.get();
}

Page* CowFork::FindPage(ObjectState& object, uint64_t block) const {
  Chunk* chunk = FindChunk(object, block);
  return chunk ? &chunk->pages[block % Chunk::kBlocks] : nullptr;
}

Page& CowFork::GetPage(ObjectState& object, uint64_t block) {
  std::unique_ptr<Chunk>& chunk = object.chunks[block / Chunk::kBlocks];
  if (!chunk) {
    chunk = std::make_unique<Chunk>();
    chunk->object = &object;
    chunk->index = block / Chunk::kBlocks;
    chunk->place = chunks_.insert(hand_, chunk.get());
    ++chunk_count_;
  }
  return chunk->pages[block % Chunk::kBlocks];
}

std::vector<uint64_t> CowFork::BlocksWithPages(const ObjectState& object, BlockRange range) const {
  std::vector<uint64_t> blocks;
  const auto add = [&](const Chunk& chunk) {
    for (uint64_t i = 0; i < Chunk::kBlocks; ++i) {
      const uint64_t block = chunk.index * Chunk::kBlocks + i;
      if (block >= range.start && block < range.end() && !chunk.pages[i].unused()) blocks.push_back(block);
    }
  };
  const uint64_t first = range.start / Chunk::kBlocks, last = (range.end() - 1) / Chunk::kBlocks;
  if (last - first < object.chunks.size()) {
    for (uint64_t index = first; index <= last; ++index) {
      if (auto it = object.chunks.find(index); it != object.chunks.end()) add(*it->second);
    }
  } else {
    for (const auto& [index, chunk] : object.chunks) add(*chunk);
    std::sort(blocks.begin(), blocks.end());
  }
  return blocks;
}

void CowFork::EraseChunkIfUnused(Chunk* chunk) {
  for (const Page& page : chunk->pages) {
    if (!page.unused()) return;
  }
  if (hand_ == chunk->place) ++hand_;
  chunks_.erase(chunk->place);
  --chunk_count_;
  chunk->object->chunks.erase(chunk->index);
}

void CowFork::DropPage(ObjectState& object, uint64_t block) {
  Chunk* chunk = FindChunk(object, block);
  if (chunk == nullptr) return;
  Page& page = chunk->pages[block % Chunk::kBlocks];
  Unit* committing = page.committing;
  page = Page();
  page.committing = committing;
  EraseChunkIfUnused(chunk);
}

bool CowFork::InPendingHole(const ObjectState& object, uint64_t block) const {
  for (const Unit* unit : object.hole_units) {
    auto it = unit->changes.find(object.id);
    if (it != unit->changes.end() && it->second.holes.Contains(block)) return true;
  }
  return false;
}

Page* CowFork::AddReading(ObjectState& object, uint64_t block, uint64_t token) {
  Page& page = GetPage(object, block);
  if (!page.unused()) return nullptr;
  page.read_token = token;
  return &page;
}

void CowFork::FillRead(ObjectState& object, uint64_t block, uint64_t token, BufferRef buffer) {
  Page* page = FindPage(object, block);
  if (page == nullptr || page->read_token != token) return;
  page->read_token = 0;
  page->buffer = std::move(buffer);
  page->referenced = true;
  if (!page->buffer) EraseChunkIfUnused(FindChunk(object, block));
}

void CowFork::DropClean(ObjectState& object, BlockRange range) {
  for (uint64_t block : BlocksWithPages(object, range)) {
    const Page* page = FindPage(object, block);
    if (!page->pending && !page->committing) DropPage(object, block);
  }
}

void CowFork::Evict(uint64_t limit_bytes) {
  // Two rounds: the first may only clear the marks of recent use.
  for (size_t steps = 2 * chunks_.size(); steps > 0 && page_memory_bytes() > limit_bytes && !chunks_.empty();
       --steps) {
    if (hand_ == chunks_.end()) hand_ = chunks_.begin();
    Chunk* chunk = *hand_;
    ++hand_;
    for (Page& page : chunk->pages) {
      if (!page.buffer || page.pending || page.committing) continue;
      if (page.referenced) {
        page.referenced = false;
      } else {
        page = Page();
      }
    }
    EraseChunkIfUnused(chunk);
  }
}

// ---- Staging ----

void CowFork::Barrier() {
  if (!pending_.empty() || committing_units_ > 0) ++epoch_;
}

uint64_t CowFork::BlocksToClaim(const ObjectState& object, BlockRange range) const {
  uint64_t n = 0;
  for (uint64_t b = range.start; b < range.end(); ++b) {
    const Page* page = FindPage(const_cast<ObjectState&>(object), b);
    if (page == nullptr || page->pending == nullptr || page->pending->epoch != epoch_) ++n;
  }
  return n;
}

void CowFork::AddUnitsOfRange(const ObjectState& object, BlockRange range, UnitSet* units) const {
  if (object.metadata_unit != nullptr && object.metadata_unit->epoch == epoch_) {
    units->insert(object.metadata_unit);
  }
  for (uint64_t b = range.start; b < range.end(); ++b) {
    const Page* page = FindPage(const_cast<ObjectState&>(object), b);
    if (page != nullptr && page->pending != nullptr && page->pending->epoch == epoch_) {
      units->insert(page->pending);
    }
  }
}

void CowFork::AddUnitsOfObject(const ObjectState& object, UnitSet* units) const {
  for (Unit* unit : object.pending) {
    if (unit->epoch == epoch_) units->insert(unit);
  }
}

void CowFork::AddUnitOfName(const std::string& name, UnitSet* units) const {
  if (const std::shared_ptr<Unit> unit = UnitOfName(name)) units->insert(unit.get());
}

std::shared_ptr<Unit> CowFork::Shared(const Unit* unit) const {
  auto it = pending_.find({unit->epoch, unit->sequence});
  return it == pending_.end() ? nullptr : it->second;
}

std::shared_ptr<Unit> CowFork::NewUnit() {
  auto unit = std::make_shared<Unit>();
  unit->sequence = next_sequence_++;
  unit->epoch = epoch_;
  pending_[{unit->epoch, unit->sequence}] = unit;
  return unit;
}

void CowFork::NotePending(Unit* unit, ObjectState& object) { object.pending.insert(unit); }

ObjectChange& CowFork::Change(Unit& unit, const std::shared_ptr<ObjectState>& object) {
  ObjectChange& change = unit.changes[object->id];
  if (!change.object) {
    change.object = object;
    NotePending(&unit, *object);
  }
  return change;
}

std::shared_ptr<Unit> CowFork::Join(std::shared_ptr<Unit> into, std::shared_ptr<Unit> from) {
  // Either may have been joined to something on the way here, even to the other.
  into = Resolve(std::move(into));
  from = Resolve(std::move(from));
  if (into == from) return into;
  UNTORN_CHECK(into->epoch == from->epoch && into->state == Unit::State::kPending &&
                   from->state == Unit::State::kPending,
               "units are joined across a barrier or a commit");
  if (from->data_blocks > into->data_blocks) std::swap(into, from);
  // The later one's metadata wins where both have some; but by invariant 2 at most one has, for one object.
  for (auto& [id, theirs] : from->changes) {
    ObjectState& object = *theirs.object;
    object.pending.erase(from.get());
    if (object.metadata_unit == from.get()) object.metadata_unit = into.get();
    ObjectChange& ours = Change(*into, theirs.object);
    ForEachBlock(theirs.data, [&](uint64_t b) {
      Page* page = FindPage(object, b);
      if (page != nullptr && page->pending == from.get()) page->pending = into.get();
    });
    if (!theirs.holes.empty()) {
      std::erase(object.hole_units, from.get());
      if (std::find(object.hole_units.begin(), object.hole_units.end(), into.get()) ==
          object.hole_units.end()) {
        object.hole_units.push_back(into.get());
      }
    }
    ours.data.AddAll(theirs.data);
    ours.holes.AddAll(theirs.holes);
    ours.unwritten.insert(ours.unwritten.end(), theirs.unwritten.begin(), theirs.unwritten.end());
    if (theirs.set_size_bytes) {
      ours.set_size_bytes = std::max(*theirs.set_size_bytes, ours.grow_to_bytes);
    } else if (ours.set_size_bytes) {
      ours.set_size_bytes = std::max(*ours.set_size_bytes, theirs.grow_to_bytes);
    }
    ours.grow_to_bytes = std::max(ours.grow_to_bytes, theirs.grow_to_bytes);
    if (theirs.name) ours.name = theirs.name;
    ours.removed |= theirs.removed;
  }
  for (auto& [name, target] : from->names) {
    into->names[name] = target;
    auto it = names_.find(name);
    if (it != names_.end() && it->second.unit == from.get()) it->second.unit = into.get();
  }
  for (auto& [key, buffer] : from->detached) into->detached[key] = std::move(buffer);
  into->data_blocks += from->data_blocks;
  into->claimed_blocks += from->claimed_blocks;
  into->claimed_entries += from->claimed_entries;
  into->transaction |= from->transaction;
  into->bypass_cache &= from->bypass_cache;
  into->wanted |= from->wanted;
  into->device_refused |= from->device_refused;
  if (into->born_ms == 0 || (from->born_ms != 0 && from->born_ms < into->born_ms))
    into->born_ms = from->born_ms;
  std::move(from->when_done.begin(), from->when_done.end(), std::back_inserter(into->when_done));
  from->when_done.clear();
  from->changes.clear();
  from->names.clear();
  from->detached.clear();
  from->joined_to = into;
  pending_.erase({from->epoch, from->sequence});
  return into;
}

std::shared_ptr<Unit> CowFork::UnitForRange(const std::shared_ptr<ObjectState>& object, BlockRange range,
                                            std::shared_ptr<Unit> unit) {
  const auto add = [&](Unit* other) {
    if (other->epoch != epoch_) return;
    std::shared_ptr<Unit> shared = Shared(other);
    unit = unit ? Join(unit, shared) : shared;
  };
  if (object->metadata_unit != nullptr) add(object->metadata_unit);
  for (uint64_t b = range.start; b < range.end(); ++b) {
    const Page* page = FindPage(*object, b);
    if (page != nullptr && page->pending != nullptr && page->pending != unit.get()) add(page->pending);
  }
  return unit ? unit : NewUnit();
}

std::shared_ptr<Unit> CowFork::UnitForObject(const std::shared_ptr<ObjectState>& object) {
  std::vector<std::shared_ptr<Unit>> units;
  for (Unit* other : object->pending) {
    if (other->epoch == epoch_) units.push_back(Shared(other));
  }
  std::shared_ptr<Unit> unit;
  for (const std::shared_ptr<Unit>& other : units) {
    std::shared_ptr<Unit> now = Resolve(other);
    unit = unit ? Join(unit, now) : now;
  }
  if (!unit) unit = NewUnit();
  Change(*unit, object);
  object->metadata_unit = unit.get();
  return unit;
}

std::shared_ptr<Unit> CowFork::UnitOfName(const std::string& name) const {
  auto it = names_.find(name);
  if (it == names_.end() || it->second.unit->state != Unit::State::kPending ||
      it->second.unit->epoch != epoch_) {
    return nullptr;
  }
  return Shared(it->second.unit);
}

void CowFork::StageName(const std::shared_ptr<Unit>& unit, const std::string& name,
                        const std::shared_ptr<ObjectState>& object) {
  unit->names[name] = object ? std::optional<ObjectId>(object->id) : std::nullopt;
  names_[name] = {object, unit.get()};
}

void CowFork::Detach(Page& page, ObjectState& object, uint64_t block) {
  page.pending->detached[{object.id, block}] = std::move(page.buffer);
  page.pending = nullptr;
}

void CowFork::StageBlock(const std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object,
                         uint64_t block, BufferRef buffer) {
  Page& page = GetPage(*object, block);
  if (page.pending != nullptr && page.pending != unit.get()) Detach(page, *object, block);
  if (page.pending == nullptr) {
    page.pending = unit.get();
    Change(*unit, object).data.Add({block, 1});
    ++unit->data_blocks;
    ++dirty_blocks_;
  }
  page.buffer = std::move(buffer);
  page.read_token = 0;
  page.referenced = true;
  page.drop_when_clean = unit->bypass_cache;
}

Unit* CowFork::Restage(ObjectState& object, BlockRange range, std::span<BufferRef> buffers) {
  if (pending_.empty() || pending_.begin()->first.first != epoch_) return nullptr;
  // Else the unit has a size to bring, or an order to keep.
  if (object.metadata_unit != nullptr || object.committing_metadata > 0 ||
      range.end() * kBlockBytes > object.durable_size_bytes) {
    return nullptr;
  }
  absl::InlinedVector<Page*, Chunk::kBlocks> pages;
  for (uint64_t b = range.start; b < range.end(); ++b) {
    Page* page = FindPage(object, b);
    if (page == nullptr || page->pending == nullptr || page->drop_when_clean) return nullptr;
    if (!pages.empty() && page->pending != pages[0]->pending) return nullptr;
    pages.push_back(page);
  }
  for (uint64_t i = 0; i < range.count; ++i) {
    std::swap(pages[i]->buffer, buffers[i]);
    pages[i]->referenced = true;
  }
  return pages[0]->pending;
}

void CowFork::Prefetch(ObjectState& object, BlockRange range) const {
  if (range.count > Chunk::kBlocks) return;
  for (uint64_t b = range.start; b < range.end(); ++b) {
    const Page* page = FindPage(object, b);
    if (page == nullptr) return;
    __builtin_prefetch(page);
    __builtin_prefetch(reinterpret_cast<const std::byte*>(page + 1) - 1);
  }
}

void CowFork::StageGrowth(const std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object,
                          uint64_t size_bytes) {
  // Recorded even where a pending unit makes the object larger still: this one may become durable without it.
  object->size_bytes = std::max(object->size_bytes, size_bytes);
  ObjectChange& change = Change(*unit, object);
  change.grow_to_bytes = std::max(change.grow_to_bytes, size_bytes);
  if (change.set_size_bytes) change.set_size_bytes = std::max(*change.set_size_bytes, size_bytes);
}

uint64_t CowFork::StageHole(const std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object,
                            BlockRange range) {
  ObjectChange& change = Change(*unit, object);
  uint64_t taken = 0;
  for (uint64_t block : BlocksWithPages(*object, range)) {
    Page* page = FindPage(*object, block);
    if (page->pending == unit.get()) {
      ++taken;
    } else if (page->pending != nullptr) {
      Detach(*page, *object, block);
    }
    DropPage(*object, block);
  }
  change.data.Remove(range);
  change.holes.Add(range);
  if (std::find(object->hole_units.begin(), object->hole_units.end(), unit.get()) ==
      object->hole_units.end()) {
    object->hole_units.push_back(unit.get());
  }
  unit->data_blocks -= taken;
  dirty_blocks_ -= taken;
  return taken;
}

// ---- Committing ----

bool CowFork::MustWait(const Unit& unit) const {
  for (const auto& [id, change] : unit.changes) {
    ObjectState& object = *change.object;
    if (object.committing_metadata > 0 || (change.metadata() && object.committing > 0)) return true;
    if (object.committing == 0) continue;
    bool wait = false;
    ForEachBlock(change.data, [&](uint64_t b) {
      const Page* page = FindPage(object, b);
      wait |= page != nullptr && page->committing != nullptr;
    });
    if (wait) return true;
  }
  return false;
}

void CowFork::Freeze(const std::shared_ptr<Unit>& unit) {
  unit->state = Unit::State::kCommitting;
  ++committing_units_;
  pending_.erase({unit->epoch, unit->sequence});
  for (auto& [id, change] : unit->changes) {
    ObjectState& object = *change.object;
    object.pending.erase(unit.get());
    if (object.metadata_unit == unit.get()) object.metadata_unit = nullptr;
    ++object.committing;
    if (change.metadata()) ++object.committing_metadata;
    change.data.ForEach([&, id = id](BlockRange r) {
      FrozenRange range{&object, r, {}};
      range.buffers.reserve(r.count);
      for (uint64_t b = r.start; b < r.end(); ++b) {
        Page& page = GetPage(object, b);
        if (page.pending == unit.get()) {
          range.buffers.push_back(page.buffer);
          page.pending = nullptr;
        } else {
          auto it = unit->detached.find({id, b});
          UNTORN_CHECK(it != unit->detached.end(), "a block of a unit is in no page");
          range.buffers.push_back(std::move(it->second));
        }
        page.committing = unit.get();
      }
      unit->frozen.push_back(std::move(range));
    });
  }
  unit->detached.clear();
}

void CowFork::Complete(const std::shared_ptr<Unit>& unit) {
  --committing_units_;
  unit->state = Unit::State::kDone;
  for (FrozenRange& range : unit->frozen) {
    for (uint64_t b = range.blocks.start; b < range.blocks.end(); ++b) {
      Page* page = FindPage(*range.object, b);
      if (page == nullptr || page->committing != unit.get()) continue;
      page->committing = nullptr;
      if (page->pending == nullptr && page->drop_when_clean) {
        DropPage(*range.object, b);
      } else if (page->unused()) {
        EraseChunkIfUnused(FindChunk(*range.object, b));
      }
    }
    dirty_blocks_ -= range.blocks.count;
  }
  unit->frozen.clear();
  for (auto& [id, change] : unit->changes) {
    ObjectState& object = *change.object;
    --object.committing;
    if (change.metadata()) --object.committing_metadata;
    std::erase(object.hole_units, unit.get());
    if (change.recorded_size_bytes) object.durable_size_bytes = *change.recorded_size_bytes;
  }
  for (const auto& [name, target] : unit->names) {
    auto it = names_.find(name);
    if (it != names_.end() && it->second.unit == unit.get()) names_.erase(it);
  }
  unit->changes.clear();
}

Unit* CowFork::PendingWith(const ObjectState& object, uint64_t block, uint64_t epoch,
                           const Unit* except) const {
  for (Unit* other : object.pending) {
    if (other == except || other->epoch != epoch) continue;
    auto change = other->changes.find(object.id);
    if (change != other->changes.end() && change->second.data.Contains(block)) return other;
  }
  return nullptr;
}

void CowFork::Unfreeze(const std::shared_ptr<Unit>& unit) {
  --committing_units_;
  unit->state = Unit::State::kPending;
  pending_[{unit->epoch, unit->sequence}] = unit;
  for (auto& [id, change] : unit->changes) {
    --change.object->committing;
    if (change.metadata()) --change.object->committing_metadata;
    NotePending(unit.get(), *change.object);
    // What goes in place ends within the durable size. That may be truncated by now: joined to it, this must not
    // make the object larger again.
    change.grow_to_bytes = 0;
  }
  std::vector<std::shared_ptr<Unit>> overlapping;
  for (FrozenRange& range : unit->frozen) {
    for (uint64_t b = range.blocks.start; b < range.blocks.end(); ++b) {
      Page& page = GetPage(*range.object, b);
      page.committing = nullptr;
      BufferRef& buffer = range.buffers[b - range.blocks.start];
      if (Unit* newer = PendingWith(*range.object, b, unit->epoch, unit.get())) {
        overlapping.push_back(Shared(newer));
        unit->changes[range.object->id].data.Remove({b, 1});
        --unit->data_blocks;
        --dirty_blocks_;
      } else if (page.pending == nullptr && page.buffer) {
        page.pending = unit.get();  // still the newest content
      } else {
        unit->detached[{range.object->id, b}] = std::move(buffer);
      }
    }
  }
  unit->frozen.clear();
  // A metadata change of the same object and epoch that came meanwhile holds everything before it (invariant
  // 2).
  for (auto& [id, change] : unit->changes) {
    for (Unit* other : change.object->pending) {
      auto theirs = other->changes.find(id);
      if (other == unit.get() || other->epoch != unit->epoch || theirs == other->changes.end() ||
          !theirs->second.metadata()) {
        continue;
      }
      theirs->second.holes.ForEach([&, id = id, &change = change](BlockRange hole) {
        RangeSet kept = change.data;
        kept.Remove(hole);
        ForEachBlock(change.data, [&](uint64_t b) {
          if (b < hole.start || b >= hole.end()) return;
          unit->detached.erase({id, b});
          --unit->data_blocks;
          --dirty_blocks_;
        });
        change.data = std::move(kept);
      });
      overlapping.push_back(Shared(other));
    }
  }
  std::shared_ptr<Unit> all = unit;
  for (const std::shared_ptr<Unit>& other : overlapping) all = Join(all, Resolve(other));
}

}  // namespace untorn
