#include "store/background.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/memory_reserve.h"

namespace untorn::internal {
namespace {

constexpr std::chrono::milliseconds kWakeInterval(500);  // the two threads look for work at least this often
constexpr int kWorkersMax = 4;                           // threads of the pool

// A thread that is started while it lives leaves the process's signals to the threads of the host. A handler of the host may
// rely on the host's threads, and the host may wait for a signal that it has blocked only in these. SIGXFSZ of a write that is
// under way when somebody lowers RLIMIT_FSIZE ends nothing then. What a thread brings about by an error of its own is left.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t signals;
    sigfillset(&signals);
    for (int own : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGPROF, SIGSEGV, SIGSYS, SIGTRAP})
      sigdelset(&signals, own);
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

Background::Background(std::mutex& mu, const Parts& parts, Committer& committer, Checkpointer& checkpointer,
                       Readers& readers, CacheLimit& limit, Publisher& publisher)
    : mu_(mu),
      parts_(parts),
      committer_(committer),
      checkpointer_(checkpointer),
      readers_(readers),
      limit_(limit),
      publisher_(publisher) {
  committer_.SetServeBackground([this]() REQUIRES_STORE_LOCK { Serve(); });
}

// The standard library tells by an exception that a thread cannot be started.
absl::Status Background::StartThread(void (Background::*loop)()) {
  const SignalsBlocked blocked;
  try {
    threads_.emplace_back([this, loop] { (this->*loop)(); });
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a thread of the store cannot be started: ", error.code().message(),
                     " (see RLIMIT_NPROC, and pids.max of the cgroup)"));
  }
  return absl::OkStatus();
}

absl::Status Background::Start() {
  UNTORN_CHECK(!started_ && !stop_, "the threads of a store are started twice");
  started_ = true;
  absl::Status status = StartThread(&Background::WritebackLoop);
  if (status.ok()) status = StartThread(&Background::MaintenanceLoop);
  return status;
}

// Is called when something became possible that the first thread may have tried in vain before.
void Background::Serve() {
  if (started_ && (!parts_.callbacks.empty() || committer_.WantedDue() || committer_.WriteBackDue())) {
    parts_.pump.WakeStandby();
  }
}

void Background::AfterChange(Lock& lock) {
  parts_.fork.pages().Evict(limit_.page_bytes());
  if (started_) {
    // The first thread sees by itself which changes have become old.
    if (committer_.DirtyDue()) Wake();
    if (checkpointer_.StepDue() || committer_.LogGrowthDue()) WakeMaintenance();
    parts_.pump.Attend();
    return;
  }
  while (MaintenanceStep(lock) || committer_.WriteBack(lock)) {
  }
  parts_.callbacks.Run(lock);
}

bool Background::MaintenanceStep(Lock& lock) {
  // A checkpoint would wait for space.
  if (parts_.pump.short_of_space()) return false;
  if (checkpointer_.Step(lock)) return true;
  return committer_.LogGrowthDue() && committer_.GrowLog(lock).ok();
}

void Background::Tidy(Lock& lock) {
  const auto now = std::chrono::steady_clock::now();
  if (now < tidied_ + kWakeInterval) return;
  tidied_ = now;
  parts_.fork.objects().ForgetIdle();
  if (absl::Status held = parts_.volume.CheckFile(); !held.ok()) parts_.health.Fail(held);
  // Others in the process may wait for the memory that clean data has here.
  (void)parts_.CheckMemory();
  if (!limit_.fits_machine()) return;
  {
    const Unlocked unlocked(lock);
    limit_.Update(parts_.buffers.bytes_in_use());
  }
  limit_.Apply(parts_);
  const Unlocked unlocked(lock);
  parts_.buffers.ReleaseBeyond(limit_.page_bytes());
}

void Background::Wake() {
  ++wakes_;
  parts_.pump.WakeStandby();
  parts_.pump.Notify();
}

