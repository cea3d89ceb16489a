#include "store/shrink.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/check.h"
#include "base/readiness.h"
#include "base/status_macros.h"
#include "extent/rules.h"
#include "extent/tree_merge.h"
#include "store/exclusive.h"
#include "store/object_resize.h"
#include "writeback/log_entries.h"

namespace untorn::internal {
namespace {

constexpr size_t kNamesAtOnce = 256;
// Others wait for the object while one move has it.
constexpr BlockCount kMoveBlocks{1024};
// Renames may hide an object from a round, and a read may hold its blocks. More rounds than that need another reason.
constexpr int kRoundsMax = 4;
constexpr std::chrono::microseconds kPause{200};

// Gives back what was displaced, and what the lanes have.
absl::Status GiveBackDisplaced(StoreImpl& store, Lock& lock) REQUIRES_STORE_LOCK {
  const Front& front = store.front();
  store.readers().RevokeAll();
  // Where the mapping of a displaced block is young itself, a second round is needed.
  for (int round = 0; round < 2; ++round) {
    RETURN_IF_ERROR(front.committer.SyncAll(lock));
    RETURN_IF_ERROR(store.checkpointer().Checkpoint(lock));
  }
  return front.parts.volume.lanes().GiveBack();
}

class Shrinker {
 public:
  Shrinker(StoreImpl& store, BlockNumber end, const ShrinkOptions& options)
      : store_(store), front_(store.front()), end_(end), options_(options) {}

  absl::Status Run(BlockCount total_blocks) {
    Volume& volume = front_.parts.volume;
    {
      Lock lock(front_.mu);
      RETURN_IF_ERROR(front_.parts.health.CheckWritable());
      RETURN_IF_ERROR(GiveBackDisplaced(store_, lock));
      if (end_ >= volume.space().free_space().prepared_end()) return absl::OkStatus();
      const absl::Status withdrawn = volume.space().Withdraw(lock, end_);
      if (!withdrawn.ok()) return OfStore(withdrawn);
      in_the_way_ = volume.WithdrawnInUse();
    }
    absl::Status status = MoveAll();
    Lock lock(front_.mu);
    if (status.ok()) status = front_.committer.Shrink(lock, total_blocks);
    if (!status.ok() && volume.space().withdrawn()) volume.space().RestoreWithdrawn();
    front_.background.AfterChange(lock);
    return status;
  }

  uint64_t moved_bytes() const { return Bytes(moved_); }

 private:
  // A part of a mapping that is in the way.
  struct Piece {
    Mapping mapping;  // its checksums are those below
    BlockChecksums checksums;
  };

  absl::Status OfStore(const absl::Status& status) const {
    return absl::Status(status.code(),
                        absl::StrCat(front_.parts.pump.device().info().path, ": ", status.message()));
  }

  // Says whether the store is still there, and nobody else has needed the space.
  absl::Status Check() const REQUIRES_STORE_LOCK {
    RETURN_IF_ERROR(front_.parts.health.CheckWritable());
    if (front_.parts.volume.space().withdrawn()) return absl::OkStatus();
    return OfStore(absl::ResourceExhaustedError("others have needed the space that was to be given back"));
  }

  absl::Status MoveAll() {
    Volume& volume = front_.parts.volume;
    for (int round = 0;; ++round) {
      {
        Lock lock(front_.mu);
        // The lanes may have taken blocks while the map was read.
        RETURN_IF_ERROR(volume.lanes().GiveBack());
        RETURN_IF_ERROR(front_.committer.MoveLogOutOfWithdrawn(lock));
        // What is on its way has its place already, and may be in the way.
        RETURN_IF_ERROR(front_.committer.SyncAll(lock));
      }
      RETURN_IF_ERROR(MoveObjects());
      Lock lock(front_.mu);
      RETURN_IF_ERROR(Check());
      RETURN_IF_ERROR(store_.checkpointer().Checkpoint(lock));
      RETURN_IF_ERROR(volume.lanes().ReleaseRecords());
      RETURN_IF_ERROR(AwaitReads(lock));
      RETURN_IF_ERROR(volume.space().ReleasePending());
      RETURN_IF_ERROR(Check());
      const BlockCount left = volume.WithdrawnInUse();
      if (left == 0) return absl::OkStatus();
      if (round + 1 < kRoundsMax) continue;
      return OfStore(absl::FailedPreconditionError(
          absl::StrCat(Bytes(left),
                       " bytes that are in the way belong to no object; an open transaction may have written "
                       "them ahead, or damaged metadata may keep them")));
    }
  }

