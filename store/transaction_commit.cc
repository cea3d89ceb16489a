// Committing a transaction: as one change set, whose data is staged in the cache, or, if it is large, was spilled.
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/readiness.h"
#include "base/status_macros.h"
#include "extent/tree_merge.h"
#include "store/exclusive.h"
#include "store/staging.h"
#include "store/transaction_impl.h"
#include "writeback/decision.h"
#include "writeback/log_entries.h"
#include "writeback/rules.h"

namespace untorn::internal {

absl::Status TransactionImpl::Commit(Durability durability) {
  RETURN_IF_ERROR(CheckUsable());
  absl::Status status = CheckPolicy();
  if (status.ok()) status = IsLarge() ? CommitLarge() : CommitStaged(durability);
  if (status.ok()) {
    const Lock lock(front_.mu);
    ++front_.parts.stats.transactions;
  }
  Finish();
  return status;
}

bool TransactionImpl::IsLarge() const {
  // A block of which only parts are known has to be in the cache when the others are added.
  if (blocks_in_memory_ > front_.admission.set_blocks_max() / 2) return true;
  return std::any_of(drafts_.begin(), drafts_.end(), [](const auto& v) { return !v.second.spilled.empty(); });
}

// Under kHardwareOnly: whether its data could be one atomic overwrite one day.
absl::Status TransactionImpl::CheckPolicy() const {
  const CommitterOptions& committing = front_.committer.options();
  if (committing.policy != WritePolicy::kHardwareOnly) return absl::OkStatus();
  size_t ranges = 0;
  BlockCount blocks;
  for (const auto& [id, draft] : drafts_) {
    if (!draft.wrote) continue;  // what it has are the edges of holes
    const RangeSet data = draft.Data();
    ranges += data.runs();
    data.ForEach([&](BlockRange r) { blocks += r.count; });
  }
  if (ranges == 0) return absl::OkStatus();
  const PathReason reason = DecideForever(committing.policy, committing.limits, ranges > 1, Bytes(blocks));
  if (reason == PathReason::kInPlace) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "policy hardware-only: the transaction can never be one atomic overwrite: ", PathReasonName(reason),
      " (", PathReasonSentence(reason), ")"));
}

// ---- What it needs ----

// For all that it changes of an object.
Readiness TransactionImpl::AwaitTree(Lock& lock, ObjectDraft& draft) {
  if (draft.removed && draft.created()) return Readiness::Ready();
  // Range by range: the nodes need not be in the cache together.
  bool released = false;
  absl::Status status;
  const auto look = [&](Admission::LookFn fn) {
    lock.AssertHeld();
    if (!status.ok()) return;
    const Readiness readiness = front_.admission.AwaitTree(lock, draft.name, fn);
    released |= readiness.retry();
    status = readiness.error();
  };
  look([&](MappingReader& reader, MissingNodes* missing) REQUIRES_STORE_LOCK {
    std::optional<Inode> record;
    return reader.FindInode(draft.id, &record, missing);
  });
  Mappings found;
  draft.Data().ForEach([&](BlockRange r) {
    look([&](MappingReader& reader, MissingNodes* missing)
             REQUIRES_STORE_LOCK { return reader.Lookup(draft.id, r, &found, missing); });
    draft.mapped.insert(draft.mapped.end(), found.begin(), found.end());
  });
  RangeSet holes = draft.holes;
  if (draft.removed) holes.Add({0, kObjectBlocksMax});
  holes.ForEach([&](BlockRange r) {
    look([&](MappingReader& reader, MissingNodes* missing)
             REQUIRES_STORE_LOCK { return reader.ReachEdges(draft.id, r, missing); });
  });
  RETURN_IF_ERROR(status);
  return released ? Readiness::Retry() : Readiness::Ready();
}

