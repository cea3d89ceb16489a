// Every canary, a disk that lies or a store that is broken in one place, must be caught by the explorer: from
// the same bases, by the same steps and checks that find nothing in the store as it is.
#include <gtest/gtest.h>

#include <iostream>
#include <optional>
#include <set>
#include <string>

#include "tests/canaries/canary.h"
#include "tests/canaries/hunt.h"

namespace untorn {
namespace {

class CanariesTest : public testing::TestWithParam<CanaryCase> {};

TEST_P(CanariesTest, IsCaught) {
  const std::optional<std::string> caught = Hunt(GetParam());
  ASSERT_TRUE(caught.has_value()) << GetParam().what;
  std::cout << GetParam().what << "\n  " << *caught << std::endl;
}

INSTANTIATE_TEST_SUITE_P(All, CanariesTest, testing::ValuesIn(AllCanaries()),
                         [](const auto& info) { return std::string(info.param.name); });

// The control: what catches them finds nothing at all in the same sources with no switch thrown, on a disk that
// does not lie.
TEST(NoCanaryTest, StoreThatIsNotBrokenIsNotCaught) {
  std::set<std::string> situations;
  for (const CanaryCase& canary : AllCanaries()) {
    if (!situations.insert(canary.situation).second) continue;
    const CanaryCase control = {.name = "None", .situation = canary.situation, .found_as = {""}};
    EXPECT_EQ(Hunt(control, 1), std::nullopt) << canary.situation;
  }
}

TEST(NoCanaryTest, WhatIsFoundForAnotherReasonIsNotCaught) {
  CanaryCase canary = AllCanaries().front();
  canary.found_as = {"something else"};
  EXPECT_EQ(Hunt(canary, 1), std::nullopt);
}

}  // namespace
}  // namespace untorn
