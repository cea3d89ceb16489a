// A transaction commits as one change set. The data of a small transaction is staged in the cache. The data
// of a large transaction is spilled before the commit.
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

namespace {

// A transaction that only gives back may write so many zeroed edges of holes into what is kept for giving back.
constexpr size_t kEdgesMax = 16;
// Fewer entries fit every log.
constexpr uint64_t kEntriesOfAnyLog = 1000;

}  // namespace

absl::Status TransactionImpl::Commit(Durability durability) {
  absl::Status status = CheckUsable();
  if (!status.ok()) {
    Abandon();
    return status;
  }
  status = CheckPolicy();
  // A large commit returns when it is durable, whatever was asked for.
  const bool large = status.ok() && IsLarge();
  const DurableCall call(large ? Durability::kSync : durability);
  if (status.ok()) status = large ? CommitLarge() : CommitStaged(call);
  if (status.ok()) {
    const Lock lock(front_.mu);
    ++front_.parts.stats.transactions;
    if (large) call.Count(front_.parts.stats);
  }
  // A failed commit finishes the transaction too.
  Finish();
  return status;
}

bool TransactionImpl::IsLarge() const {
  // While the blocks are staged, the old content of all partly written blocks must be in the cache together.
  if (blocks_in_memory_ > SpillLimit()) return true;
  if (std::any_of(drafts_.begin(), drafts_.end(), [](const auto& v) { return !v.second.spilled.empty(); }))
    return true;
  // A staged commit has to fit the log as it is.
  const uint64_t entries = StagedEntries();
  if (entries <= kEntriesOfAnyLog) return false;
  const Lock lock(front_.mu);
  return StagedLogBlocks(entries) > front_.committer.log_blocks_max() / 2;
}

uint64_t TransactionImpl::StagedEntries() const {
  uint64_t entries = MetadataEntries();
  for (const auto& [id, draft] : drafts_) entries += 2 * draft.blocks.size();
  return entries;
}

BlockCount TransactionImpl::StagedLogBlocks(uint64_t entries) const {
  return WholeBlocks(entries * kMapEntryBytes + (names_.size() + drafts_.size()) * kNamedEntryBytesMax);
}

