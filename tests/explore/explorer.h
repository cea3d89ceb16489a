// Cuts the power, or kills the process, at every point of a workload, tries what each cut may leave, recovers,
// and checks the promises; then cuts again during the recovery, and after the next writes.
//
// Points. What a cut may leave grows when writes are submitted and shrinks when a flush is done; at every other
// operation of the device it stays the same. So after each submission of writes, each flush, and each call of
// the store there is a point, and between points there is nothing else to find: a cut between two writes that
// are submitted together leaves what a cut after both may leave too.
//
// Everything follows from the base, the steps and the seed.
#ifndef UNTORN_TESTS_EXPLORE_EXPLORER_H_
#define UNTORN_TESTS_EXPLORE_EXPLORER_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "sim/simulated_device.h"
#include "tests/explore/driver.h"
#include "tests/explore/step.h"
#include "tests/explore/store_process.h"
#include "tests/untorn/model.h"

namespace untorn {

// A store to begin with.
struct ExploreBase {
  std::string name;
  std::shared_ptr<SimulatedDisk> disk;
  Model model;
  uint64_t next_stamp = 1;
  AtomicLimits atomic;
  bool may_refuse = false;        // it is nearly full
  bool grows = false;             // it is in a file
  std::vector<Step> first_steps;  // come before every sequence, with no cuts in them
};

struct ExploreOptions {
  uint64_t seed = 1;
  size_t images_per_cut = 16;  // of power cuts, at each point
  uint64_t kill_one_in = 8;    // points at which the process is killed too
  uint64_t go_on_one_in = 16;  // recovered stores that do the next writes, with cuts in them
  SimulatedDeviceOptions::Lies lies;
  std::vector<SimulatedFault> faults;  // while the steps run
  std::vector<Step> next_writes;       // of recovered stores that go on; none: some of the explorer's own
};

struct ExploreCounts {
  uint64_t runs = 0, steps = 0, points = 0, images = 0;
  uint64_t recoveries = 0;   // opened after a cut
  uint64_t second_cuts = 0;  // of them after a second cut: in a recovery, or in the writes after it
  uint64_t next_writes = 0;  // recovered stores that went on
  uint64_t change_sets_in_place = 0, change_sets_by_cow = 0, checkpoints = 0, dropped_records = 0;
  void Add(const ExploreCounts& other);
};

// States met by all explorers of a process: distinct by a hash of the blocks that recovery read.
class StateSet {
 public:
  // False: it was there already.
  bool Insert(uint64_t fingerprint);
  uint64_t size() const;
  // The same of what fsck has looked at.
  bool InsertFscked(uint64_t fingerprint);

 private:
  mutable std::mutex mu_;
  absl::flat_hash_set<uint64_t> states_, fscked_;
};

struct Violation {
  std::string what;
  std::string where;  // the step, the cut
};

class Explorer {
 public:
  Explorer(const ExploreOptions& options, StateSet* states) : options_(options), states_(states) {}

  // Runs the steps on a copy of the base, and explores the cuts from step `explore_from` on; from 0, those in the
  // base's own recovery too.
  std::optional<Violation> Run(const ExploreBase& base, const std::vector<Step>& steps,
                               size_t explore_from = 0);
  const ExploreCounts& counts() const { return counts_; }

 private:
  using BlockList = std::vector<BlockNumber>;  // sorted

  // What a cut has left.
  struct Image {
    std::shared_ptr<SimulatedDisk> disk;
    uint64_t fingerprint = 0;
    std::string where;
    bool cached = false;  // by a kill, with writes in the disk's cache
  };
  // What a reader finds there: the same object for the same contents.
  using ObservedPtr = std::shared_ptr<const Observed>;
  struct Outcome {
    ObservedPtr observed;
    std::string wrong;
    bool cut_again = false;          // whether cuts in the recovery were tried
    uint64_t recovery_reads = 0;     // fingerprint of what recovery read
    std::vector<ObservedPtr> again;  // what recoveries after a cut in the recovery showed, if anything else
  };
  using OutcomePtr = std::shared_ptr<const Outcome>;
  // A recovery that has just been made.
  struct Recovery {
    std::shared_ptr<Outcome> outcome;
    std::vector<Image> images;            // of cuts in the recovery
    std::shared_ptr<SimulatedDisk> disk;  // as the recovery leaves it
  };

  void Collect(const SimulatedDisk& disk, const std::string& where, size_t max, bool kill,
               std::vector<Image>* images);
  absl::StatusOr<std::unique_ptr<StoreProcess>> Open(const ExploreBase& base,
                                                     std::shared_ptr<SimulatedDisk> disk);
  Recovery Recover(const ExploreBase& base, const Image& image, bool cut_again);
  // Null: it takes a recovery to tell.
  OutcomePtr Known(const Image& image, bool cut_again);
  void Remember(const Image& image, BlockList blocks_read, const OutcomePtr& outcome);
  void Forget();
  // "" too if fsck has looked at the same before.
  std::string FsckOnce(const SimulatedDisk& disk, uint64_t recovery_reads);
  ObservedPtr Share(Observed observed);
  std::optional<Violation> Check(const ExploreBase& base, std::vector<Image> images, const Model& model);
  std::optional<Violation> CheckOne(const ExploreBase& base, const Image& image, const Model& model,
                                    absl::flat_hash_set<const Observed*>* fitting);
  std::optional<Violation> CutAgain(const ExploreBase& base, const Image& image, Recovery& recovery);
  std::optional<Violation> GoOn(const ExploreBase& base, const Image& image, const Recovery& recovery);
  std::optional<Violation> RunSteps(const ExploreBase& base, StoreProcess& process, Driver& driver,
                                    const std::vector<Step>& steps, size_t explore_from, bool nested);
  bool OneIn(uint64_t n) { return n > 0 && rng_() % n == 0; }

  const ExploreOptions options_;
  StateSet* const states_;
  ExploreCounts counts_;
  std::mt19937_64 rng_;
  std::string prefix_;  // of what is nested
  bool nested_ = false;
  uint64_t images_checked_ = 0;

  // What is known in this run: what comes of an image, by all of it and by what a recovery of it reads.
  absl::flat_hash_map<uint64_t, ObservedPtr> observed_;  // by what it holds
  absl::flat_hash_map<uint64_t, OutcomePtr> by_image_, by_reads_;
  // Blocks that were read together, in two parts: superblocks and log, and the rest by the fingerprint of those.
  std::vector<BlockList> heads_;
  absl::flat_hash_map<uint64_t, std::vector<BlockList>> tails_;
};

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_EXPLORER_H_
