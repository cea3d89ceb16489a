#include "store/object_write.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/memory_reserve.h"
#include "base/mutex.h"
#include "base/probes.h"
#include "base/status_macros.h"
#include "store/staging.h"
#include "writeback/decision.h"

namespace untorn::internal {
namespace {

constexpr uint64_t kPlainPartBytes = 1 << 20;  // largest part of a plain write that is staged at once

}  // namespace

absl::Status FinishChange(const Front& front, Lock& lock, ChangeSetRefs sets, const DurableCall& call) {
  absl::Status status;
  if (call.waits()) status = front.committer.SyncWithSpace(lock, std::move(sets));
  front.background.AfterChange(lock);
  if (status.ok()) call.Count(front.parts.stats);
  if (status.ok() || !absl::IsResourceExhausted(status)) return status;
  return absl::UnavailableError(
      absl::StrCat("the change is accepted, and becomes durable when there is room: ", status.message()));
}

absl::Status FinishSync(const Front& front, Lock& lock, ChangeSetRefs&& sets, const DurableCall& call) {
  absl::Status status = front.committer.SyncWithSpace(lock, std::move(sets));
  front.background.AfterChange(lock);
  if (status.ok()) call.Count(front.parts.stats);
  return status;
}

void PayWith(const Front& front, ChangeSet& set, Reservation space) {
  UNTORN_CHECK(set.state == ChangeSet::State::kPending && !set.joined_to,
               "space is given to a change set that takes no more");
  set.space.Add(std::move(space));
  if (set.born_ms == 0) set.born_ms = front.committer.NowMs();
}

void TellLater(const Front& front, WhenDone done, absl::Status status) {
  Lock lock(front.mu);
  front.parts.callbacks.Add([done = std::move(done), status = std::move(status)] { done(status); });
  front.background.Wake();
  front.background.AfterChange(lock);
}

// One write, or one part of a plain write.
struct ObjectWriter::Request {
  const std::shared_ptr<ObjectState>& object;
  ByteRange range;
  IoVector data;
  uint64_t data_offset;  // position in `data` where the bytes begin
  const WriteOptions& options;

  uint64_t end() const { return range.end_bytes(); }
  BlockRange blocks() const { return BlocksOf(range); }
  bool head_partial() const {
    return range.offset_bytes % kBlockBytes != 0 || range.length_bytes < kBlockBytes;
  }
  bool tail_partial() const { return end() % kBlockBytes != 0; }
  // Copies the bytes that the write has of `block` to their places in `to`, which has room for the whole
  // block.
  void CopyBlock(ObjectBlock block, std::byte* to) const {
    const uint64_t from = std::max(range.offset_bytes, ByteOffset(block));
    const uint64_t behind = std::min(end(), ByteOffset(block + 1));
    UNTORN_CHECK(from < behind, "a write has no bytes of one of its blocks");
    const uint64_t n = behind - from;
    data.CopyOut(data_offset + (from - range.offset_bytes), to + (from - ByteOffset(block)), n);
  }
};

bool ObjectWriter::IsLarge(ByteRange range, const WriteOptions& options) const {
  return options.atomic && BlocksOf(range).count > front_.admission.set_blocks_max();
}

absl::Status ObjectWriter::CheckWrite(const ObjectState& object, ByteRange range,
                                      const WriteOptions& options) const {
  RETURN_IF_ERROR(CheckRange(range));
  if (!options.atomic) return absl::OkStatus();
  if (range.length_bytes > kAtomicBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("an atomic write of ", range.length_bytes, " bytes: at most ", kAtomicBytesMax));
  }
  const CommitterOptions& committing = front_.committer.options();
  if (committing.policy != WritePolicy::kHardwareOnly) return absl::OkStatus();
  const PathReason reason = DecideForever(committing.policy, committing.limits, /*several_ranges=*/false,
                                          Bytes(BlocksOf(range).count));
  if (reason == PathReason::kInPlace) return absl::OkStatus();
  // Errors of the store and of the object come before the error of the policy.
  const Lock lock(front_.mu);
  RETURN_IF_ERROR(front_.parts.health.CheckWritable());
  if (object.removed) return RemovedError(object);
  return absl::FailedPreconditionError(absl::StrCat(
      "policy hardware-only: bytes ", range.offset_bytes, " to ", range.end_bytes() - 1,
      " can never be one atomic overwrite: ", PathReasonName(reason), " (", PathReasonSentence(reason), ")"));
}

