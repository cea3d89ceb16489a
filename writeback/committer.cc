// These are the crash states of the two ways.
//
// By copy-on-write, the data of a commit goes to blocks that nothing durable refers to, or to unwritten
// blocks, which read as zeros. In a lane, one of the blocks may hold a lane record that nobody needs any more. So until
// the record counts, every block is as before, however far the data is. The record counts only with all its data, by
// checksum or because a claim covers the record. A chain counts only with its last record. The result is old or new.
//
// In place, the data is one write that the device keeps whole. The record of the blocks under the write is
// settled, so recovery compares no hash with those blocks. A settled record says that the blocks are open, so a read
// after the crash takes either version. Nothing else of the change set is anywhere. The result is old or new.
#include "writeback/committer.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/probes.h"
#include "base/status_macros.h"
#include "writeback/layout.h"
#include "writeback/log_entries.h"
#include "writeback/planner.h"
#include "writeback/write_builder.h"

namespace untorn {
namespace {

// Old changes go in smaller commits, because somebody may come meanwhile and wait.
constexpr BlockCount kWantedBatchBlocks = BlocksFor(32 << 20);
constexpr BlockCount kOldBatchBlocks = BlocksFor(8 << 20);
// From so much data on, the device works on the data while the record is made. With less data, one
// submission is cheaper.
constexpr BlockCount kDataFirstBlocks = BlocksFor(256 << 10);
// With more data in one write, the hashing takes longer than a second write.
constexpr BlockCount kLaneBlocksMax = BlocksFor(256 << 10);
// A longer lane record repeats more commits, so fewer commits go to the ring.
constexpr uint64_t kDataOfLaneRecord = 4;
BlockCount LaneRecordBlocksMax(BlockCount data) {
  return std::clamp(data / kDataOfLaneRecord, BlockCount(1), kLaneRecordBlocksMax);
}
constexpr BlockCount kAlignBlocksMin = BlocksFor(64 << 10);
constexpr int64_t kWritebackAgeMs = 1000;  // how long accepted data may stay in memory only
// Two commits in flight let changes that come meanwhile go together. After a full batch the device is to have
// writes to do while it flushes. A disk may take as long for the flush as for all that is written meanwhile.
constexpr size_t kCommitsInFlight = 2, kFullCommitsInFlight = 32;
// A range that is going to be overwritten in place is opened together with what lies near it.
constexpr BlockCount kOpenWindowBlocks{256};
// One record opens, and one claims it. So one send settles no more often, even if the mapping is unsettled then.
constexpr int kSettlingsMax = 2;
// If so many steps leave no run for a longer log, other threads take the space, or the map cannot be read.
constexpr int kStepsForLogMax = 2;

}  // namespace

Committer::Committer(const Parts& parts, Checkpointer& checkpointer, const CommitterOptions& options)
    : parts_(parts), checkpointer_(checkpointer), options_(options), queue_(parts) {
  queue_.SetListeners(
      [this](const ChangeSetRef& set) REQUIRES_STORE_LOCK {
        if (set->wanted) Want(set);
      },
      [this]() REQUIRES_STORE_LOCK { serve_background_(); });
  parts_.health.OnFailure([this](const absl::Status& failure) REQUIRES_STORE_LOCK { TellFailure(failure); });
}

// Tells every waiter. Accepted content stays in memory for readers, so the change sets keep their pages.
void Committer::TellFailure(const absl::Status& failure) {
  const auto tell = [&](const ChangeSetRef& set) REQUIRES_STORE_LOCK {
    for (auto& call : set->when_done) {
      parts_.callbacks.Add([call = std::move(call), failure] { call(failure); });
    }
    set->when_done.clear();
  };
  for (const ChangeSetRef& set : parts_.fork.pending()) tell(set);
  queue_.ForEachSet(tell);
  parts_.progress.Tell();
  serve_background_();
}

int64_t Committer::NowMs() const {
  if (!options_.background) return 0;
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// ---- What is due ----

bool Committer::CanSend() const {
  return !sending_ && !hold_ && queue_.size() < (batch_was_full_ ? kFullCommitsInFlight : kCommitsInFlight);
}

bool Committer::DirtyDue() const {
  return parts_.fork.dirty_blocks() > options_.dirty_limit_blocks / 2 && !parts_.fork.pending().empty() &&
         CanSend();
}

bool Committer::AgedDue() const {
  return options_.background && !parts_.fork.pending().empty() && CanSend() &&
         parts_.fork.pending().front()->born_ms + kWritebackAgeMs <= NowMs();
}

bool Committer::WriteBack(Lock& lock) {
  if (parts_.health.failed() || parts_.health.closed()) return false;
  bool sent = !wanted_.empty() && CanSend() && Send(lock, Take::kWanted);
  if (wanted_.empty()) async_wanted_ = false;
  if (!sent) sent = WriteBackDue() && Send(lock, Take::kOldest);
  parts_.pump.Kick(lock);
  // This thread does not wait for the I/O, so another thread must take over.
  parts_.pump.Attend();
  return sent;
}

Readiness Committer::AwaitCleanSpace(Lock& lock) {
  if (!TooMuchDirty()) return Readiness::Ready();
  while (!parts_.health.failed() && TooMuchDirty()) {
    if (parts_.pump.short_of_space()) {
      parts_.pump.Attend();
      return parts_.pump.CheckSpaceBelow();
    }
    const uint64_t seen = parts_.progress.count();  // before Send(), which may release the lock
    if (CanSend() && Send(lock, Take::kOldest)) {
      parts_.pump.Kick(lock);
      continue;
    }
    parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK {
      return parts_.progress.count() != seen || parts_.pump.short_of_space();
    });
  }
  parts_.pump.Attend();
  return Readiness::RetryIfOk(parts_.health.failure());
}

// ---- Waiting ----

ChangeSetRefs Committer::SetsWhere(absl::FunctionRef<bool(const ChangeSet&)> filter) const {
  ChangeSetRefs sets;
  for (const ChangeSetRef& set : parts_.fork.pending()) {
    if (filter(*set)) sets.push_back(set);
  }
  queue_.ForEachSet([&](const ChangeSetRef& set) {
    if (filter(*set)) sets.push_back(set);
  });
  return sets;
}

absl::Status Committer::Sync(Lock& lock, ChangeSetRefs&& sets, bool waits_for_space) {
  lock.AssertHeld();
  // Sets that are done leave the list, so each look is short. A set may be joined to another meanwhile.
  const auto all_done = [&] {
    for (; !sets.empty(); sets.pop_back()) {
      if (Resolve(sets.back())->state != ChangeSet::State::kDone) return false;
    }
    return true;
  };
  for (ChangeSetRef& set : sets) {
    set = Resolve(set);
    UNTORN_CHECK(set->sequence > 0, "a change set is waited for that was never staged");
    set->wanted = true;
    if (set->state == ChangeSet::State::kPending) wanted_.Add(set);
  }
  if (!waits_for_space && parts_.pump.short_of_space()) RETURN_IF_ERROR(parts_.pump.TrySpaceBelow(lock));
  while (!all_done()) {
    if (parts_.health.failed()) return parts_.health.failure();
    if (parts_.pump.short_of_space() && !waits_for_space) {
      parts_.pump.Attend();
      return parts_.pump.CheckSpaceBelow();
    }
    if (!wanted_.empty() && CanSend() && Send(lock, Take::kWanted)) {
      // If nothing else is wanted, Wait() below sends the writes to the device, together with its own wait.
      if (!wanted_.empty()) parts_.pump.Kick(lock);
      continue;
    }
    // One waiting thread sends the next commit for all, unless nothing has changed since a try failed.
    parts_.pump.Wait(
        lock,
        [&]() REQUIRES_STORE_LOCK {
          return all_done() || parts_.health.failed() || (parts_.pump.short_of_space() && !waits_for_space);
        },
        [&]() REQUIRES_STORE_LOCK {
          return parts_.progress.count() != nothing_to_send_at_ && !wanted_.empty() && CanSend();
        });
  }
  // The I/O that this thread has queued for others must not be left behind.
  parts_.pump.Kick(lock);
  parts_.pump.Attend();
  return absl::OkStatus();
}

absl::Status Committer::SyncAll(Lock& lock) { return Sync(lock, AllSets()); }

void Committer::Want(const ChangeSetRef& set) {
  UNTORN_CHECK(set->state == ChangeSet::State::kPending, "a change set is wanted that is on its way");
  set->wanted = true;
  wanted_.Add(set);
  async_wanted_ = true;
}

// ---- Sending ----

Readiness Committer::AwaitMappings(Lock& lock, std::span<const ChangeSetRef> sets, Attempt* attempt,
                                   AllMappings* found) {
  InPlaceChance chance = ChanceOfInPlace(sets, options_.policy, options_.limits);
  const auto find = [&](MissingNodes* missing) REQUIRES_STORE_LOCK {
    return FindMappings(sets, chance.possible, parts_.volume.mappings(), found, missing);
  };
  MissingNodes missing;
  absl::Status status = find(&missing);
  // Scattered overwrites hardly pay for reads of the tree.
  if (status.ok() && !missing.empty() && chance.scattered && options_.policy != WritePolicy::kHardwareOnly) {
    chance.possible = false;
    missing.clear();
    status = find(&missing);
  }
  attempt->mappings_known = chance.possible ? MappingsKnown::kAll : MappingsKnown::kNotNeeded;
  if (status.ok() && missing.empty()) return Readiness::Ready();
  if (status.ok()) status = LoadNodes(lock, missing, attempt);
  if (!absl::IsDataLoss(status)) return Readiness::RetryIfOk(status);
  // The new data goes elsewhere, and the next checkpoint contains the damage.
  attempt->tree_damaged = true;
  return Readiness::Retry();
}

// Loads nodes for an attempt that needs all of its nodes at once.
absl::Status Committer::LoadNodes(Lock& lock, const MissingNodes& missing, Attempt* attempt) {
  MappingReader& mappings = parts_.volume.mappings();
  if (!attempt->hold) attempt->hold.emplace(mappings.node_cache());
  return mappings.LoadNodes(lock, missing);
}

Readiness Committer::AwaitLogRoom(Lock& lock, BlockCount blocks, LogReservation* log) {
  UNTORN_CHECK(log->blocks() == 0, "room in the log is reserved twice for one commit");
  if (std::optional<LogReservation> room = parts_.volume.log().TryReserve(blocks)) {
    *log = *std::move(room);
    UNTORN_CHECK(log->blocks() == blocks, "the log reserved other room than was asked for");
    return Readiness::Ready();
  }
  const BlockCount log_blocks = parts_.volume.geometry().log.count;
  if (blocks > log_blocks) {
    return absl::ResourceExhaustedError(
        absl::StrCat("one commit would take ", blocks.value(), " blocks of the log, which has ",
                     log_blocks.value(), "; split the transaction, or raise the limit of the store"));
  }
  // The checkpoint that is under way may give back enough.
  if (checkpointer_.running()) {
    parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK { return !checkpointer_.running(); });
    return Readiness::RetryIfOk(parts_.health.failure());
  }
  // The records in flight must be durable first, because a checkpoint gives back only what is durable.
  parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK { return queue_.empty(); });
  if (parts_.health.failed()) return parts_.health.failure();
  return Readiness::RetryIfOk(checkpointer_.Checkpoint(lock));
}