  // Waits for reads of blocks that were moved.
  absl::Status AwaitReads(Lock& lock) REQUIRES_STORE_LOCK {
    while (Check().ok() && front_.parts.volume.space().PendingUnderRead(end_)) {
      // A read that ends tells nobody.
      const Unlocked unlocked(lock);
      std::this_thread::sleep_for(kPause);
    }
    return Check();
  }

  absl::Status MoveObjects() {
    std::string after;
    for (;;) {
      ASSIGN_OR_RETURN(const std::vector<ObjectInfo> names, store_.names().List(after, kNamesAtOnce));
      if (names.empty()) return absl::OkStatus();
      for (const ObjectInfo& info : names) {
        absl::StatusOr<std::shared_ptr<ObjectState>> object = store_.names().Find(info.name);
        if (absl::IsNotFound(object.status())) continue;  // removed or renamed meanwhile
        RETURN_IF_ERROR(object.status());
        RETURN_IF_ERROR(MoveObject(*object));
      }
      after = names.back().name;
    }
  }

  absl::Status MoveObject(const std::shared_ptr<ObjectState>& object) {
    Lock lock(front_.mu);
    BlockCount window = kMoveBlocks;
    for (ObjectBlock at; !object->removed && at < ObjectEnd(object->size_bytes);) {
      RETURN_IF_ERROR(Check());
      BlockRange range{at, std::min(window, ObjectEnd(object->size_bytes) - at)};
      std::vector<Piece> pieces;
      bool only_holes = false;
      RETURN_IF_ERROR(FindPieces(lock, *object, &range, &pieces, &only_holes));
      if (!pieces.empty()) {
        RETURN_IF_ERROR(Move(lock, object, range));
        RETURN_IF_ERROR(TellProgress(lock));
      }
      at = range.end();
      // A sparse object may be all hole.
      window = only_holes ? std::min(2 * window, kObjectBlocksMax) : kMoveBlocks;
      // Others come first: some may wait for the object.
      const Unlocked unlocked(lock);
      if (!pieces.empty()) std::this_thread::sleep_for(kPause);
    }
    return absl::OkStatus();
  }

  // Finds what is in the way, and shortens the range behind kMoveBlocks of it, and to what the loaded nodes say.
  absl::Status FindPieces(Lock& lock, const ObjectState& object, BlockRange* range,
                          std::vector<Piece>* pieces, bool* only_holes) REQUIRES_STORE_LOCK {
    MappingReader& reader = front_.parts.volume.mappings();
    const NodeCache::Hold hold(reader.node_cache());
    Mappings mappings;
    for (;;) {
      MissingNodes missing;
      mappings.clear();
      RETURN_IF_ERROR(reader.Lookup(object.id, *range, &mappings, &missing));
      // Behind a missing node the mappings have a gap.
      ObjectBlock known = range->start;
      for (const Mapping& m : mappings) {
        if (m.logical.start != known) break;
        known = m.logical.end();
      }
      if (known > range->start) {
        range->count = known - range->start;
        break;
      }
      RETURN_IF_ERROR(reader.LoadNodes(lock, missing));
    }
    *only_holes = true;
    BlockCount blocks;
    for (const Mapping& m : mappings) {
      if (m.logical.start >= range->end()) break;
      if (m.state == MappingState::kHole) continue;
      *only_holes = false;
      if (m.extent().end() <= end_) continue;
      const BlockCount before = end_ > m.physical ? end_ - m.physical : BlockCount(0);
      for (ObjectBlock at = m.logical.start + before; at < m.logical.end();) {
        const BlockCount count = std::min({m.logical.end() - at, kMapEntryBlocksMax, kMoveBlocks - blocks});
        Piece& piece = pieces->emplace_back();
        piece.mapping = m.Part({at, count});
        if (m.state == MappingState::kWritten) piece.checksums = piece.mapping.checksums.Copy(count);
        piece.mapping.checksums = ChecksumsRef();
        at += count;
        blocks += count;
        if (blocks < kMoveBlocks) continue;
        range->count = at - range->start;
        return absl::OkStatus();
      }
    }
    return absl::OkStatus();
  }

