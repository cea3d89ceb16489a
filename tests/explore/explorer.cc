#include "tests/explore/explorer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/explore/landings.h"
#include "tests/untorn/fsck_findings.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr size_t kImagesInRecovery = 8;
constexpr size_t kImagesWhenGoingOn = 8;

// What is done after a recovery, to see that nothing of what the cut dropped comes back.
const std::vector<std::vector<Step>>& NextWrites() {
  static const std::vector<std::vector<Step>> all = {
      Steps("write a 0 16384 sync; write b 100 5000 sync"),
      Steps("write b 0 3000 sync; checkpoint; write a 4096 4096 sync"),
      Steps("write a 8192 4096; create d; write d 0 9000; tx { write a 0 4096; truncate b 4096 } sync"),
      Steps("sync-all; write a 16384 16384 sync; remove b sync"),
  };
  return all;
}

}  // namespace

void ExploreCounts::Add(const ExploreCounts& other) {
  runs += other.runs;
  steps += other.steps;
  points += other.points;
  images += other.images;
  recoveries += other.recoveries;
  second_cuts += other.second_cuts;
  next_writes += other.next_writes;
  units_in_place += other.units_in_place;
  units_cow += other.units_cow;
  checkpoints += other.checkpoints;
  dropped_records += other.dropped_records;
}

bool StateSet::Insert(uint64_t fingerprint) {
  std::lock_guard lock(mu_);
  return states_.insert(fingerprint).second;
}

uint64_t StateSet::size() const {
  std::lock_guard lock(mu_);
  return states_.size();
}

absl::StatusOr<std::unique_ptr<StoreProcess>> Explorer::Open(const ExploreBase& base,
                                                             std::shared_ptr<SimulatedDisk> disk) {
  SimulatedDeviceOptions options;
  options.seed = rng_();
  options.atomic = base.atomic;
  options.lies = options_.lies;
  options.track_reads = true;
  return StoreProcess::Open(std::move(disk), options);
}

void Explorer::Collect(const SimulatedDisk& disk, const std::string& where, size_t max, bool kill,
                       std::vector<Image>* images) {
  ++counts_.points;
  const std::shared_ptr<SimulatedDisk> moment = disk.Clone();  // another thread may be at it
  const std::vector<SimulatedDisk::Unflushed> writes = moment->unflushed();
  const auto add = [&](std::shared_ptr<SimulatedDisk> after, bool killed, const Landings& landings) {
    ++counts_.images;
    Image image{.disk = std::move(after), .kill = killed};
    image.fingerprint = image.disk->Fingerprint();
    for (const Image& known : *images) {
      if (known.fingerprint == image.fingerprint) return;
    }
    image.where = absl::StrCat(where, killed ? ": a kill leaves" : ": a power cut leaves");
    for (size_t i = 0; i < writes.size(); ++i) {
      absl::StrAppend(&image.where, " ", writes[i].first_block, "+", writes[i].sectors / 8,
                      !landings[i].lands            ? " not"
                      : landings[i].sectors.empty() ? " whole"
                      : landings[i].shorn           ? " unreadable"
                                                    : " torn",
                      ",");
    }
    images->push_back(std::move(image));
  };
  for (const Landings& landings : EnumerateLandings(writes, max, rng_)) {
    add(moment->AfterCut(landings), false, landings);
  }
  if (!kill) return;
  for (const Landings& landings : EnumerateLandings(writes, 4, rng_)) {
    add(moment->AfterKill(landings), true, landings);
  }
}

std::shared_ptr<Explorer::Recovered> Explorer::Recover(const ExploreBase& base, const Image& image,
                                                       bool cut_again) {
  auto recovered = std::make_shared<Recovered>();
  ++counts_.recoveries;
  if (!cut_again) ++counts_.second_cuts;
  const std::shared_ptr<SimulatedDisk> before = image.disk->Clone();
  if (cut_again) {
    image.disk->SetObserver([&] {
      Collect(*image.disk, image.where + " then, in the recovery,", kImagesInRecovery, false,
              &recovered->images);
    });
  }
  const absl::StatusOr<std::unique_ptr<StoreProcess>> process = Open(base, image.disk);
  image.disk->SetObserver(nullptr);
  if (!process.ok()) {
    recovered->wrong = "the store cannot be opened: " + process.status().ToString();
    return recovered;
  }
  const bool is_new = states_->Insert((*process)->device().reads_fingerprint());
  // A recovery is a function of what it reads, and so is what a cut in it leaves, but for what a kill left in
  // the cache: such cuts were tried already.
  if (!is_new && !image.kill) recovered->images.clear();
  if (is_new) {
    if (std::string found = FsckFindings(*before, ShornSlot::kIsNoFinding); !found.empty()) {
      recovered->wrong = "fsck of what the cut left: " + found;
      return recovered;
    }
  }
  counts_.dropped_records += (*process)->store().stats().dropped_records;
  absl::StatusOr<Observed> observed = ObserveStore((*process)->store());
  if (!observed.ok()) {
    recovered->wrong = "a read of the recovered store: " + observed.status().ToString();
    return recovered;
  }
  recovered->observed = *std::move(observed);
  recovered->disk = image.disk;
  return recovered;
}