void Background::Stop() {
  stop_ = true;
  WakeMaintenance();
  work_cv_.notify_all();
  parts_.pump.WakeStandby();
  parts_.pump.Notify();
}

void Background::Join() {
  std::vector<std::thread> threads;
  {
    const Lock lock(mu_);
    UNTORN_CHECK(stop_, "threads are waited for that nobody has asked to end");
    threads = std::exchange(threads_, {});
  }
  // The threads need the lock to end, so the caller waits for them without it.
  for (std::thread& t : threads) t.join();
}

void Background::WritebackLoop() {
  const MemoryReserve::Use reserve;
  Lock lock(mu_);
  while (!stop_) {
    parts_.callbacks.Run(lock);
    if (committer_.WriteBack(lock)) continue;
    // WriteBack() has found nothing to send. Trying again makes sense only after progress, a wake-up or the
    // time-out.
    const uint64_t seen = parts_.progress.count(), wakes = wakes_;
    const auto due = [&]() REQUIRES_STORE_LOCK {
      return stop_ || !parts_.callbacks.empty() || wakes_ != wakes ||
             (parts_.progress.count() != seen && (committer_.WantedDue() || committer_.WriteBackDue()));
    };
    parts_.pump.StandBy(lock, kWakeInterval.count(), due);
  }
  // Callbacks from before the stop must still be called.
  parts_.callbacks.Run(lock);
}

void Background::MaintenanceLoop() {
  const MemoryReserve::Use reserve;
  Lock lock(mu_);
  auto look_for_others = std::chrono::steady_clock::now();
  while (!stop_) {
    if (std::chrono::steady_clock::now() >= look_for_others) {
      {
        const Unlocked unlocked(lock);
        publisher_.Step();
      }
      readers_.Step(lock);
      look_for_others = std::chrono::steady_clock::now() + readers_.StepInterval();
    }
    if (MaintenanceStep(lock)) continue;
    const uint64_t wakes = maintenance_wakes_;  // one may come while Tidy() has released the lock
    Tidy(lock);
    const auto until = std::min(std::chrono::steady_clock::now() + kWakeInterval, look_for_others);
    maintenance_cv_.wait_until(lock.unique_lock(), until,
                               [&]() REQUIRES_STORE_LOCK { return stop_ || maintenance_wakes_ != wakes; });
  }
}

void Background::Run(std::function<void()> work) {
  Lock lock(mu_);
  // In a closed store nobody serves the queue any more, and the work has to tell the error.
  if (!started_ || parts_.health.closed()) {
    lock.unlock();
    work();
    return;
  }
  UNTORN_CHECK(!stop_, "work is given to threads that end");
  work_.push_back(std::move(work));
  const bool all_busy = work_.size() > static_cast<size_t>(workers_ - busy_workers_);
  if (workers_ < kWorkersMax && all_busy && StartThread(&Background::RunLoop).ok()) ++workers_;
  if (workers_ > 0) {
    work_cv_.notify_one();
    return;
  }
  work = std::move(work_.back());
  work_.pop_back();
  lock.unlock();
  work();
}

void Background::RunLoop() {
  const MemoryReserve::Use reserve;
  Lock lock(mu_);
  while (true) {
    work_cv_.wait(lock.unique_lock(), [&]() REQUIRES_STORE_LOCK { return stop_ || !work_.empty(); });
    // After Stop() the thread still does all work that is queued.
    if (work_.empty()) return;
    std::function<void()> work = std::move(work_.front());
    work_.pop_front();
    UNTORN_CHECK(busy_workers_ < workers_, "more threads of the pool are busy than there are");
    ++busy_workers_;
    {
      const Unlocked unlocked(lock);
      work();
      // Destroying what the work holds may take the lock.
      work = nullptr;
    }
    --busy_workers_;
    parts_.pump.Notify();
  }
}

void Background::AwaitRun(Lock& lock) {
  parts_.pump.Wait(lock, [&]() REQUIRES_STORE_LOCK { return work_.empty() && busy_workers_ == 0; });
}

}  // namespace untorn::internal
