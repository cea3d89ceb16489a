#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "untorn/store_impl.h"
#include "untorn/transaction_impl.h"

namespace untorn::internal {
namespace {

constexpr uint64_t kPlainPartBytes = 1 << 20;
// Truncate and PunchHole: the hole, what is left of a mapping behind it, and two edges, or one and the size.
constexpr uint64_t kEntriesOfHole = 4;
// Writes, by the blocks that are new to their unit. Of an atomic one each block may have a mapping of its own, and
// together they may split another one and bring a new size. A plain one is that for each block by itself. Where
// nothing is new the unit has it all already.
constexpr uint64_t EntriesOfAtomic(uint64_t new_blocks) { return new_blocks == 0 ? 0 : new_blocks + 2; }
constexpr uint64_t EntriesOfPlain(uint64_t new_blocks) { return 3 * new_blocks; }

BlockRange BlocksOf(uint64_t offset, uint64_t bytes) {
  const uint64_t first = offset / kBlockBytes;
  return {first, BlocksFor(offset + bytes) - first};
}

// Clears Exclusive when it goes.
class ExclusiveGuard {
 public:
  ExclusiveGuard(Engine& engine, Lock& lock, ObjectState& object)
      : engine_(engine), lock_(lock), object_(object) {
    object_.exclusive = true;
  }
  ~ExclusiveGuard() {
    if (!lock_.owns_lock()) lock_.lock();
    object_.exclusive = false;
    engine_.NotifyProgress();
  }

 private:
  Engine& engine_;
  Lock& lock_;
  ObjectState& object_;
};

}  // namespace

absl::Status CheckRange(uint64_t offset, uint64_t length) {
  if (length == 0) return absl::InvalidArgumentError("the length is zero");
  if (offset > kObjectBytesMax || length > kObjectBytesMax - offset) {
    return absl::InvalidArgumentError(absl::StrCat("offset ", offset, " and length ", length,
                                                   " pass the largest size of an object, ", kObjectBytesMax,
                                                   " bytes"));
  }
  return absl::OkStatus();
}

uint64_t TotalBytes(std::span<const iovec> pieces) {
  uint64_t n = 0;
  for (const iovec& v : pieces) {
    if (v.iov_len > UINT64_MAX - n) return UINT64_MAX;
    n += v.iov_len;
  }
  return n;
}

void StoreImpl::NoteClaim(Unit& unit, uint64_t blocks, uint64_t entries) {
  unit.claimed_blocks += blocks;
  unit.claimed_entries += entries;
  if (unit.born_ms == 0) unit.born_ms = engine_->NowMs();
}

absl::Status StoreImpl::Finish(Lock& lock, std::vector<std::shared_ptr<Unit>> units, Durability durability) {
  absl::Status status;
  if (durability == Durability::kSync) status = engine_->SyncUnits(lock, std::move(units));
  engine_->AfterChange(lock);
  return status;
}

// Space claimed for the parts of one write before the first is staged.
class StoreImpl::HeldClaim {
 public:
  HeldClaim(Volume& volume, Lock& lock) : volume_(volume), lock_(lock) {}
  ~HeldClaim() {
    if (blocks_ == 0 && entries_ == 0) return;
    if (!lock_.owns_lock()) lock_.lock();
    volume_.Unclaim(blocks_, entries_);
  }
  void Hold(uint64_t blocks, uint64_t entries) {
    blocks_ = blocks;
    entries_ = entries;
  }
  // Passes so much of it on to a part. False, and nothing, if it is not as much.
  bool Take(uint64_t blocks, uint64_t entries) {
    if (blocks > blocks_ || entries > entries_) return false;
    blocks_ -= blocks;
    entries_ -= entries;
    return true;
  }

