#include "tests/explore/faults.h"

#include <memory>
#include <random>
#include <utility>

#include "tests/explore/driver.h"
#include "tests/explore/store_process.h"
#include "tests/inspect/fsck_findings.h"

namespace untorn {
namespace {

constexpr char kToldByStore[] = "the store says so: ";

absl::StatusOr<std::unique_ptr<StoreProcess>> Open(const ExploreBase& base,
                                                   std::shared_ptr<SimulatedDisk> disk, uint64_t seed,
                                                   const SimulatedFault* fault = nullptr) {
  SimulatedDeviceOptions options;
  options.seed = seed;
  options.atomic = base.atomic;
  options.keep_previous = true;
  return StoreProcess::Open(std::move(disk), options, fault);
}

// "" or what is wrong. Ends early where the fate of a call is unknown.
std::string Run(Driver& driver, const std::vector<Step>& steps) {
  std::string wrong;
  for (size_t i = 0; i < steps.size() && wrong.empty() && !driver.stopped(); ++i) {
    wrong = driver.Call(steps[i]);
    const std::string acknowledged = driver.Acknowledge();
    if (wrong.empty()) wrong = acknowledged;
  }
  return wrong;
}

std::string CheckRecovered(const ExploreBase& base, const std::shared_ptr<SimulatedDisk>& disk,
                           const Model& model, uint64_t seed) {
  absl::StatusOr<std::unique_ptr<StoreProcess>> process = Open(base, disk, seed);
  if (!process.ok())
    return std::string(kToldByStore) + "the store cannot be opened again: " + process.status().ToString();
  absl::StatusOr<Observed> observed = ObserveStore((*process)->store());
  if (!observed.ok())
    return std::string(kToldByStore) + "a read after reopening: " + observed.status().ToString();
  return model.CheckCrash(*observed);
}

}  // namespace

FaultOutcome RunWithFault(const ExploreBase& base, const std::vector<Step>& steps,
                          const SimulatedFault& fault, uint64_t seed) {
  FaultOutcome outcome;
  std::mt19937_64 rng(seed);
  absl::StatusOr<std::unique_ptr<StoreProcess>> process = Open(base, base.disk->Clone(), rng());
  if (!process.ok()) {
    outcome.wrong = process.status().ToString();
    return outcome;
  }
  (*process)->device().Inject(fault);
  Model model;
  {
    Driver driver((*process)->store(), (*process)->device(), base.model, base.next_stamp, base.may_refuse);
    outcome.wrong = Run(driver, steps);
    const bool no_space = absl::IsResourceExhausted(fault.status);
    bool synced = (*process)->store().Sync().ok();
    // Each call tries again.
    for (uint64_t i = 0; no_space && !synced && i < fault.count; ++i)
      synced = (*process)->store().Sync().ok();
    outcome.came = (*process)->device().faults_seen() > 0;
    outcome.reported = driver.told_of_failure() || !synced;
    if (outcome.wrong.empty() && no_space && !synced)
      outcome.wrong = "the store has space, and is not synced";
    // Every write and flush is of what was accepted, or of a checkpoint that the store relies on.
    if (outcome.wrong.empty() && outcome.came && !outcome.reported && !no_space && fault.op != IoOp::kRead &&
        fault.kind == SimulatedFault::kError) {
      outcome.wrong = "nobody was told of the failure";
    }
    if (outcome.wrong.empty()) outcome.wrong = driver.CheckFailedStore();
    // A read that fails tells so itself; writes and flushes that fail do not keep reads from going on.
    if (fault.op == IoOp::kRead) (*process)->device().ClearFaults();
    if (outcome.wrong.empty()) outcome.wrong = driver.CheckReads();
    model = driver.model();
  }
  const std::shared_ptr<SimulatedDisk> disk = (*process)->disk();
  disk->SetFull(false);
  (*process)->End(rng() % 2 == 0, rng);
  if (!outcome.wrong.empty()) return outcome;
  const bool lies = fault.kind != SimulatedFault::kError;
  if (std::string found = FsckFindings(*disk, ShornSlot::kIsNoFinding); !found.empty()) {
    if (lies) {
      outcome.reported = true;
    } else {
      outcome.wrong = "fsck afterwards: " + found;
    }
    return outcome;
  }
  outcome.wrong = CheckRecovered(base, disk, model, rng());
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
  absl::StatusOr<std::unique_ptr<StoreProcess>> process = Open(base, base.disk->Clone(), rng());
  if (!process.ok()) {
    outcome.wrong = process.status().ToString();
    return outcome;
  }
  Model model;
  {
    Driver driver((*process)->store(), (*process)->device(), base.model, base.next_stamp, base.may_refuse);
    outcome.wrong = Run(driver, steps);
    model = driver.model();
  }
  const std::shared_ptr<SimulatedDisk> disk = (*process)->disk();
  disk->SetFull(false);
  (*process)->End(true, rng);
  if (!outcome.wrong.empty()) return outcome;

  absl::StatusOr<std::unique_ptr<StoreProcess>> again = Open(base, disk, rng(), &fault);
  outcome.came = outcome.reported = !again.ok();
  if (again.ok()) {
    absl::StatusOr<Observed> observed = ObserveStore((*again)->store());
    outcome.came = (*again)->device().faults_seen() > 0;
    // A read that fails here says so, and the next time is right.
    if (observed.ok()) outcome.wrong = model.CheckCrash(*observed);
    if (!observed.ok()) outcome.reported = true;
    if (observed.ok()) model.Adopt(*std::move(observed));
    (*again)->End(true, rng);
  }
  if (outcome.wrong.empty()) outcome.wrong = CheckRecovered(base, disk, model, rng());
  return outcome;
}

}  // namespace untorn