  // Moves what is in the way of the range, and no more of it than kMoveBlocks.
  absl::Status Move(Lock& lock, const std::shared_ptr<ObjectState>& object,
                    BlockRange range) REQUIRES_STORE_LOCK {
    const absl::Status ready = UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
      RETURN_IF_ERROR(front_.parts.health.CheckWritable());
      return front_.admission.AwaitObject(lock, *object);
    });
    if (absl::IsNotFound(ready)) return absl::OkStatus();
    RETURN_IF_ERROR(ready);
    // Nobody overwrites between the read and the commit.
    Exclusive exclusive(front_);
    exclusive.Hold(object);
    RETURN_IF_ERROR(front_.committer.Sync(lock, SetsBefore(front_, *object)));
    std::vector<Piece> pieces;
    bool only_holes = false;
    RETURN_IF_ERROR(FindPieces(lock, *object, &range, &pieces, &only_holes));
    if (pieces.empty()) return absl::OkStatus();
    Reservation reserved;
    std::vector<PlacedExtent> placed;
    absl::Status status = Reserve(lock, pieces, &reserved);
    std::vector<Copy> copies;
    for (const Piece& piece : pieces) {
      if (status.ok()) status = Place(lock, piece, &reserved, &placed, &copies);
    }
    if (status.ok()) status = CopyData(lock, *object, copies, &placed);
    // In fragmented space one piece may take several mappings.
    if (status.ok()) status = ReserveEntries(placed, &reserved);
    if (status.ok()) {
      const auto set = std::make_shared<ChangeSet>();
      PayWith(front_, *set, std::move(reserved));
      ObjectChange& change = set->changes[object->id];
      change.object = object;
      change.placed = std::exchange(placed, {});
      front_.parts.fork.StageWhole(set);
      status = front_.committer.Sync(lock, {set});
    }
    // No record names the extents that are left in `placed`.
    SpaceLedger& space = front_.parts.volume.space();
    for (const PlacedExtent& e : placed) RETURN_IF_ERROR(space.ReturnUnused({e.physical, e.blocks.count}));
    reserved.Release();
    RETURN_IF_ERROR(status);
    for (const Piece& piece : pieces) moved_ += piece.mapping.logical.count;
    return absl::OkStatus();
  }

  absl::Status TellProgress(Lock& lock) const REQUIRES_STORE_LOCK {
    if (!options_.progress) return absl::OkStatus();
    const Unlocked unlocked(lock);
    if (options_.progress(Bytes(std::min(moved_, in_the_way_)), Bytes(in_the_way_))) return absl::OkStatus();
    return absl::CancelledError("shrinking the store was told to stop");
  }

  absl::Status Reserve(Lock& lock, const std::vector<Piece>& pieces,
                       Reservation* reserved) REQUIRES_STORE_LOCK {
    SpaceCost cost;
    for (const Piece& p : pieces) {
      cost.blocks += p.mapping.logical.count;
      cost.tree_entries += TreeEntriesOfCut(p.mapping.logical.count);
    }
    return TryReserve(lock, cost, reserved);
  }

  absl::Status ReserveEntries(const std::vector<PlacedExtent>& placed,
                              Reservation* reserved) REQUIRES_STORE_LOCK {
    uint64_t needed = 0;
    for (const PlacedExtent& e : placed) needed += TreeEntriesOfCut(e.blocks.count);
    if (needed <= reserved->tree_entries()) return absl::OkStatus();
    const SpaceCost missing{0, needed - reserved->tree_entries()};
    std::optional<Reservation> more = front_.parts.volume.space().TryReserve(missing, SpaceFor::kOverwrite);
    if (!more) return NoRoom();
    reserved->Add(*std::move(more));
    return absl::OkStatus();
  }

