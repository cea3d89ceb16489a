#include "extent/checkpoint.h"

#include <memory>
#include <optional>

#include "base/check.h"
#include "base/status_macros.h"
#include "extent/checkpoint_sink.h"
#include "extent/tree_merge.h"

namespace untorn {
namespace {

// Merges the frozen delta into the tree. All writes are sent, and some may still be in flight. Fills in the root of
// `next`.
absl::Status WriteTree(Lock& lock, const CheckpointParts& parts, CheckpointSink& sink,
                       Superblock* next) REQUIRES_STORE_LOCK {
  const std::unique_ptr<TreeEditSource> edits = parts.state.frozen->Edits();
  const std::unique_ptr<TreeEditSource> ahead = parts.state.frozen->Edits();
  absl::StatusOr<TreeRoot> root;
  {
    // The frozen delta does not change, and the sink takes the lock itself.
    const Unlocked unlocked(lock);
    root = MergeTree(next->tree, ObjectId{next->next_object}, *edits, ahead.get(), next->uuid,
                     next->generation, sink);
  }
  RETURN_IF_ERROR(root.status());
  next->tree = *root;
  return sink.Finish(lock, *parts.state.frozen);
}

// Writes the free-space map, as WriteTree() writes the tree.
absl::Status WriteMap(const CheckpointParts& parts, CheckpointSink& sink,
                      Superblock* next) REQUIRES_STORE_LOCK {
  const auto write = [&](BlockNumber block, std::span<const std::byte> bytes) REQUIRES_STORE_LOCK {
    sink.Write(block, bytes);
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(next->free_map,
                   parts.space.free_space().WriteChanges(next->uuid, next->generation, write));
  return absl::OkStatus();
}

}  // namespace

absl::Status MakeCheckpoint(Lock& lock, const CheckpointParts& parts, const uint64_t& next_object) {
  VolumeState& state = parts.state;
  UNTORN_CHECK(state.frozen == nullptr, "two checkpoints at once");
  // The lock is held from here to the checkpoint's log position, so the position is where the frozen delta
  // ends.
  state.open.Forget(*state.active);
  // The delta counts the closings when they are all there.
  Reservation room;
  const auto has_room = [&](uint64_t tree_entries) REQUIRES_STORE_LOCK {
    std::optional<Reservation> more = parts.space.TryReserve({0, tree_entries}, SpaceFor::kOverwrite);
    if (more) room.Add(*std::move(more));
    return more.has_value();
  };
  state.open.CloseQuiet(has_room, state.active.get());
  room.Release();
  state.frozen = std::move(state.active);
  state.active = std::make_unique<Delta>();
  Superblock next = state.superblock;
  ++next.generation;
  if (state.next_geometry) next.geometry = *state.next_geometry;
  // The next superblock names exactly what the frozen delta holds.
  next.checkpoint_lsn = parts.log.durable_lsn();
  next.checkpoint_position = parts.log.durable_position();
  next.checkpoint_checksum = parts.log.durable_checksum();
  const bool moves_log = next.geometry.log != state.superblock.geometry.log;
  const bool holds_all = state.next_holds_all;
  UNTORN_CHECK(holds_all || !moves_log, "the log moves, and records may be begun");
  if (holds_all) {
    // Recovery would look for other records where they are not.
    UNTORN_CHECK(parts.log.AllDurable(), "a checkpoint that holds all is made with a record on its way");
    next.lanes.clear();
  } else {
    next.lanes = parts.lanes.named();
  }
  UNTORN_CHECK(next.checkpoint_lsn >= state.superblock.checkpoint_lsn, "a checkpoint goes back");

  UNTORN_CHECK(next.checkpoint_position >= state.superblock.checkpoint_position,
               "a checkpoint's log position goes back");
  CheckpointSink sink(parts.pump, parts.space, parts.mappings);
  if (!state.frozen->empty() || sink.MovesNodes() || state.next_geometry) {
    absl::Status written;
    if (!state.frozen->empty() || sink.MovesNodes()) written = WriteTree(lock, parts, sink, &next);
    const Extent log = state.superblock.geometry.log;
    if (written.ok() && moves_log) written = parts.space.MoveLog(lock, log, next.geometry.log);
    if (written.ok()) written = WriteMap(parts, sink, &next);
    // The writes are awaited also after an error, because their buffers belong to the sink.
    const absl::Status drained = sink.Drain(lock, 0);
    RETURN_IF_ERROR(written);
    RETURN_IF_ERROR(drained);
    // All that the superblock will refer to must be durable before the superblock is sent.
    IoRequest flush;
    flush.op = IoOp::kFlush;
    RETURN_IF_ERROR(parts.pump.Run(lock, &flush));
  }
  // The values below may have grown during the merge, and describe what is durable now.
  next.used_blocks = parts.space.free_space().used_base_blocks();
  next.durable_lsn = parts.log.durable_lsn();
  next.prepared_blocks = parts.space.prepared_blocks();
  next.next_object = next_object;
  UNTORN_CHECK(next.durable_lsn >= next.checkpoint_lsn, "a checkpoint holds what is not durable");
  // A damaged map may lead to such counts. DecodeSuperblock() would refuse the superblock at the next
  // opening.
  if (next.used_blocks > next.prepared_blocks) {
    return absl::DataLossError("free-space map: more blocks are in use than may be allocated");
  }
  RETURN_IF_ERROR(parts.superblocks.Write(lock, next));
  state.next_geometry.reset();
  state.next_holds_all = false;
  if (holds_all) parts.lanes.ForgetNamed();

  if (parts.log.durable_position() == next.checkpoint_position) parts.lanes.SuperblockNames();
  // Lookups find in the new tree what the frozen delta held.
  state.open.Carried(state.session, *state.frozen);
  std::unique_ptr<Delta> carried = std::move(state.frozen);
  sink.ForgetRetired();
  // What only the old checkpoint used is freed like any displaced extent, because a read may be outstanding.
  absl::Status released;
  parts.space.free_space().Install(
      [&](Extent extent) REQUIRES_STORE_LOCK { released.Update(parts.space.Free(extent, 0, 0)); });
  released.Update(parts.space.ReleasePending());
  // Threads may wait for space or for room in the log.
  parts.pump.Notify();
  // There may be many changes to forget.
  const Unlocked unlocked(lock);
  carried.reset();
  return released;
}

}  // namespace untorn