Readiness Committer::AwaitOpenings(Lock& lock, const ChangeSet& set, Attempt* attempt,
                                   std::vector<LogEntry>* entries, Reservation* room) {
  const ObjectChange& change = set.changes.begin()->second;
  const ObjectId id = change.object->id;
  BlockRange range;
  change.data.ForEach([&](BlockRange r) { range = r; });
  const ObjectBlock start = range.start.RoundDown(kOpenWindowBlocks);
  const BlockRange window{start, (range.end() - start).RoundUp(kOpenWindowBlocks)};
  Mappings mappings;
  MissingNodes missing;
  MappingReader& reader = parts_.volume.mappings();
  absl::Status found = reader.Lookup(id, window, &mappings, &missing);
  if (found.ok() && !missing.empty()) {
    found = LoadNodes(lock, missing, attempt);
    if (found.ok()) return Readiness::Retry();
  }
  // Beside damage, the set goes by copy-on-write.
  if (absl::IsDataLoss(found)) return Readiness::Ready();
  RETURN_IF_ERROR(found);
  // A commit in flight may map blocks anew before the opening. No hole is in flight: the set would have to wait.
  const PageCache& pages = parts_.fork.pages();
  SpaceCost cost;
  BlockCount own;  // blocks of the set that are open then
  for (const Mapping& m : mappings) {
    if (m.state != MappingState::kWritten) continue;
    const ObjectBlock own_start = std::max(m.logical.start, range.start),
                      own_end = std::min(m.logical.end(), range.end());
    if (own_start < own_end) own += own_end - own_start;
    if (m.opened > 0) continue;
    for (ObjectBlock at = m.logical.start; at < m.logical.end();) {
      BlockCount count;
      while (count < kMapEntryBlocksMax && at + count < m.logical.end() &&
             !pages.Committing(*change.object, at + count))
        ++count;
      if (count > 0) {
        entries->push_back(LogEntry::Open(id, m.Part({at, count}), parts_.volume.session()));
        cost.tree_entries += TreeEntriesOfCut(count);
        at += count;
      } else {
        ++at;
      }
    }
  }
  UNTORN_CHECK(own == range.count, "a set of blocks that are not written is opened");
  std::optional<Reservation> reserved = parts_.volume.space().TryReserve(cost, SpaceFor::kOverwrite);
  if (reserved) {
    *room = *std::move(reserved);
  } else {
    entries->clear();
  }
  return Readiness::Ready();
}