  // Does not prepare more, as Admission does.
  absl::Status TryReserve(Lock& lock, SpaceCost cost, Reservation* reserved) REQUIRES_STORE_LOCK {
    Volume& volume = front_.parts.volume;
    std::optional<Reservation> space = volume.space().TryReserve(cost, SpaceFor::kOverwrite);
    if (!space) {
      // What was moved since the last checkpoint counts twice.
      RETURN_IF_ERROR(store_.checkpointer().Checkpoint(lock));
      RETURN_IF_ERROR(volume.lanes().GiveBack());
      space = volume.space().TryReserve(cost, SpaceFor::kOverwrite);
    }
    if (!space) return NoRoom();
    *reserved = *std::move(space);
    return absl::OkStatus();
  }

  absl::Status NoRoom() const {
    return OfStore(absl::ResourceExhaustedError(
        absl::StrCat("what is in use has no room in the first ", ByteOffset(end_), " bytes")));
  }

  // Data on its way to another place.
  struct Copy {
    Mapping from;
    ChecksumsRef expected;
    size_t to;  // the index of the placed extent
    AlignedBuffer bytes;
    IoRequest request;
  };

  // Gives the piece another place.
  absl::Status Place(Lock& lock, const Piece& piece, Reservation* reserved, std::vector<PlacedExtent>* placed,
                     std::vector<Copy>* copies) REQUIRES_STORE_LOCK {
    const Mapping& m = piece.mapping;
    for (BlockCount at; at < m.logical.count;) {
      ASSIGN_OR_RETURN(const Extent extent,
                       front_.parts.volume.space().AllocateNextOf(lock, m.logical.count - at));
      reserved->ReleaseBlocks(extent.count);
      PlacedExtent& e = placed->emplace_back();
      e.blocks = {m.logical.start + at, extent.count};
      e.physical = extent.start;
      e.state = m.state;
      if (m.state == MappingState::kWritten) {
        Copy& copy = copies->emplace_back();
        copy.from = m.Part(e.blocks);
        copy.expected = ChecksumsRef(piece.checksums).From(at);
        copy.to = placed->size() - 1;
      }
      at += extent.count;
    }
    return absl::OkStatus();
  }

  // Copies the data, and fills in the checksums of the placed extents.
  absl::Status CopyData(Lock& lock, const ObjectState& object, std::vector<Copy>& copies,
                        std::vector<PlacedExtent>* placed) REQUIRES_STORE_LOCK {
    std::vector<IoRequest*> requests;
    for (Copy& copy : copies) {
      copy.bytes = AlignedBuffer(Bytes(copy.from.logical.count));
      copy.request.op = IoOp::kRead;
      copy.request.offset_bytes = ByteOffset(copy.from.physical);
      copy.request.iov = {{copy.bytes.data(), copy.bytes.size()}};
      requests.push_back(&copy.request);
    }
    if (requests.empty()) return absl::OkStatus();
    RETURN_IF_ERROR(front_.parts.pump.RunAll(lock, requests));
    {
      const Unlocked unlocked(lock);
      for (Copy& copy : copies) {
        (*placed)[copy.to].data = DataChecksums::Of(copy.request.iov, front_.parts.data_key);
      }
    }
    for (Copy& copy : copies) {
      const PlacedExtent& to = (*placed)[copy.to];
      RETURN_IF_ERROR(CheckData(object, copy.from, copy.expected, to.data));
      copy.request.op = IoOp::kWrite;
      copy.request.optional = true;
      copy.request.offset_bytes = ByteOffset(to.physical);
    }
    const absl::Status written = front_.parts.pump.RunAll(lock, requests);
    // Nothing refers to the places yet. After another failure nobody knows what is on the medium.
    if (written.ok() || absl::IsResourceExhausted(written)) return written;
    front_.parts.health.Fail(written);
    return front_.parts.health.CheckWritable();
  }