std::optional<Violation> Explorer::CheckOne(const ExploreBase& base, const Image& image, const Model& model) {
  std::shared_ptr<Recovered>& known = recovered_[image.fingerprint];
  const bool is_new = known == nullptr;
  if (is_new) known = Recover(base, image, !nested_);
  const std::shared_ptr<Recovered> recovered = known;
  std::string wrong = recovered->wrong;
  if (wrong.empty()) wrong = model.CheckCrash(recovered->observed);
  if (!wrong.empty()) return Violation{wrong, image.where};
  for (const Image& again : recovered->images) {
    std::shared_ptr<Recovered>& second = recovered_[again.fingerprint];
    if (second == nullptr) second = Recover(base, again, false);
    wrong = second->wrong;
    if (wrong.empty()) wrong = model.CheckCrash(second->observed);
    if (!wrong.empty()) return Violation{wrong, again.where};
  }
  if (is_new && !nested_ && OneIn(options_.go_on_one_in)) return GoOn(base, image, *recovered);
  return std::nullopt;
}

std::optional<Violation> Explorer::Check(const ExploreBase& base, std::vector<Image> images,
                                         const Model& model) {
  for (const Image& image : images) {
    if (std::optional<Violation> violation = CheckOne(base, image, model)) return violation;
  }
  return std::nullopt;
}

std::optional<Violation> Explorer::GoOn(const ExploreBase& base, const Image& image,
                                        const Recovered& recovered) {
  ++counts_.next_writes;
  const std::vector<Step>& steps =
      options_.next_writes.empty() ? NextWrites()[rng_() % NextWrites().size()] : options_.next_writes;
  const absl::StatusOr<std::unique_ptr<StoreProcess>> process = Open(base, recovered.disk->Clone());
  if (!process.ok())
    return Violation{"the recovered store cannot be opened: " + process.status().ToString(), image.where};
  Model model;
  model.Adopt(recovered.observed);
  auto outer = std::exchange(recovered_, {});
  prefix_ = image.where + " then: ";
  nested_ = true;
  std::optional<Violation> violation;
  {
    Driver driver((*process)->store(), (*process)->device(), std::move(model), (base.next_stamp + 1) << 20,
                  base.may_refuse);
    violation = RunSteps(base, **process, driver, steps, 0, true);
  }
  nested_ = false;
  prefix_.clear();
  recovered_ = std::move(outer);
  return violation;
}

std::optional<Violation> Explorer::RunSteps(const ExploreBase& base, StoreProcess& process, Driver& driver,
                                            const std::vector<Step>& steps, size_t explore_from,
                                            bool nested) {
  const size_t max = nested ? kImagesWhenGoingOn : options_.images_per_cut;
  std::vector<Image> images;
  std::mutex mu;  // a read that is held back has a thread of its own
  for (size_t i = 0; i < steps.size(); ++i) {
    ++counts_.steps;
    const std::string where =
        absl::StrCat(prefix_, "step ", i + 1, " (", ToString(std::span(&steps[i], 1)), ")");
    const bool explore = i >= explore_from;
    const auto collect = [&](const char* when) {
      std::lock_guard lock(mu);
      Collect(*process.disk(), where + when, max, !nested && OneIn(options_.kill_one_in), &images);
    };
    if (explore) process.disk()->SetObserver([&] { collect(", inside"); });
    std::string wrong = driver.Call(steps[i]);
    process.disk()->SetObserver(nullptr);
    if (!wrong.empty()) return Violation{wrong, where};
    if (std::optional<Violation> v = Check(base, std::exchange(images, {}), driver.model())) return v;
    driver.Acknowledge();
    if (!explore) continue;
    collect(", after it");
    if (std::optional<Violation> v = Check(base, std::exchange(images, {}), driver.model())) return v;
    recovered_.clear();
  }
  return std::nullopt;
}

std::optional<Violation> Explorer::Run(const ExploreBase& base, const std::vector<Step>& steps,
                                       size_t explore_from) {
  ++counts_.runs;
  rng_.seed(options_.seed);
  recovered_.clear();
  const absl::StatusOr<std::unique_ptr<StoreProcess>> process = Open(base, base.disk->Clone());
  if (!process.ok()) return Violation{"the base cannot be opened: " + process.status().ToString(), base.name};
  for (const SimulatedFault& fault : options_.faults) (*process)->device().Inject(fault);
  Driver driver((*process)->store(), (*process)->device(), base.model, base.next_stamp, base.may_refuse);
  std::optional<Violation> violation = RunSteps(base, **process, driver, steps, explore_from, false);
  if (!violation) {
    if (std::string wrong = driver.Finish(); !wrong.empty()) violation = Violation{wrong, "at the end"};
  }
  const Stats stats = (*process)->store().stats();
  counts_.units_in_place += stats.units_in_place();
  counts_.units_cow += stats.units_cow();
  counts_.checkpoints += stats.checkpoints;
  return violation;
}

std::vector<Step> Shrink(const ExploreBase& base, std::vector<Step> steps, const ExploreOptions& options) {
  const auto fails = [&](const std::vector<Step>& some) {
    StateSet states;
    return Explorer(options, &states).Run(base, some).has_value();
  };
  for (size_t chunk = (steps.size() + 1) / 2; chunk > 0; chunk = chunk > 1 ? (chunk + 1) / 2 : 0) {
    for (size_t at = 0; at < steps.size();) {
      std::vector<Step> fewer = steps;
      fewer.erase(fewer.begin() + at, fewer.begin() + std::min(at + chunk, fewer.size()));
      if (fails(fewer)) {
        steps = std::move(fewer);
      } else {
        at += chunk;
      }
    }
  }
  return steps;
}

}  // namespace untorn