// Everything is still as the transaction saw it: objects there, names unchanged.
Readiness TransactionImpl::AwaitUnchanged(Lock& lock) {
  RETURN_IF_ERROR(front_.parts.health.CheckWritable());
  for (auto& [id, draft] : drafts_) {
    draft.mapped.clear();  // of an earlier turn: it may be old by now
    if (draft.created() || !draft.changed()) continue;
    if (draft.state->removed) {
      return absl::AbortedError(
          absl::StrCat("object '", draft.state->name, "' was removed by others meanwhile"));
    }
    RETURN_UNLESS_READY(front_.admission.AwaitObject(lock, *draft.state));
  }
  if (!std::exchange(looked_, true)) {
    bool released = false;
    for (auto& [id, draft] : drafts_) {
      if (!draft.changed()) continue;
      const Readiness readiness = AwaitTree(lock, draft);
      RETURN_IF_ERROR(readiness.error());
      released |= readiness.retry();
    }
    if (released) return Readiness::Retry();
  }
  if (expected_.empty()) return Readiness::Ready();
  RETURN_UNLESS_READY(front_.admission.AwaitNames(lock));
  for (const auto& [name, id] : expected_) {
    std::shared_ptr<ObjectState> now;
    RETURN_UNLESS_READY(store_->names().AwaitFound(lock, name, &now));
    if ((now ? now->id : ObjectId::kNone) == id) continue;
    return absl::AbortedError(
        absl::StrCat("the name '", name, "' was ", now ? "taken" : "removed", " by others meanwhile"));
  }
  return Readiness::Ready();
}

uint64_t TransactionImpl::MetadataEntries() const {
  uint64_t entries = 0;
  for (const auto& [name, id] : names_) entries += id == ObjectId::kNone ? 1 : kTreeEntriesOfName;
  // A hole may split what was spilled, or mapped before; then the object's record, or what removing it makes.
  for (const auto& [id, draft] : drafts_) entries += 3 * draft.holes.runs() + 2;
  return entries;
}

EmergencyReserve TransactionImpl::ReserveToUse() const {
  // What only gives back may use what is kept back for that, as Remove and Truncate do.
  const bool only_gives_back = std::none_of(drafts_.begin(), drafts_.end(), [](const auto& v) {
    return v.second.grow_to > 0 || v.second.created() || v.second.renamed;
  });
  return only_gives_back ? EmergencyReserve::kUsable : EmergencyReserve::kKept;
}

// For the change sets that staging would make one of.
Readiness TransactionImpl::AwaitJoin(Lock& lock) {
  CowFork& fork = front_.parts.fork;
  ChangeSetsFound sets;
  for (const auto& [name, id] : names_) {
    if (const ChangeSetRef set = fork.names().PendingSet(name, fork.epoch())) sets.insert(set.get());
  }
  for (const auto& [id, draft] : drafts_) {
    if (!draft.state || !draft.changed()) continue;
    if (draft.needs_size()) AddSetsOfObject(*draft.state, fork.epoch(), &sets);
    for (const auto& [number, block] : draft.blocks) fork.AddSetsOfRange(*draft.state, {number, 1}, &sets);
  }
  return front_.admission.AwaitJoin(lock, sets);
}

Readiness TransactionImpl::AwaitStaging(Lock& lock, Reservation* space) {
  RETURN_UNLESS_READY(AwaitUnchanged(lock));
  RETURN_UNLESS_READY(front_.admission.AwaitCleanSpace(lock));
  RETURN_UNLESS_READY(AwaitJoin(lock));
  SpaceCost cost{0, MetadataEntries()};
  for (auto& [id, draft] : drafts_) {
    for (auto& [number, block] : draft.blocks) {
      if (!block.whole() && draft.state) {
        RETURN_UNLESS_READY(front_.admission.AwaitCached(lock, *draft.state, number));
      }
      // What is pending of a block in a hole is given back with its reservation first.
      const bool reserved = draft.state && !draft.holes.Contains(number);
      cost.blocks += reserved ? front_.parts.fork.NewBlocks(*draft.state, {number, 1}) : BlockCount(1);
      cost.tree_entries += 2;
    }
  }
  const uint64_t log_bytes =
      cost.tree_entries * kMapEntryBytes + (names_.size() + drafts_.size()) * kNamedEntryBytesMax;
  if (WholeBlocks(log_bytes) > front_.committer.log_blocks_max() / 2) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the transaction's changes may take ", log_bytes,
                     " bytes of the log, more than one commit may; commit it in "
                     "smaller steps, or use a larger store"));
  }
  return front_.admission.AwaitSpace(lock, cost, ReserveToUse(), space);
}

