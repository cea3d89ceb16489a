#include "store/beside_owner.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace untorn::internal {

absl::StatusOr<std::shared_ptr<StoreImpl>> OpenLeased(ReadDevice leased, const OpenOptions& options) {
  return StoreImpl::Open(std::move(leased.device), options, /*background=*/false, &*leased.leased);
}

absl::StatusOr<std::shared_ptr<NewestState>> NewestState::Open(ReadDevice leased,
                                                               const OpenOptions& options) {
  // The process may have another working directory when it refreshes.
  std::error_code error;
  const std::string& path = leased.device->info().path;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  std::shared_ptr<NewestState> state(
      new NewestState(error ? path : absolute.string(), leased.leased->uuid, options));
  ASSIGN_OR_RETURN(state->states_[0], OpenLeased(std::move(leased), options));
  state->states_[0]->SetNewestState(state);
  return state;
}

std::shared_ptr<StoreImpl> NewestState::Get() const {
  std::unique_lock<std::mutex> lock(mu_, std::defer_lock);
  if (fork_guard_.CheckProcess().ok()) lock.lock();
  return states_[newest_];
}

absl::Status NewestState::Refresh() {
  const std::lock_guard<std::mutex> one_at_a_time(refresh_mu_);
  const std::shared_ptr<StoreImpl> old = Get();
  RETURN_IF_ERROR(old->CheckOpen());
  ASSIGN_OR_RETURN(ReadDevice leased,
                   OpenForReading(path_, DeviceOptionsOf(options_), ReadWhere::kBesideOwner));
  if (leased.leased->uuid != uuid_) {
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": another store has taken its place; open it anew"));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<StoreImpl> fresh, OpenLeased(std::move(leased), options_));
  fresh->SetNewestState(old->newest_state());
  {
    const std::lock_guard<std::mutex> lock(mu_);
    states_[1 - newest_] = std::move(fresh);
    newest_ = 1 - newest_;
    states_[1 - newest_].reset();  // `old` has it
  }
  old->GiveUpState();
  return absl::OkStatus();
}

}  // namespace untorn::internal
