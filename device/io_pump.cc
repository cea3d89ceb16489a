#include "device/io_pump.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/memory_reserve.h"
#include "base/probes.h"

namespace untorn {

namespace {

constexpr int kSpacePauseMsMax = 64;

}  // namespace

void IoPump::PutInOutbox(IoRequest* request) {
  ++in_flight_;
  ++queued_;
  if (request->op == IoOp::kFlush && overlapping_.under_way()) return overlapping_.SendLater(request);
  outbox_.push_back(request);
  if (request->durable && overlapping_.under_way()) overlapping_.Add(request);
}

void IoPump::Queue(IoRequest* request) {
  PutInOutbox(request);
  cached_.Queued(*request);
  switch (request->op) {
    case IoOp::kRead:
      ++counts_.reads;
      counts_.bytes_read += request->length_bytes();
      break;
    case IoOp::kWrite:
    case IoOp::kAtomicWrite:
      ++counts_.writes;
      counts_.durable_writes += request->durable;
      counts_.bytes_written += request->length_bytes();
      break;
    case IoOp::kFlush:
      ++counts_.flushes;
      break;
  }
}

void IoPump::Kick(Lock& lock) {
  if (outbox_.empty()) return;
  std::vector<IoRequest*> batch = TakeOutbox();
  lock.unlock();
  device_.Submit(batch);
  lock.lock();
  spare_ = std::move(batch);
}

// The memory of the last batch that was sent serves the next one.
std::vector<IoRequest*> IoPump::TakeOutbox() {
  spare_.clear();
  return std::exchange(outbox_, std::move(spare_));
}

std::vector<IoPump::Seat*> IoPump::TakeReady() {
  std::vector<Seat*> ready;
  std::erase_if(sleepers_, [&](Sleeper* s) {
    if (!s->ready()) return false;
    ready.push_back(s->seat);
    return true;
  });
  return ready;
}

IoPump::Seat* IoPump::TakeLeader() {
  if (led_ || sleepers_.empty()) return nullptr;
  // Any sleeper can reap. If no reaper is needed, only a sleeper with work can lead.
  auto leader = sleepers_.begin();
  if ((reaping_ || !Reapable()) && !MayPause())
    leader = std::find_if(leader, sleepers_.end(), [](Sleeper* s) { return s->work(); });
  if (leader == sleepers_.end()) return nullptr;
  led_ = (*leader)->leads = true;
  Seat* const seat = (*leader)->seat;
  sleepers_.erase(leader);
  return seat;
}

void IoPump::Notify() {
  for (Seat* seat : TakeReady()) seat->Wake();
}

void IoPump::Attend() {
  HandOver();
  if (Unattended() || (waiting_ == 0 && MayPause())) standby_.notify_one();
}

void IoPump::Sleep(Lock& lock, absl::FunctionRef<bool()> ready, absl::FunctionRef<bool()> work) {
  if (seats_.empty()) seats_.push_back(std::make_unique<Seat>());
  std::unique_ptr<Seat> seat = std::move(seats_.back());
  seats_.pop_back();
  Sleeper self{ready, work, seat.get()};
  // This thread is not in the list yet, so it does not choose itself.
  Seat* const leader = TakeLeader();
  sleepers_.push_back(&self);
  lock.unlock();
  if (leader != nullptr) leader->Wake();
  seat->Sleep();
  lock.lock();
  seats_.push_back(std::move(seat));
  if (self.leads) led_ = false;
}

void IoPump::Wait(Lock& lock, absl::FunctionRef<bool()> ready, absl::FunctionRef<bool()> work) {
  ++waiting_;
  while (true) {
    if (ready() || work()) {
      // Nobody else may come by to send what the completions have queued.
      if (outbox_.empty()) break;
      Kick(lock);
    } else if (MayExecute()) {
      RunSingle(lock);
    } else if (!outbox_.empty() && (reaping_ || device_.info().submit_blocks)) {
      // Others reap while this thread submits.
      Kick(lock);
    } else if (!reaping_ && Reapable()) {
      Reap(lock);
    } else if (MayPause()) {
      PauseForSpace(lock);
    } else {
      Sleep(lock, ready, work);
    }
  }
  --waiting_;
  // If this thread was the one to reap or to lead, another one must take over.
  Attend();
}

void IoPump::StandBy(Lock& lock, int timeout_ms, absl::FunctionRef<bool()> ready) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (true) {
    while (!outbox_.empty()) Kick(lock);
    if (ready()) break;
    if (!outbox_.empty()) continue;
    if (MayPause()) {
      PauseForSpace(lock);
      continue;
    }
    if (std::chrono::steady_clock::now() >= deadline) break;
    if (Unattended() && !reaping_) {
      Reap(lock);
    } else {
      HandOver();
      standby_.wait_until(lock.unique_lock(), deadline);
    }
  }
  HandOver();
}

