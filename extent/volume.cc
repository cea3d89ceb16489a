#include "extent/volume.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
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
      log_(state_, space_),
      superblocks_(pump, state_, slot),
      next_object_(superblock.next_object) {}

absl::StatusOr<std::unique_ptr<Volume>> Volume::Open(IoPump& pump, bool read_only, size_t node_cache_nodes) {
  Device& device = pump.device();
  // What a dead owner left in the disk's cache must be durable before anything is built on it.
  if (OpenFlushesFirst(read_only)) RETURN_IF_ERROR(FlushBlocking(device));
  const SuperblockSlots slots = ReadSuperblocks(device);
  ASSIGN_OR_RETURN(const Superblock superblock, UsableSuperblock(slots, device.info(), !read_only));
  ASSIGN_OR_RETURN(const LogTail tail, ReadLogTail(device, superblock));
  // A damaged log is not cut where the damage begins, because acknowledged records would be lost.
  if (!tail.damage.ok()) {
    return absl::DataLossError(absl::StrCat(device.info().path, ": ", std::string(tail.damage.message())));
  }
  std::unique_ptr<Volume> volume(new Volume(pump, superblock, slots.current, node_cache_nodes));
  Lock lock(pump.mutex());
  RETURN_IF_ERROR(volume->Recover(tail));
  if (const auto& spare = slots.slots[1 - slots.current]; !spare.ok()) {
    volume->open_warnings_.push_back(absl::StrCat(
        "superblock slot ", 1 - slots.current, " is unusable (", std::string(spare.status().message()),
        "); the other one is in use and nothing is lost", read_only ? "" : "; it is written anew"));
  }
  if (!read_only) RETURN_IF_ERROR(volume->BeginEpoch(lock, tail));
  return volume;
}

absl::Status Volume::Recover(const LogTail& tail) {
  FreeSpace& free = space_.free_space();
  free.SetPrepared(tail.prepared_blocks);
  absl::Status contradiction;
  const auto note = [&](absl::Status s) {
    if (contradiction.ok()) contradiction = std::move(s);
  };
  // Nobody reads yet, and no kept record is in doubt. So the extents that the records displace are free at
  // once.
  const auto apply = [&](const LogRecord& record, Lsn chain_lsn) REQUIRES_STORE_LOCK {
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
  log_.Resume(tail);
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
  next.prepared_blocks = tail.prepared_blocks;
  next.next_object = next_object_;
  RETURN_IF_ERROR(superblocks_.Write(lock, next));
  state_.session = next.epoch;
  return absl::OkStatus();
}

absl::Status Volume::RecordsDurable(LogAppend& append) {
  // The durable LSN rises first, because an entry may displace what an earlier entry of the same commit has
  // mapped.
  log_.NoteDurable(append);
  counters_.log_records += append.records;
  counters_.log_bytes += Bytes(append.blocks());
  for (const LogEntry& e : append.entries) {
    const absl::Status applied =
        state_.active->Apply(e, append.last, [&](Extent extent, Lsn mapped_by) REQUIRES_STORE_LOCK {
          space_.FreeLater(extent, mapped_by, append.last);
        });
    UNTORN_CHECK(applied.ok(), "a record contradicts an earlier one");
  }
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

absl::Status Volume::RunCheckpoint(Lock& lock) {
  RETURN_IF_ERROR(MakeCheckpoint(lock, {pump_, state_, space_, mappings_, log_, superblocks_}, next_object_));
  ++counters_.checkpoints;
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