  absl::Status CheckData(const ObjectState& object, const Mapping& from, ChecksumsRef expected,
                         const DataChecksums& found) REQUIRES_STORE_LOCK {
    const bool excused = front_.parts.volume.ExcusesMismatch(from);
    for (BlockCount i; i < from.logical.count; ++i) {
      const bool matches = found.blocks[i.value()] == expected.at(i);
      if (!MayMove(matches, excused)) {
        ++front_.parts.stats.blocks_damaged;
        return DamagedBlockError(front_.parts, object, from.logical.start + i, from.physical + i);
      }
      if (!matches) ++front_.parts.stats.blocks_excused;
    }
    return absl::OkStatus();
  }

  StoreImpl& store_;
  const Front& front_;
  const BlockNumber end_;
  const ShrinkOptions& options_;
  BlockCount in_the_way_, moved_;
};

// Returns where the store could end, with as much prepared ahead as it would have.
absl::StatusOr<BlockNumber> FindTrimmedEnd(StoreImpl& store, Lock& lock) REQUIRES_STORE_LOCK {
  const Front& front = store.front();
  Volume& volume = front.parts.volume;
  RETURN_IF_ERROR(GiveBackDisplaced(store, lock));
  const BlockCount prepared = volume.space().prepared_blocks();
  const BlockCount spare = volume.space().SpareBlocks() + SpaceLedger::KeptFromGrowth(prepared);
  BlockCount end = prepared;
  // A smaller store has less prepared ahead.
  for (int round = 0; round < 2; ++round) {
    const BlockCount ahead = Checkpointer::PrepareAhead(end);
    end = spare > ahead ? prepared - (spare - ahead) : prepared;
  }
  if (Geometry::EndsInHead(end)) end += kHeadBlocks - end % kGroupBlocks;
  return BlockAfterFirst(std::min(std::max(end, kStoreBlocksMin), prepared));
}

}  // namespace

absl::Status ShrinkTo(StoreImpl& store, BlockCount total_blocks, const ShrinkOptions& options) {
  return Shrinker(store, BlockAfterFirst(total_blocks), options).Run(total_blocks);
}

absl::StatusOr<TrimResult> Trim(StoreImpl& store, const ShrinkOptions& options) {
  RETURN_IF_ERROR(store.CheckProcess());
  const Front& front = store.front();
  const StoreImpl::ResizeTurn turn(store);
  Volume& volume = front.parts.volume;
  TrimResult result;
  BlockNumber end, log_end;
  BlockCount total;
  {
    Lock lock(front.mu);
    RETURN_IF_ERROR(front.parts.health.CheckWritable());
    RETURN_IF_ERROR(front.parts.pump.TrySpaceBelow(lock));
    const DeviceInfo& device = front.parts.pump.device().info();
    if (!device.needs_preparing) {
      return absl::FailedPreconditionError(
          absl::StrCat(device.path, ": only a store in a file gives space back to a file system"));
    }
    result.before_bytes = front.parts.pump.device().size_bytes();
    ASSIGN_OR_RETURN(end, FindTrimmedEnd(store, lock));
    total = volume.geometry().total_blocks;
    log_end = volume.geometry().log.end();
  }
  const auto shrink = [&](BlockNumber to) {
    Shrinker shrinker(store, to, options);
    absl::Status status = shrinker.Run(total);
    result.moved_bytes += shrinker.moved_bytes();
    return status;
  };
  absl::Status status = shrink(end);
  // There may be no run that is long enough for the log.
  if (absl::IsResourceExhausted(status) && log_end > end) status = shrink(log_end);
  RETURN_IF_ERROR(status);
  Lock lock(front.mu);
  RETURN_IF_ERROR(front.parts.health.CheckWritable());
  RETURN_IF_ERROR(volume.CutFile(lock));
  result.after_bytes = front.parts.pump.device().size_bytes();
  return result;
}

}  // namespace untorn::internal
