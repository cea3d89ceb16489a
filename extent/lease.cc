#include "extent/lease.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "extent/rules.h"

namespace untorn {
namespace {

using ByteLock = Device::ByteLock;

// Says whether another opening has locked the byte of a checkpoint.
bool IsLocked(const Device& device, uint64_t byte, ByteLock kind) {
  const absl::StatusOr<std::optional<uint64_t>> found = device.FindLock(byte, 1, kind);
  return found.ok() && found->has_value();
}

bool IsGranted(const Device& device, Generation checkpoint) {
  return IsLocked(device, LeaseByte(LeaseArea::kGranted, checkpoint.value()), ByteLock::kExclusive);
}

}  // namespace

// ---- The owner ----

absl::Status LeaseGrantor::Announce() {
  // Readers look for a number of kBegun to find out whether there is an owner. So that one is locked last.
  RETURN_IF_ERROR(device_.LockByte(LeaseByte(LeaseArea::kDone, 0), ByteLock::kExclusive));
  absl::Status announced = device_.LockByte(LeaseByte(LeaseArea::kBegun, 0), ByteLock::kExclusive);
  if (!announced.ok()) device_.UnlockByte(LeaseByte(LeaseArea::kDone, 0)).IgnoreError();
  return announced;
}

bool LeaseGrantor::Asked() const { return IsLocked(device_, kAskByte, ByteLock::kShared); }

// At any moment one of the two numbers is locked, so a reader never takes the owner for gone.
absl::Status LeaseGrantor::MoveTo(LeaseArea area, uint64_t to, uint64_t* number) {
  if (to == *number) return absl::OkStatus();
  RETURN_IF_ERROR(device_.LockByte(LeaseByte(area, to), ByteLock::kExclusive));
  const uint64_t before = std::exchange(*number, to);
  return device_.UnlockByte(LeaseByte(area, before));
}

absl::Status LeaseGrantor::BeginRound() {
  return MoveTo(LeaseArea::kBegun, rounds_begun_ + 1, &rounds_begun_);
}

absl::Status LeaseGrantor::EndRound() { return MoveTo(LeaseArea::kDone, rounds_begun_, &rounds_done_); }

absl::Status LeaseGrantor::Grant(Generation checkpoint) {
  if (checkpoint.value() >= kLeaseNumbersMax) {
    return absl::ResourceExhaustedError("there are no numbers left for leases");
  }
  return device_.LockByte(LeaseByte(LeaseArea::kGranted, checkpoint.value()), ByteLock::kExclusive);
}

absl::Status LeaseGrantor::Revoke(Generation checkpoint) {
  return device_.UnlockByte(LeaseByte(LeaseArea::kGranted, checkpoint.value()));
}

bool LeaseGrantor::InUse(Generation checkpoint) const {
  return IsLocked(device_, LeaseByte(LeaseArea::kHeld, checkpoint.value()), ByteLock::kShared);
}

// ---- The reader ----

absl::StatusOr<uint64_t> LeaseSeeker::Rounds(LeaseArea area) const {
  const uint64_t first = LeaseByte(area, 0);
  ASSIGN_OR_RETURN(const std::optional<uint64_t> found,
                   device_.FindLock(first, kLeaseAreaBytes, ByteLock::kExclusive));
  if (found) return (*found - first) / 2;
  return absl::AbortedError(
      absl::StrCat(device_.info().path, ": the process that had it open for writing has ended"));
}

absl::Status LeaseSeeker::Ask() {
  RETURN_IF_ERROR(device_.LockByte(kAskByte, ByteLock::kShared));
  ASSIGN_OR_RETURN(begun_, Rounds(LeaseArea::kBegun));
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Superblock>> LeaseSeeker::Poll() {
  ASSIGN_OR_RETURN(const uint64_t begun, Rounds(LeaseArea::kBegun));
  ASSIGN_OR_RETURN(const uint64_t done, Rounds(LeaseArea::kDone));
  // All rounds of another owner began after the lease was asked for.
  if (begun < begun_) begun_ = 0;
  if (done < begun_ + 1) return std::nullopt;
  const SuperblockSlots slots = ReadSuperblocks(device_);
  // The owner may have made the file longer or shorter since it was opened, and may be writing the superblock.
  unusable_ = device_.Extend(0);
  absl::StatusOr<Superblock> superblock = UsableSuperblock(slots, device_, /*for_writing=*/false);
  unusable_.Update(superblock.status());
  if (absl::IsUnimplemented(unusable_)) return unusable_;
  if (unusable_.ok()) {
    const uint64_t held = LeaseByte(LeaseArea::kHeld, superblock->generation.value());
    RETURN_IF_ERROR(device_.LockByte(held, ByteLock::kShared));
    if (IsGranted(device_, superblock->generation)) {
      RETURN_IF_ERROR(device_.UnlockByte(kAskByte));
      return *superblock;
    }
    // A later checkpoint has taken the place of the leased one.
    RETURN_IF_ERROR(device_.UnlockByte(held));
  }
  RETURN_IF_ERROR(Ask());
  return std::nullopt;
}

void GiveUpLease(Device& device, Generation checkpoint) {
  device.UnlockByte(LeaseByte(LeaseArea::kHeld, checkpoint.value())).IgnoreError();
}

LeasedDevice::LeasedDevice(std::unique_ptr<Device> device, Generation checkpoint)
    : device_(std::move(device)), checkpoint_(checkpoint) {
  info_ = device_->info();
}

void LeasedDevice::Judge(absl::Span<IoRequest* const> completed) const {
  if (completed.empty() || MayBelieveRead(IsGranted(*device_, checkpoint_))) return;
  for (IoRequest* request : completed) {
    request->status = absl::AbortedError(
        absl::StrCat(info_.path,
                     ": the state that was read is not kept any more: the process that has the store open "
                     "for writing has needed the space, or has ended; refresh the store"));
  }
}

void LeasedDevice::Reap(bool wait, std::vector<IoRequest*>* completed) {
  const size_t before = completed->size();
  device_->Reap(wait, completed);
  Judge(absl::MakeConstSpan(*completed).subspan(before));
}

void LeasedDevice::Execute(IoRequest* request) {
  device_->Execute(request);
  Judge({&request, 1});
}

}  // namespace untorn