// ---- Staged ----

// `earlier` gets what the transaction consists of besides the change set that is returned: nothing, by the rule.
ChangeSetRef TransactionImpl::StageDraft(const Lock& lock, ChangeSetRef set, ObjectDraft& draft,
                                         ChangeSetRefs* earlier) {
  CowFork& fork = front_.parts.fork;
  std::shared_ptr<ObjectState>& object = draft.state;
  if (draft.created()) {
    object = fork.objects().Add({draft.id, 0, draft.name});
    draft.handle->state = object;
    set = StageCreate(fork, std::move(set), object);
  } else if (draft.renamed) {
    // A name may have gone through several hands: what it refers to in the end counts.
    fork.names().Stage(*set, draft.name, object);
  }
  if (draft.needs_size()) set = fork.Join(std::move(set), fork.SetForObject(object));
  draft.holes.ForEach([&](BlockRange r) {
    lock.AssertHeld();
    fork.StageHole(set, object, r);
  });
  for (auto& [number, block] : draft.blocks) {
    const bool goes_on = number > 0 && draft.blocks.contains(number - 1);
    if (!rules::TransactionIsOneChangeSet() && !goes_on && set->data_blocks > 0) {
      earlier->push_back(std::exchange(set, fork.NewChangeSet()));
    }
    set = fork.SetForRange(object, {number, 1}, std::move(set));
    BufferRef buffer = block.buffer;
    if (!block.whole()) {
      buffer = front_.admission.CopyOfBlock(*object, number);
      block.CopyWritten(buffer.data());
    }
    fork.StageBlock(set, object, number, std::move(buffer));
  }
  // The commit need not look these up again.
  if (ObjectChange& change = fork.Change(*set, object); change.mapped_known) {
    change.mapped.insert(change.mapped.end(), draft.mapped.begin(), draft.mapped.end());
  }
  if (draft.set_size) {
    fork.StageSize(set, object, draft.size);
  } else {
    fork.StageGrowth(set, object, draft.grow_to);
  }
  return set;
}

absl::Status TransactionImpl::CommitStaged(Durability durability) {
  CowFork& fork = front_.parts.fork;
  Lock lock(front_.mu);
  Reservation space;
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK { return AwaitStaging(lock, &space); }));
  ChangeSetRefs sets;
  ChangeSetRef set = fork.NewChangeSet();
  PayWith(front_, *set, std::move(space));
  // Names that go first, so that others can take their place.
  for (auto& [id, draft] : drafts_) {
    if (draft.removed && draft.state) set = StageRemove(fork, std::move(set), draft.state);
  }
  for (auto& [id, draft] : drafts_) {
    if (draft.removed || !draft.state || !draft.renamed) continue;
    set = StageRename(fork, std::move(set), draft.state, draft.name);
  }
  for (auto& [id, draft] : drafts_) {
    if (!draft.removed && draft.changed()) set = StageDraft(lock, std::move(set), draft, &sets);
  }
  // A name that came and went here: it is gone if the transaction is there, whatever is lost of what came before.
  for (const auto& [name, id] : names_) {
    if (id != ObjectId::kNone || set->names.contains(name)) continue;
    if (const ChangeSetRef other = fork.names().PendingSet(name, fork.epoch()))
      set = fork.Join(std::move(set), other);
    fork.names().Stage(*set, name, nullptr);
  }
  sets.push_back(std::move(set));
  return FinishChange(front_, lock, std::move(sets), durability);
}

// ---- Large ----

