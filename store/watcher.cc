#include "store/watcher.h"

#include <sys/stat.h>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "device/file_device.h"
#include "device/lock_holder.h"
#include "extent/lease.h"

namespace untorn::internal {
namespace {

constexpr std::chrono::seconds kPatience(5);

}  // namespace

absl::StatusOr<std::unique_ptr<Watcher>> Watcher::Open(const std::string& path) {
  absl::StatusOr<std::unique_ptr<Device>> device =
      OpenFileDevice(path, {.read_only = true,
                            .beside_owner = FileDeviceOptions::BesideOwner::kMust,
                            .owner_bytes = kOwnerBytes,
                            .use_io_uring = false});
  if (absl::IsUnavailable(device.status())) {
    return absl::UnavailableError(
        absl::StrCat(path, ": no process has the store open for writing, so there is nothing to watch"));
  }
  if (!device.ok()) return device.status();
  std::unique_ptr<Watcher> watcher(new Watcher(*std::move(device), path));
  // What is there before anybody watches says nothing.
  if (absl::StatusOr<std::string> old = watcher->file_.Read(); old.ok()) watcher->last_ = *std::move(old);
  RETURN_IF_ERROR(watcher->device_->LockByte(kWatchByte, Device::ByteLock::kShared));
  return watcher;
}

std::string Watcher::Owner() const {
  struct stat st;
  const std::string& path = device_->info().path;
  const pid_t pid = stat(path.c_str(), &st) == 0 ? FindLockHolder(path, st).pid : 0;
  return pid != 0 ? absl::StrCat("process ", pid) : "a process that is not visible from here";
}

absl::StatusOr<std::optional<std::string>> Watcher::Poll() {
  absl::StatusOr<std::string> page = file_.Read();
  // An owner that is there now was there when a page was written that is new, or has taken over since.
  ASSIGN_OR_RETURN(
      const std::optional<uint64_t> owner,
      device_->FindLock(kOwnerBytes.offset_bytes, kOwnerBytes.length_bytes, Device::ByteLock::kExclusive));
  if (!owner) {
    return absl::AbortedError(absl::StrCat(
        device_->info().path, ": the process that had the store open has closed it, or has ended"));
  }
  if (page.ok() && *page != last_) {
    last_ = *std::move(page);
    last_came_ = Clock::now();
    return last_;
  }
  if (absl::IsPermissionDenied(page.status())) return page.status();
  ASSIGN_OR_RETURN(const std::optional<uint64_t> unpublished,
                   device_->FindLock(kUnpublishedByte, 1, Device::ByteLock::kExclusive));
  if (unpublished) {
    return absl::UnavailableError(absl::StrCat(device_->info().path, ": ", Owner(),
                                               " has the store open, and cannot write ", file_.path(),
                                               "; its log says why"));
  }
  if (Clock::now() < last_came_ + kPatience) return std::nullopt;
  return absl::UnavailableError(absl::StrCat(
      device_->info().path, ": ", Owner(), " has the store open, and has not written ", file_.path(), " for ",
      kPatience.count(), " seconds; it may be stopped, or may have opened the store by another name"));
}

}  // namespace untorn::internal
