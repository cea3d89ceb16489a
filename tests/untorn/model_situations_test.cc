// That the model test's runs meet what they are for.
#include <gtest/gtest.h>

#include <iostream>

#include "tests/untorn/model_run.h"

namespace untorn {
namespace {

// A run in which nothing ever crashed, was refused or went in place would prove little.
TEST(ModelRunTest, MeetsEverySituation) {
  ModelRunCounts met;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    ModelRun run(1000 + seed);
    run.Run(1000);
    met.Add(run.counts());
    ASSERT_FALSE(HasFailure());
  }
  std::cout << met.ToString() << std::endl;
  EXPECT_GT(met.crashes, 0u);
  EXPECT_GT(met.kills, 0u);
  EXPECT_GT(met.cut_inside_a_call, 0u);
  EXPECT_GT(met.cut_while_opening, 0u);
  EXPECT_GT(met.device_failures, 0u);
  EXPECT_GT(met.reopened, 0u);
  EXPECT_GT(met.refused_for_space, 0u);
  EXPECT_GT(met.refused_by_policy, 0u);
  EXPECT_GT(met.transactions, 0u);
  EXPECT_GT(met.dropped_records, 0u);
  EXPECT_GT(met.checkpoints, 0u);
  EXPECT_GT(met.change_sets_in_place, 0u);
  EXPECT_GT(met.change_sets_by_cow, 0u);
}

}  // namespace
}  // namespace untorn
