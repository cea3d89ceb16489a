#include "extent/volume.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/check.h"
#include "base/probes.h"
#include "base/status_macros.h"
#include "extent/checkpoint.h"
#include "extent/rules.h"

namespace untorn {

Volume::Volume(IoPump& pump, const Superblock& superblock, int slot, size_t node_cache_nodes)
    : pump_(pump),
      data_key_(superblock.data_key),
      state_{.superblock = superblock},
      space_(pump, state_),
      mappings_(pump, state_, space_, node_cache_nodes),
      lanes_(space_, state_),
      log_(state_, space_, lanes_),
      superblocks_(pump, state_, slot),
      next_object_(superblock.next_object) {}

absl::StatusOr<std::unique_ptr<Volume>> Volume::Open(IoPump& pump, bool read_only, size_t node_cache_nodes) {
  Device& device = pump.device();
  // What a dead owner left in the disk's cache must be durable before anything is built on it.
  if (OpenFlushesFirst(read_only)) RETURN_IF_ERROR(FlushBlocking(device));
  const SuperblockSlots slots = ReadSuperblocks(device);
  ASSIGN_OR_RETURN(const Superblock superblock, UsableSuperblock(slots, device, !read_only));
  ASSIGN_OR_RETURN(LogTail tail, ReadLogTail(device, superblock));
  RETURN_IF_ERROR(CheckNotCutShort(device, tail.prepared_blocks));
  // A damaged log is not cut where the damage begins, because acknowledged records would be lost.
  if (!tail.damage.ok()) {
    return absl::DataLossError(absl::StrCat(device.info().path, ": ", std::string(tail.damage.message())));
  }
  std::unique_ptr<Volume> volume(new Volume(pump, superblock, slots.current, node_cache_nodes));
  Lock lock(pump.mutex());
  std::vector<LogEntry> outside;
  RETURN_IF_ERROR(volume->Recover(tail, &outside));
  if (!read_only && tail.lsn > tail.ring_lsn) {
    // What the fold names must be in both slots. Else damage to one slot would look like the loss of a superblock.
    const auto& spare = slots.slots[1 - slots.current];
    const Generation in_both = spare.ok() ? spare->generation : Generation();
    RETURN_IF_ERROR(volume->WriteFold(lock, std::move(outside), in_both, &tail));
  }
  volume->log_.Resume(tail);
  if (const auto& spare = slots.slots[1 - slots.current]; !spare.ok()) {
    volume->open_warnings_.push_back(absl::StrCat(
        "superblock slot ", 1 - slots.current, " is unusable (", std::string(spare.status().message()),
        "); the other one is in use and nothing is lost", read_only ? "" : "; it is written anew"));
  }
  if (!read_only) RETURN_IF_ERROR(volume->BeginEpoch(lock, tail));
  return volume;
}

std::unique_ptr<Volume> Volume::OpenLeased(IoPump& pump, const Superblock& superblock,
                                           size_t node_cache_nodes) {
  // The owner may make the file shorter as soon as it has revoked the lease. Reads tell then that it has ended.
  std::unique_ptr<Volume> volume(new Volume(pump, superblock, /*slot=*/0, node_cache_nodes));
  const Lock lock(pump.mutex());
  LogTail checkpoint;
  checkpoint.lsn = checkpoint.ring_lsn = superblock.checkpoint_lsn;
  checkpoint.position = superblock.checkpoint_position;
  checkpoint.checksum = superblock.checkpoint_checksum;
  volume->log_.Resume(checkpoint);
  // The checkpoint has the checksums of all that its owner has overwritten in place.
  volume->state_.session = superblock.epoch;
  return volume;
}

absl::Status Volume::Recover(const LogTail& tail, std::vector<LogEntry>* outside) {
  FreeSpace& free = space_.free_space();
  free.SetPrepared(tail.prepared_blocks);
  absl::Status contradiction;
  const auto note = [&](absl::Status s) {
    if (contradiction.ok()) contradiction = std::move(s);
  };
  // Nobody reads yet, and no kept record is in doubt. So the extents that the records displace are free at
  // once.
  const auto apply = [&](const LogRecord& record, Lsn chain_lsn) REQUIRES_STORE_LOCK {
    if (record.lsn > tail.ring_lsn)
      outside->insert(outside->end(), record.entries.begin(), record.entries.end());
    for (const LogEntry& e : record.entries) {
      note(state_.active->Apply(e, chain_lsn, [&](Extent extent, Lsn) { note(free.MarkFree(extent)); }));
      // Blocks that were mapped as unwritten are busy already.
      if (e.type == LogEntry::Type::kMap && !e.into_unwritten) {
        note(free.MarkBusy({e.physical, e.logical.count}));
      }
      // The log may name objects that are newer than the superblock.
      next_object_ = std::max(next_object_, Value(e.object) + 1);
    }
  };
  RETURN_IF_ERROR(ForEachRecord(pump_.device(), state_.superblock, tail, apply));
  RETURN_IF_ERROR(contradiction);
  counters_.recovered_records = tail.kept.size();
  counters_.dropped_records = tail.dropped;
  return absl::OkStatus();
}

// The fold has the log epoch in which its commits were made. Until it is durable, the lanes still hold all of them:
// nothing has been written there. If a lane record has rotted, a fold that is kept in part may be the only other copy. A
// second cut then shows as damage.
absl::Status Volume::WriteFold(Lock& lock, std::vector<LogEntry> outside, Generation superblock_generation,
                               LogTail* tail) {
  const Superblock& superblock = state_.superblock;
  const size_t entry_bytes = EncodedBytes(outside);
  const uint64_t commits = tail->lsn.value() - tail->ring_lsn.value();
  const BlockCount blocks = RecordBlocks(entry_bytes);
  if (!LogHasRoom(tail->position - superblock.checkpoint_position, blocks, superblock.geometry.log.count) ||
      entry_bytes > kLaneEntryBytesMax || commits > kCommitsInRecordMax) {
    return absl::DataLossError(absl::StrCat(pump_.device().info().path,
                                            ": the log leaves no room for the records up to ",
                                            tail->lsn.value(), "; run untorn fsck"));
  }
  LogRecord fold;
  fold.position = tail->position;
  fold.by_opening = true;
  fold.epoch = superblock.epoch;
  fold.first_lsn = tail->ring_lsn + 1;
  fold.lsn = tail->lsn;
  fold.previous_checksum = tail->checksum;
  // Opening has flushed, so all of them are durable.
  fold.claim = tail->lsn - 1;
  fold.superblock_generation = superblock_generation;
  fold.prepared_blocks = tail->prepared_blocks;
  fold.entries = std::move(outside);
  AlignedBuffer bytes(Bytes(blocks));
  const auto write = [&]() REQUIRES_STORE_LOCK {
    absl::Status status;
    // The ring may wrap inside the fold.
    for (BlockCount i; status.ok() && i < blocks; ++i) {
      IoRequest request;
      request.op = IoOp::kWrite;
      request.durable = true;
      request.offset_bytes = ByteOffset(superblock.geometry.LogBlock(tail->position + i));
      request.iov = {{bytes.data() + Bytes(i), kBlockBytes}};
      status = pump_.Run(lock, &request);
    }
    return status;
  };
  // The blocks may hold a torn fold, with sectors that are equal. A cut could make that one whole, and bring back what
  // was recorded behind it. So something goes between that no record has.
  std::memset(bytes.data(), 0xff, bytes.size());
  RETURN_IF_ERROR(write());
  tail->checksum = EncodeRecord(fold, superblock.uuid, bytes.span());
  RETURN_IF_ERROR(write());
  tail->position += blocks;
  tail->ring_lsn = tail->lsn;
  return absl::OkStatus();
}

absl::Status Volume::BeginEpoch(Lock& lock, const LogTail& tail) {
  const Superblock& superblock = state_.superblock;
  if (std::max({superblock.generation.value(), superblock.epoch.value(), tail.lsn.value(),
                tail.position.value(), next_object_}) >= kNumberMax) {
    return absl::ResourceExhaustedError(absl::StrCat(
        pump_.device().info().path, ": the store has no numbers left to count with; open it read-only"));
  }
  // The checkpoint stays the old one, so the log since then stays in use.
  Superblock next = superblock;
  ++next.generation;
  next.epoch = NextEpoch(superblock.epoch);
  next.durable_lsn = tail.lsn;
  // The heads of groups that were prepared since the checkpoint are in use.
  next.used_blocks += superblock.geometry.FixedBlocks(tail.prepared_blocks) -
                      superblock.geometry.FixedBlocks(superblock.prepared_blocks);
  next.prepared_blocks = tail.prepared_blocks;
  next.next_object = next_object_;
  next.lanes.clear();
  RETURN_IF_ERROR(superblocks_.Write(lock, next));
  state_.session = next.epoch;
  return absl::OkStatus();
}

absl::Status Volume::RecordsDurable(LogAppend& append) {
  // The durable LSN rises first, because an entry may displace what an earlier entry of the same commit has
  // mapped.
  log_.NoteDurable(append);
  counters_.log_records += append.records;
  counters_.log_bytes += append.in_lane() ? append.lane_record.size() : Bytes(append.blocks());
  if (!append.in_lane()) lanes_.RingNames(append.lanes);
  RETURN_IF_ERROR(lanes_.ReleaseRecords());
  absl::Status freed;
  for (const LogEntry& e : append.entries) {
    const absl::Status applied =
        state_.active->Apply(e, append.last, [&](Extent extent, Lsn mapped_by) REQUIRES_STORE_LOCK {
          freed.Update(space_.Free(extent, mapped_by, append.last));
        });
    UNTORN_CHECK(applied.ok(), "a record contradicts an earlier one");
  }
  RETURN_IF_ERROR(freed);
  // The claim of this commit may have settled records for which pending frees wait.
  return space_.ReleasePending();
}

void Volume::NoteOverwritten(ObjectId object, Mapping mapping) {
  // A claim covers the record of the mapping, and the delta knows it if it matters.
  mapping.lsn = Lsn();
  mapping.state = MappingState::kWritten;
  mapping.opened = state_.session;
  state_.active->Note(object, mapping);
}

bool Volume::ExcusesMismatch(const Mapping& mapping) const {
  return MayExcuseMismatch(mapping.opened, state_.session);
}

void Volume::CloseNewestMappings() { state_.open.CloseNewest(state_.session, state_.active.get()); }

void Volume::Resize(BlockCount total_blocks) {
  UNTORN_CHECK(!resizing() && !checkpoint_running() && !space_.preparing(), "a store is resized out of turn");
  space_.free_space().Resize(total_blocks);
  state_.next_geometry = Geometry{total_blocks, geometry().log};
}

absl::Status Volume::MoveLog(Extent log) {
  UNTORN_CHECK(!resizing() && !checkpoint_running(), "a log moves out of turn");
  state_.next_geometry = Geometry{geometry().total_blocks, log};
  state_.next_holds_all = true;
  // An extent of a lane may have blocks before its next record that were freed since, and that are the log's now.
  return lanes_.GiveBack();
}

BlockCount Volume::WithdrawnInUse() const {
  // The checkpoint that ends the store holds the commits of all lane records.
  return space_.free_space().WithdrawnInUse() - lanes_.KeptFrom(space_.usable_end());
}

absl::Status Volume::Shrink(Lock& lock, BlockCount total_blocks) {
  UNTORN_CHECK(!resizing() && !checkpoint_running() && !space_.preparing(), "a store is shrunk out of turn");
  RETURN_IF_ERROR(lanes_.GiveBack());
  const std::string& path = pump_.device().info().path;
  if (!space_.withdrawn() || WithdrawnInUse() > 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": others use the space that was to be given back"));
  }
  // Since the blocks were withdrawn, others may have taken what the nodes of the tree take now.
  if (absl::Status fits = space_.CheckFits(0); !fits.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat(path, ": ", fits.message()));
  }
  RETURN_IF_ERROR(lanes_.DropFrom(space_.usable_end()));
  space_.HoldPreparing();
  space_.DropWithdrawn();
  space_.free_space().Resize(total_blocks);
  state_.next_geometry = Geometry{total_blocks, geometry().log};
  state_.next_holds_all = true;
  return ShorteningIsLast() ? absl::OkStatus() : CutFileHeld(lock);
}