absl::Status Committer::Settle(Lock& lock, std::vector<LogEntry> entries) {
  UNTORN_CHECK(sending_, "invariant 1: a record is sent by a thread that does not send");
  LogReservation room;
  const BlockCount blocks = LogWriter::BlocksFor(entries);
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK { return AwaitLogRoom(lock, blocks, &room); }));
  if (parts_.health.failed()) return parts_.health.failure();
  ++parts_.stats.settling_records;
  Commit& commit = queue_.Begin(queue_.NewCommit());
  commit.has_record = true;
  LogWriter& log_writer = parts_.volume.log();
  log_writer.Begin(std::move(room), std::move(entries), &commit.log);
  const Lsn lsn = commit.log.last;
  UNTORN_CHECK(commit.sets.empty(), "a settling record has change sets");
  UNTORN_CHECK(lsn > parts_.volume.log().durable_lsn(), "a new record is durable already");
  {
    const Unlocked unlocked(lock);
    log_writer.Encode(&commit.log);
  }
  if (parts_.health.failed()) return parts_.health.failure();
  queue_.Send(commit);
  parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK { return parts_.volume.log().durable_lsn() >= lsn; });
  return parts_.health.failure();
}

// Tells a tracer of a plan: change sets that follow one another with the same path together.
void TracePlan(const Plan& plan) {
  for (auto it = plan.sets.begin(); it != plan.sets.end();) {
    const PathReason reason = it->reason;
    uint64_t sets = 0;
    BlockCount blocks;
    for (; it != plan.sets.end() && it->reason == reason; ++it) {
      ++sets;
      blocks += it->set->data_blocks;
    }
    probes::Plan(sets, Bytes(blocks), static_cast<int>(reason));
  }
}

