// Committing a transaction.
//
// Crash states. Staged: one unit, see writeback/commit.cc. Written ahead: its extents are referred to by
// nothing until the record chain that names all of them counts, which it does only as a whole and with all
// its data: old or new.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "extent/tree_merge.h"
#include "untorn/transaction_impl.h"

namespace untorn::internal {

void TransactionImpl::Abandon() {
  if (finished_ || !engine_.CheckProcess().ok()) return;
  finished_ = true;
  for (auto& [id, t] : touched_) CutAhead(t, {0, kObjectBlocksMax});
  touched_.clear();
  Lock lock = engine_.Acquire();
  engine_.volume().Unclaim(0, claimed_entries_);
  claimed_entries_ = 0;
}

absl::Status TransactionImpl::Commit(Durability durability) {
  if (absl::Status s = CheckUsable(); !s.ok()) return s;
  // A block of which only parts are known has to be in the cache when the others are added.
  const bool large = AnyAhead() || BlocksInMemory() > engine_.unit_limit_blocks() / 2;
  absl::Status status = CheckPolicy();
  if (status.ok()) status = large ? CommitLarge() : CommitStaged(durability);
  if (status.ok()) {
    Lock lock = engine_.Acquire();
    ++engine_.stats().transactions;
  }
  Abandon();
  return status;
}

// Everything is still as the transaction saw it: objects there, names unchanged.
absl::StatusOr<bool> TransactionImpl::CheckAtCommit(Lock& lock) {
  if (absl::Status s = engine_.CheckWritable(); !s.ok()) return s;
  for (auto& [id, t] : touched_) {
    if (t.created() || !t.changed()) continue;
    if (t.state->removed) {
      return absl::AbortedError(absl::StrCat("object '", t.state->name, "' was removed by others meanwhile"));
    }
    absl::StatusOr<bool> ok = engine_.AwaitObject(lock, *t.state);
    if (!ok.ok() || !*ok) return ok;
  }
  if (!std::exchange(reached_, true)) {
    for (auto& [id, t] : touched_) {
      if (!t.changed()) continue;
      if (absl::Status s = AwaitTree(lock, t); !s.ok()) return s;
    }
    return false;  // the lock may have been released
  }
  if (expected_.empty()) return true;
  absl::StatusOr<bool> ok = store_->AwaitNames(lock);
  if (!ok.ok() || !*ok) return ok;
  for (const auto& [name, id] : expected_) {
    std::shared_ptr<ObjectState> now;
    ok = store_->TryFind(lock, name, &now);
    if (!ok.ok() || !*ok) return ok;
    if ((now ? now->id : ObjectId::kNone) != id) {
      return absl::AbortedError(
          absl::StrCat("the name '", name, "' was ", now ? "taken" : "removed", " by others meanwhile"));
    }
  }
  return true;
}

// For all that it changes of an object, as StoreImpl::AwaitTree. May release the lock.
absl::Status TransactionImpl::AwaitTree(Lock& lock, const Touched& t) {
  if (t.removed && t.created()) return absl::OkStatus();
  RangeSet data, holes = t.holes;
  for (const auto& [number, block] : t.blocks) data.Add({number, 1});
  for (const auto& [start, ahead] : t.ahead) data.Add({start, ahead.count});
  if (t.removed) holes.Add({0, kObjectBlocksMax});
  // Range by range: they need not be in the cache together.
  std::optional<Inode> record;
  absl::Status status =
      store_->AwaitTree(lock, t.name, [&](Volume& v) { return v.TryFindInode(t.id, &record); }).status();
  std::vector<Mapping> mappings;
  data.ForEach([&](BlockRange r) {
    if (!status.ok()) return;
    status =
        store_->AwaitTree(lock, t.name, [&](Volume& v) { return v.TryLookup(t.id, r, &mappings); }).status();
  });
  holes.ForEach([&](BlockRange r) {
    if (!status.ok()) return;
    status = store_->AwaitTree(lock, t.name, [&](Volume& v) { return v.TryReachEdges(t.id, r); }).status();
  });
  return status;
}

uint64_t TransactionImpl::MetadataEntries() const {
  uint64_t entries = 0;
  for (const auto& [name, id] : names_) entries += id == ObjectId::kNone ? 1 : kTreeEntriesOfName;
  // A hole may split what was written ahead, or mapped before; then the object's record, or what removing it makes.
  for (const auto& [id, t] : touched_) entries += 3 * t.holes.runs() + 2;
  return entries;
}

// Then it may use what is kept back for that, as Remove and Truncate do.
bool TransactionImpl::OnlyGivesBack() const {
  return std::none_of(touched_.begin(), touched_.end(), [](const auto& v) {
    return v.second.grow_to > 0 || v.second.created() || v.second.renamed;
  });
}

// For the units that staging would make one of.
absl::StatusOr<bool> TransactionImpl::AwaitJoin(Lock& lock) {
  const CowFork& fork = engine_.fork();
  CowFork::UnitSet units;
  for (const auto& [name, id] : names_) fork.AddUnitOfName(name, &units);
  for (const auto& [id, t] : touched_) {
    if (!t.state || !t.changed()) continue;
    if (t.needs_size()) fork.AddUnitsOfObject(*t.state, &units);
    for (const auto& [number, block] : t.blocks) fork.AddUnitsOfRange(*t.state, {number, 1}, &units);
  }
  return engine_.AwaitJoin(lock, units);
}

// Under kHardwareOnly: whether its data could be one atomic overwrite one day.
absl::Status TransactionImpl::CheckPolicy() const {
  if (engine_.options().policy != WritePolicy::kHardwareOnly) return absl::OkStatus();
  RangeSet data;
  size_t ranges = 0;
  uint64_t blocks = 0;
  for (const auto& [id, t] : touched_) {
    if (!t.wrote) continue;  // what it has are the edges of holes
    data.clear();
    for (const auto& [number, block] : t.blocks) data.Add({number, 1});
    for (const auto& [start, ahead] : t.ahead) data.Add({start, ahead.count});
    ranges += data.runs();
    data.ForEach([&](BlockRange r) { blocks += r.count; });
  }
  if (ranges == 0) return absl::OkStatus();
  const PathReason reason = DecideForever(WritePolicy::kHardwareOnly, engine_.device_info().atomic,
                                          ranges > 1, blocks * kBlockBytes);
  if (reason == PathReason::kInPlace) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "policy hardware-only: the transaction can never be one atomic overwrite: ", PathReasonName(reason),
      " (", PathReasonSentence(reason), ")"));
}

