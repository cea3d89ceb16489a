// Promises 1 to 7 and 9 at every point of every short workload, of the situations in which they are most at
// risk, and of long random workloads: whatever a power cut or a kill leaves.
#include <gtest/gtest.h>

#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/explore/campaign.h"
#include "tests/explore/workloads.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

constexpr uint64_t kStates = 200'000;

TEST(ExploreTest, NoCutLeavesWhatThePromisesForbid) {
  const uint64_t seed = TestSeed(1);
  Campaign campaign(2);
  const auto begun = Campaign::Clock::now();
  const auto report = [&](const std::string& part) {
    const double seconds = std::chrono::duration<double>(Campaign::Clock::now() - begun).count();
    std::cout << part << ": " << campaign.states().size() << " states after " << static_cast<int>(seconds)
              << " s" << std::endl;
  };
  // One step: all ways in which a block and a superblock can land. Two and three: a sample of tears. Three steps
  // from the first two bases, and one sequence in eight from the others.
  for (const auto& [length, images] : {std::pair(1, 600), {2, 48}, {3, 10}}) {
    for (const ExploreBase& base : ExploreBases()) {
      const uint64_t stride = length < 3 || &base < &ExploreBases()[2] ? 1 : 8;
      campaign.Run(SequencesOf(length) / stride, [&](uint64_t i) {
        return SequenceExploration(base, i * stride + i % stride, length, images);
      });
      report(absl::StrCat("sequences of ", length, " from ", base.name));
    }
  }
  campaign.Run(Scenarios().size() * 4,
               [&](uint64_t i) { return ScenarioExploration(i / 4, seed + i % 4, 48); });
  report("scenarios");
  for (uint64_t round = 0; campaign.states().size() < kStates && campaign.violations().empty(); ++round) {
    campaign.Run(20, [&](uint64_t i) { return RandomExploration(seed + 20 * round + i, 60, 16); });
  }
  report("random");

  const ExploreCounts counts = campaign.counts();
  std::cout << counts.runs << " runs, " << counts.points << " points, " << counts.images << " images, "
            << counts.recoveries << " recoveries (" << counts.second_cuts << " after a second cut), "
            << counts.next_writes << " went on; " << counts.change_sets_in_place << " units in place, "
            << counts.change_sets_by_cow << " by copy-on-write, " << counts.checkpoints << " checkpoints, "
            << counts.dropped_records << " records dropped\n"
            << "states: " << campaign.states().size() << "\nviolations: " << campaign.violations().size()
            << std::endl;
  for (const std::string& violation : campaign.violations()) ADD_FAILURE() << violation;
  EXPECT_GE(campaign.states().size(), kStates);
}

}  // namespace
}  // namespace untorn
