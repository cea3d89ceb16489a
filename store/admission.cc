#include "store/admission.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "writeback/log_entries.h"

namespace untorn::internal {
namespace {

constexpr BlockCount kLookPieceBlocks = 4096;

}  // namespace

BlockRange BlocksOf(ByteRange range) {
  const ObjectBlock first = ObjectBlockAt(range.offset_bytes);
  return {first, ObjectEnd(range.end_bytes()) - first};
}

absl::Status CheckRange(ByteRange range) {
  if (range.empty()) return absl::InvalidArgumentError("the length is zero");
  if (range.offset_bytes > kObjectBytesMax || range.length_bytes > kObjectBytesMax - range.offset_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("offset ", range.offset_bytes, " and length ", range.length_bytes,
                     " pass the largest size of an object, ", kObjectBytesMax, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckSize(uint64_t size) {
  if (size <= kObjectBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("size ", size, " is over the limit of ", kObjectBytesMax, " bytes"));
}

absl::Status RemovedError(const ObjectState& object) {
  return absl::NotFoundError(absl::StrCat("object '", object.name, "' was removed"));
}

absl::Status DamagedBlockError(const Parts& parts, const ObjectState& object, ObjectBlock block,
                               BlockNumber place) {
  return absl::DataLossError(
      absl::StrCat("object '", object.name, "': bytes ", ByteOffset(block), " to ", ByteOffset(block + 1) - 1,
                   " are damaged: block ", place.value(), " of ", parts.pump.device().info().path,
                   " does not match its checksum; write the range anew, or restore it from a copy"));
}

Readiness Admission::AwaitObject(Lock& lock, const ObjectState& object) {
  if (object.removed) return RemovedError(object);
  if (!object.exclusive) return Readiness::Ready();
  parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK { return !object.exclusive; });
  return Readiness::RetryIfOk(parts_.health.failure());
}

Readiness Admission::AwaitNames(Lock& lock) {
  if (!names_exclusive_) return Readiness::Ready();
  parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK { return !names_exclusive_; });
  return Readiness::RetryIfOk(parts_.CheckChangeable());
}

// ---- Metadata that can be read ----

Readiness Admission::AwaitTree(Lock& lock, const std::string& name, LookFn look) {
  lock.AssertHeld();
  MappingReader& mappings = parts_.volume.mappings();
  bool released = false;
  // The last lookup needs all nodes at once, so none of them may be evicted meanwhile.
  const NodeCache::Hold hold(mappings.node_cache());
  while (true) {
    MissingNodes missing;
    absl::Status status = look(mappings, &missing);
    if (status.ok() && missing.empty()) return released ? Readiness::Retry() : Readiness::Ready();
    if (status.ok()) status = mappings.LoadNodes(lock, missing);
    if (absl::IsDataLoss(status)) {
      return absl::DataLossError(
          absl::StrCat("object '", name,
                       "' cannot be changed where metadata is damaged: ", std::string(status.message())));
    }
    RETURN_IF_ERROR(status);
    released = true;
  }
}

Readiness Admission::AwaitWritable(Lock& lock, const ObjectState& object, uint64_t end_bytes) {
  if (end_bytes <= object.size_bytes) return Readiness::Ready();
  return AwaitRecord(lock, object.name, object.id);
}

Readiness Admission::AwaitRecord(Lock& lock, const std::string& name, ObjectId id) {
  return AwaitTree(lock, name, [id](MappingReader& reader, MissingNodes* missing) REQUIRES_STORE_LOCK {
    std::optional<Inode> record;
    return reader.FindInode(id, &record, missing);
  });
}

Readiness Admission::AwaitHole(Lock& lock, const ObjectState& object, BlockRange range, bool edges_written) {
  return AwaitTree(lock, object.name, [&](MappingReader& reader, MissingNodes* missing) REQUIRES_STORE_LOCK {
    std::optional<Inode> record;
    RETURN_IF_ERROR(reader.FindInode(object.id, &record, missing));
    if (range.count > 0) RETURN_IF_ERROR(reader.ReachEdges(object.id, range, missing));
    // Without blocks between the two edges there is no inner hole to check.
    if (!edges_written || range.count <= 2) return absl::OkStatus();
    return reader.ReachEdges(object.id, {range.start + 1, range.count - 2}, missing);
  });
}

// ---- Space ----

Readiness Admission::AwaitSpace(Lock& lock, SpaceCost cost, SpaceFor use, Reservation* space) {
  lock.AssertHeld();
  UNTORN_CHECK(space->empty(), "space is reserved twice for one change");
  SpaceLedger& ledger = parts_.volume.space();
  std::optional<Reservation> reserved = ledger.TryReserve(cost, use);
  if (!reserved && parts_.volume.lanes().blocks() > 0) {
    // What the lanes of the log have is the first to be given back. Without lanes, a commit is two writes.
    RETURN_IF_ERROR(parts_.volume.lanes().GiveBack());
    reserved = ledger.TryReserve(cost, use);
  }
  if (reserved) {
    *space = *std::move(reserved);
    return Readiness::Ready();
  }
  // Preparing comes first, because a checkpoint costs more. Meanwhile a checkpoint may give space back, and
  // others may take what was prepared. So the caller looks again.
  std::string below_full;
  absl::StatusOr<SpaceLedger::Prepared> more = SpaceLedger::Prepared::kAllPrepared;
  // Growth that has no room in all of the store has none in what can be prepared.
  if (use != SpaceFor::kGrowth || ledger.withdrawn() ||
      ledger.CanGrowBy(cost, parts_.volume.lanes().blocks())) {
    more = ledger.PrepareMore(lock, std::max(kPrepareStepBlocks, cost.blocks));
  }
  if (absl::IsResourceExhausted(more.status())) {
    // The file system below is full. A checkpoint may still free blocks that are prepared already.
    below_full = absl::StrCat("; more cannot be prepared: ", std::string(more.status().message()));
    more = SpaceLedger::Prepared::kAllPrepared;
  }
  if (!more.ok()) {
    // The flush that failed may have covered accepted data. Nobody can then tell whether this data is
    // durable.
    parts_.health.Fail(more.status());
    return parts_.health.failure();
  }
  if (*more == SpaceLedger::Prepared::kMore) return Readiness::Retry();
  // A writer needs the space more than another process needs an old state.
  const Readers::Hold no_new_leases(readers_);
  if (readers_.RevokeAll()) return Readiness::Retry();
  // The blocks that dirty data displaces come back once the data is durable and a checkpoint is made. Where
  // the mapping of such blocks is young itself, a second round is needed.
  for (int round = 0; round < 2; ++round) {
    RETURN_IF_ERROR(committer_.SyncAll(lock));
    RETURN_IF_ERROR(checkpointer_.Checkpoint(lock));
    RETURN_IF_ERROR(parts_.volume.lanes().GiveBack());
    // The reservation only tests whether the space is there, and goes back at once. The caller reserves after
    // a new look.
    if (ledger.TryReserve(cost, use)) return Readiness::Retry();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "no space: ", Bytes(ledger.BlocksOf(cost)), " bytes are needed, metadata included, and ",
      Bytes(ledger.ReservableBlocks() + parts_.volume.lanes().blocks()), " are free in ",
      parts_.pump.device().info().path, ", a store of ", Bytes(parts_.volume.geometry().total_blocks),
      below_full, "; remove or truncate objects to free some"));
}

Readiness Admission::AwaitDataSpace(Lock& lock, SpaceCost cost, std::optional<SpaceFor>* use,
                                    LookMappedFn look, Reservation* space) {
  SpaceLedger& ledger = parts_.volume.space();
  const SpaceFor now = use->value_or(SpaceFor::kGrowth);
  if (std::optional<Reservation> reserved = ledger.TryReserve(cost, now)) {
    *space = *std::move(reserved);
    return Readiness::Ready();
  }
  if (*use) return AwaitSpace(lock, cost, now, space);
  if (ledger.CanGrowBy(cost, parts_.volume.lanes().blocks())) {
    // The file system below may be full all the same.
    Readiness grown = AwaitSpace(lock, cost, now, space);
    if (!absl::IsResourceExhausted(grown.error())) return grown;
  }
  bool mapped = true;
  absl::Status looked = look(&mapped);
  if (looked.ok() && !mapped) {
    // The blocks may be those of changes on their way.
    RETURN_IF_ERROR(committer_.SyncAll(lock));
    mapped = true;
    looked = look(&mapped);
  }
  // New data is accepted blind where a leaf is damaged, and counts as growth.
  if (!looked.ok() && !absl::IsDataLoss(looked)) return looked;
  *use = looked.ok() && mapped ? SpaceFor::kOverwrite : SpaceFor::kGrowth;
  return Readiness::Retry();
}

Readiness Admission::AwaitDataSpace(Lock& lock, SpaceCost cost, std::optional<SpaceFor>* use,
                                    const ObjectState* object, BlockRange range, Reservation* space) {
  const auto look = [&](bool* mapped)
                        REQUIRES_STORE_LOCK { return LookMapped(lock, *object, range, mapped); };
  return AwaitDataSpace(lock, cost, use, look, space);
}

absl::Status Admission::LookMapped(Lock& lock, const ObjectState& object, BlockRange range, bool* mapped) {
  // In pieces, so the nodes need not be in the cache together.
  for (ObjectBlock at = range.start; *mapped && at < range.end();) {
    const BlockRange piece{at, std::min(range.end() - at, kLookPieceBlocks)};
    Mappings found;
    const Readiness looked =
        AwaitTree(lock, object.name, [&](MappingReader& reader, MissingNodes* missing) REQUIRES_STORE_LOCK {
          return reader.Lookup(object.id, piece, &found, missing);
        });
    RETURN_IF_ERROR(looked.error());
    for (const Mapping& m : found) *mapped &= m.state != MappingState::kHole;
    at += piece.count;
  }
  return absl::OkStatus();
}

// ---- Joining ----

Readiness Admission::AwaitJoin(Lock& lock, const ChangeSetsFound& sets) {
  uint64_t bytes = 0, largest_bytes = 0;
  ChangeSet* largest = nullptr;
  for (ChangeSet* set : sets) {
    UNTORN_CHECK(set->state == ChangeSet::State::kPending && !set->joined_to,
                 "a change would join a change set that takes no more");
    const uint64_t own = LogBytesMax(*set);
    bytes += own;
    if (own >= largest_bytes) largest = set;
    largest_bytes = std::max(largest_bytes, own);
  }
  // One commit may take half of the log. The sets to be joined may take half of that; the rest is for the
  // change.
  if (largest == nullptr || LogBlocksMax(bytes) <= parts_.volume.geometry().log.count / 4)
    return Readiness::Ready();
  return Readiness::RetryIfOk(committer_.Sync(lock, {largest->shared_from_this()}));
}

Readiness Admission::AwaitJoinOfRange(Lock& lock, const ObjectState& object, BlockRange range, bool atomic) {
  ChangeSetsFound sets;
  parts_.fork.AddSetsOfRange(object, range, &sets);
  if (sets.empty()) return Readiness::Ready();
  BlockCount blocks;
  ChangeSet* largest = nullptr;
  for (ChangeSet* set : sets) {
    blocks += set->data_blocks;
    if (largest == nullptr || set->data_blocks > largest->data_blocks) largest = set;
  }
  // Each block of a plain write joins only the set that has the block. So the largest set decides.
  if (!atomic) {
    blocks = largest->data_blocks;
    sets = {largest};
  }
  if (blocks + range.count <= set_blocks_max_) return AwaitJoin(lock, sets);
  return Readiness::RetryIfOk(committer_.Sync(lock, {largest->shared_from_this()}));
}

Readiness Admission::AwaitJoinOfObject(Lock& lock, const ObjectState& object) {
  RETURN_UNLESS_READY(AwaitObject(lock, object));
  ChangeSetsFound sets;
  AddSetsOfObject(object, parts_.fork.epoch(), &sets);
  return AwaitJoin(lock, sets);
}

// ---- Old content ----

Readiness Admission::AwaitCached(Lock& lock, ObjectState& object, ObjectBlock block) {
  PageCache& pages = parts_.fork.pages();
  Page* page = pages.Find(object, block);
  if (page != nullptr && page->buffer) return Readiness::Ready();
  UNTORN_CHECK(page == nullptr || page->pending == nullptr, "a pending block has no content");
  if (ByteOffset(block) >= object.size_bytes || InPendingHole(object, block)) return Readiness::Ready();
  Mappings found;
  RETURN_UNLESS_READY(
      AwaitTree(lock, object.name, [&](MappingReader& reader, MissingNodes* missing) REQUIRES_STORE_LOCK {
        return reader.Lookup(object.id, {block, 1}, &found, missing);
      }));
  UNTORN_CHECK(found.size() == 1 && found.front().logical == BlockRange({block, 1}),
               "a lookup found the mapping of another block");
  if (found.front().state != MappingState::kWritten) return Readiness::Ready();
  const uint64_t token = pages.NewReadToken();
  if (page != nullptr) page->read_token = token;  // replaces a read that is under way
  if (page == nullptr) pages.AddReading(object, block, token);
  BufferRef buffer = pages.pool().New();
  IoRequest request;
  request.op = IoOp::kRead;
  request.offset_bytes = ByteOffset(found.front().physical);
  request.iov = {{buffer.data(), kBlockBytes}};
  // The pin keeps the extent from being reused while the lock is released.
  const ReadPin pin = parts_.volume.space().PinRead(found.front().extent());
  const BlockChecksums checksums = found.front().checksums.Copy(1);
  const bool excused = parts_.volume.ExcusesMismatch(found.front());
  absl::Status read = parts_.pump.Run(lock, &request);
  bool wrong = false;
  if (read.ok()) {
    const Unlocked unlocked(lock);
    ForEachWrongBlock(request.iov, ChecksumsRef(checksums), parts_.data_key,
                      [&](BlockCount) { wrong = true; });
  }
  if (wrong) {
    ++(excused ? parts_.stats.blocks_excused : parts_.stats.blocks_damaged);
    if (!excused) read = DamagedBlockError(parts_, object, block, found.front().physical);
  }
  // A write may have filled the page meanwhile. FillRead() then drops this buffer, because the token has
  // changed.
  pages.FillRead(object, block, token, read.ok() ? std::move(buffer) : BufferRef());
  return Readiness::RetryIfOk(std::move(read));
}

bool Admission::HasContent(const ObjectState& object, ObjectBlock block) const {
  const Page* page = parts_.fork.pages().Find(object, block);
  return page != nullptr && page->buffer;
}

BufferRef Admission::CopyOfBlock(const ObjectState& object, ObjectBlock block) {
  BufferRef copy = parts_.fork.pages().pool().New();
  if (const Page* page = parts_.fork.pages().Find(object, block); page != nullptr && page->buffer) {
    std::memcpy(copy.data(), page->buffer.data(), kBlockBytes);
  } else {
    std::memset(copy.data(), 0, kBlockBytes);
  }
  return copy;
}

}  // namespace untorn::internal
