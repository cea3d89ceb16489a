#include "store/object_resize.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/readiness.h"
#include "base/status_macros.h"
#include "store/staging.h"

namespace untorn::internal {
namespace {

// Stages zeros in bytes [from, to) of one block, and the block's old content around them.
void StageZeros(const Front& front, const ChangeSetRef& set, const std::shared_ptr<ObjectState>& object,
                ObjectBlock block, uint64_t from, uint64_t to) REQUIRES_STORE_LOCK {
  UNTORN_CHECK(from < to && to <= kBlockBytes, "zeros reach out of the block at the edge of a hole");
  BufferRef buffer = front.admission.CopyOfBlock(*object, block);
  std::memset(buffer.data() + from, 0, to - from);
  front.parts.fork.StageBlock(set, object, block, std::move(buffer));
}

}  // namespace

ChangeSetRefs SetsBefore(const Front& front, const ObjectState& object) {
  const BarrierEpoch epoch = front.parts.fork.epoch();
  return front.committer.SetsWhere(
      [&](const ChangeSet& set) { return set.changes.contains(object.id) || set.epoch < epoch; });
}

absl::Status Truncate(const Front& front, const std::shared_ptr<ObjectState>& object, uint64_t size,
                      Durability durability) {
  const DurableCall call(durability);
  RETURN_IF_ERROR(CheckSize(size));
  CowFork& fork = front.parts.fork;
  const ObjectBlock edge = ObjectBlockAt(size);
  bool cut_edge = false;
  std::optional<bool> looked;  // once the tree is checked: whether for a truncate that shrinks the object
  Lock lock(front.mu);
  Reservation space;
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front.parts.CheckChangeable());
    const bool shrinks = size < object->size_bytes;
    // The size may have changed since the last turn. A truncate that shrinks needs a check of the hole, too.
    if (!looked || (shrinks && !*looked)) {
      looked = shrinks;
      const BlockRange hole{edge, shrinks ? kObjectEnd - edge : BlockCount(0)};
      RETURN_UNLESS_READY(front.admission.AwaitHole(lock, *object, hole, size % kBlockBytes != 0));
    }
    RETURN_UNLESS_READY(front.admission.AwaitJoinOfObject(lock, *object));
    cut_edge = size < object->size_bytes && size % kBlockBytes != 0;
    if (cut_edge) RETURN_UNLESS_READY(front.admission.AwaitCached(lock, *object, edge));
    cut_edge &= front.admission.HasContent(*object, edge);  // otherwise the block is zeros already
    const BlockCount fresh = cut_edge ? fork.NewBlocks(*object, {edge, 1}) : BlockCount(0);
    // So a truncate works on a full store (promise 7).
    return front.admission.AwaitSpace(lock, {fresh, kEntriesOfHole}, SpaceFor::kRelease, &space);
  }));
  ChangeSetRef set = fork.SetForObject(object);
  const BlockCount fresh = space.blocks();
  PayWith(front, *set, std::move(space));
  UNTORN_CHECK(!cut_edge || size < object->size_bytes,
               "a truncate that cuts a block does not shrink the object");
  if (size < object->size_bytes) {
    fork.StageHole(set, object, {ObjectEnd(size), kObjectEnd - ObjectEnd(size)});
    const BlockCount before = set->data_blocks;
    if (cut_edge) StageZeros(front, set, object, edge, size % kBlockBytes, kBlockBytes);
    UNTORN_CHECK(set->data_blocks == before + fresh,
                 "the edge of a truncate takes other space than it reserved");
  }
  fork.StageSize(set, object, size);
  return FinishChange(front, lock, {set}, call);
}

absl::Status PunchHole(const Front& front, const std::shared_ptr<ObjectState>& object, ByteRange range,
                       Durability durability) {
  const DurableCall call(durability);
  RETURN_IF_ERROR(CheckRange(range));
  const uint64_t offset = range.offset_bytes;
  CowFork& fork = front.parts.fork;
  uint64_t end = 0;
  std::vector<ObjectBlock> edges;  // partly covered blocks that are not zeros already
  bool looked = false;
  Lock lock(front.mu);
  Reservation space;
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front.parts.CheckChangeable());
    if (offset < object->size_bytes && !std::exchange(looked, true)) {
      const bool partial = offset % kBlockBytes != 0 || range.end_bytes() % kBlockBytes != 0;
      RETURN_UNLESS_READY(front.admission.AwaitHole(lock, *object, BlocksOf(range), partial));
    }
    RETURN_UNLESS_READY(front.admission.AwaitJoinOfObject(lock, *object));
    end = std::min(range.end_bytes(), object->size_bytes);
    edges.clear();
    if (end <= offset) return Readiness::Ready();
    // Bytes beyond the size in the last block are zeros. So a hole up to the size covers the last block
    // whole.
    const bool to_end = end == object->size_bytes;
    if (offset % kBlockBytes != 0) edges.push_back(ObjectBlockAt(offset));
    if (end % kBlockBytes != 0 && !to_end && (edges.empty() || edges[0] != ObjectBlockAt(end))) {
      edges.push_back(ObjectBlockAt(end));
    }
    for (ObjectBlock edge : edges) RETURN_UNLESS_READY(front.admission.AwaitCached(lock, *object, edge));
    std::erase_if(edges, [&](ObjectBlock edge)
                             REQUIRES_STORE_LOCK { return !front.admission.HasContent(*object, edge); });
    BlockCount fresh;
    for (ObjectBlock edge : edges) fresh += fork.NewBlocks(*object, {edge, 1});
    return front.admission.AwaitSpace(lock, {fresh, kEntriesOfHole}, SpaceFor::kRelease, &space);
  }));
  // The object ends before the range, so nothing changes. With kSync the call still makes durable what must
  // be durable before the hole.
  if (end <= offset) return FinishChange(front, lock, SetsBefore(front, *object), call);
  ChangeSetRef set = fork.SetForObject(object);
  const BlockCount fresh = space.blocks();
  PayWith(front, *set, std::move(space));
  const ObjectBlock first = ObjectEnd(offset);
  const ObjectBlock last = end == object->size_bytes ? ObjectEnd(end) : ObjectBlockAt(end);
  if (first < last) fork.StageHole(set, object, {first, last - first});
  const BlockCount before = set->data_blocks;
  for (ObjectBlock edge : edges) {
    const uint64_t start = ByteOffset(edge);
    const uint64_t from = std::max(offset, start), to = std::min(end, start + kBlockBytes);
    StageZeros(front, set, object, edge, from - start, to - start);
  }
  UNTORN_CHECK(set->data_blocks == before + fresh, "the edges of a hole take other space than they reserved");
  return FinishChange(front, lock, {set}, call);
}

}  // namespace untorn::internal