// Fails under kHardwareOnly if the data of the transaction can never be one atomic overwrite.
absl::Status TransactionImpl::CheckPolicy() const {
  const CommitterOptions& committing = front_.committer.options();
  if (committing.policy != WritePolicy::kHardwareOnly) return absl::OkStatus();
  size_t ranges = 0;
  BlockCount blocks;
  for (const auto& [id, draft] : drafts_) {
    if (!draft.wrote) continue;  // its blocks are zeros at the edges of holes
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

// ---- What a commit needs ----

// Is Admission::AwaitTree() for all that the transaction changes of one object. Its data needs no look
// (Admission::AwaitWritable).
Readiness TransactionImpl::AwaitTree(Lock& lock, ObjectDraft& draft) {
  // The object came and went within the transaction, so no tree ever holds the object.
  if (draft.removed && draft.created()) return Readiness::Ready();
  // The check goes range by range, so the nodes need not be in the cache together.
  bool released = false;
  absl::Status status;
  // `look` goes on after the lock was released, and does nothing after an error.
  const auto look = [&](Admission::LookFn fn) {
    lock.AssertHeld();
    if (!status.ok()) return;
    const Readiness readiness = front_.admission.AwaitTree(lock, draft.name, fn);
    released |= readiness.retry();
    status = readiness.error();
  };
  // The commit may change the inode, so the leaf of the inode must be readable.
  look([&](MappingReader& reader, MissingNodes* missing) REQUIRES_STORE_LOCK {
    std::optional<Inode> record;
    return reader.FindInode(draft.id, &record, missing);
  });
  RangeSet holes = draft.holes;
  // Removing an object makes a hole of all its blocks.
  if (draft.removed) holes.Add({0, kObjectBlocksMax});
  holes.ForEach([&](BlockRange r) {
    look([&](MappingReader& reader, MissingNodes* missing)
             REQUIRES_STORE_LOCK { return reader.ReachEdges(draft.id, r, missing); });
  });
  RETURN_IF_ERROR(status);
  return released ? Readiness::Retry() : Readiness::Ready();
}

// Waits until the transaction may change its objects and names. Fails with kAborted if others have removed
// one of the objects, or have changed what one of the names refers to.
Readiness TransactionImpl::AwaitUnchanged(Lock& lock) {
  RETURN_IF_ERROR(front_.parts.CheckChangeable());
  for (auto& [id, draft] : drafts_) {
    if (draft.created() || !draft.changed()) continue;
    if (draft.state->removed) {
      return absl::AbortedError(
          absl::StrCat("object '", draft.state->name, "' was removed by others meanwhile"));
    }
    RETURN_UNLESS_READY(front_.admission.AwaitObject(lock, *draft.state));
  }
  // All drafts are looked at, even if the lock was released before: the next turn does not look again.
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
  // Each name must refer to what it referred to when the transaction first changed the name.
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
  // A part cut out of a spilled extent makes a hole and one more extent.
  uint64_t entries = 2 * extents_cut_;
  for (const auto& [name, id] : names_) entries += id == ObjectId::kNone ? 1 : kTreeEntriesOfName;
  // A hole may split a spilled extent or an older mapping, which takes three entries at most. The other two
  // are for the object's inode, or for what removing the object makes.
  for (const auto& [id, draft] : drafts_) entries += 3 * draft.holes.runs() + 2;
  return entries;
}

std::optional<SpaceFor> TransactionImpl::KnownUse() const {
  bool wrote = false;
  size_t edges = 0;  // of holes
  for (const auto& [id, draft] : drafts_) {
    if (draft.created() || draft.renamed) return SpaceFor::kGrowth;
    if (draft.removed) continue;
    wrote |= draft.wrote;
    edges += draft.blocks.size();
  }
  return wrote || edges > kEdgesMax ? std::nullopt : std::optional(SpaceFor::kRelease);
}

absl::Status TransactionImpl::LookMapped(Lock& lock, bool* mapped) {
  absl::Status status;
  for (const auto& entry : drafts_) {
    const ObjectDraft& draft = entry.second;
    if (draft.removed) continue;
    draft.Data().ForEach([&](BlockRange r) {
      lock.AssertHeld();
      if (status.ok()) status = front_.admission.LookMapped(lock, *draft.state, r, mapped);
    });
  }
  return status;
}

// Is Admission::AwaitJoin() for the change sets that staging would join. Counts in `fresh` the blocks that need space of
// their own.
Readiness TransactionImpl::AwaitJoin(Lock& lock, BlockCount* fresh) {
  CowFork& fork = front_.parts.fork;
  ChangeSetsFound sets;
  for (const auto& [name, id] : names_) {
    if (const ChangeSetRef set = fork.names().PendingSet(name, fork.epoch())) sets.insert(set.get());
  }
  for (const auto& [id, draft] : drafts_) {
    if (!draft.state) *fresh += BlockCount(draft.blocks.size());
    if (!draft.state || !draft.changed()) continue;
    if (draft.needs_size()) AddSetsOfObject(*draft.state, fork.epoch(), &sets);
    for (const auto& [number, block] : draft.blocks) {
      const BlockCount found = fork.AddSetsOfRange(*draft.state, {number, 1}, &sets);
      // StageHole() gives back the reservation of a pending block in a hole. So such a block needs space again.
      *fresh += draft.holes.Contains(number) ? BlockCount(1) : found;
    }
  }
  return front_.admission.AwaitJoin(lock, sets);
}

Readiness TransactionImpl::AwaitStaging(Lock& lock, std::optional<SpaceFor>* use, Reservation* space) {
  RETURN_UNLESS_READY(AwaitUnchanged(lock));
  RETURN_UNLESS_READY(front_.admission.AwaitCleanSpace(lock));
  SpaceCost cost{0, StagedEntries()};
  RETURN_UNLESS_READY(AwaitJoin(lock, &cost.blocks));
  for (auto& [id, draft] : drafts_) {
    for (auto& [number, block] : draft.blocks) {
      if (!block.whole() && draft.state) {
        RETURN_UNLESS_READY(front_.admission.AwaitCached(lock, *draft.state, number));
      }
    }
  }
  // The transaction may take a quarter of the log. The sets that it joins may take another quarter.
  const BlockCount log_blocks = StagedLogBlocks(cost.tree_entries);
  if (log_blocks > front_.committer.log_blocks_max() / 2) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the transaction's changes may take ", Bytes(log_blocks),
                     " bytes of the log, more than one commit may; commit it in "
                     "smaller steps, or raise the limit of the store"));
  }
  return front_.admission.AwaitDataSpace(
      lock, cost, use, [&](bool* mapped) REQUIRES_STORE_LOCK { return LookMapped(lock, mapped); }, space);
}

