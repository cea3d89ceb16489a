#include "store/preallocate.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/readiness.h"
#include "base/status_macros.h"
#include "store/exclusive.h"
#include "store/object_resize.h"
#include "writeback/log_entries.h"

namespace untorn::internal {
namespace {

// Looks up the mappings of the range, and checks the tree for the change.
absl::Status LookUp(const Front& front, Lock& lock, const ObjectState& object, BlockRange range,
                    Mappings* mappings) REQUIRES_STORE_LOCK {
  return front.admission
      .AwaitTree(lock, object.name,
                 [&](MappingReader& reader, MissingNodes* missing) REQUIRES_STORE_LOCK {
                   RETURN_IF_ERROR(reader.Lookup(object.id, range, mappings, missing));
                   std::optional<Inode> record;
                   return reader.FindInode(object.id, &record, missing);
                 })
      .error();
}

// Allocates unwritten extents for the holes among the mappings. `placed` has what was allocated, also after
// an error.
absl::Status FillHoles(SpaceLedger& space, Lock& lock, const Mappings& mappings,
                       std::vector<PlacedExtent>* placed) REQUIRES_STORE_LOCK {
  for (const Mapping& m : mappings) {
    if (m.state != MappingState::kHole) continue;
    for (ObjectBlock at = m.logical.start; at < m.logical.end();) {
      ASSIGN_OR_RETURN(const Extent extent, space.AllocateNextOf(lock, m.logical.end() - at));
      AddUnwritten({at, extent.count}, extent.start, placed);
      at += extent.count;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Preallocate(const Front& front, const std::shared_ptr<ObjectState>& object, ByteRange range) {
  RETURN_IF_ERROR(CheckRange(range));
  Volume& volume = front.parts.volume;
  CowFork& fork = front.parts.fork;
  Lock lock(front.mu);
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front.parts.CheckChangeable());
    return front.admission.AwaitObject(lock, *object);
  }));
  // The lock is released several times below, and nobody else may change the object meanwhile.
  Exclusive exclusive(front);
  exclusive.Hold(object);
  // StageWhole() needs an object without pending and committing changes.
  RETURN_IF_ERROR(front.committer.Sync(lock, SetsBefore(front, *object)));
  Mappings mappings;
  RETURN_IF_ERROR(LookUp(front, lock, *object, BlocksOf(range), &mappings));
  UNTORN_CHECK(!mappings.empty() && mappings.front().logical.start == BlocksOf(range).start &&
                   mappings.back().logical.end() == BlocksOf(range).end(),
               "a lookup found the mappings of other blocks");
  BlockCount blocks;
  for (const Mapping& m : mappings) {
    if (m.state == MappingState::kHole) blocks += m.logical.count;
  }
  // AwaitSpace() would prepare the whole store before it refused so many blocks.
  if (blocks > volume.geometry().total_blocks) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no space: ", Bytes(blocks), " bytes are more than the store has"));
  }
  Reservation reserved;
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front.parts.health.CheckWritable());
    return front.admission.AwaitSpace(lock, {blocks, mappings.size() + 1}, SpaceFor::kGrowth, &reserved);
  }));
  std::vector<PlacedExtent> placed;
  absl::Status status = FillHoles(volume.space(), lock, mappings, &placed);
  BlockCount allocated;
  for (const PlacedExtent& e : placed) allocated += e.blocks.count;
  UNTORN_CHECK(status.ok() ? allocated == blocks : allocated <= blocks,
               "holes are filled with other blocks than were reserved");
  // The blocks are allocated now, or are not needed after an error.
  reserved.ReleaseBlocks(blocks);
  // In fragmented space one hole may take several mappings.
  if (const uint64_t needed = placed.size() + 1; status.ok() && needed > reserved.tree_entries()) {
    const SpaceCost missing = {0, needed - reserved.tree_entries()};
    std::optional<Reservation> more = volume.space().TryReserve(missing, SpaceFor::kGrowth);
    if (!more) {
      status = volume.lanes().GiveBack();
      front.admission.RevokeLeases();
      if (status.ok()) more = volume.space().TryReserve(missing, SpaceFor::kGrowth);
    }
    if (more) {
      reserved.Add(*std::move(more));
    } else if (status.ok()) {
      status = absl::ResourceExhaustedError(
          absl::StrCat("no space: the free space is in ", placed.size(), " pieces, too many to be mapped"));
    }
  }
  const BlockCount log_blocks = LogBlocksMax((placed.size() + 1) * kMapEntryBytes + 2 * kNameBytesMax);
  if (status.ok() && log_blocks > front.committer.log_blocks_max()) {
    status =
        absl::ResourceExhaustedError(absl::StrCat("the range would be mapped in ", placed.size(),
                                                  " pieces, which take more of the log than one commit may; "
                                                  "preallocate it in smaller steps"));
  }
  // A range without holes that ends within the object changes nothing.
  if (status.ok() && (!placed.empty() || range.end_bytes() > object->size_bytes)) {
    // Readers see the change when it is durable. The mappings that readers find then agree with the change.
    const auto set = std::make_shared<ChangeSet>();
    PayWith(front, *set, std::move(reserved));
    ObjectChange& change = set->changes[object->id];
    change.object = object;
    change.placed = std::exchange(placed, {});
    change.grow_to_bytes = range.end_bytes();
    fork.StageWhole(set);
    status = front.committer.Sync(lock, {set});
    UNTORN_CHECK(!status.ok() || object->size_bytes >= range.end_bytes(),
                 "a preallocation is durable that readers do not see");
  }
  // No record names the extents that are left in `placed`, so their space goes back at once.
  for (const PlacedExtent& e : placed)
    RETURN_IF_ERROR(volume.space().ReturnUnused({e.physical, e.blocks.count}));
  reserved.Release();
  front.background.AfterChange(lock);
  return status;
}

}  // namespace untorn::internal
