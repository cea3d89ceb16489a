// Completing commits: flush, acknowledgement in LSN order, failure. Runs in completion functions, with the
// lock held.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "writeback/commit.h"

namespace untorn {

void Engine::Written(Commit& commit) {
  commit.state = Commit::State::kWritten;
  if (failed_.ok() && !commit.refused.empty()) {
    // The device would not write these whole: they go by copy-on-write, once.
    if (!std::exchange(refusal_told_, true)) {
      Log(LogLevel::kWarning,
          absl::StrCat(std::string(commit.refusal.message()),
                       ": the device refused an atomic write that it promised to take; the range goes by "
                       "copy-on-write, as others may; the statistics count them as device-refused"));
    }
    for (Unit* refused : commit.refused) {
      auto it = std::find_if(commit.units.begin(), commit.units.end(),
                             [&](const auto& u) { return u.get() == refused; });
      std::shared_ptr<Unit> unit = std::move(*it);
      commit.units.erase(it);
      unit->device_refused = true;
      stats_.in_place_bytes -= unit->data_blocks * kBlockBytes;
      --stats_.units_by_reason[static_cast<int>(PathReason::kInPlace)];
      fork_.Unfreeze(unit);
      unit = Resolve(unit);
      if (unit->wanted) Want(unit);
    }
    commit.refused.clear();
    ++progress_;
    if (commit.units.empty() && !commit.has_record) {
      std::erase_if(commits_, [&](const auto& c) { return c.get() == &commit; });
    }
  }
  StartFlush();
}

void Engine::StartFlush() {
  if (flushing_ || !failed_.ok()) return;
  bool any = false;
  for (const auto& commit : commits_) {
    if (commit->state != Commit::State::kWritten) continue;
    commit->state = Commit::State::kFlushing;
    any = true;
  }
  if (!any) return;
  flushing_ = true;
  flush_ = IoRequest();
  flush_.op = IoOp::kFlush;
  flush_.context = this;
  flush_.done = [](IoRequest* r) { static_cast<Engine*>(r->context)->Flushed(r->status); };
  pump_->Queue(&flush_);
}

void Engine::Flushed(const absl::Status& status) {
  flushing_ = false;
  if (!status.ok()) {
    Fail(status);
    return;
  }
  for (const auto& commit : commits_) {
    if (commit->state == Commit::State::kFlushing) commit->state = Commit::State::kFlushed;
  }
  Advance();
  StartFlush();
}

void Engine::Advance() {
  bool record_before = false;  // one that is not durable yet
  for (auto it = commits_.begin(); it != commits_.end() && failed_.ok();) {
    Commit& commit = **it;
    if (commit.state != Commit::State::kFlushed || (commit.has_record && record_before)) {
      record_before |= commit.has_record;
      ++it;
      continue;
    }
    Finish(commit);
    it = commits_.erase(it);
  }
  ++progress_;
  ServeBackground();
}

void Engine::Finish(Commit& commit) {
  if (commit.has_record) {
    if (absl::Status s = volume_->RecordsDurable(commit.log); !s.ok()) Fail(s);
  }
  ++stats_.commits;
  for (const std::shared_ptr<Unit>& unit : commit.units) FinishUnit(unit);
  if (commit.durable) commit.durable();
}

void Engine::FinishUnit(const std::shared_ptr<Unit>& unit) {
  volume_->Unclaim(unit->claimed_blocks, unit->claimed_entries);
  unit->claimed_blocks = unit->claimed_entries = 0;
  fork_.Complete(unit);
  for (auto& call : unit->when_done) {
    CallLater([call = std::move(call)] { call(absl::OkStatus()); });
  }
  unit->when_done.clear();
}

void Engine::TellFailure(Unit& unit) {
  for (auto& call : unit.when_done) {
    CallLater([call = std::move(call), status = failed_] { call(status); });
  }
  unit.when_done.clear();
}

void Engine::Keep(std::unique_ptr<Commit> commit) {
  building_.clear();
  for (const auto& unit : commit->units) TellFailure(*unit);
  failed_commits_.push_back(std::move(commit));
}

void Engine::Fail(const absl::Status& cause) {
  if (!failed_.ok()) return;
  failed_ = absl::FailedPreconditionError(
      absl::StrCat("the store has failed and takes no more changes; ",
                   absl::IsDataLoss(cause) ? "something on the device is damaged, fsck tells what"
                                           : "open it again to recover what was durable",
                   ". Cause: ", std::string(cause.message())));
  Log(LogLevel::kError, std::string(failed_.message()));
  // Every waiter is told. What was accepted stays in memory for readers, so units keep their pages.
  for (const auto& [order, unit] : fork_.pending()) TellFailure(*unit);
  for (const auto& unit : building_) TellFailure(*unit);
  for (const auto& commit : commits_) {
    for (const auto& unit : commit->units) TellFailure(*unit);
  }
  ++progress_;
  pump_->Notify();
}

}  // namespace untorn
