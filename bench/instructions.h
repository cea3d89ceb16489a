// Counts the instructions of single operations by valgrind. The counts are the same on every machine with the
// same compiler.
#ifndef UNTORN_BENCH_INSTRUCTIONS_H_
#define UNTORN_BENCH_INSTRUCTIONS_H_

#include <string>

#include "absl/status/status.h"

namespace untorn::bench {

// Prints the counts and their bars. Runs this program under valgrind (callgrind), which must be installed.
absl::Status CountInstructions(const std::string& directory);
// Is what CountInstructions() runs under valgrind. `what` is "OPERATION:TIMES".
absl::Status Repeat(const std::string& what, const std::string& directory);

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_INSTRUCTIONS_H_