// ---- Staged ----

// Stages the changes of one object, and returns the change set that holds them. `earlier` gets the other
// change sets of the transaction. The rule TransactionIsOneChangeSet says that there are none.
ChangeSetRef TransactionImpl::StageDraft(const Lock& lock, ChangeSetRef set, ObjectDraft& draft,
                                         ChangeSetRefs* earlier) {
  UNTORN_CHECK(draft.spilled.empty() && !draft.removed, "a draft is staged that the cache cannot hold");
  CowFork& fork = front_.parts.fork;
  std::shared_ptr<ObjectState>& object = draft.state;
  if (draft.created()) {
    // The object becomes visible here, and its handle becomes usable outside of the transaction.
    object = fork.objects().Add({draft.id, 0, draft.name});
    draft.handle->state = object;
    set = StageCreate(fork, std::move(set), object);
  } else if (draft.renamed) {
    // A name may pass from one object to another within the transaction. StageRename() of the first object
    // may come last, and mark the name as gone. So the final owner of the name is staged again.
    fork.names().Stage(*set, draft.name, object);
  }
  if (draft.needs_size()) set = fork.Join(std::move(set), fork.SetForObject(object));
  // Holes go before blocks: StageHole() drops pages, and blocks take precedence over holes.
  draft.holes.ForEach([&](BlockRange r) {
    lock.AssertHeld();
    fork.StageHole(set, object, r);
  });
  for (auto& [number, block] : draft.blocks) {
    // Only a canary breaks the rule. The canary begins a new change set at each run of blocks.
    if (!rules::TransactionIsOneChangeSet() && set->data_blocks > 0 &&
        (number == 0 || !draft.blocks.contains(number - 1))) {
      earlier->push_back(std::exchange(set, fork.NewChangeSet()));
    }
    set = fork.SetForRange(object, {number, 1}, std::move(set));
    BufferRef buffer = block.buffer;
    // The other bytes of the block come from the newest content, so changes of others survive.
    if (!block.whole()) {
      buffer = front_.admission.CopyOfBlock(*object, number);
      block.CopyWritten(buffer.data());
    }
    fork.StageBlock(set, object, number, std::move(buffer));
  }
  if (draft.set_size) {
    fork.StageSize(set, object, draft.size);
  } else {
    fork.StageGrowth(set, object, draft.grow_to);
  }
  return set;
}

absl::Status TransactionImpl::CommitStaged(const DurableCall& call) {
  CowFork& fork = front_.parts.fork;
  Lock lock(front_.mu);
  Reservation space;
  std::optional<SpaceFor> use = KnownUse();
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK { return AwaitStaging(lock, &use, &space); }));
  // From AwaitStaging() to the end of staging the lock is not released. So others see all of the transaction
  // or nothing.
  ChangeSetRefs sets;
  ChangeSetRef set = fork.NewChangeSet();
  PayWith(front_, *set, std::move(space));
  // Removed names go first, so that other objects can take these names.
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
  // A name may have come and gone within the transaction. If the transaction survives a crash, the name must
  // be gone, even if the crash loses earlier changes of the name.
  for (const auto& [name, id] : names_) {
    if (id != ObjectId::kNone || set->names.contains(name)) continue;
    if (const ChangeSetRef other = fork.names().PendingSet(name, fork.epoch()))
      set = fork.Join(std::move(set), other);
    fork.names().Stage(*set, name, nullptr);
  }
  // With more than one change set a canary is at work, and only the first of the sets has the reservation.
  UNTORN_CHECK(!sets.empty() || set->space.blocks() >= set->data_blocks,
               "a transaction has reserved less space than its data takes");
  sets.push_back(std::move(set));
  return FinishChange(front_, lock, std::move(sets), call);
}

// ---- Large ----

// Adds to the block the bytes that the transaction did not write.
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