// Copies whole blocks to private buffers, before the lock is taken. Partly covered blocks get no buffer here,
// because they are put together under the lock.
absl::Status TakeBuffers(const Front& front, std::span<BufferRef> buffers) {
  if (front.parts.buffers.TryNew(buffers)) [[likely]]
    return absl::OkStatus();
  {
    const Lock lock(front.mu);
    front.parts.ShedMemory();
  }
  return front.parts.buffers.TryNew(buffers) ? absl::OkStatus() : MemoryReserve::NoMemory();
}

absl::Status ObjectWriter::CopyWholeBlocks(const Request& request, Buffers* out) {
  const BlockRange blocks = request.blocks();
  Buffers& buffers = *out;
  // A write within one block may be partial at both ends of the same block.
  const size_t partial = std::min<size_t>(request.head_partial() + request.tail_partial(), buffers.size());
  const std::span<BufferRef> whole(buffers.data() + request.head_partial(), buffers.size() - partial);
  if (!front_.parts.buffers.TryNew(whole)) [[unlikely]]
    RETURN_IF_ERROR(TakeBuffers(front_, whole));
  ObjectBlock block = blocks.start;
  for (BufferRef& buffer : buffers) {
    if (buffer) request.CopyBlock(block, buffer.data());
    ++block;
  }
  return absl::OkStatus();
}

// Tries the cheap case: one pending change set has all these blocks already, so the write needs no space and
// no lookup. Returns false in any other case, and then changes nothing.
bool ObjectWriter::Restage(const Request& request, Buffers& buffers, ChangeSetRefs* sets) {
  const ObjectState& object = *request.object;
  // Everything that may wait or fail takes the long way, which also tells the error.
  if (!request.options.atomic || request.options.bypass_cache || request.head_partial() ||
      request.tail_partial() || object.removed || object.exclusive || !front_.parts.CheckChangeable().ok()) {
    return false;
  }
  ChangeSet* set =
      front_.parts.fork.Restage(*request.object, request.blocks(), {buffers.data(), buffers.size()});
  if (set == nullptr) return false;
  if (request.options.durability == Durability::kSync) sets->push_back(set->shared_from_this());
  return true;
}

absl::Status ObjectWriter::AwaitAdmission(Lock& lock, const Request& request, Reservation* held,
                                          Reservation* space) {
  Admission& admission = front_.admission;
  ObjectState& object = *request.object;
  const BlockRange blocks = request.blocks();
  bool looked = false;
  std::optional<SpaceFor> use;
  return UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front_.parts.CheckChangeable());
    RETURN_UNLESS_READY(admission.AwaitObject(lock, object));
    if (!std::exchange(looked, true)) {
      RETURN_UNLESS_READY(admission.AwaitWritable(lock, object, request.end()));
    }
    RETURN_UNLESS_READY(admission.AwaitCleanSpace(lock));
    RETURN_UNLESS_READY(admission.AwaitJoinOfRange(lock, object, blocks, request.options.atomic));
    if (request.head_partial()) RETURN_UNLESS_READY(admission.AwaitCached(lock, object, blocks.start));
    if (request.tail_partial()) RETURN_UNLESS_READY(admission.AwaitCached(lock, object, blocks.end() - 1));
    const BlockCount fresh = front_.parts.fork.NewBlocks(object, blocks);
    const SpaceCost cost{fresh, request.options.atomic ? EntriesOfAtomic(fresh) : EntriesOfPlain(fresh)};
    // Space comes last, so no later step waits with the space in hand. A part of a plain write has its space
    // already.
    if (std::optional<Reservation> part = held->TrySplit(cost)) {
      *space = *std::move(part);
      return Readiness::Ready();
    }
    return admission.AwaitDataSpace(lock, cost, &use, &object, blocks, space);
  });
}

void ObjectWriter::StageBlock(const Request& request, const ChangeSetRef& set, ObjectBlock block,
                              BufferRef buffer) {
  if (!buffer) {
    UNTORN_CHECK((request.head_partial() && block == request.blocks().start) ||
                     (request.tail_partial() && block + 1 == request.blocks().end()),
                 "a block that a write covers whole has no buffer");
    buffer = front_.admission.CopyOfBlock(*request.object, block);
    request.CopyBlock(block, buffer.data());
  }
  front_.parts.fork.StageBlock(set, request.object, block, std::move(buffer));
}

