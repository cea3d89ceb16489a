// What the explorer tries at a cut, and how steps are written down.
#include "tests/explore/landings.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/explore/campaign.h"
#include "tests/explore/step.h"
#include "tests/explore/workloads.h"

namespace untorn {
namespace {

std::string Text(const SimulatedDisk::Landing& landing) {
  if (!landing.lands) return "-";
  if (landing.sectors.empty()) return "+";
  std::string text = landing.shorn ? "x" : "";
  for (bool lands : landing.sectors) text += lands ? '1' : '0';
  return text;
}

std::set<std::string> All(const std::vector<SimulatedDisk::Unflushed>& writes, size_t max) {
  std::mt19937_64 rng(1);
  std::set<std::string> texts;
  for (const Landings& landings : EnumerateLandings(writes, max, rng)) {
    EXPECT_EQ(landings.size(), writes.size());
    std::string text;
    for (const auto& landing : landings) text += Text(landing) + " ";
    texts.insert(text);
  }
  return texts;
}

constexpr SimulatedDisk::Unflushed kAtomic = {.sectors = 32, .may_tear = false};
constexpr SimulatedDisk::Unflushed kBlock = {.sectors = 8, .may_tear = true};
constexpr SimulatedDisk::Unflushed kRun = {.sectors = 64, .may_tear = true};

TEST(LandingsTest, NoWritesLandInOneWay) { EXPECT_EQ(All({}, 10), std::set<std::string>{""}); }

TEST(LandingsTest, AtomicWritesAreThereOrNot) {
  EXPECT_EQ(All({kAtomic, kAtomic}, 10), (std::set<std::string>{"- - ", "- + ", "+ - ", "+ + "}));
}

TEST(LandingsTest, EveryTearOfABlockIsTriedWhereThereIsRoom) {
  const std::set<std::string> all = All({kBlock}, 257);
  EXPECT_EQ(all.size(), 257u) << "256 patterns, and one unreadable";
  EXPECT_EQ(all.count("x00000000 "), 1u);
  EXPECT_EQ(All({kBlock, kAtomic}, 514).size(), 514u);
}

TEST(LandingsTest, ExtremesAndSubsetsAreAmongASample) {
  const std::set<std::string> some = All({kRun, kBlock, kAtomic}, 40);
  EXPECT_GE(some.size(), 30u);
  EXPECT_LE(some.size(), 40u);
  for (int subset = 0; subset < 8; ++subset) {
    std::string text;
    for (int i = 0; i < 3; ++i) text += (subset >> i & 1) != 0 ? "+ " : "- ";
    EXPECT_EQ(some.count(text), 1u) << text;
  }
  EXPECT_EQ(some.count("x" + std::string(64, '0') + " x00000000 - "), 1u);
}

TEST(StepTest, TextIsReadBackAsWritten) {
  for (const Scenario& scenario : Scenarios()) {
    const std::vector<Step> steps = Steps(scenario.steps);
    EXPECT_TRUE(Steps(ToString(steps)) == steps) << scenario.name;
  }
  for (uint64_t seed = 1; seed < 20; ++seed) {
    const std::vector<Step> steps = RandomSteps(seed, 100);
    EXPECT_EQ(ToString(Steps(ToString(steps))), ToString(steps));
  }
  EXPECT_TRUE(Steps(ToString(Alphabet())) == Alphabet());
}

TEST(StepTest, WrongTextIsRefused) {
  for (const char* text :
       {"wrote a 0 1", "write a 0", "write a x 1", "tx { write a 0 1", "} ", "write a 0 1 as"}) {
    EXPECT_FALSE(ParseSteps(text).ok()) << text;
  }
}

// A violation is shown by as few steps as will do: here by a disk that loses the second write.
TEST(ShrinkTest, LeavesTheStepsThatMatter) {
  Exploration exploration{.base = &ExploreBaseNamed("wrap")};
  exploration.options.faults = {{.kind = SimulatedFault::kLostWrite, .first = 1}};
  exploration.steps = Steps("barrier; create c; sync-range a 0 10; write a 100 9000 sync; sync-all; barrier");
  exploration.explore_from = 3;
  const Exploration fewer = Shrink(exploration);
  EXPECT_EQ(ToString(fewer.steps), "write a 100 9000 sync");
  EXPECT_EQ(fewer.explore_from, 0u) << "the same step as before";
}

TEST(ReplayTest, ArgumentsHoldAllThatAnExplorationFollowsFrom) {
  Exploration exploration{.base = &ExploreBaseNamed("tight"), .steps = Steps("barrier; write a 0 1 sync")};
  exploration.explore_from = 1;
  exploration.options = {.seed = 7, .images_per_cut = 9, .kill_one_in = 3, .go_on_one_in = 5};
  exploration.options.next_writes = Steps("write b 0 2 as 6");
  EXPECT_EQ(ReplayArguments(exploration),
            "--base=tight --seed=7 --images=9 --kill_one_in=3 --go_on_one_in=5 --explore_from=1 "
            "--next_writes='write b 0 2 as 6' --steps='barrier; write a 0 1 sync'");
}

TEST(LandingsTest, ExtremesOfManyWritesAreAmongASample) {
  for (size_t n : {6, 9, 20}) {
    std::vector<SimulatedDisk::Unflushed> writes(n, kRun);
    writes[1] = kAtomic;
    const std::set<std::string> some = All(writes, 10);
    EXPECT_GE(some.size(), 2 * n + 3);
    std::string none, all, unreadable;
    for (size_t i = 0; i < n; ++i) {
      none += "- ";
      all += "+ ";
      unreadable += i == 1 ? "- " : "x" + std::string(64, '0') + " ";
    }
    EXPECT_EQ(some.count(none), 1u) << n;
    EXPECT_EQ(some.count(all), 1u) << n;
    EXPECT_EQ(some.count(unreadable), 1u) << n;
    for (size_t i = 0; i < n; ++i) {
      std::string only = none, all_but = all;
      only[2 * i] = '+';
      all_but[2 * i] = '-';
      EXPECT_EQ(some.count(only), 1u) << n << ", " << i;
      EXPECT_EQ(some.count(all_but), 1u) << n << ", " << i;
    }
    EXPECT_GE(All(writes, 200).size(), 180u) << n << ": most of the sample are different ones";
  }
}

}  // namespace
}  // namespace untorn
