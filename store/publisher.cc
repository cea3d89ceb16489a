#include "store/publisher.h"

#include <chrono>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/memory_reserve.h"
#include "extent/lease.h"

namespace untorn::internal {
namespace {

constexpr std::chrono::seconds kInterval(1);

}  // namespace

Publisher::Publisher(Device& device, std::function<std::string()> page,
                     std::function<void(const std::string&)> warn)
    : device_(device), page_(std::move(page)), warn_(std::move(warn)), file_(device.info().path) {}

Publisher::~Publisher() { UNTORN_CHECK(!thread_.joinable(), "a publisher ends before its thread"); }

bool Publisher::Watched() const {
  const absl::StatusOr<std::optional<uint64_t>> found =
      device_.FindLock(kWatchByte, 1, Device::ByteLock::kShared);
  return found.ok() && found->has_value();
}

void Publisher::Step() {
  if (!std::exchange(looked_, true)) file_.Remove();
  {
    const MutexLock lock(mu_);
    if (running_) return;
  }
  if (!Watched()) return;
  if (thread_.joinable()) thread_.join();
  {
    const MutexLock lock(mu_);
    running_ = true;
  }
  // The standard library tells by an exception that a thread cannot be started.
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& error) {
    {
      const MutexLock lock(mu_);
      running_ = false;
    }
    if (std::exchange(warned_of_thread_, true)) return;
    warn_(absl::StrCat(
        device_.info().path,
        ": a process watches, but no thread can be started to tell it statistics: ", error.code().message()));
  }
}

void Publisher::Publish() {
  const absl::Status written = file_.Write(page_());
  if (written.ok()) {
    if (std::exchange(warned_, false)) device_.UnlockByte(kUnpublishedByte).IgnoreError();
    return;
  }
  if (std::exchange(warned_, true)) return;
  device_.LockByte(kUnpublishedByte, Device::ByteLock::kExclusive).IgnoreError();
  warn_(absl::StrCat("a process watches the store, but statistics cannot be told: ", written.message()));
}

void Publisher::Run() {
  const MemoryReserve::Use reserve;
  do {
    Publish();
    MutexLock lock(mu_);
    cv_.wait_for(lock.unique_lock(), kInterval, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stop_; });
    if (stop_) break;
  } while (Watched());
  file_.Remove();
  // The next watcher waits for an attempt of its own.
  if (std::exchange(warned_, false)) device_.UnlockByte(kUnpublishedByte).IgnoreError();
  const MutexLock lock(mu_);
  running_ = false;
}

void Publisher::Stop() {
  {
    const MutexLock lock(mu_);
    stop_ = true;
  }
  cv_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace untorn::internal
