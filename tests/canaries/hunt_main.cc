// Hunts for every canary: tools/torture.
#include <cstdio>

#include "tests/canaries/hunt.h"

int main() {
  int caught = 0, all = 0;
  for (const untorn::CanaryCase& canary : untorn::AllCanaries()) {
    ++all;
    const auto how = untorn::Hunt(canary);
    caught += how.has_value();
    std::printf("canary: %s: %s\n", canary.what, how ? "caught" : "NOT CAUGHT");
    std::fflush(stdout);
  }
  std::printf("canaries: %d/%d\n", caught, all);
  return caught == all ? 0 : 1;
}