// Spills the blocks that are still in memory.
absl::Status TransactionImpl::SpillRest(Lock& lock) {
  for (auto& [id, draft] : drafts_) {
    for (auto& [number, block] : draft.blocks) RETURN_IF_ERROR(CompleteBlock(lock, draft, number, block));
    const Unlocked unlocked(lock);
    RETURN_IF_ERROR(SpillDraft(draft));
  }
  return absl::OkStatus();
}

// Returns a change set with all changes of the transaction. The data is in its place already, in the spilled
// extents.
ChangeSetRef TransactionImpl::MakeChangeSet() {
  auto set = std::make_shared<ChangeSet>();
  for (const auto& [name, id] : names_) {
    set->names[name] = id == ObjectId::kNone ? std::nullopt : std::optional<ObjectId>(id);
  }
  for (auto& [id, draft] : drafts_) {
    if (!draft.changed() || (draft.removed && draft.created())) continue;
    UNTORN_CHECK(draft.blocks.empty(), "a large commit leaves blocks behind in memory");
    if (draft.created()) draft.state = front_.parts.fork.objects().Add({id, draft.size, draft.name});
    ObjectChange& change = set->changes[id];
    change.object = draft.state;
    change.removed = draft.removed;
    if (draft.removed) continue;
    change.holes = draft.holes;
    for (const auto& [start, e] : draft.spilled) {
      change.placed.push_back(
          {{start, e.count}, e.physical, MappingState::kWritten, DataChecksums::Of(e.hashes)});
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
  std::optional<SpaceFor> use = KnownUse();
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_UNLESS_READY(AwaitUnchanged(lock));
    return front_.admission.AwaitDataSpace(
        lock, {0, MetadataEntries()}, &use,
        [&](bool* mapped) REQUIRES_STORE_LOCK { return LookMapped(lock, mapped); }, &space);
  }));
  // From here on nobody else changes these objects. If the transaction changes names, nobody else changes any
  // name.
  Exclusive exclusive(front_);
  for (auto& [id, draft] : drafts_) {
    if (draft.state && draft.changed()) exclusive.Hold(draft.state);
  }
  const bool names = !expected_.empty();
  if (names) exclusive.HoldNames();
  // The change set is visible when durable, and joins nothing. So older changes of its objects and names must
  // be durable first.
  RETURN_IF_ERROR(front_.committer.Sync(lock, front_.committer.SetsWhere([&](const ChangeSet& set) {
    for (const auto& [id, draft] : drafts_) {
      if (draft.changed() && set.changes.contains(id)) return true;
    }
    return names && !set.names.empty();
  })));
  RETURN_IF_ERROR(SpillRest(lock));
  const ChangeSetRef set = MakeChangeSet();
  // The number of extents, and so of log entries, is known only now.
  const BlockCount log_blocks = LogBlocksMax(LogBytesMax(*set));
  if (log_blocks > front_.committer.log_blocks_max())
    RETURN_IF_ERROR(front_.committer.GrowLog(lock, log_blocks));
  if (log_blocks > front_.committer.log_blocks_max()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("one commit would take ", log_blocks.value(), " blocks of the log, more than the ",
                     front_.committer.log_blocks_max().value(),
                     " it may; commit it in smaller steps, or raise the limit of the store"));
  }
  // The change set owns the spilled extents now, so Finish() must not free them.
  for (auto& [id, draft] : drafts_) draft.spilled.clear();
  space.Add(std::move(spill_.space()));
  uint64_t entries = 0;
  for (const auto& [id, change] : set->changes) {
    for (const PlacedExtent& e : change.placed) entries += TreeEntriesOfBlocks(e.blocks.count);
  }
  UNTORN_CHECK(entries <= space.tree_entries(),
               "a large transaction has reserved less than its extents need");
  PayWith(front_, *set, std::move(space));
  front_.parts.fork.StageWhole(set);
  RETURN_IF_ERROR(front_.committer.Sync(lock, {set}));
  // Handles of new objects become usable only when the objects are durable.
  for (auto& [id, draft] : drafts_) {
    if (draft.created() && !draft.removed) draft.handle->state = draft.state;
  }
  front_.background.AfterChange(lock);
  return absl::OkStatus();
}

}  // namespace untorn::internal
