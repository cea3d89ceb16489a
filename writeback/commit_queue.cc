#include "writeback/commit_queue.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/probes.h"
#include "writeback/rules.h"

namespace untorn {

bool CommitQueue::AnyBefore(BarrierEpoch epoch) const {
  return std::any_of(commits_.begin(), commits_.end(), [&](const auto& c) { return c->epoch_min < epoch; });
}

bool CommitQueue::InPlaceBefore(BarrierEpoch epoch) const {
  return std::any_of(commits_.begin(), commits_.end(),
                     [&](const auto& c) { return c->in_place && c->epoch_min < epoch; });
}

void CommitQueue::ForEachSet(absl::FunctionRef<void(const ChangeSetRef&)> fn) const {
  for (const auto& commit : commits_) {
    for (const ChangeSetRef& set : commit->sets) fn(set);
  }
}

std::unique_ptr<Commit> CommitQueue::NewCommit() {
  if (!spare_) return std::make_unique<Commit>();
  UNTORN_CHECK(spare_->sets.empty() && spare_->data_writes.empty() && spare_->log_writes.empty(),
               "a commit is used again that is not done with");
  return std::move(spare_);
}

Commit& CommitQueue::Begin(std::unique_ptr<Commit> commit) {
  UNTORN_CHECK(!parts_.health.failed(), "invariant 3: a commit is begun after a failure");
  UNTORN_CHECK(commit->state == Commit::State::kWriting && commit->data_writes.empty(),
               "a commit is begun that is on its way");
  commit->queue = this;
  commit->begun_ns = NowNs();
  commit->data_blocks = 0;
  // The extra one stands for writes that are not queued yet. Without the extra one, data that goes first
  // could complete alone and make the commit count as written.
  commit->outstanding = 1;
  commit->epoch_min = BarrierEpoch::Max();  // a settling record belongs to no barrier epoch
  for (const ChangeSetRef& set : commit->sets) {
    UNTORN_CHECK(set->state == ChangeSet::State::kCommitting, "a commit has a change set that is not frozen");
    commit->epoch_min = std::min(commit->epoch_min, set->epoch);
    commit->data_blocks += set->data_blocks;
  }
  commits_.push_back(std::move(commit));
  return *commits_.back();
}

void CommitQueue::OnWriteDone(IoRequest* request) {
  auto& write = *static_cast<Commit::Write*>(request->context);
  Commit& commit = *write.commit;
  UNTORN_CHECK(commit.outstanding > 0, "a write of a commit completes twice");
  UNTORN_CHECK(commit.state == Commit::State::kWriting, "a write completes of a commit that is written");
  if (absl::IsUnimplemented(request->status) && !write.in_place.empty()) {
    // The device wrote nothing, so the change set can go again by another way.
    commit.refused.insert(commit.refused.end(), write.in_place.begin(), write.in_place.end());
    commit.refusal = request->status;
  } else if (!request->status.ok()) {
    commit.queue->parts_.health.Fail(request->status);
  }
  if (--commit.outstanding == 0) commit.queue->Written(commit);
}

void CommitQueue::Queue(Commit& commit, Commit::Write& write) {
  if (write.commit != nullptr) return;  // queued already
  UNTORN_CHECK(commit.state == Commit::State::kWriting, "a written commit gets another write");
  UNTORN_CHECK(write.in_place.empty() || write.request.op == IoOp::kAtomicWrite,
               "a change set goes in place by a write that may be torn");
  write.commit = &commit;
  write.request.context = &write;
  write.request.done = &OnWriteDone;
  ++commit.outstanding;
  parts_.pump.Queue(&write.request);
}

void CommitQueue::QueueData(Commit& commit) {
  for (Commit::Write& write : commit.data_writes) Queue(commit, write);
}

void CommitQueue::Send(Commit& commit) {
  UNTORN_CHECK(commit.log_writes.empty(), "a commit is sent twice");
  UNTORN_CHECK(!commit.sets.empty() || commit.has_record, "a commit is sent with nothing in it");
  const bool in_lane = commit.has_record && commit.log.in_lane();
  UNTORN_CHECK(commit.has_record == (in_lane || !commit.log.requests.empty()),
               "a commit is sent without its record");
  UNTORN_CHECK(commit.outstanding > 0, "a commit counts as written before it is sent");
  commit.durable_write = NeedsNoFlush(commit);
  if (in_lane) {
    UNTORN_CHECK(
        commit.durable_write && commit.data_writes.size() == 1 && commit.data_writes[0].commit == nullptr,
        "invariant 1: a commit in a lane is not one write");
    IoRequest& write = commit.data_writes.front().request;
    write.iov.push_back({commit.log.lane_record.data(), commit.log.lane_record.size()});
    UNTORN_CHECK(write.offset_bytes + write.length_bytes() ==
                     ByteOffset(commit.log.lane_block) + commit.log.lane_record.size(),
                 "a lane record does not follow its data");
    ++parts_.stats.commits_in_lanes;
  }
  if (commit.durable_write) {
    (commit.log.requests.empty() ? commit.data_writes.front().request : commit.log.requests.front()).durable =
        true;
  }
  QueueData(commit);
  // All log writes are made before the first is queued: the vector must not move them afterwards.
  for (IoRequest& request : commit.log.requests)
    commit.log_writes.emplace_back().request = std::move(request);
  for (Commit::Write& write : commit.log_writes) Queue(commit, write);
  parts_.progress.Note();
  if (--commit.outstanding == 0) Written(commit);
}

bool CommitQueue::NeedsNoFlush(const Commit& commit) const {
  if (commits_.size() != 1) return false;
  if (commit.has_record && !commit.log.in_lane()) {
    if (!commit.data_writes.empty() || commit.log.requests.size() != 1) return false;
    // Data that is not the commit's own was written before, and no flush since then has covered it.
    return std::none_of(commit.log.entries.begin(), commit.log.entries.end(), [](const LogEntry& e) {
      return e.type == LogEntry::Type::kMap && e.state == MappingState::kWritten;
    });
  }
  // The data may be on its way already.
  return commit.data_writes.size() == 1 && commit.data_writes.front().commit == nullptr;
}

// Makes the change sets that the device did not write whole pending again. The sets then go by copy-on-write,
// once.
void CommitQueue::TakeBackRefused(Commit& commit) {
  if (!std::exchange(refusal_told_, true)) {
    parts_.callbacks.Log(
        LogLevel::kWarning,
        absl::StrCat(std::string(commit.refusal.message()),
                     ": the device refused an atomic write that it promised to take; the range goes by "
                     "copy-on-write, as others may; the statistics count them as device-refused"));
  }
  for (ChangeSet* refused : commit.refused) {
    auto it = std::find_if(commit.sets.begin(), commit.sets.end(),
                           [&](const auto& s) { return s.get() == refused; });
    UNTORN_CHECK(it != commit.sets.end(), "a change set is refused twice");
    UNTORN_CHECK(refused->frozen.size() == 1, "a change set of several ranges went in place");
    const ChangeSetRef set = std::move(*it);
    commit.sets.erase(it);
    const auto overwrite = std::find_if(commit.overwrites.begin(), commit.overwrites.end(),
                                        [&](const auto& o) { return o.set == refused; });
    UNTORN_CHECK(overwrite != commit.overwrites.end(), "a change set is refused that did not go in place");
    parts_.volume.EndOverwrite(overwrite->extent());
    commit.overwrites.erase(overwrite);
    UNTORN_CHECK(!set->device_refused, "a change set goes in place that the device refused before");
    set->device_refused = true;
    parts_.fork.Unfreeze(set);
    // Unfreeze() may have joined the set to another.
    on_refused_(Resolve(set));
  }
  commit.refused.clear();
  parts_.progress.Note();
  on_advanced_();
}

void CommitQueue::Written(Commit& commit) {
  UNTORN_CHECK(commit.state == Commit::State::kWriting, "a commit is written twice");
  UNTORN_CHECK(commit.outstanding == 0, "a commit counts as written with a write outstanding");
  if (commit.durable_write && commit.refused.empty()) {
    commit.state = Commit::State::kFlushed;
    // The rule is here so that a canary can break it.
    for (const auto& other : commits_) {
      if (rules::DurableWriteCoversOthers() && other->outstanding == 0)
        other->state = Commit::State::kFlushed;
    }
    Advance();
    StartFlush();
    return;
  }
  // A flush that is under way does not cover these writes. The rule is here so that a canary can break it.
  const bool covered = flushing_ && rules::FlushCoversWhatCompletesDuringIt();
  commit.state = covered ? Commit::State::kFlushing : Commit::State::kWritten;
  if (!parts_.health.failed() && !commit.refused.empty()) {
    TakeBackRefused(commit);
    // Nothing of such a commit reached the device, so no flush has to cover it.
    if (commit.sets.empty() && !commit.has_record) {
      std::erase_if(commits_, [&](const auto& c) { return c.get() == &commit; });
    }
  }
  StartFlush();
}

void CommitQueue::StartFlush() {
  // One flush at a time: commits that are written during this flush share the next flush.
  if (flushing_ || parts_.health.failed()) return;
  for (const auto& commit : commits_) {
    if (commit->state != Commit::State::kWritten) continue;
    UNTORN_CHECK(commit->outstanding == 0,
                 "invariant 1: a flush is sent before a write it covers is complete");
    commit->state = Commit::State::kFlushing;
    flushing_ = true;
  }
  if (!flushing_) return;
  flush_ = IoRequest();
  flush_.op = IoOp::kFlush;
  flush_.context = this;
  flush_.done = [](IoRequest* r)
                    REQUIRES_STORE_LOCK { static_cast<CommitQueue*>(r->context)->Flushed(r->status); };
  parts_.pump.Queue(&flush_);
}

void CommitQueue::Flushed(const absl::Status& status) {
  UNTORN_CHECK(flushing_, "a flush completes that nobody sent");
  flushing_ = false;
  if (!status.ok()) {
    parts_.health.Fail(status);
    return;
  }
  // Only commits that were written before the flush was sent are in this state (invariant 1).
  for (const auto& commit : commits_) {
    if (commit->state == Commit::State::kFlushing) commit->state = Commit::State::kFlushed;
  }
  Advance();
  StartFlush();
}

void CommitQueue::Advance() {
  bool record_before = false;  // an earlier record is not durable yet
  for (auto it = commits_.begin(); it != commits_.end() && !parts_.health.failed();) {
    Commit& commit = **it;
    const bool flushed = commit.state == Commit::State::kFlushed;
    // A commit without a record went in place, and waits for nothing but its flush.
    const bool durable = commit.has_record ? rules::RecordMayBeAcknowledged(flushed, record_before) : flushed;
    if (!durable) {
      record_before |= commit.has_record;
      ++it;
      continue;
    }
    Finish(commit);
    if (commit.Recycle()) spare_ = std::move(*it);
    it = commits_.erase(it);
  }
  parts_.progress.Note();
  on_advanced_();
}

void CommitQueue::Finish(Commit& commit) {
  UNTORN_CHECK(commit.outstanding == 0, "invariant 1: a commit is acknowledged with a write outstanding");
  UNTORN_CHECK(commit.state == Commit::State::kFlushed,
               "invariant 1: a commit is acknowledged before its flush");
  UNTORN_CHECK(!parts_.health.failed(), "invariant 3: a commit is acknowledged after a failure");
  UNTORN_CHECK(commit.refused.empty(), "a commit is acknowledged with a write that the device refused");
  // The delta counts the changes of the tree before the reservations go, so space is never promised twice.
  if (commit.has_record) {
    if (absl::Status s = parts_.volume.RecordsDurable(commit.log); !s.ok()) parts_.health.Fail(s);
    UNTORN_CHECK(parts_.volume.log().durable_lsn() >= commit.log.last,
                 "a commit is acknowledged whose record does not count as durable");
  }
  for (const Commit::Overwrite& o : commit.overwrites) {
    Mapping m;
    m.logical = o.blocks;
    m.physical = o.physical;
    m.checksums = ChecksumsRef(o.checksums);
    parts_.volume.NoteOverwritten(o.object, m);
    parts_.volume.EndOverwrite(o.extent());
    ++parts_.stats.change_sets_by_reason[static_cast<int>(PathReason::kInPlace)];
    parts_.stats.in_place_bytes += Bytes(o.blocks.count);
  }
  ++parts_.stats.commits;
  const uint64_t took_ns = NowNs() - commit.begun_ns;
  parts_.stats.commit_latency.Add(took_ns);
  probes::Commit(commit.has_record ? commit.log.last.value() : 0, Bytes(commit.data_blocks), took_ns);
  for (const ChangeSetRef& set : commit.sets) {
    set->space.Release();
    parts_.fork.Complete(set);
    // The application's functions run later, because completions run with the lock held and must not block.
    for (auto& call : set->when_done) {
      parts_.callbacks.Add([call = std::move(call)] { call(absl::OkStatus()); });
    }
    set->when_done.clear();
  }
}

void CommitQueue::CheckInvariants() const {
  for (const auto& commit : commits_) {
    if (commit->state != Commit::State::kWriting) {
      UNTORN_CHECK(commit->outstanding == 0,
                   "invariant 1: a commit counts as written with a write outstanding");
    }
    UNTORN_CHECK(commit->state != Commit::State::kFlushing || flushing_ || parts_.health.failed(),
                 "invariant 1: a commit waits for a flush that nobody sent");
  }
}

}  // namespace untorn