// Selects and plans until all that the plan needs is there. A plan without change sets has nothing to send.
Readiness Committer::SelectAndPlan(Lock& lock, Take take, Attempt* attempt, Plan* plan, LogReservation* log) {
  *plan = Plan();
  wanted_.Refresh();
  const BlockCount blocks_max = take == Take::kWanted ? kWantedBatchBlocks : kOldBatchBlocks;
  const ChangeSetRefs candidates = Candidates(take, wanted_, parts_.fork, blocks_max);
  // Invariant 2 keeps these sets back.
  const auto must_wait = [&](const ChangeSet& set) REQUIRES_STORE_LOCK {
    return MustWait(set, parts_.fork.pages()) || queue_.InPlaceBefore(set.epoch);
  };
  const Batch batch =
      SelectBatch(candidates, {blocks_max, parts_.volume.geometry().log.count / 4}, must_wait);
  batch_was_full_ = batch.full;
  if (batch.sets.empty() || parts_.health.failed()) return Readiness::Ready();
  AllMappings mappings;
  attempt->mappings_known = MappingsKnown::kDamaged;
  if (!attempt->tree_damaged) RETURN_UNLESS_READY(AwaitMappings(lock, batch.sets, attempt, &mappings));
  const auto is_read = [&](Extent e) REQUIRES_STORE_LOCK { return !parts_.volume.space().MayOverwrite(e); };
  Plan made = MakePlan(batch.sets, {.policy = options_.policy,
                                    .limits = options_.limits,
                                    .mappings_known = attempt->mappings_known,
                                    .mappings = mappings,
                                    .settled = parts_.volume.log().settled(),
                                    .earlier_in_flight = queue_.AnyBefore(batch.sets.back()->epoch),
                                    .read_outstanding = is_read});
  UNTORN_CHECK(made.sets.size() == batch.sets.size(), "a plan has other change sets than its batch");
  if (made.settle_first && attempt->settlings < kSettlingsMax) {
    std::vector<LogEntry> openings;
    Reservation room;
    if (made.open_first) {
      RETURN_UNLESS_READY(AwaitOpenings(lock, *batch.sets.front(), attempt, &openings, &room));
    }
    attempt->hold.reset();
    // Without openings nothing is gained.
    const bool goes_on = !made.open_first || !openings.empty();
    attempt->settlings = goes_on ? attempt->settlings + 1 : kSettlingsMax;
    if (goes_on) {
      const absl::Status settled = Settle(lock, std::move(openings));
      room.Release();
      return Readiness::RetryIfOk(settled);
    }
  }
  attempt->hold.reset();
  // The room must be there before the batch is frozen: a committing change set cannot wait for a checkpoint.
  if (made.needs_record()) RETURN_UNLESS_READY(AwaitLogRoom(lock, made.log_blocks_max, log));
  UNTORN_CHECK(!made.needs_record() || log->blocks() >= made.log_blocks_max,
               "a record has no room in the log");
  *plan = std::move(made);
  return Readiness::Ready();
}