void IoPump::Reap(Lock& lock) {
  AwaitCompletions(lock);
  Complete(lock, &completed_);
}

void IoPump::AwaitCompletions(Lock& lock) {
  reaping_ = true;
  // While this thread reaps, a sleeper with work can do the shared job.
  Seat* const leader = TakeLeader();
  std::vector<IoRequest*> batch = TakeOutbox();
  lock.unlock();
  if (leader != nullptr) leader->Wake();
  if (!batch.empty()) device_.Submit(batch);
  completed_.clear();
  device_.Reap(/*wait=*/true, &completed_);
  lock.lock();
  spare_ = std::move(batch);
  reaping_ = false;
}

bool IoPump::MayExecute() const {
  if (outbox_.size() != 1 || !device_.info().can_execute) return false;
  const IoRequest& request = *outbox_.front();
  if (request.op == IoOp::kFlush) return false;
  if (in_flight_ == executing_ + 1) return !request.durable || !overlapping_.under_way();
  return request.op == IoOp::kRead && reaping_ && read_road_.better() == Road::kExecute;
}

void IoPump::RunSingle(Lock& lock) {
  using Clock = std::chrono::steady_clock;
  RoadChoice& choice = outbox_.front()->op == IoOp::kRead ? read_road_ : write_road_;
  // Only requests that have the device to themselves can be compared.
  const bool alone = in_flight_ == 1;
  const uint64_t queued = queued_;
  const Road road = alone && !device_.info().submit_blocks ? choice.Next() : choice.better();
  const Clock::time_point start = Clock::now();
  if (road == Road::kExecute) {
    Execute(lock);
  } else {
    AwaitCompletions(lock);
  }
  if (alone && queued == queued_) choice.Took(road, std::chrono::nanoseconds(Clock::now() - start).count());
  Complete(lock, road == Road::kExecute ? &executed_ : &completed_);
}

void IoPump::Execute(Lock& lock) {
  ++counts_.executed;
  IoRequest* const request = outbox_.front();
  outbox_.clear();
  ++executing_;
  if (request->durable) overlapping_.Add(request);
  Seat* const leader = TakeLeader();
  {
    const Unlocked unlocked(lock);
    if (leader != nullptr) leader->Wake();
    device_.Execute(request);
  }
  --executing_;
  executed_.assign(1, request);
}

void IoPump::Complete(Lock& lock, std::vector<IoRequest*>* completed) {
  overlapping_.Complete(completed, &outbox_);
  in_flight_ -= completed->size();
  bool failed = false;
  for (const IoRequest* request : *completed) {
    const auto code = request->status.ok() ? absl::StatusCode::kOk : request->status.code();
    failed |= code != absl::StatusCode::kOk;
    probes::Completion(static_cast<int>(request->op), request->offset_bytes, request->length_bytes(),
                       static_cast<int>(code));
  }
  if (failed || short_of_space()) KeepWrites(completed);
  for (const IoRequest* request : *completed) cached_.Over(*request);
  // The failure of one flush becomes the failure of every flush that completes with it or later. The
  // completion functions run only after all statuses are final.
  for (IoRequest* request : *completed) {
    if (LosesCachedWrites(*request) && flush_failure_.ok()) flush_failure_ = request->status;
  }
  for (IoRequest* request : *completed) {
    const bool promises = request->op == IoOp::kFlush || (request->durable && request->status.ok());
    if (promises && !flush_failure_.ok()) request->status = flush_failure_;
  }
  for (IoRequest* request : *completed) {
    if (request->done != nullptr) request->done(request);
  }
  const std::vector<Seat*> ready = TakeReady();
  if (ready.empty()) return;
  lock.unlock();
  for (Seat* seat : ready) seat->Wake();
  lock.lock();
}

