#include "writeback/readers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace untorn {
namespace {

using std::chrono::milliseconds;

// A look for readers is one system call. A reader that asks is answered sooner. One that goes on asking may be stopped, or
// there are many. Then rounds come less often, so that checkpoints leave the disk to others.
constexpr milliseconds kLookInterval(100), kAskedInterval(2), kRoundsInterval(200), kIdleInterval(1000);
constexpr milliseconds kAskedLately(1000);
// A reader takes up its lease at once, unless it is stopped.
constexpr milliseconds kTakeUpTime(2000);
// Each lease takes 4 KiB of memory for every 122 MiB of the store.
constexpr size_t kLeasesMax = 32;

}  // namespace

Readers::Readers(const Parts& parts, Checkpointer& checkpointer)
    : parts_(parts), checkpointer_(checkpointer), grantor_(parts.pump.device()) {
  // A checkpoint relies on what the one before gives back. Leases must not keep so much that the next one has no room.
  checkpointer_.SetAfterCheckpoint([this]() REQUIRES_STORE_LOCK {
    if (parts_.volume.space().LeasesKeepTooMuch()) RevokeAll();
  });
}

absl::Status Readers::Announce() {
  RETURN_IF_ERROR(grantor_.Announce());
  announced_ = true;
  return absl::OkStatus();
}

milliseconds Readers::StepInterval() const {
  if (!announced_ || parts_.health.failed()) return kIdleInterval;
  if (parts_.volume.space().admits()) return kAskedInterval;
  if (Clock::now() >= asked_ + kAskedLately) return kLookInterval;
  constexpr int kDoublingsMax = 7;
  return std::min(kAskedInterval * (1 << std::min(rounds_asked_, kDoublingsMax)), kRoundsInterval);
}

void Readers::Step(Lock& lock) {
  SpaceLedger& space = parts_.volume.space();
  // A checkpoint would wait for space.
  const bool possible = announced_ && holds_ == 0 && !parts_.health.failed() && !parts_.health.closed() &&
                        !parts_.pump.short_of_space();
  if (!possible) {
    // The next round begins anew.
    space.EndAdmission();
    return;
  }
  EndUnused();
  if (!space.admits()) {
    if (!grantor_.Asked()) {
      rounds_asked_ = 0;
      return;
    }
    if (!grantor_.BeginRound().ok()) return;
    ++rounds_asked_;
    space.BeginAdmission();
  }
  asked_ = Clock::now();
  if (parts_.volume.overwriting()) return;
  absl::Status status;
  if (parts_.volume.CheckpointNeeded()) status = checkpointer_.Checkpoint(lock);
  if (status.ok() && holds_ == 0) status = Grant();
  status.Update(grantor_.EndRound());
  space.EndAdmission();
  if (status.ok()) return;
  parts_.callbacks.Log(LogLevel::kWarning,
                       absl::StrCat("a process that wants to read got no lease: ", status.message()));
}

absl::Status Readers::Grant() {
  const Generation checkpoint = parts_.volume.superblock().generation;
  std::erase_if(leases_, [&](const Lease& lease) { return lease.checkpoint == checkpoint; });
  // The oldest goes, if there are too many.
  bool first = leases_.size() >= kLeasesMax;
  EndWhere([&](Lease&) { return std::exchange(first, false); });
  parts_.volume.space().BeginLease(checkpoint);
  leases_.push_back({checkpoint, Clock::now()});
  ++parts_.stats.leases_granted;
  return grantor_.Grant(checkpoint);
}

template <typename Which>
void Readers::EndWhere(Which which) {
  std::vector<Lease> left;
  for (Lease& lease : leases_) {
    if (!which(lease) || !End(lease)) left.push_back(lease);
  }
  leases_ = std::move(left);
}

void Readers::EndUnused() {
  const Clock::time_point now = Clock::now();
  const Generation newest = parts_.volume.superblock().generation;
  EndWhere([&](Lease& lease) REQUIRES_STORE_LOCK {
    if (grantor_.InUse(lease.checkpoint)) {
      lease.was_used = true;
      return false;
    }
    // A reader takes up a lease of the newest checkpoint only.
    return lease.was_used || lease.checkpoint != newest || now >= lease.granted + kTakeUpTime;
  });
}

bool Readers::RevokeAll() {
  const BlockCount kept = parts_.volume.space().leased_blocks();
  EndWhere([](Lease&) { return true; });
  return parts_.volume.space().leased_blocks() < kept;
}

bool Readers::End(const Lease& lease) {
  const bool was_in_use = grantor_.InUse(lease.checkpoint);
  // The reader must find no lease before the first of the blocks is used again.
  const absl::Status revoked = grantor_.Revoke(lease.checkpoint);
  if (!revoked.ok()) {
    parts_.callbacks.Log(LogLevel::kWarning, absl::StrCat("a lease lasts: ", revoked.message()));
    return false;
  }
  parts_.stats.leases_revoked += was_in_use;
  const absl::Status freed = parts_.volume.space().EndLease(lease.checkpoint);
  if (!freed.ok()) parts_.health.Fail(freed);
  return true;
}

}  // namespace untorn