// Makes the change sets of the plan committing.
Commit& Committer::FreezeBatch(const Plan& plan) {
  std::unique_ptr<Commit> commit = queue_.NewCommit();
  commit->in_place = !plan.in_place.empty();
  commit->has_record = plan.needs_record();
  UNTORN_CHECK(commit->in_place || commit->has_record, "a commit has nothing to write");
  UNTORN_CHECK(sending_, "invariant 1: a batch is frozen by a thread that does not send");
  for (const InPlaceRun& run : plan.in_place) {
    UNTORN_CHECK(parts_.volume.geometry().InDataArea(run.extent), "a write in place leaves the data area");
  }
  commit->sets.reserve(plan.sets.size());
  for (const Plan::SetPlan& own : plan.sets) {
    parts_.fork.Freeze(own.set);
    commit->sets.push_back(own.set);
    if (own.reason == PathReason::kInPlace) {
      // The set is counted when it is durable, because the device may refuse the write.
      parts_.volume.BeginOverwrite(own.in_place);
      continue;
    }
    ++parts_.stats.change_sets_by_reason[static_cast<int>(own.reason)];
    parts_.stats.cow_bytes += Bytes(own.set->data_blocks);
  }
  wanted_.Refresh();
  return queue_.Begin(std::move(commit));
}

bool Committer::MayGoToLane(const Plan& plan) const {
  if (!queue_.empty() || !plan.in_place.empty()) return false;
  BlockCount blocks;
  for (const Plan::SetPlan& own : plan.sets) {
    blocks += own.set->data_blocks;
    if (!own.unwritten.empty()) return false;
    // Data that was written before needs a flush.
    for (const auto& [id, change] : own.set->changes) {
      if (!change.placed.empty()) return false;
    }
  }
  return blocks > 0 && blocks <= kLaneBlocksMax;
}

