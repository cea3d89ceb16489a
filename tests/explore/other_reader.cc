#include "tests/explore/other_reader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "extent/lease.h"
#include "store/on_device.h"
#include "tests/explore/driver.h"
#include "tests/untorn/store_test_peer.h"

namespace untorn {
namespace {

// The owner may have to wait for writes in place that the test holds back.
constexpr int kStepsMax = 3;

}  // namespace

OtherReader::OtherReader(Store& owner, std::shared_ptr<SimulatedDisk> disk)
    : owner_(owner), disk_(std::move(disk)) {
  internal::StoreTestPeer::LetOthersRead(owner_);
}

absl::StatusOr<std::optional<Observed>> OtherReader::Refresh() {
  leased_.reset();
  holder_.reset();
  holder_ = std::make_unique<SimulatedDevice>(disk_, SimulatedDeviceOptions());
  LeaseSeeker seeker(*holder_);
  RETURN_IF_ERROR(seeker.Ask());
  for (int i = 0; i < kStepsMax && !leased_; ++i) {
    internal::StoreTestPeer::ServeReaders(owner_);
    ASSIGN_OR_RETURN(leased_, seeker.Poll());
  }
  if (!leased_) return std::nullopt;
  ASSIGN_OR_RETURN(std::optional<Observed> seen, ReadAll());
  if (seen) seen_hash_ = HashOfAll(*seen);
  return seen;
}

absl::StatusOr<std::optional<Observed>> OtherReader::ReadAll() {
  // A store of its own, so that nothing is in its cache.
  auto device = std::make_unique<SimulatedDevice>(disk_, SimulatedDeviceOptions());
  ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                   internal::OpenLeasedOnDevice(
                       {std::make_unique<LeasedDevice>(std::move(device), leased_->generation), leased_},
                       {.read_only = true, .cache_bytes = 4 << 20}));
  absl::StatusOr<Observed> observed = ObserveStore(*store);
  if (observed.ok()) return *std::move(observed);
  if (!absl::IsAborted(observed.status())) return observed.status();
  leased_.reset();
  return std::nullopt;
}

std::string OtherReader::ReadAgain() {
  if (!leased_) return "";
  const absl::StatusOr<std::optional<Observed>> again = ReadAll();
  if (!again.ok()) return absl::StrCat("another process reads: ", again.status().ToString());
  if (*again && HashOfAll(**again) != seen_hash_)
    return "another process reads another state than before, under the same lease";
  return "";
}

}  // namespace untorn