// ---- Staged ----

absl::StatusOr<bool> TransactionImpl::ReadyToStage(Lock& lock, StagedClaim* claim) {
  absl::StatusOr<bool> ok = CheckAtCommit(lock);
  if (ok.ok() && *ok) ok = engine_.Throttle(lock);
  if (ok.ok() && *ok) ok = AwaitJoin(lock);
  if (!ok.ok() || !*ok) return ok;
  uint64_t blocks = 0, entries = MetadataEntries();
  for (auto& [id, t] : touched_) {
    for (auto& [number, block] : t.blocks) {
      if (!block.whole() && t.state) ok = engine_.EnsureCached(lock, *t.state, number);
      if (!ok.ok() || !*ok) return ok;
      // What is pending of a block in a hole is given back with its claim first.
      const bool claimed = t.state && !t.holes.Contains(number);
      blocks += claimed ? engine_.fork().BlocksToClaim(*t.state, {number, 1}) : 1;
      entries += 2;
    }
  }
  const uint64_t log_bytes = entries * kMapEntryBytes + (names_.size() + touched_.size()) * (24 + 256);
  if (log_bytes / kBlockBytes > engine_.commit_log_blocks_max() / 2) {
    return absl::ResourceExhaustedError(absl::StrCat("the transaction's changes may take ", log_bytes,
                                                     " bytes of the log, more than one commit may"));
  }
  claim->blocks = blocks;
  claim->entries = entries;
  return engine_.Claim(lock, blocks, entries, OnlyGivesBack());
}