absl::StatusOr<CowPieces> Committer::Place(Lock& lock, const Plan& plan, InLane* lane) {
  DataToPlace data = FindDataToPlace(plan);
  const BlockCount align_max = std::max(kAlignBlocksMin, WholeBlocks(options_.limits.unit_max_bytes));
  const Layout layout(absl::MakeSpan(data.items), align_max);
  SpaceLedger& space = parts_.volume.space();
  if (lane != nullptr) {
    const BlockCount blocks = layout.blocks();
    lane->record_blocks = LaneRecordBlocksMax(blocks);
    if (lane->record_blocks > 1) {
      size_t entry_bytes = 0;
      for (const Plan::SetPlan& own : plan.sets) entry_bytes += LogBytesMax(*own.set);
      lane->record_blocks = std::min(lane->record_blocks, parts_.volume.log().LaneRecordBlocks(entry_bytes));
    }
    lane->blocks = blocks + lane->record_blocks;
    lane->alignment = layout.alignment();
    ASSIGN_OR_RETURN(lane->data, parts_.volume.lanes().Place(blocks, lane->alignment, lane->record_blocks,
                                                             parts_.volume.log().last_lsn() + 1));
  }
  std::optional<Extent> in_lane = lane != nullptr ? lane->data : std::nullopt;
  const auto allocate = [&](AllocationRequest request) REQUIRES_STORE_LOCK -> absl::StatusOr<Extent> {
    if (in_lane) return *std::exchange(in_lane, std::nullopt);
    request.enough_blocks = std::min(request.want_blocks / 2, kContiguousBlocks);
    return space.Allocate(lock, request);
  };
  const auto give_back = [&](Extent extent) REQUIRES_STORE_LOCK { return space.ReturnUnused(extent); };
  ASSIGN_OR_RETURN(const PlacedPieces placed, layout.Place(allocate, give_back));
  UNTORN_CHECK(placed.size() >= data.items.size(), "a range of a change set has no place");
  CowPieces pieces = std::move(data.into_unwritten);
  pieces.reserve(pieces.size() + placed.size());
  for (const PlacedPiece& p : placed) {
    UNTORN_CHECK(parts_.volume.geometry().InDataArea({p.physical, p.blocks.count}),
                 "data is placed outside of the data area");
    const auto& [set, from] = data.sources[p.source];
    AddPiece({set, from, p.blocks, p.physical, false}, &pieces);
  }
  for (const Plan::SetPlan& own : plan.sets) {
    // A set that goes in place keeps its reservation, because the device may refuse the write.
    if (own.reason != PathReason::kInPlace) own.set->space.ReleaseBlocks(own.set->space.blocks());
  }
  return pieces;
}

void Committer::BeginRecord(LogReservation room, std::vector<LogEntry> entries, bool lane_wanted,
                            const InLane& lane, Commit* commit) {
  LogWriter& log = parts_.volume.log();
  Lanes& lanes = parts_.volume.lanes();
  if (lane.data) {
    if (log.LaneRecordHasRoom(EncodedBytes(entries), lane.record_blocks)) {
      return log.BeginInLane(std::move(room), std::move(entries), lane.data->end(), &commit->log);
    }
    lanes.RecordGoesToRing();
  }
  if (lane_wanted) lanes.TakeExtents(lane.blocks, lane.alignment);
  log.Begin(std::move(room), std::move(entries), &commit->log);
}

Committer::Sent Committer::SendBatch(Lock& lock, Take take) {
  Plan plan;
  LogReservation log;
  {
    bool first = true;
    Attempt attempt;
    absl::Status ready = UntilReady([&]() REQUIRES_STORE_LOCK {
      // The lock was released. Others may have found that they cannot send, and must look again.
      if (!std::exchange(first, false)) parts_.progress.Note();
      return SelectAndPlan(lock, take, &attempt, &plan, &log);
    });
    if (!ready.ok()) {
      parts_.health.Fail(ready);
      return Sent::kNothing;
    }
  }
  if (plan.sets.empty()) return Sent::kNothing;
  TracePlan(plan);
  const bool lane_wanted = MayGoToLane(plan);
  InLane lane;
  Commit& commit = FreezeBatch(plan);
  absl::StatusOr<CowPieces> pieces = Place(lock, plan, lane_wanted ? &lane : nullptr);
  if (!pieces.ok()) {
    parts_.health.Fail(absl::InternalError(
        absl::StrCat("reserved space could not be allocated: ", pieces.status().ToString())));
  }
  if (parts_.health.failed()) return Sent::kNothing;  // the commit stays frozen
  UNTORN_CHECK(commit.has_record || pieces->empty(), "data goes by copy-on-write without a record");
  absl::InlinedVector<size_t, 1> entry_of;
  // The record gets its LSN under the lock, so that LSNs are in the order of freezing (invariant 1).
  if (commit.has_record) {
    BuiltEntries built = BuildEntries(plan, *pieces, std::move(commit.log.entries));
    entry_of = std::move(built.of_piece);
    BeginRecord(std::move(log), std::move(built.entries), lane_wanted, lane, &commit);
  }
  LogWriter& log_writer = parts_.volume.log();
  const auto make_record = [&] {
    commit.overwrites = HashOverwrites(plan, parts_.data_key);
    if (!commit.has_record) return;
    HashPieces(*pieces, entry_of, parts_.data_key, &commit.log.entries);
    log_writer.Encode(&commit.log);
  };
  BlockCount blocks;
  for (const CowPiece& piece : *pieces) blocks += piece.blocks.count;
  const bool data_first = blocks >= kDataFirstBlocks && !commit.log.in_lane();
  // From here on the commit is frozen, so the writes and the record are built without the lock.
  absl::Status built;
  {
    const Unlocked unlocked(lock);
    built = BuildWrites(plan, *pieces, &commit);
    if (built.ok() && commit.log.in_lane()) GatherData(&commit.data_writes.front().request, &gathered_);
    if (built.ok() && !data_first) make_record();
  }
  if (!built.ok()) parts_.health.Fail(built);
  // The device works on the data while this thread hashes the data and encodes the record.
  if (data_first && !parts_.health.failed()) {
    queue_.QueueData(commit);
    parts_.pump.Kick(lock);
    const Unlocked unlocked(lock);
    make_record();
  }
  if (parts_.health.failed()) return Sent::kNothing;
  queue_.Send(commit);
  return Sent::kBatch;
}

