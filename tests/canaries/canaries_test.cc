// Every canary, a disk that lies or a store that is broken in one place, must be caught by the explorer: from
// the same bases, by the same steps and checks that find nothing in the store as it is.
#include <gtest/gtest.h>

#include <iostream>
#include <optional>
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

// What catches them finds nothing in the same sources with no switch thrown.
TEST(NoCanaryTest, StoreThatIsNotBrokenIsNotCaught) {
  for (CanaryCase canary : AllCanaries()) {
    if (canary.canary == Canary::kNone) continue;
    canary.canary = Canary::kNone;
    EXPECT_EQ(Hunt(canary, 1), std::nullopt) << canary.situation;
  }
}

}  // namespace
}  // namespace untorn
