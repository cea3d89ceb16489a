// Many workloads explored by several threads, with one count of the states met.
#ifndef UNTORN_TESTS_EXPLORE_CAMPAIGN_H_
#define UNTORN_TESTS_EXPLORE_CAMPAIGN_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "tests/explore/explorer.h"
#include "tests/explore/step.h"

namespace untorn {

// One workload.
struct Exploration {
  const ExploreBase* base = nullptr;
  std::vector<Step> steps;
  size_t explore_from = 0;
  ExploreOptions options;
};

// With fewer steps, if those fail too. What is explored begins with the same step, while that is there.
Exploration Shrink(Exploration exploration);
// The arguments with which torture explores the same.
std::string ReplayArguments(const Exploration& exploration);

class Campaign {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Campaign(int threads) : threads_(threads) {}

  // Explores number 0, 1, … of `count`, in any order, until all are done, `deadline` is past, or there are
  // many violations. Returns how many were begun. `progress`, if given, is called now and then.
  uint64_t Run(uint64_t count, const std::function<Exploration(uint64_t)>& make,
               Clock::time_point deadline = Clock::time_point::max(),
               const std::function<void(uint64_t)>& progress = nullptr);

  const StateSet& states() const { return states_; }
  ExploreCounts counts() const;
  // Each with the fewest steps that show it and how to replay it.
  std::vector<std::string> violations() const;

 private:
  void Note(const Exploration& exploration, const Violation& violation);

  static constexpr size_t kViolationsMax = 5;
  const int threads_;
  StateSet states_;
  mutable std::mutex mu_;
  ExploreCounts counts_;
  std::vector<std::string> violations_;
};

// What the explorer is run over; the same for the test and for torture, which goes on with it for longer.
//   every sequence of one step, of two, and of three, from every base
Exploration SequenceExploration(const ExploreBase& base, uint64_t index, int length, size_t images_per_cut);
//   every scenario, with `seed` for the order of completions
Exploration ScenarioExploration(uint64_t index, uint64_t seed, size_t images_per_cut);
//   long random steps, from a base that follows from the seed
Exploration RandomExploration(uint64_t seed, size_t steps, size_t images_per_cut);

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_CAMPAIGN_H_