bool Committer::Send(Lock& lock, Take take) {
  UNTORN_CHECK(!sending_, "invariant 1: two threads send commits");
  sending_ = true;
  const uint64_t progress_before = parts_.progress.count();
  const bool sent = SendBatch(lock, take) == Sent::kBatch;
  lock.AssertHeld();
  UNTORN_CHECK(sending_, "invariant 1: another thread ended this one's commit");
  sending_ = false;
  if (!sent && take == Take::kWanted) nothing_to_send_at_ = parts_.progress.count();
  // A send that found nothing at once tells nobody: else the waiting threads would wake one another for ever.
  if (sent || hold_ || parts_.progress.count() != progress_before) {
    parts_.progress.Tell();
    serve_background_();
  }
  return sent;
}

// ---- The log's place ----

BlockCount Committer::LogBlocksDue(BlockCount commit_blocks) const {
  const Volume& volume = parts_.volume;
  const Geometry& geometry = volume.geometry();
  const BlockCount prepared = volume.space().prepared_blocks();
  const bool withdrawn = commit_blocks == 0 && volume.space().withdrawn();
  if (growing_log_ || withdrawn || prepared == no_longer_log_at_ || parts_.health.failed() ||
      parts_.health.closed())
    return 0;
  // The log of a store in which so much is prepared has room for two such commits at least.
  constexpr uint64_t kPreparedForEachBlock = 32;
  const BlockCount blocks = Geometry::LogBlocksFor(geometry.total_blocks,
                                                   std::max(prepared, commit_blocks * kPreparedForEachBlock));
  return blocks >= 2 * geometry.log.count ? blocks : BlockCount(0);
}

absl::StatusOr<std::optional<Extent>> Committer::TakeLongerLog(Lock& lock, BlockCount blocks) {
  SpaceLedger& space = parts_.volume.space();
  std::optional<Extent> run = space.TakeLog(blocks);
  // What is prepared may be promised to others.
  for (int steps = 0; !run && steps < kStepsForLogMax; ++steps) {
    const absl::StatusOr<SpaceLedger::Prepared> more = space.PrepareMore(lock, blocks);
    if (absl::IsResourceExhausted(more.status())) return std::nullopt;
    RETURN_IF_ERROR(more.status());
    if (*more == SpaceLedger::Prepared::kAllPrepared) return std::nullopt;
    run = space.TakeLog(blocks);
  }
  if (!run) return std::nullopt;
  ASSIGN_OR_RETURN(const bool zero, ZeroLog(lock, *run));
  return zero ? run : std::nullopt;
}

absl::StatusOr<bool> Committer::ZeroLog(Lock& lock, Extent run) {
  // The bytes of the run could look like records.
  SpaceLedger& space = parts_.volume.space();
  const absl::Status zeroed = space.WriteZeros(lock, run);
  if (zeroed.ok()) return true;
  if (!absl::IsResourceExhausted(zeroed)) return zeroed;
  RETURN_IF_ERROR(space.ReturnUnused(run));
  return false;
}

