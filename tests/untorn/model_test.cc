// The promises, all of them, against random operations and crashes: each seed is one disk, policy and mix of
// operations. The checker is checked by model_checker_test.
//
// Reproduce one with UNTORN_MODEL_SEED=N and the same UNTORN_MODEL_OPS; UNTORN_MODEL_TRACE=1 prints every
// operation.
#include <gtest/gtest.h>

#include <iostream>
#include <vector>

#include "tests/untorn/model_run.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

class ModelTest : public testing::TestWithParam<uint64_t> {
 protected:
  static ModelRunCounts total;
  static void TearDownTestSuite() { std::cout << "in all: " << total.ToString() << std::endl; }
};
ModelRunCounts ModelTest::total;

TEST_P(ModelTest, KeepsThePromises) {
  const uint64_t seeds = FromEnvironment("UNTORN_MODEL_SEEDS", 20);
  const uint64_t ops = FromEnvironment("UNTORN_MODEL_OPS", 1'000'000);
  const uint64_t only = FromEnvironment("UNTORN_MODEL_SEED", 0);
  if (only == 0 && GetParam() > seeds) return;
  const uint64_t seed = only == 0 ? GetParam() : only;
  if (only != 0 && GetParam() != 1) return;
  ModelRun run(seed);
  run.Run((ops + seeds - 1) / seeds);
  std::cout << run.counts().ToString() << std::endl;
  total.Add(run.counts());
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelTest, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace untorn