 private:
  Volume& volume_;
  Lock& lock_;
  uint64_t blocks_ = 0, entries_ = 0;
};

absl::StatusOr<bool> StoreImpl::AwaitTree(Lock& lock, const std::string& name,
                                          absl::FunctionRef<absl::StatusOr<bool>(Volume&)> look) {
  Volume& volume = engine_->volume();
  bool released = false;
  for (const NodeCache::Hold hold(volume.node_cache());;) {
    absl::StatusOr<bool> found = look(volume);
    if (found.ok() && *found) return !released;
    absl::Status status = found.status();
    if (status.ok()) status = engine_->LoadMissing(lock);
    if (absl::IsDataLoss(status)) {
      return absl::DataLossError(
          absl::StrCat("object '", name,
                       "' cannot be changed where metadata is damaged: ", std::string(status.message())));
    }
    if (!status.ok()) return status;
    released = true;
  }
}

absl::StatusOr<bool> StoreImpl::AwaitJoinOfRange(Lock& lock, const ObjectState& object, BlockRange range,
                                                 bool atomic) {
  CowFork::UnitSet units;
  engine_->fork().AddUnitsOfRange(object, range, &units);
  if (units.empty()) return true;
  uint64_t blocks = 0;
  Unit* largest = nullptr;
  for (Unit* unit : units) {
    blocks += unit->data_blocks;
    if (largest == nullptr || unit->data_blocks > largest->data_blocks) largest = unit;
  }
  // The blocks of a plain write join only what they meet, one by one.
  if (!atomic) {
    blocks = largest->data_blocks;
    units = {largest};
  }
  if (blocks + range.count <= engine_->unit_limit_blocks()) return engine_->AwaitJoin(lock, units);
  absl::Status synced = engine_->SyncUnits(lock, {engine_->fork().Shared(largest)});
  return synced.ok() ? absl::StatusOr<bool>(false) : absl::StatusOr<bool>(synced);
}

absl::StatusOr<bool> StoreImpl::AwaitWritable(Lock& lock, const ObjectState& object, uint64_t offset,
                                              uint64_t bytes) {
  const BlockRange range = BlocksOf(offset, bytes);
  const bool grows = offset + bytes > object.size_bytes;
  // What is pending has been looked at.
  const bool is_new = engine_->fork().BlocksToClaim(object, range) > 0;
  if (!grows && !is_new) return true;
  return AwaitTree(lock, object.name, [&](Volume& volume) {
    absl::StatusOr<bool> ok = true;
    std::vector<Mapping> mappings;
    if (is_new) ok = volume.TryLookup(object.id, range, &mappings);
    std::optional<Inode> record;
    if (ok.ok() && *ok && grows) ok = volume.TryFindInode(object.id, &record);
    return ok;
  });
}

absl::StatusOr<bool> StoreImpl::AwaitObjectUnits(Lock& lock, ObjectState& object) {
  absl::StatusOr<bool> ok = engine_->AwaitObject(lock, object);
  if (!ok.ok() || !*ok) return ok;
  CowFork::UnitSet units;
  engine_->fork().AddUnitsOfObject(object, &units);
  return engine_->AwaitJoin(lock, units);
}

std::vector<std::shared_ptr<Unit>> StoreImpl::UnitsBefore(const ObjectState& object) {
  const uint64_t epoch = engine_->fork().epoch();
  return engine_->UnitsWhere(
      [&](const Unit& unit) { return unit.changes.contains(object.id) || unit.epoch < epoch; });
}

absl::Status StoreImpl::Stage(Lock& lock, const std::shared_ptr<ObjectState>& object, uint64_t offset,
                              IoVector data, uint64_t data_offset, uint64_t bytes,
                              const WriteOptions& options, HeldClaim* held,
                              std::vector<std::shared_ptr<Unit>>* units) {
  const BlockRange range = BlocksOf(offset, bytes);
  const uint64_t end = offset + bytes;
  const bool head_partial = offset % kBlockBytes != 0 || bytes < kBlockBytes;
  const bool tail_partial = end % kBlockBytes != 0;
  // Bytes of block `b` that the write covers, and where they are in the data.
  const auto part = [&](uint64_t b, uint64_t* from, uint64_t* n) {
    const uint64_t start = std::max(offset, b * kBlockBytes);
    *from = start - b * kBlockBytes;
    *n = std::min(end, (b + 1) * kBlockBytes) - start;
    return data_offset + (start - offset);
  };
  // The private copy is made before the lock is taken; partly covered blocks are put together under it.
  CowFork& fork = engine_->fork();
  absl::InlinedVector<BufferRef, 16> buffers(range.count);
  const uint64_t partial_blocks = std::min<uint64_t>(head_partial + tail_partial, range.count);
  fork.pool().New({buffers.data() + head_partial, range.count - partial_blocks});
  for (uint64_t i = 0; i < range.count; ++i) {
    if (!buffers[i]) continue;
    uint64_t from, n;
    const uint64_t at = part(range.start + i, &from, &n);
    data.CopyOut(at, buffers[i].data(), n);
  }
  lock.lock();
  const auto count = [&] {
    ++engine_->stats().writes;
    engine_->stats().bytes_written += bytes;
  };
  if (options.atomic && !options.bypass_cache && !head_partial && !tail_partial && !object->removed &&
      !object->exclusive && engine_->CheckWritable().ok()) {
    if (const Unit* unit = fork.Restage(*object, range, std::span(buffers.data(), buffers.size()));
        unit != nullptr) {
      if (options.durability == Durability::kSync) units->push_back(fork.Shared(unit));
      count();
      return absl::OkStatus();
    }
  }
  uint64_t claim = 0, entries = 0;
  bool reached = false;
  const auto ready = [&]() -> absl::StatusOr<bool> {
    if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
    absl::StatusOr<bool> ok = engine_->AwaitObject(lock, *object);
    if (ok.ok() && *ok && !std::exchange(reached, true)) ok = AwaitWritable(lock, *object, offset, bytes);
    if (ok.ok() && *ok) ok = engine_->Throttle(lock);
    if (ok.ok() && *ok) ok = AwaitJoinOfRange(lock, *object, range, options.atomic);
    if (ok.ok() && *ok && head_partial) ok = engine_->EnsureCached(lock, *object, range.start);
    if (ok.ok() && *ok && tail_partial) ok = engine_->EnsureCached(lock, *object, range.end() - 1);
    if (!ok.ok() || !*ok) return ok;
    claim = fork.BlocksToClaim(*object, range);
    entries = options.atomic ? EntriesOfAtomic(claim) : EntriesOfPlain(claim);
    if (held != nullptr && held->Take(claim, entries)) return true;
    return engine_->Claim(lock, claim, entries, false);
  };
  while (true) {
    absl::StatusOr<bool> ok = ready();
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  const auto stage_block = [&](const std::shared_ptr<Unit>& unit, uint64_t b) {
    BufferRef& buffer = buffers[b - range.start];
    if (!buffer) {
      uint64_t from, n;
      const uint64_t at = part(b, &from, &n);
      buffer = engine_->CopyOfBlock(*object, b);
      data.CopyOut(at, buffer.data() + from, n);
    }
    fork.StageBlock(unit, object, b, std::move(buffer));
  };
  const auto note_bypass = [&](Unit& unit) {
    unit.bypass_cache = options.bypass_cache && (unit.data_blocks == 0 || unit.bypass_cache);
  };
  if (options.atomic) {
    std::shared_ptr<Unit> unit = fork.UnitForRange(object, range);
    NoteClaim(*unit, claim, entries);
    note_bypass(*unit);
    for (uint64_t b = range.start; b < range.end(); ++b) stage_block(unit, b);
    fork.StageGrowth(unit, object, end);
    units->push_back(std::move(unit));
  } else {
    for (uint64_t b = range.start; b < range.end(); ++b) {
      const uint64_t n = fork.BlocksToClaim(*object, {b, 1});
      std::shared_ptr<Unit> unit = fork.UnitForRange(object, {b, 1});
      NoteClaim(*unit, n, EntriesOfPlain(n));
      note_bypass(*unit);
      stage_block(unit, b);
      fork.StageGrowth(unit, object, std::min(end, (b + 1) * kBlockBytes));
      units->push_back(std::move(unit));
    }
  }
  count();
  return absl::OkStatus();
}

absl::Status StoreImpl::WriteInParts(const std::shared_ptr<ObjectState>& object, uint64_t offset,
                                     IoVector data, const WriteOptions& options, WhenDone done) {
  std::vector<std::shared_ptr<Unit>> units;
  Lock lock = engine_->Acquire();
  // Space for all parts first, and what damage there is: a write that is refused has changed nothing.
  HeldClaim held(engine_->volume(), lock);
  if (const uint64_t blocks = BlocksOf(offset, data.bytes).count;
      !options.atomic && blocks * kBlockBytes > kPlainPartBytes) {
    for (uint64_t at = 0; at < data.bytes; at += kPlainPartBytes) {
      const uint64_t n = std::min(kPlainPartBytes, data.bytes - at);
      absl::StatusOr<bool> reached = AwaitWritable(lock, *object, offset + at, n);
      if (!reached.ok()) return reached.status();
    }
    while (true) {
      if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
      absl::StatusOr<bool> claimed = engine_->Claim(lock, blocks, EntriesOfPlain(blocks), false);
      if (!claimed.ok()) return claimed.status();
      if (*claimed) break;
    }
    held.Hold(blocks, EntriesOfPlain(blocks));
  }
  const uint64_t part_max = options.atomic ? data.bytes : kPlainPartBytes;
  for (uint64_t at = 0; at < data.bytes;) {
    const uint64_t n =
        std::min(data.bytes - at, part_max - (options.atomic ? 0 : (offset + at) % kBlockBytes));
    engine_->fork().Prefetch(*object, BlocksOf(offset + at, n));
    lock.unlock();
    if (absl::Status s = Stage(lock, object, offset + at, data, at, n, options, &held, &units); !s.ok())
      return s;
    at += n;
    if (options.durability == Durability::kBuffered) units.clear();
  }
  if (!done) return Finish(lock, std::move(units), options.durability);
  if (options.durability == Durability::kBuffered) {
    engine_->CallLater([done = std::move(done)] { done(absl::OkStatus()); });
    engine_->WakeBackground();
  } else {
    for (std::shared_ptr<Unit>& unit : units) unit = Resolve(unit);
    std::erase_if(units, [](const auto& u) { return u->state == Unit::State::kDone; });
    struct Waiting {
      std::mutex mu;
      size_t left;
      absl::Status first_error;
      WhenDone done;
    };
    auto waiting = std::make_shared<Waiting>();
    waiting->left = units.size() + 1;
    waiting->done = std::move(done);
    const auto one_done = [waiting](absl::Status s) {
      std::unique_lock guard(waiting->mu);
      if (waiting->first_error.ok()) waiting->first_error = std::move(s);
      if (--waiting->left > 0) return;
      guard.unlock();
      waiting->done(waiting->first_error);
    };
    for (const std::shared_ptr<Unit>& unit : units) {
      unit->when_done.push_back(one_done);
      if (unit->state == Unit::State::kPending) engine_->Want(unit);
    }
    engine_->CallLater([one_done] { one_done(absl::OkStatus()); });
    engine_->WakeBackground();
  }
  engine_->AfterChange(lock);
  return absl::OkStatus();
}

absl::Status StoreImpl::WriteLarge(const std::shared_ptr<ObjectState>& object, uint64_t offset,
                                   IoVector data) {
  TransactionImpl transaction(shared_from_this());
  const ObjectHandle handle{shared_from_this(), object->id, object};
  if (absl::Status s = transaction.Write(handle, offset, data); !s.ok()) return s;
  absl::Status s = transaction.Commit(Durability::kSync);
  return absl::IsAborted(s) ? absl::NotFoundError(std::string(s.message())) : s;
}

absl::Status StoreImpl::Write(const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector data,
                              const WriteOptions& options, WhenDone done) {
  if (absl::Status s = CheckRange(offset, data.bytes); !s.ok()) return s;
  const BlockRange range = BlocksOf(offset, data.bytes);
  if (options.atomic) {
    if (data.bytes > kAtomicBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("an atomic write of ", data.bytes, " bytes: at most ", kAtomicBytesMax));
    }
    if (engine_->options().policy == WritePolicy::kHardwareOnly) {
      const PathReason reason = DecideForever(WritePolicy::kHardwareOnly, engine_->device_info().atomic,
                                              false, range.count * kBlockBytes);
      if (reason != PathReason::kInPlace) {
        Lock lock = engine_->Acquire();
        if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
        if (object->removed) return absl::NotFoundError("the object was removed");
        return absl::FailedPreconditionError(
            absl::StrCat("policy hardware-only: bytes ", offset, " to ", offset + data.bytes - 1,
                         " can never be one atomic overwrite: ", PathReasonName(reason), " (",
                         PathReasonSentence(reason), ")"));
      }
    }
    if (range.count > engine_->unit_limit_blocks()) {
      absl::Status s = WriteLarge(object, offset, data);
      if (!done) return s;
      Lock lock = engine_->Acquire();
      engine_->CallLater([done = std::move(done), s] { done(s); });
      engine_->WakeBackground();
      engine_->AfterChange(lock);
      return absl::OkStatus();
    }
  }
  return WriteInParts(object, offset, data, options, std::move(done));
}

absl::StatusOr<bool> StoreImpl::AwaitHole(Lock& lock, const ObjectState& object, BlockRange range,
                                          bool edges_written) {
  return AwaitTree(lock, object.name, [&](Volume& volume) {
    std::optional<Inode> record;
    absl::StatusOr<bool> ok = volume.TryFindInode(object.id, &record);
    if (ok.ok() && *ok && range.count > 0) ok = volume.TryReachEdges(object.id, range);
    if (ok.ok() && *ok && edges_written && range.count > 2)
      ok = volume.TryReachEdges(object.id, {range.start + 1, range.count - 2});
    return ok;
  });
}

void StoreImpl::StageHoles(std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object,
                           BlockRange blocks) {
  if (blocks.count == 0) return;
  const uint64_t taken = std::min(engine_->fork().StageHole(unit, object, blocks), unit->claimed_blocks);
  engine_->volume().Unclaim(taken, 0);
  unit->claimed_blocks -= taken;
}

void StoreImpl::StageSize(std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object,
                          uint64_t size) {
  ObjectChange& change = engine_->fork().Change(*unit, object);
  object->size_bytes = size;
  change.set_size_bytes = size;
  change.grow_to_bytes = 0;
}

absl::Status StoreImpl::Truncate(const std::shared_ptr<ObjectState>& object, uint64_t size,
                                 Durability durability) {
  if (size > kObjectBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("size ", size, " is over the limit of ", kObjectBytesMax, " bytes"));
  }
  CowFork& fork = engine_->fork();
  Lock lock = engine_->Acquire();
  const uint64_t edge = size / kBlockBytes;
  bool cut_edge = false;
  uint64_t claim = 0;
  std::optional<bool> reached;  // as one that shrinks it, or not
  const auto ready = [&]() -> absl::StatusOr<bool> {
    if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
    absl::StatusOr<bool> ok = true;
    const bool shrinks = size < object->size_bytes;
    if (!reached || (shrinks && !*reached)) {
      reached = shrinks;
      ok = AwaitHole(lock, *object, {edge, shrinks ? kObjectBlocksMax - edge : 0}, size % kBlockBytes != 0);
    }
    if (ok.ok() && *ok) ok = AwaitObjectUnits(lock, *object);
    cut_edge = size < object->size_bytes && size % kBlockBytes != 0;
    if (ok.ok() && *ok && cut_edge) ok = engine_->EnsureCached(lock, *object, edge);
    if (!ok.ok() || !*ok) return ok;
    const Page* page = fork.FindPage(*object, edge);
    cut_edge &= page != nullptr && page->buffer;  // else it is zeros already
    claim = cut_edge ? fork.BlocksToClaim(*object, {edge, 1}) : 0;
    return engine_->Claim(lock, claim, kEntriesOfHole, true);
  };
  while (true) {
    absl::StatusOr<bool> ok = ready();
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  std::shared_ptr<Unit> unit = fork.UnitForObject(object);
  NoteClaim(*unit, claim, kEntriesOfHole);
  if (size < object->size_bytes) {
    StageHoles(unit, object, {BlocksFor(size), kObjectBlocksMax - BlocksFor(size)});
    if (cut_edge) {
      BufferRef buffer = engine_->CopyOfBlock(*object, edge);
      std::memset(buffer.data() + size % kBlockBytes, 0, kBlockBytes - size % kBlockBytes);
      fork.StageBlock(unit, object, edge, std::move(buffer));
    }
  }
  StageSize(unit, object, size);
  return Finish(lock, {unit}, durability);
}

absl::Status StoreImpl::PunchHole(const std::shared_ptr<ObjectState>& object, uint64_t offset,
                                  uint64_t length, Durability durability) {
  if (absl::Status s = CheckRange(offset, length); !s.ok()) return s;
  CowFork& fork = engine_->fork();
  Lock lock = engine_->Acquire();
  uint64_t end = 0;
  std::vector<uint64_t> edges;  // partly covered blocks that are not zeros already
  uint64_t claim = 0;
  bool reached = false;
  const auto ready = [&]() -> absl::StatusOr<bool> {
    if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
    absl::StatusOr<bool> ok = true;
    if (offset < object->size_bytes && !std::exchange(reached, true)) {
      ok = AwaitHole(lock, *object, BlocksOf(offset, length),
                     offset % kBlockBytes != 0 || (offset + length) % kBlockBytes != 0);
    }
    if (ok.ok() && *ok) ok = AwaitObjectUnits(lock, *object);
    if (!ok.ok() || !*ok) return ok;
    end = std::min(offset + length, object->size_bytes);
    edges.clear();
    if (end <= offset) return true;
    // What lies beyond the size in the last block is zeros: a hole to the end covers that block whole.
    const bool to_end = end == object->size_bytes;
    if (offset % kBlockBytes != 0) edges.push_back(offset / kBlockBytes);
    if (end % kBlockBytes != 0 && !to_end && (edges.empty() || edges[0] != end / kBlockBytes)) {
      edges.push_back(end / kBlockBytes);
    }
    for (uint64_t edge : edges) {
      ok = engine_->EnsureCached(lock, *object, edge);
      if (!ok.ok() || !*ok) return ok;
    }
    claim = 0;
    std::erase_if(edges, [&](uint64_t edge) {
      const Page* page = fork.FindPage(*object, edge);
      return page == nullptr || !page->buffer;
    });
    for (uint64_t edge : edges) claim += fork.BlocksToClaim(*object, {edge, 1});
    return engine_->Claim(lock, claim, kEntriesOfHole, true);
  };
  while (true) {
    absl::StatusOr<bool> ok = ready();
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  if (end <= offset) {
    // Nothing to change; but if it is to be durable, so is all that has to be before it.
    return Finish(lock, UnitsBefore(*object), durability);
  }
  std::shared_ptr<Unit> unit = fork.UnitForObject(object);
  NoteClaim(*unit, claim, kEntriesOfHole);
  const uint64_t first = BlocksFor(offset);
  const uint64_t last = end == object->size_bytes ? BlocksFor(end) : end / kBlockBytes;
  if (first < last) StageHoles(unit, object, {first, last - first});
  for (uint64_t edge : edges) {
    const uint64_t from = std::max(offset, edge * kBlockBytes), to = std::min(end, (edge + 1) * kBlockBytes);
    BufferRef buffer = engine_->CopyOfBlock(*object, edge);
    std::memset(buffer.data() + from % kBlockBytes, 0, to - from);
    fork.StageBlock(unit, object, edge, std::move(buffer));
  }
  return Finish(lock, {unit}, durability);
}

absl::Status StoreImpl::Preallocate(const std::shared_ptr<ObjectState>& object, uint64_t offset,
                                    uint64_t length) {
  if (absl::Status s = CheckRange(offset, length); !s.ok()) return s;
  constexpr uint64_t kAlignment = 16;
  Volume& volume = engine_->volume();
  Lock lock = engine_->Acquire();
  while (true) {
    if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
    absl::StatusOr<bool> ok = engine_->AwaitObject(lock, *object);
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  ExclusiveGuard guard(*engine_, lock, *object);
  if (absl::Status s = engine_->SyncUnits(lock, UnitsBefore(*object)); !s.ok()) return s;
  std::vector<Mapping> mappings;
  const absl::Status reached = AwaitTree(lock, object->name, [&](Volume& v) {
                                 absl::StatusOr<bool> found =
                                     v.TryLookup(object->id, BlocksOf(offset, length), &mappings);
                                 std::optional<Inode> record;
                                 if (found.ok() && *found) found = v.TryFindInode(object->id, &record);
                                 return found;
                               }).status();
  if (!reached.ok()) return reached;
  uint64_t blocks = 0;
  for (const Mapping& m : mappings) blocks += m.state == MappingState::kHole ? m.logical.count : 0;
  if (blocks > volume.geometry().total_blocks) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no space: ", blocks * kBlockBytes, " bytes are more than the store has"));
  }
  uint64_t claimed_entries = mappings.size() + 1;
  while (true) {
    absl::StatusOr<bool> claimed = engine_->Claim(lock, blocks, claimed_entries, false);
    if (!claimed.ok()) return claimed.status();
    if (*claimed) break;
  }
  std::vector<LogEntry> entries;
  absl::Status status;
  for (const Mapping& m : mappings) {
    if (m.state != MappingState::kHole) continue;
    for (uint64_t at = m.logical.start; at < m.logical.end() && status.ok();) {
      const uint64_t left = m.logical.end() - at;
      const uint64_t alignment = std::min(kAlignment, std::bit_floor(left));
      absl::StatusOr<Extent> extent = volume.Allocate(lock, left, alignment, alignment);
      if (absl::IsResourceExhausted(extent.status())) extent = volume.Allocate(lock, left, 1, 1);
      if (!extent.ok()) {
        status = extent.status();
        break;
      }
      entries.push_back(
          LogEntry::Map(object->id, {at, extent->count}, extent->start, MappingState::kUnwritten, {}, false));
      at += extent->count;
    }
  }
  volume.Unclaim(blocks, 0);
  // Fragmented space makes more mappings of a hole than one.
  if (const uint64_t needed = entries.size() + 1; status.ok() && needed > claimed_entries) {
    if (volume.TryClaim(0, needed - claimed_entries, false)) {
      claimed_entries = needed;
    } else {
      status = absl::ResourceExhaustedError(
          absl::StrCat("no space: the free space is in ", entries.size(), " pieces, too many to be mapped"));
    }
  }
  const std::vector<LogEntry> extents = entries;
  const uint64_t size = std::max(object->size_bytes, offset + length);
  if (size != object->size_bytes) entries.push_back(LogEntry::SetInode({object->id, size, object->name}));
  if (status.ok() && !entries.empty()) {
    status = engine_->CommitEntries(lock, std::move(entries), [&] {
      object->size_bytes = object->sent_size_bytes = object->durable_size_bytes = size;
    });
  }
  volume.Unclaim(0, claimed_entries);
  if (!status.ok() && engine_->CheckWritable().ok()) {
    for (const LogEntry& e : extents) {
      if (absl::Status s = volume.ReturnUnused({e.physical, e.logical.count}); !s.ok()) return s;
    }
  }
  engine_->AfterChange(lock);
  return status;
}

absl::Status StoreImpl::SyncObject(const std::shared_ptr<ObjectState>& object) {
  Lock lock = engine_->Acquire();
  if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
  if (object->removed) return absl::NotFoundError("the object was removed");
  const auto of_object = [&](const Unit& unit) { return unit.changes.contains(object->id); };
  return Finish(lock, engine_->UnitsWhere(of_object), Durability::kSync);
}

absl::Status StoreImpl::SyncRange(const std::shared_ptr<ObjectState>& object, uint64_t offset,
                                  uint64_t length) {
  if (absl::Status s = CheckRange(offset, length); !s.ok()) return s;
  const BlockRange range = BlocksOf(offset, length);
  Lock lock = engine_->Acquire();
  if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
  if (object->removed) return absl::NotFoundError("the object was removed");
  const auto covers = [&](const Unit& unit) {
    auto change = unit.changes.find(object->id);
    if (change == unit.changes.end()) return false;
    bool found = change->second.metadata();
    change->second.data.ForEach(
        [&](BlockRange r) { found |= r.start < range.end() && range.start < r.end(); });
    return found;
  };
  return Finish(lock, engine_->UnitsWhere(covers), Durability::kSync);
}

}  // namespace untorn::internal
