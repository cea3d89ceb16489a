#include "extent/open_for_reading.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/status_macros.h"
#include "extent/lease.h"

namespace untorn {
namespace {

constexpr std::chrono::milliseconds kPoll(1);
// A checkpoint may take seconds on a slow disk.
constexpr std::chrono::seconds kAnswerTime(30);

using Clock = std::chrono::steady_clock;

absl::StatusOr<ReadDevice> AwaitLease(std::unique_ptr<Device> device, Clock::time_point deadline) {
  LeaseSeeker seeker(*device);
  RETURN_IF_ERROR(seeker.Ask());
  while (true) {
    ASSIGN_OR_RETURN(const std::optional<Superblock> leased, seeker.Poll());
    if (leased)
      return ReadDevice{std::make_unique<LeasedDevice>(std::move(device), leased->generation), *leased};
    if (Clock::now() >= deadline) {
      const absl::Status& unusable = seeker.unusable();
      return absl::UnavailableError(absl::StrCat(
          device->info().path, ": the process that has the store open for writing has not answered for ",
          kAnswerTime.count(), " seconds; it may be stopped, wait for space, or make the store smaller",
          unusable.ok() ? "" : "; what was read last: ", unusable.message()));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace

absl::Status CheckLease(Device& device) {
  AlignedBuffer block(kBlockBytes);
  const absl::Status read = ReadBlocking(device, ByteOffset(kSuperblockSlots[0]), block.data(), kBlockBytes);
  return absl::IsAborted(read) ? read : absl::OkStatus();
}

absl::StatusOr<ReadDevice> OpenForReading(const std::string& path, const FileDeviceOptions& options,
                                          ReadWhere where) {
  using BesideOwner = FileDeviceOptions::BesideOwner;
  FileDeviceOptions reading = options;
  reading.read_only = true;
  reading.beside_owner = where == ReadWhere::kBesideOwner ? BesideOwner::kMust : BesideOwner::kMay;
  reading.owner_bytes = kOwnerBytes;
  const Clock::time_point deadline = Clock::now() + kAnswerTime;
  while (true) {
    ASSIGN_OR_RETURN(std::unique_ptr<Device> device, OpenFileDevice(path, reading));
    if (!device->info().beside_owner) return ReadDevice{std::move(device), std::nullopt};
    absl::StatusOr<ReadDevice> leased = AwaitLease(std::move(device), deadline);
    if (!absl::IsAborted(leased.status())) return leased;
    // The owner has ended meanwhile, or has just begun.
    if (Clock::now() >= deadline) return absl::UnavailableError(leased.status().message());
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace untorn