void ObjectWriter::StageAtomic(const Request& request, Buffers& buffers, Reservation space,
                               ChangeSetRefs* sets) {
  CowFork& fork = front_.parts.fork;
  const BlockRange blocks = request.blocks();
  ChangeSetRef set = fork.SetForRange(request.object, blocks);
  const BlockCount blocks_then = set->data_blocks + space.blocks();
  PayWith(front_, *set, std::move(space));
  // A change set bypasses the cache only if all its writes do.
  set->bypass_cache = request.options.bypass_cache && (set->data_blocks == 0 || set->bypass_cache);
  UNTORN_CHECK(buffers.size() == blocks.count.value(), "a write has fewer buffers than blocks");
  ObjectBlock block = blocks.start;
  for (BufferRef& buffer : buffers) {
    StageBlock(request, set, block, std::move(buffer));
    ++block;
  }
  UNTORN_CHECK(set->data_blocks == blocks_then, "an atomic write has other new blocks than it reserved");
  fork.StageGrowth(set, request.object, request.end());
  sets->push_back(std::move(set));
}

void ObjectWriter::StagePlain(const Request& request, Buffers& buffers, Reservation space,
                              ChangeSetRefs* sets) {
  CowFork& fork = front_.parts.fork;
  ObjectBlock b = request.blocks().start;
  for (BufferRef& buffer : buffers) {
    const BlockCount fresh = fork.NewBlocks(*request.object, {b, 1});
    ChangeSetRef set = fork.SetForRange(request.object, {b, 1});
    // Each block goes to a change set of its own, which pays for the block.
    std::optional<Reservation> part = space.TrySplit({fresh, EntriesOfPlain(fresh)});
    UNTORN_CHECK(part.has_value(), "a plain write needs more space than it reserved");
    PayWith(front_, *set, *std::move(part));
    set->bypass_cache = request.options.bypass_cache && (set->data_blocks == 0 || set->bypass_cache);
    StageBlock(request, set, b, std::move(buffer));
    ++b;
    fork.StageGrowth(set, request.object, std::min(request.end(), ByteOffset(b)));
    sets->push_back(std::move(set));
  }
  UNTORN_CHECK(space.empty(), "a plain write reserved more space than it needs");
}

absl::Status ObjectWriter::Stage(Lock& lock, const Request& request, Buffers& buffers, Reservation* held,
                                 ChangeSetRefs* sets) {
  if (!Restage(request, buffers, sets)) {
    Reservation space;
    RETURN_IF_ERROR(AwaitAdmission(lock, request, held, &space));
    if (request.options.atomic) {
      StageAtomic(request, buffers, std::move(space), sets);
    } else {
      StagePlain(request, buffers, std::move(space), sets);
    }
  }
  ++front_.parts.stats.writes;
  front_.parts.stats.bytes_written += request.range.length_bytes;
  probes::Submit(Value(request.object->id), request.range.offset_bytes, request.range.length_bytes);
  return absl::OkStatus();
}

// Looks for damage at the end of a plain write, and reserves space for all its parts. So a write that is
// refused has changed nothing.
absl::Status ObjectWriter::ReserveForParts(Lock& lock, const std::shared_ptr<ObjectState>& object,
                                           ByteRange range, Reservation* held) {
  const BlockRange blocks = BlocksOf(range);
  const SpaceCost cost{blocks.count, EntriesOfPlain(blocks.count)};
  std::optional<SpaceFor> use;
  // Only an error counts here. Stage() looks again, and finds damage at the beginning before it changes
  // anything.
  const uint64_t end = range.end_bytes();
  RETURN_IF_ERROR(front_.admission.AwaitWritable(lock, *object, end).error());
  if (end % kBlockBytes != 0) {
    RETURN_IF_ERROR(front_.admission.AwaitCached(lock, *object, ObjectBlockAt(end)).error());
  }
  return UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front_.parts.CheckChangeable());
    return front_.admission.AwaitDataSpace(lock, cost, &use, object.get(), blocks, held);
  });
}