absl::Status TransactionImpl::CommitStaged(Durability durability) {
  CowFork& fork = engine_.fork();
  Lock lock = engine_.Acquire();
  StagedClaim claim;
  while (true) {
    absl::StatusOr<bool> ok = ReadyToStage(lock, &claim);
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  std::shared_ptr<Unit> unit = fork.NewUnit();
  unit->transaction = true;
  store_->NoteClaim(*unit, claim.blocks, claim.entries);
  // Names that go first, so that others can take their place.
  for (auto& [id, t] : touched_) {
    if (t.removed && t.state) unit = store_->StageRemove(unit, t.state);
  }
  for (auto& [id, t] : touched_) {
    if (t.removed || !t.state || !t.renamed) continue;
    unit = store_->StageRename(unit, t.state, t.name);
  }
  // A name may have gone through several hands: what it refers to in the end counts.
  for (auto& [id, t] : touched_) {
    if (t.removed || !t.changed()) continue;
    std::shared_ptr<ObjectState>& object = t.state;
    if (t.created()) {
      object = fork.AddObject({t.id, 0, t.name});
      t.handle->state = object;
      unit = store_->StageCreate(unit, object);
    } else if (t.renamed) {
      fork.StageName(unit, t.name, object);
    }
    if (t.needs_size()) unit = fork.Join(unit, fork.UnitForObject(object));
    t.holes.ForEach([&](BlockRange r) { store_->StageHoles(unit, object, r); });
    for (auto& [number, block] : t.blocks) {
      unit = fork.UnitForRange(object, {number, 1}, unit);
      BufferRef buffer = block.buffer;
      if (!block.whole()) {
        buffer = engine_.CopyOfBlock(*object, number);
        for (const auto& [from, to] : block.written) {
          std::memcpy(buffer.data() + from, block.buffer.data() + from, to - from);
        }
      }
      fork.StageBlock(unit, object, number, std::move(buffer));
    }
    if (t.set_size) {
      store_->StageSize(unit, object, t.size);
    } else {
      fork.StageGrowth(unit, object, t.grow_to);
    }
  }
  // A name that came and went here: it is gone if the transaction is there, whatever is lost of what came before.
  for (const auto& [name, id] : names_) {
    if (id != ObjectId::kNone || unit->names.contains(name)) continue;
    if (std::shared_ptr<Unit> other = fork.UnitOfName(name)) unit = fork.Join(unit, other);
    fork.StageName(unit, name, nullptr);
  }
  return store_->Finish(lock, {unit}, durability);
}

// ---- Written ahead ----

// Adds the bytes that the transaction did not write.
absl::Status TransactionImpl::CompleteBlock(Lock& lock, Touched& t, uint64_t number, Block& block) {
  if (block.whole()) return absl::OkStatus();
  while (t.state) {
    absl::StatusOr<bool> ok = engine_.EnsureCached(lock, *t.state, number);
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  BufferRef buffer;
  if (t.state) {
    buffer = engine_.CopyOfBlock(*t.state, number);
    for (const auto& [from, to] : block.written) {
      std::memcpy(buffer.data() + from, block.buffer.data() + from, to - from);
    }
    block.buffer = std::move(buffer);
  }
  block.written.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<LogEntry>> TransactionImpl::BuildEntries(Lock& lock) {
  std::vector<LogEntry> entries;
  for (const auto& [name, id] : names_) {
    entries.push_back(id == ObjectId::kNone ? LogEntry::NameGone(name) : LogEntry::Name(name, id));
  }
  for (auto& [id, t] : touched_) {
    if (!t.changed()) continue;
    if (t.removed) {
      if (!t.created()) entries.push_back(LogEntry::InodeGone(id));
      continue;
    }
    t.holes.ForEach([&, id = id](BlockRange r) { entries.push_back(LogEntry::Hole(id, r)); });
    const uint64_t size = t.set_size ? t.size : std::max(t.state->size_bytes, t.grow_to);
    if (t.created() || t.renamed || size != t.state->size_bytes) {
      entries.push_back(LogEntry::SetInode({id, size, t.created() || t.renamed ? t.name : t.state->name}));
    }
    for (auto& [start, a] : t.ahead) {
      if (!a.hash) {
        std::vector<std::byte> bytes(a.count * kBlockBytes);
        lock.unlock();
        absl::Status read = ReadAheadBytes(a.physical, a.count, bytes.data());
        lock.lock();
        if (!read.ok()) return read;
        const iovec piece{bytes.data(), bytes.size()};
        a.hash = HashData({&piece, 1});
      }
      entries.push_back(
          LogEntry::Map(id, {start, a.count}, a.physical, MappingState::kWritten, *a.hash, false));
    }
  }
  return entries;
}

// At the moment it is durable, with its mappings in place: the cache follows.
void TransactionImpl::ApplyLarge() {
  CowFork& fork = engine_.fork();
  for (auto& [id, t] : touched_) {
    if (!t.changed()) continue;
    if (t.removed) {
      if (t.state) {
        t.state->removed = true;
        fork.DropClean(*t.state, {0, kObjectBlocksMax});
      }
      continue;
    }
    if (t.created()) {
      t.state = fork.AddObject({id, t.size, t.name});
      t.handle->state = t.state;
    } else {
      const uint64_t size = t.set_size ? t.size : std::max(t.state->size_bytes, t.grow_to);
      t.state->size_bytes = t.state->sent_size_bytes = t.state->durable_size_bytes = size;
      if (t.renamed) t.state->name = t.state->sent_name = t.name;
      t.holes.ForEach([&, &t = t](BlockRange r) { fork.DropClean(*t.state, r); });
      for (const auto& [start, a] : t.ahead) fork.DropClean(*t.state, {start, a.count});
    }
    t.ahead.clear();  // the store's now
  }
}

absl::Status TransactionImpl::CommitLargeLocked(Lock& lock) {
  const uint64_t entries = MetadataEntries();
  while (true) {
    absl::StatusOr<bool> ok = CheckAtCommit(lock);
    if (ok.ok() && *ok) ok = engine_.Claim(lock, 0, entries, OnlyGivesBack());
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  claimed_entries_ += entries;
  // From here on nobody else changes these objects, or any name if names are changed.
  std::vector<std::shared_ptr<ObjectState>> held;
  for (auto& [id, t] : touched_) {
    if (!t.state || !t.changed()) continue;
    t.state->exclusive = true;
    held.push_back(t.state);
  }
  const bool names = !expected_.empty();
  if (names) store_->SetNamesExclusive(true);
  const auto commit = [&]() -> absl::Status {
    const auto touches = [&](const Unit& unit) {
      for (const auto& [id, t] : touched_) {
        if (t.changed() && unit.changes.contains(id)) return true;
      }
      return names && !unit.names.empty();
    };
    if (absl::Status s = engine_.SyncUnits(lock, engine_.UnitsWhere(touches)); !s.ok()) return s;
    for (auto& [id, t] : touched_) {
      for (auto& [number, block] : t.blocks) {
        if (absl::Status s = CompleteBlock(lock, t, number, block); !s.ok()) return s;
      }
      lock.unlock();
      absl::Status spilled = Spill(t);
      lock.lock();
      if (!spilled.ok()) return spilled;
    }
    absl::StatusOr<std::vector<LogEntry>> entries = BuildEntries(lock);
    if (!entries.ok()) return entries.status();
    return engine_.CommitEntries(lock, *std::move(entries), [this] { ApplyLarge(); });
  };
  absl::Status status = commit();
  for (const auto& object : held) object->exclusive = false;
  if (names) store_->SetNamesExclusive(false);
  engine_.NotifyProgress();
  return status;
}

absl::Status TransactionImpl::CommitLarge() {
  Lock lock = engine_.Acquire();
  absl::Status status = CommitLargeLocked(lock);
  engine_.AfterChange(lock);
  return status;
}

}  // namespace untorn::internal