absl::Status Volume::EndShrink(Lock& lock, bool durable) {
  absl::Status cut;
  if (durable) cut = CutFileHeld(lock);
  space_.EndHold();
  return cut;
}

absl::Status Volume::CutFile(Lock& lock) {
  pump_.Wait(lock, [&]() REQUIRES_STORE_LOCK { return !space_.preparing(); });
  space_.HoldPreparing();
  const absl::Status cut = CutFileHeld(lock);
  space_.EndHold();
  return cut;
}

absl::Status Volume::CutFileHeld(Lock& lock) {
  const uint64_t end_bytes = Bytes(space_.prepared_blocks());
  const Unlocked unlocked(lock);
  return pump_.device().Shorten(end_bytes);
}

absl::Status Volume::CheckFile() const { return pump_.device().CheckHolds(Bytes(space_.prepared_blocks())); }

absl::Status Volume::RunCheckpoint(Lock& lock) {
  RETURN_IF_ERROR(
      MakeCheckpoint(lock, {pump_, state_, space_, mappings_, log_, lanes_, superblocks_}, next_object_));
  ++counters_.checkpoints;
  probes::Checkpoint(state_.superblock.generation.value());
  return absl::OkStatus();
}

absl::Status Volume::CheckInvariants() const {
  RETURN_IF_ERROR(state_.active->CheckInvariants());
  if (state_.frozen) RETURN_IF_ERROR(state_.frozen->CheckInvariants());
  RETURN_IF_ERROR(space_.CheckInvariants());
  RETURN_IF_ERROR(log_.CheckInvariants());
  return mappings_.node_cache().CheckInvariants();
}

}  // namespace untorn
