// Promises 3, 7 and 8 with a device that fails at its n-th operation, for every n until a run completes: in
// normal work, in checkpoints, in recovery.
#include "tests/explore/faults.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/explore/workloads.h"

namespace untorn {
namespace {

struct Case {
  const char* name;
  IoOp op;
  absl::Status status;
};

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"read", IoOp::kRead, absl::DataLossError("EIO, as the test asked")},
      {"write", IoOp::kWrite, absl::InternalError("EIO, as the test asked")},
      {"full", IoOp::kWrite, absl::ResourceExhaustedError("ENOSPC, as the test asked")},
      {"atomic", IoOp::kAtomicWrite, absl::InternalError("EIO, as the test asked")},
      {"flush", IoOp::kFlush, absl::InternalError("EIO, as the test asked")},
  };
  return cases;
}

using RunFunction = FaultOutcome (*)(const ExploreBase&, const std::vector<Step>&, const SimulatedFault&,
                                     uint64_t);

constexpr uint64_t kForever = UINT64_MAX;
constexpr uint64_t kTriesWithoutSpace = 3;

// Every n, each of `counts` times in a row, until it is not reached.
void Sweep(RunFunction run, const Scenario& scenario, const std::vector<uint64_t>& counts) {
  const std::vector<Step> steps = Steps(scenario.steps);
  const ExploreBase& base = ExploreBaseNamed(scenario.base);
  uint64_t runs = 0, reported = 0;
  for (const Case& c : Cases()) {
    for (uint64_t count : counts) {
      // An open store tries again until there is space.
      if (run == &RunWithFault && absl::IsResourceExhausted(c.status))
        count = std::min(count, kTriesWithoutSpace);
      for (uint64_t n = 1;; ++n) {
        const SimulatedFault fault = {.op = c.op, .first = n, .count = count, .status = c.status};
        const FaultOutcome outcome = run(base, steps, fault, n);
        ASSERT_EQ(outcome.wrong, "") << scenario.name << ": " << c.name << " number " << n << ", " << count
                                     << " times";
        if (!outcome.came) break;
        ++runs;
        reported += outcome.reported;
      }
    }
  }
  std::cout << scenario.name << ": " << runs << " faults, " << reported << " reported" << std::endl;
  EXPECT_GT(reported, 0u);
}

class FaultsTest : public testing::TestWithParam<size_t> {};

TEST_P(FaultsTest, WhileWorking) { Sweep(RunWithFault, Scenarios()[GetParam()], {1, kForever}); }
TEST_P(FaultsTest, WhileRecovering) {
  Sweep(RecoverWithFault, Scenarios()[GetParam()], {1, 2, 3, 4, 5, kForever});
}

INSTANTIATE_TEST_SUITE_P(Scenarios, FaultsTest, testing::Range<size_t>(0, Scenarios().size()));

}  // namespace
}  // namespace untorn
