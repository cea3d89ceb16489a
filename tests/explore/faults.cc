#include "tests/explore/faults.h"

#include <memory>
#include <random>
#include <utility>

#include "tests/explore/driver.h"
#include "tests/explore/fsck_findings.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr char kToldByStore[] = "the store says so: ";

struct OpenStore {
  std::shared_ptr<SimulatedDisk> disk;
  SimulatedDevice* device = nullptr;
  std::unique_ptr<Store> store;
};

absl::StatusOr<OpenStore> Open(const ExploreBase& base, std::shared_ptr<SimulatedDisk> disk, uint64_t seed,
                               const SimulatedFault* fault, bool* came) {
  SimulatedDeviceOptions options;
  options.seed = seed;
  options.atomic = base.atomic;
  options.keep_previous = true;
  OpenStore open;
  open.disk = disk;
  auto device = std::make_unique<SimulatedDevice>(disk, options);
  open.device = device.get();
  if (fault != nullptr) device->Inject(*fault);
  // Opening destroys the device where it fails: so what it saw is asked through a second owner of the disk.
  auto store = Store::OpenOnDevice(std::move(device), {.policy = base.policy, .cache_bytes = 4 << 20}, false);
  if (came != nullptr) *came = !store.ok() || open.device->faults_seen() > 0;
  if (!store.ok()) return store.status();
  open.store = *std::move(store);
  return open;
}

void End(OpenStore& open, bool power_cut, std::mt19937_64& rng) {
  if (power_cut) {
    open.disk->Crash(rng, rng() % 1001);
  } else {
    open.disk->Kill(rng);
  }
  open.store.reset();
}

std::string CheckRecovered(const ExploreBase& base, const std::shared_ptr<SimulatedDisk>& disk,
                           const Model& model, uint64_t seed) {
  absl::StatusOr<OpenStore> open = Open(base, disk, seed, nullptr, nullptr);
  if (!open.ok())
    return std::string(kToldByStore) + "the store cannot be opened again: " + open.status().ToString();
  absl::StatusOr<Observed> observed = ObserveStore(*open->store);
  std::string wrong =
      observed.ok() ? model.CheckCrash(*observed)
                    : std::string(kToldByStore) + "a read after reopening: " + observed.status().ToString();
  std::mt19937_64 rng(seed);
  End(*open, false, rng);
  return wrong;
}

}  // namespace

FaultOutcome RunWithFault(const ExploreBase& base, const std::vector<Step>& steps,
                          const SimulatedFault& fault, uint64_t seed) {
  FaultOutcome outcome;
  std::mt19937_64 rng(seed);
  absl::StatusOr<OpenStore> open = Open(base, base.disk->Clone(), rng(), nullptr, nullptr);
  if (!open.ok()) {
    outcome.wrong = open.status().ToString();
    return outcome;
  }
  open->device->Inject(fault);
  Model model;
  {
    Driver driver(*open->store, *open->device, base.model, base.next_stamp, base.may_refuse);
    for (size_t i = 0; i < steps.size() && outcome.wrong.empty() && !driver.stopped(); ++i) {
      outcome.wrong = driver.Call(steps[i]);
      driver.Acknowledge();
    }
    outcome.came = open->device->faults_seen() > 0;
    outcome.reported = driver.stopped() || (outcome.came && !open->store->Sync().ok());
    if (outcome.wrong.empty()) outcome.wrong = driver.CheckFailedStore();
    // A read that fails tells so itself; writes and flushes that fail do not keep reads from going on.
    if (fault.op == IoOp::kRead) open->device->ClearFaults();
    if (outcome.wrong.empty()) outcome.wrong = driver.CheckReads();
    model = driver.model();
  }
  End(*open, rng() % 2 == 0, rng);
  if (!outcome.wrong.empty()) return outcome;
  const bool lies = fault.kind != SimulatedFault::kError;
  if (std::string found = FsckFindings(open->disk); !found.empty()) {
    if (lies) {
      outcome.reported = true;
    } else {
      outcome.wrong = "fsck afterwards: " + found;
    }
    return outcome;
  }
  outcome.wrong = CheckRecovered(base, open->disk, model, rng());
  if (lies && outcome.wrong.starts_with(kToldByStore)) {
    outcome.reported = true;
    outcome.wrong.clear();
  }
  return outcome;
}

FaultOutcome RecoverWithFault(const ExploreBase& base, const std::vector<Step>& steps,
                              const SimulatedFault& fault, uint64_t seed) {
  FaultOutcome outcome;
  std::mt19937_64 rng(seed);
  absl::StatusOr<OpenStore> open = Open(base, base.disk->Clone(), rng(), nullptr, nullptr);
  if (!open.ok()) {
    outcome.wrong = open.status().ToString();
    return outcome;
  }
  Model model;
  {
    Driver driver(*open->store, *open->device, base.model, base.next_stamp, base.may_refuse);
    for (size_t i = 0; i < steps.size() && outcome.wrong.empty(); ++i) {
      outcome.wrong = driver.Call(steps[i]);
      driver.Acknowledge();
    }
    model = driver.model();
  }
  const std::shared_ptr<SimulatedDisk> disk = open->disk;
  End(*open, true, rng);
  if (!outcome.wrong.empty()) return outcome;

  absl::StatusOr<OpenStore> again = Open(base, disk, rng(), &fault, &outcome.came);
  outcome.reported = !again.ok();
  if (again.ok()) {
    absl::StatusOr<Observed> observed = ObserveStore(*again->store);
    outcome.came = again->device->faults_seen() > 0;
    // A read that fails here says so, and the next time is right.
    if (observed.ok()) outcome.wrong = model.CheckCrash(*observed);
    if (!observed.ok()) outcome.reported = true;
    if (observed.ok()) model.Adopt(*std::move(observed));
    End(*again, true, rng);
  }
  if (outcome.wrong.empty()) outcome.wrong = CheckRecovered(base, disk, model, rng());
  return outcome;
}

}  // namespace untorn