absl::Status Committer::HoldAndCheckpoint(Lock& lock, absl::FunctionRef<absl::Status()> ask) {
  hold_ = true;
  parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK { return !sending_; });
  hold_ = false;
  if (parts_.health.failed()) return parts_.health.failure();
  sending_ = true;
  Volume& volume = parts_.volume;
  parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK {
    return volume.log().AllDurable() && !checkpointer_.running() && !volume.resizing() &&
           !volume.space().preparing();
  });
  absl::Status status = parts_.health.failure();
  if (status.ok()) status = ask();
  if (status.ok()) status = checkpointer_.Checkpoint(lock);
  sending_ = false;
  return status;
}

absl::Status Committer::MoveLog(Lock& lock, Extent run) {
  return HoldAndCheckpoint(lock, [&]() REQUIRES_STORE_LOCK { return parts_.volume.MoveLog(run); });
}

absl::Status Committer::MoveLogOutOfWithdrawn(Lock& lock) {
  SpaceLedger& space = parts_.volume.space();
  parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK { return !growing_log_; });
  RETURN_IF_ERROR(parts_.health.failure());
  const Extent log = parts_.volume.geometry().log;
  if (!space.withdrawn() || log.end() <= space.usable_end()) return absl::OkStatus();
  const std::optional<Extent> run = space.TakeLog(log.count);
  if (!run) {
    return absl::ResourceExhaustedError(
        absl::StrCat(parts_.pump.device().info().path, ": there is no free run of ", Bytes(log.count),
                     " bytes for the log before offset ", ByteOffset(space.usable_end())));
  }
  growing_log_ = true;
  const absl::StatusOr<bool> zero = ZeroLog(lock, *run);
  absl::Status status = zero.status();
  if (status.ok() && *zero) status = MoveLog(lock, *run);
  growing_log_ = false;
  if (!status.ok()) parts_.health.Fail(status);
  EndHold();
  RETURN_IF_ERROR(parts_.health.failure());
  if (*zero) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(parts_.pump.device().info().path,
                                                   ": the file system has no space for the log to move to"));
}

absl::Status Committer::Shrink(Lock& lock, BlockCount total_blocks) {
  bool asked = false;
  absl::Status status = HoldAndCheckpoint(lock, [&]() REQUIRES_STORE_LOCK {
    const absl::Status ready = parts_.volume.Shrink(lock, total_blocks);
    asked = ready.ok();
    return ready;
  });
  EndHold();
  if (!asked) return status;
  // The store is smaller already, and a file that is too long does no harm.
  const absl::Status cut = parts_.volume.EndShrink(lock, status.ok());
  if (!cut.ok()) parts_.callbacks.Log(LogLevel::kWarning, std::string(cut.message()));
  return status;
}

void Committer::EndHold() {
  parts_.progress.Tell();
  serve_background_();
  // Threads may wait for their turn to send.
  parts_.pump.Attend();
}

absl::Status Committer::GrowLog(Lock& lock, BlockCount commit_blocks) {
  parts_.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK { return !growing_log_; });
  const BlockCount blocks = LogBlocksDue(commit_blocks);
  if (blocks == 0) return parts_.health.failure();
  // What others need goes before a smaller store.
  if (parts_.volume.space().withdrawn()) parts_.volume.space().RestoreWithdrawn();
  growing_log_ = true;
  const absl::StatusOr<std::optional<Extent>> run = TakeLongerLog(lock, blocks);
  absl::Status status = run.status();
  if (status.ok() && *run) status = MoveLog(lock, **run);
  if (status.ok() && !*run) no_longer_log_at_ = parts_.volume.space().prepared_blocks();
  growing_log_ = false;
  if (!status.ok()) parts_.health.Fail(status);
  EndHold();
  return parts_.health.failure();
}

void Committer::CheckInvariants() const {
  queue_.CheckInvariants();
  UNTORN_CHECK(queue_.size() <= kFullCommitsInFlight + 1, "more commits are in flight than may be");
  queue_.ForEachSet([&](const ChangeSetRef& set) {
    UNTORN_CHECK(set->state == ChangeSet::State::kCommitting,
                 "invariant 2: a change set in flight is not committing");
  });
}

}  // namespace untorn
