// A workload, or a recovery, on a disk on which one operation goes wrong.
#ifndef UNTORN_TESTS_EXPLORE_FAULTS_H_
#define UNTORN_TESTS_EXPLORE_FAULTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/explore/explorer.h"

namespace untorn {

struct FaultOutcome {
  bool came = false;      // the operation was reached
  bool reported = false;  // by a call, by opening, or by fsck afterwards
  std::string wrong;      // "" or which promise is broken; with a disk that lies, what only comparing shows
};

// Runs the steps. Once the fault is reported: the store refuses changes from then on, or goes on as if nothing
// had happened; reads return what was accepted; and after a kill or a power cut, by `seed`, everything
// acknowledged is recovered (promises 3 and 8).
FaultOutcome RunWithFault(const ExploreBase& base, const std::vector<Step>& steps,
                          const SimulatedFault& fault, uint64_t seed);

// Runs the steps, cuts the power, and opens with the fault: that works, or fails with an error and works the
// next time; what is recovered is what the promises permit.
FaultOutcome RecoverWithFault(const ExploreBase& base, const std::vector<Step>& steps,
                              const SimulatedFault& fault, uint64_t seed);

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_FAULTS_H_