// Adds the bytes that the transaction did not write.
absl::Status TransactionImpl::CompleteBlock(Lock& lock, ObjectDraft& draft, ObjectBlock number,
                                            DraftBlock& block) {
  if (block.whole()) return absl::OkStatus();
  if (draft.state) {
    RETURN_IF_ERROR(UntilReady(
        [&]() REQUIRES_STORE_LOCK { return front_.admission.AwaitCached(lock, *draft.state, number); }));
    BufferRef buffer = front_.admission.CopyOfBlock(*draft.state, number);
    block.CopyWritten(buffer.data());
    block.buffer = std::move(buffer);
  }
  block.written.clear();
  return absl::OkStatus();
}

// What is still in memory follows the rest.
absl::Status TransactionImpl::SpillRest(Lock& lock) {
  for (auto& [id, draft] : drafts_) {
    for (auto& [number, block] : draft.blocks) RETURN_IF_ERROR(CompleteBlock(lock, draft, number, block));
    const Unlocked unlocked(lock);
    RETURN_IF_ERROR(SpillDraft(draft));
    RETURN_IF_ERROR(spill_.HashAll(draft));
  }
  return absl::OkStatus();
}

// All that the transaction changes, with its data in its place. Takes over what was spilled.
ChangeSetRef TransactionImpl::MakeChangeSet() {
  auto set = std::make_shared<ChangeSet>();
  for (const auto& [name, id] : names_) {
    set->names[name] = id == ObjectId::kNone ? std::nullopt : std::optional<ObjectId>(id);
  }
  for (auto& [id, draft] : drafts_) {
    if (!draft.changed() || (draft.removed && draft.created())) continue;
    if (draft.created()) draft.state = front_.parts.fork.objects().Add({id, draft.size, draft.name});
    ObjectChange& change = set->changes[id];
    change.object = draft.state;
    change.removed = draft.removed;
    if (draft.removed) continue;
    change.holes = draft.holes;
    for (const auto& [start, e] : draft.spilled) {
      UNTORN_CHECK(e.hash.has_value(), "a spilled extent is committed without its hash");
      change.placed.push_back({{start, e.count}, e.physical, MappingState::kWritten, *e.hash});
    }
    if (draft.created() || draft.renamed) change.name = draft.name;
    if (draft.set_size) change.set_size_bytes = draft.size;
    change.grow_to_bytes = draft.grow_to;
  }
  return set;
}

absl::Status TransactionImpl::CommitLarge() {
  Lock lock(front_.mu);
  Reservation space;
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_UNLESS_READY(AwaitUnchanged(lock));
    return front_.admission.AwaitSpace(lock, {0, MetadataEntries()}, ReserveToUse(), &space);
  }));
  // From here on nobody else changes these objects, or any name if names are changed.
  Exclusive exclusive(front_);
  for (auto& [id, draft] : drafts_) {
    if (draft.state && draft.changed()) exclusive.Hold(draft.state);
  }
  const bool names = !expected_.empty();
  if (names) exclusive.HoldNames();
  RETURN_IF_ERROR(front_.committer.Sync(lock, front_.committer.SetsWhere([&](const ChangeSet& set) {
    for (const auto& [id, draft] : drafts_) {
      if (draft.changed() && set.changes.contains(id)) return true;
    }
    return names && !set.names.empty();
  })));
  RETURN_IF_ERROR(SpillRest(lock));
  const ChangeSetRef set = MakeChangeSet();
  const BlockCount log_blocks = LogBlocksMax(LogBytesMax(*set));
  if (log_blocks > front_.committer.log_blocks_max()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("one commit would take ", log_blocks.value(), " blocks of the log, more than the ",
                     front_.committer.log_blocks_max().value(),
                     " it may; commit it in smaller steps, or use a larger store"));
  }
  // What was spilled is the store's now.
  for (auto& [id, draft] : drafts_) draft.spilled.clear();
  space.Add(std::move(spill_.space()));
  PayWith(front_, *set, std::move(space));
  front_.parts.fork.StageWhole(set);
  RETURN_IF_ERROR(front_.committer.Sync(lock, {set}));
  for (auto& [id, draft] : drafts_) {
    if (draft.created() && !draft.removed) draft.handle->state = draft.state;
  }
  front_.background.AfterChange(lock);
  return absl::OkStatus();
}

}  // namespace untorn::internal