void IoPump::KeepWritesWithoutSpace(std::function<void(const absl::Status&)> tell) {
  keeps_ = true;
  tell_ = std::move(tell);
}

void IoPump::KeepWrites(std::vector<IoRequest*>* completed) {
  if (!keeps_) return;
  const bool was_short = short_of_space();
  const bool direct_io = device_.info().direct_io;
  std::erase_if(*completed, [&](IoRequest* request) REQUIRES_STORE_LOCK {
    const auto kept =
        std::find_if(kept_.begin(), kept_.end(), [&](const Kept& k) { return k.request == request; });
    kept_sent_ -= kept != kept_.end();
    const bool only_own_error =
        !request->durable || request->untried || !device_.info().may_cache_writes || cached_.all_flushed();
    if (request->optional || !FoundNoSpace(*request, direct_io) || !only_own_error) {
      if (kept != kept_.end()) kept_.erase(kept);
      return false;
    }
    why_kept_ = std::string(request->status.message());
    if (kept == kept_.end()) {
      kept_.push_back({request});
    } else {
      kept->sent = false;
    }
    return true;
  });
  if (!short_of_space()) pause_ms_ = 1;
  if (short_of_space() != was_short) tell_(CheckSpaceBelow());
}

void IoPump::SendKeptAgain() {
  for (Kept& kept : kept_) {
    if (std::exchange(kept.sent, true)) continue;
    ++kept_sent_;
    PutInOutbox(kept.request);
  }
}

void IoPump::PauseForSpace(Lock& lock) {
  pausing_ = true;
  // Another thread reaps meanwhile.
  HandOver();
  const std::chrono::milliseconds pause(pause_ms_);
  {
    const Unlocked unlocked(lock);
    std::this_thread::sleep_for(pause);
  }
  pausing_ = false;
  pause_ms_ = std::min(2 * pause_ms_, kSpacePauseMsMax);
  SendKeptAgain();
}

void IoPump::GiveUpKeptWrites() {
  keeps_ = false;
  // What is sent again completes by itself.
  std::vector<IoRequest*> over;
  for (const Kept& kept : kept_) {
    if (!kept.sent) over.push_back(kept.request);
  }
  kept_.clear();
  kept_sent_ = 0;
  for (IoRequest* request : over) {
    if (request->done != nullptr) request->done(request);
  }
  Notify();
}

absl::Status IoPump::CheckSpaceBelow() const {
  if (kept_.empty()) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      device_.info().path,
      ": there is no space below, even to overwrite; nothing is changed until there is room: ", why_kept_));
}

absl::Status IoPump::TrySpaceBelow(Lock& lock) {
  if (kept_.empty()) return absl::OkStatus();
  SendKeptAgain();
  // All of them are tried once.
  ++trying_;
  Wait(lock, [&]() REQUIRES_STORE_LOCK { return kept_sent_ == 0; });
  --trying_;
  Attend();
  return CheckSpaceBelow();
}

absl::Status IoPump::Run(Lock& lock, IoRequest* request) {
  return RunAll(lock, absl::MakeConstSpan(&request, 1));
}

absl::Status IoPump::RunAll(Lock& lock, absl::Span<IoRequest* const> requests) {
  // The device uses the requests until they complete, so no allocation may fail meanwhile.
  const MemoryReserve::Use reserve;
  size_t left = requests.size();
  for (IoRequest* request : requests) {
    request->context = &left;
    request->done = [](IoRequest* r) { --*static_cast<size_t*>(r->context); };
    Queue(request);
  }
  Wait(lock, [&left] { return left == 0; });
  for (IoRequest* request : requests) {
    if (!request->status.ok()) return request->status;
  }
  return absl::OkStatus();
}

}  // namespace untorn
