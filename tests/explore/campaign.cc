#include "tests/explore/campaign.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/explore/workloads.h"

namespace untorn {

uint64_t Campaign::Run(uint64_t count, const std::function<Exploration(uint64_t)>& make,
                       Clock::time_point deadline, const std::function<void(uint64_t)>& progress) {
  ExploreBases();  // once, before the threads
  std::atomic<uint64_t> next = 0, begun = 0;
  const auto work = [&](bool reports) {
    while (true) {
      const uint64_t i = next++;
      if (i >= count || Clock::now() >= deadline) return;
      {
        std::lock_guard lock(mu_);
        if (violations_.size() >= kViolationsMax) return;
      }
      ++begun;
      const Exploration exploration = make(i);
      Explorer explorer(exploration.options, &states_);
      const std::optional<Violation> violation =
          explorer.Run(*exploration.base, exploration.steps, exploration.explore_from);
      {
        std::lock_guard lock(mu_);
        counts_.Add(explorer.counts());
      }
      if (violation) Note(exploration, *violation);
      if (reports && progress) progress(i);
    }
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads_; ++t) others.emplace_back(work, false);
  work(true);
  for (std::thread& thread : others) thread.join();
  return begun;
}

Exploration Shrink(Exploration exploration) {
  const auto fails = [](const Exploration& some) {
    StateSet states;
    return Explorer(some.options, &states).Run(*some.base, some.steps, some.explore_from).has_value();
  };
  for (size_t chunk = (exploration.steps.size() + 1) / 2; chunk > 0;
       chunk = chunk > 1 ? (chunk + 1) / 2 : 0) {
    for (size_t at = 0; at < exploration.steps.size();) {
      Exploration fewer = exploration;
      const size_t end = std::min(at + chunk, fewer.steps.size());
      fewer.steps.erase(fewer.steps.begin() + at, fewer.steps.begin() + end);
      fewer.explore_from -= std::min(end, fewer.explore_from) - std::min(at, fewer.explore_from);
      if (fails(fewer)) {
        exploration = std::move(fewer);
      } else {
        at += chunk;
      }
    }
  }
  return exploration;
}

std::string ReplayArguments(const Exploration& exploration) {
  const ExploreOptions& options = exploration.options;
  return absl::StrCat("--base=", exploration.base->name, " --seed=", options.seed,
                      " --images=", options.images_per_cut, " --kill_one_in=", options.kill_one_in,
                      " --go_on_one_in=", options.go_on_one_in, " --explore_from=", exploration.explore_from,
                      " --next_writes='", ToString(options.next_writes), "' --steps='",
                      ToString(exploration.steps), "'");
}

void Campaign::Note(const Exploration& exploration, const Violation& violation) {
  std::string text = absl::StrCat(violation.what, "\n  at ", violation.where, "\n  replay: tools/torture ",
                                  ReplayArguments(Shrink(exploration)));
  std::lock_guard lock(mu_);
  violations_.push_back(std::move(text));
}

ExploreCounts Campaign::counts() const {
  std::lock_guard lock(mu_);
  return counts_;
}

std::vector<std::string> Campaign::violations() const {
  std::lock_guard lock(mu_);
  return violations_;
}

Exploration SequenceExploration(const ExploreBase& base, uint64_t index, int length, size_t images_per_cut) {
  Exploration exploration{.base = &base, .steps = base.first_steps};
  const std::vector<Step> sequence = SequenceOf(index, length);
  exploration.steps.insert(exploration.steps.end(), sequence.begin(), sequence.end());
  // The cuts in what comes before are those of a shorter sequence.
  exploration.explore_from = base.first_steps.size() + length - 1;
  exploration.options = {.seed = index + 1, .images_per_cut = images_per_cut};
  return exploration;
}

Exploration ScenarioExploration(uint64_t index, uint64_t seed, size_t images_per_cut) {
  const Scenario& scenario = Scenarios()[index];
  Exploration exploration{.base = &ExploreBaseNamed(scenario.base), .steps = Steps(scenario.steps)};
  exploration.options = {.seed = seed, .images_per_cut = images_per_cut, .kill_one_in = 2};
  exploration.options.next_writes = Steps(scenario.next_writes);
  exploration.options.go_on_one_in = exploration.options.next_writes.empty() ? 4 : 1;
  return exploration;
}

Exploration RandomExploration(uint64_t seed, size_t steps, size_t images_per_cut) {
  // Mostly from the first two, where recovery is quick and all paths are open.
  const std::vector<ExploreBase>& bases = ExploreBases();
  Exploration exploration{.base = &bases[seed % 3 < 2 ? seed % 2 : seed / 3 % bases.size()],
                          .steps = RandomSteps(seed, steps)};
  exploration.options = {.seed = seed, .images_per_cut = images_per_cut};
  return exploration;
}

}  // namespace untorn
