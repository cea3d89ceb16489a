#include "tests/explore/explorer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "extent/superblock.h"
#include "tests/explore/landings.h"
#include "tests/inspect/fsck_findings.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr size_t kImagesInRecovery = 8;
constexpr size_t kImagesWhenGoingOn = 8;
constexpr size_t kObservedMax = 1000;  // of some 100 KiB

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

Geometry GeometryOf(const SimulatedDisk& disk) { return Geometry::ForSize(WholeBlocks(disk.size_bytes())); }

}  // namespace

void ExploreCounts::Add(const ExploreCounts& other) {
  runs += other.runs;
  steps += other.steps;
  points += other.points;
  images += other.images;
  recoveries += other.recoveries;
  second_cuts += other.second_cuts;
  next_writes += other.next_writes;
  change_sets_in_place += other.change_sets_in_place;
  change_sets_by_cow += other.change_sets_by_cow;
  checkpoints += other.checkpoints;
  dropped_records += other.dropped_records;
}

bool StateSet::Insert(uint64_t fingerprint) {
  std::lock_guard lock(mu_);
  return states_.insert(fingerprint).second;
}

bool StateSet::InsertFscked(uint64_t fingerprint) {
  std::lock_guard lock(mu_);
  return fscked_.insert(fingerprint).second;
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
    Image image{.disk = std::move(after)};
    image.fingerprint = image.disk->Fingerprint();
    for (const Image& known : *images) {
      if (known.fingerprint == image.fingerprint) return;
    }
    image.cached = killed && !image.disk->unflushed().empty();
    image.where = absl::StrCat(where, killed ? ": a kill leaves" : ": a power cut leaves");
    for (size_t i = 0; i < writes.size(); ++i) {
      absl::StrAppend(&image.where, " ", writes[i].first_block.value(), "+", writes[i].sectors / 8,
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

Explorer::ObservedPtr Explorer::Share(Observed observed) {
  ObservedPtr& shared = observed_[HashOfAll(observed)];
  if (shared == nullptr) shared = std::make_shared<const Observed>(std::move(observed));
  return shared;
}

// What a recovery and the reads after it come to is a function of what they read. So an image that is the same
// there as one before needs none, but for what a kill left in the cache, which a cut in the recovery may lose.
Explorer::OutcomePtr Explorer::Known(const Image& image, bool cut_again) {
  if (auto it = by_image_.find(image.fingerprint); it != by_image_.end()) {
    return it->second->cut_again || !cut_again ? it->second : nullptr;
  }
  if (image.cached) return nullptr;
  for (const BlockList& head : heads_) {
    const uint64_t fingerprint = image.disk->Fingerprint(head);
    const auto tails = tails_.find(fingerprint);
    if (tails == tails_.end()) continue;
    for (const BlockList& tail : tails->second) {
      const auto it = by_reads_.find(fingerprint + image.disk->Fingerprint(tail));
      if (it == by_reads_.end()) continue;
      if (cut_again && !it->second->cut_again) return nullptr;
      OutcomePtr outcome = it->second;
      if (std::string found = FsckOnce(*image.disk, outcome->recovery_reads); !found.empty()) {
        auto wrong = std::make_shared<Outcome>(*outcome);
        wrong->wrong = std::move(found);
        outcome = std::move(wrong);
      }
      by_image_[image.fingerprint] = outcome;
      return outcome;
    }
  }
  return nullptr;
}

void Explorer::Remember(const Image& image, BlockList blocks_read, const OutcomePtr& outcome) {
  by_image_[image.fingerprint] = outcome;
  if (image.cached || !outcome->wrong.empty()) return;
  std::sort(blocks_read.begin(), blocks_read.end());
  const auto middle =
      std::lower_bound(blocks_read.begin(), blocks_read.end(), GeometryOf(*image.disk).log.end());
  const BlockList head(blocks_read.begin(), middle), tail(middle, blocks_read.end());
  const uint64_t fingerprint = image.disk->Fingerprint(head);
  by_reads_[fingerprint + image.disk->Fingerprint(tail)] = outcome;
  if (std::find(heads_.begin(), heads_.end(), head) == heads_.end()) heads_.push_back(head);
  std::vector<BlockList>& tails = tails_[fingerprint];
  if (std::find(tails.begin(), tails.end(), tail) == tails.end()) tails.push_back(tail);
}

void Explorer::Forget() {
  observed_.clear();
  by_image_.clear();
  by_reads_.clear();
  heads_.clear();
  tails_.clear();
}

// fsck looks at what recovery reads, at the tree, whose blocks follow from that, and at the free-space map.
std::string Explorer::FsckOnce(const SimulatedDisk& disk, uint64_t recovery_reads) {
  BlockList map;
  for (uint64_t group = 0; ByteOffset(HeadOf(group)) < disk.length_bytes(); ++group) {
    for (BlockCount i; i < kHeadBlocks; ++i) map.push_back(HeadOf(group) + i);
  }
  if (!states_->InsertFscked(recovery_reads + disk.Fingerprint(map))) return "";
  const std::string found = FsckFindings(disk, ShornSlot::kIsNoFinding);
  return found.empty() ? "" : "fsck of what the cut left: " + found;
}

Explorer::Recovery Explorer::Recover(const ExploreBase& base, const Image& image, bool cut_again) {
  Recovery recovery;
  recovery.outcome = std::make_shared<Outcome>();
  Outcome& outcome = *recovery.outcome;
  outcome.cut_again = cut_again;
  ++counts_.recoveries;
  if (!cut_again) ++counts_.second_cuts;
  recovery.disk = image.disk->Clone();
  if (cut_again) {
    recovery.disk->SetObserver([&] {
      Collect(*recovery.disk, image.where + " then, in the recovery,", kImagesInRecovery, false,
              &recovery.images);
    });
  }
  const absl::StatusOr<std::unique_ptr<StoreProcess>> process = Open(base, recovery.disk);
  recovery.disk->SetObserver(nullptr);
  if (!process.ok()) {
    outcome.wrong = "the store cannot be opened: " + process.status().ToString();
    return recovery;
  }
  SimulatedDevice& device = (*process)->device();
  outcome.recovery_reads = device.reads_fingerprint();
  // What a cut in the recovery leaves follows from what it read too: such cuts were tried already.
  if (!states_->Insert(outcome.recovery_reads) && !image.cached) recovery.images.clear();
  counts_.dropped_records += (*process)->store().stats().dropped_records;
  absl::StatusOr<Observed> observed = ObserveStore((*process)->store());
  if (observed.ok()) {
    outcome.observed = Share(*std::move(observed));
    outcome.wrong = FsckOnce(*image.disk, outcome.recovery_reads);
  } else {
    outcome.wrong = "a read of the recovered store: " + observed.status().ToString();
  }
  Remember(image, device.blocks_read(), recovery.outcome);
  return recovery;
}

std::optional<Violation> Explorer::CutAgain(const ExploreBase& base, const Image& image, Recovery& recovery) {
  for (const Image& again : recovery.images) {
    Outcome& outcome = *recovery.outcome;
    OutcomePtr second = Known(again, false);
    if (second == nullptr) second = Recover(base, again, false).outcome;
    if (!second->wrong.empty()) return Violation{second->wrong, again.where};
    if (second->observed == outcome.observed) continue;
    if (!image.cached) return Violation{"recovering again finds something else", again.where};
    outcome.again.push_back(second->observed);
  }
  return std::nullopt;
}

std::optional<Violation> Explorer::CheckOne(const ExploreBase& base, const Image& image, const Model& model,
                                            absl::flat_hash_set<const Observed*>* fitting) {
  // What comes of the next writes depends on more than recovery reads: on what it dropped without reading it all.
  const bool go_on = !nested_ && !by_image_.contains(image.fingerprint) && OneIn(options_.go_on_one_in);
  OutcomePtr outcome = Known(image, !nested_);
  Recovery recovery;
  if (outcome == nullptr || go_on) {
    recovery = Recover(base, image, !nested_);
    outcome = recovery.outcome;
  }
  const auto check = [&](const ObservedPtr& observed) {
    if (fitting->contains(observed.get())) return std::string();
    std::string wrong = model.CheckCrash(*observed);
    if (wrong.empty()) fitting->insert(observed.get());
    return wrong;
  };
  std::string wrong = outcome->wrong;
  if (wrong.empty()) wrong = check(outcome->observed);
  if (!wrong.empty()) return Violation{wrong, image.where};
  if (std::optional<Violation> violation = CutAgain(base, image, recovery)) return violation;
  for (const ObservedPtr& again : outcome->again) {
    wrong = check(again);
    if (!wrong.empty()) return Violation{wrong, image.where + " then, in the recovery, a power cut"};
  }
  return go_on ? GoOn(base, image, recovery) : std::nullopt;
}

std::optional<Violation> Explorer::Check(const ExploreBase& base, std::vector<Image> images,
                                         const Model& model) {
  if (!nested_ && observed_.size() > kObservedMax) Forget();
  absl::flat_hash_set<const Observed*> fitting;
  for (const Image& image : images) {
    if (nested_) {
      if (std::optional<Violation> violation = CheckOne(base, image, model, &fitting)) return violation;
      continue;
    }
    // What is drawn for an image depends on what other runs have met; what is drawn after it must not.
    const std::mt19937_64 outer = std::exchange(rng_, std::mt19937_64(options_.seed + ++images_checked_));
    std::optional<Violation> violation = CheckOne(base, image, model, &fitting);
    rng_ = outer;
    if (violation) return violation;
  }
  return std::nullopt;
}

std::optional<Violation> Explorer::GoOn(const ExploreBase& base, const Image& image,
                                        const Recovery& recovery) {
  ++counts_.next_writes;
  const std::vector<Step>& steps =
      options_.next_writes.empty() ? NextWrites()[rng_() % NextWrites().size()] : options_.next_writes;
  const absl::StatusOr<std::unique_ptr<StoreProcess>> process = Open(base, recovery.disk);
  if (!process.ok())
    return Violation{"the recovered store cannot be opened: " + process.status().ToString(), image.where};
  Model model;
  model.Adopt(*recovery.outcome->observed);
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
    wrong = driver.Acknowledge();
    if (!wrong.empty()) return Violation{wrong, where};
    if (!explore) continue;
    collect(", after it");
    if (std::optional<Violation> v = Check(base, std::exchange(images, {}), driver.model())) return v;
  }
  return std::nullopt;
}

std::optional<Violation> Explorer::Run(const ExploreBase& base, const std::vector<Step>& steps,
                                       size_t explore_from) {
  ++counts_.runs;
  rng_.seed(options_.seed);
  images_checked_ = 0;
  Forget();
  if (explore_from == 0) {
    std::vector<Image> image(1);
    image[0] = {base.disk->Clone(), base.disk->Fingerprint(), "the base", !base.disk->unflushed().empty()};
    if (std::optional<Violation> violation = Check(base, std::move(image), base.model)) return violation;
  }
  const absl::StatusOr<std::unique_ptr<StoreProcess>> process = Open(base, base.disk->Clone());
  if (!process.ok()) return Violation{"the base cannot be opened: " + process.status().ToString(), base.name};
  for (const SimulatedFault& fault : options_.faults) (*process)->device().Inject(fault);
  Driver driver((*process)->store(), (*process)->device(), base.model, base.next_stamp, base.may_refuse);
  std::optional<Violation> violation = RunSteps(base, **process, driver, steps, explore_from, false);
  if (!violation) {
    if (std::string wrong = driver.Finish(); !wrong.empty()) violation = Violation{wrong, "at the end"};
  }
  const Stats stats = (*process)->store().stats();
  counts_.change_sets_in_place += stats.change_sets_in_place();
  counts_.change_sets_by_cow += stats.change_sets_by_cow();
  counts_.checkpoints += stats.checkpoints;
  return violation;
}

}  // namespace untorn
