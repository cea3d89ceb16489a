// The canaries, and the hunt for them: shared by their test and by torture.
#ifndef UNTORN_TESTS_CANARIES_HUNT_H_
#define UNTORN_TESTS_CANARIES_HUNT_H_

#include <optional>
#include <string>
#include <vector>

#include "sim/simulated_device.h"
#include "tests/canaries/canary.h"

namespace untorn {

struct CanaryCase {
  const char* name;
  const char* situation;  // the scenario that shows it
  const char* what;
  std::vector<const char*> found_as;  // what the explorer says of it: one of these is in it
  Canary canary = Canary::kNone;
  SimulatedDeviceOptions::Lies lies = {};
  // Of each of the first operations of its kind in turn. A disk must be caught by each of them, a store by one.
  std::optional<SimulatedFault> fault = std::nullopt;
};

std::vector<CanaryCase> AllCanaries();

// Explores the situation on the broken store or disk, with `seeds` different orders of completion, until it is caught
// for the right reason; says how. nullopt: it is not caught.
std::optional<std::string> Hunt(const CanaryCase& canary, uint64_t seeds = 10);

}  // namespace untorn

#endif  // UNTORN_TESTS_CANARIES_HUNT_H_