absl::Status ObjectWriter::Write(const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector data,
                                 const WriteOptions& options, WhenDone done) {
  UNTORN_CHECK(data.bytes > 0, "a write has no bytes");
  const DurableCall call(done ? Durability::kBuffered : options.durability);
  Lock lock(front_.mu, std::defer_lock);
  Reservation held;  // must be destroyed with the lock held: every return below has the lock
  if (!options.atomic && Bytes(BlocksOf({offset, data.bytes}).count) > kPlainPartBytes) {
    lock.lock();
    RETURN_IF_ERROR(ReserveForParts(lock, object, {offset, data.bytes}, &held));
    lock.unlock();
  }
  ChangeSetRefs sets;
  for (uint64_t at = 0;;) {
    // All parts of a plain write but the last end between two blocks, so no block is in two parts.
    UNTORN_CHECK(at == 0 || (offset + at) % kBlockBytes == 0, "two parts of a write have one block");
    const uint64_t part_max = options.atomic ? data.bytes : kPlainPartBytes - (offset + at) % kBlockBytes;
    const uint64_t n = std::min(data.bytes - at, part_max);
    const Request request{object, {offset + at, n}, data, at, options};
    Buffers buffers(request.blocks().count.value());
    absl::Status copied = CopyWholeBlocks(request, &buffers);
    // Others may take the lock between two parts, because a plain write is atomic only block by block.
    lock.lock();
    if (!copied.ok()) [[unlikely]]
      return copied;
    RETURN_IF_ERROR(Stage(lock, request, buffers, &held, &sets));
    at += n;
    // Nobody waits for the sets of a buffered write.
    if (options.durability == Durability::kBuffered) sets.clear();
    if (at == data.bytes) break;
    lock.unlock();
  }
  if (!done) return FinishChange(front_, lock, std::move(sets), call);
  TellWhenDurable(std::move(sets), std::move(done));
  front_.background.AfterChange(lock);
  return absl::OkStatus();
}

// Arranges that `done` is called once all of `sets` are durable. `sets` is empty for a buffered write.
void ObjectWriter::TellWhenDurable(ChangeSetRefs sets, WhenDone done) {
  // A later part of the write may have joined the set of an earlier part.
  for (ChangeSetRef& set : sets) set = Resolve(set);
  const auto is_done = [](const ChangeSetRef& s) { return s->state == ChangeSet::State::kDone; };
  sets.erase(std::remove_if(sets.begin(), sets.end(), is_done), sets.end());
  // The store tells its failure once, and has done so already if it has failed.
  UNTORN_CHECK(sets.empty() || !front_.parts.health.failed(), "a write waits for a store that has failed");
  struct Waiting {
    Waiting(size_t count, WhenDone when_done) : left(count), done(std::move(when_done)) {}
    Mutex mu;
    size_t left ABSL_GUARDED_BY(mu);
    absl::Status first_error ABSL_GUARDED_BY(mu);
    const WhenDone done;
  };
  // The extra one is the callback below. So `done` is called even if no set is left to wait for.
  auto waiting = std::make_shared<Waiting>(sets.size() + 1, std::move(done));
  const auto one_done = [waiting](absl::Status s) {
    {
      const MutexLock guard(waiting->mu);
      UNTORN_CHECK(waiting->left > 0, "a write is told about more change sets than it waits for");
      if (waiting->first_error.ok()) waiting->first_error = std::move(s);
      if (--waiting->left > 0) return;
      s = waiting->first_error;
    }
    waiting->done(s);
  };
  for (const ChangeSetRef& set : sets) {
    set->when_done.push_back(one_done);
    if (set->state == ChangeSet::State::kPending) front_.committer.Want(set);
  }
  front_.parts.callbacks.Add([one_done] { one_done(absl::OkStatus()); });
  front_.background.Wake();
}

absl::Status ObjectWriter::SyncObject(const ObjectState& object) {
  const DurableCall call(Durability::kSync);
  Lock lock(front_.mu);
  RETURN_IF_ERROR(front_.parts.health.CheckWritable());
  if (object.removed) return RemovedError(object);
  ChangeSetRefs sets =
      front_.committer.SetsWhere([&](const ChangeSet& set) { return set.changes.contains(object.id); });
  return FinishSync(front_, lock, std::move(sets), call);
}

absl::Status ObjectWriter::SyncRange(const ObjectState& object, ByteRange bytes) {
  const DurableCall call(Durability::kSync);
  RETURN_IF_ERROR(CheckRange(bytes));
  const BlockRange range = BlocksOf(bytes);
  Lock lock(front_.mu);
  RETURN_IF_ERROR(front_.parts.health.CheckWritable());
  if (object.removed) return RemovedError(object);
  ChangeSetRefs sets = front_.committer.SetsWhere([&](const ChangeSet& set) {
    auto change = set.changes.find(object.id);
    if (change == set.changes.end()) return false;
    // A metadata change counts for every range of the object.
    bool found = change->second.metadata();
    change->second.data.ForEach(
        [&](BlockRange r) { found |= r.start < range.end() && range.start < r.end(); });
    return found;
  });
  return FinishSync(front_, lock, std::move(sets), call);
}

}  // namespace untorn::internal
