// Instructions of one operation, counted by valgrind: the same on every machine with the same compiler.
#ifndef UNTORN_BENCH_INSTRUCTIONS_H_
#define UNTORN_BENCH_INSTRUCTIONS_H_

#include <string>

#include "absl/status/status.h"

namespace untorn::bench {

// Prints them, by running this program under valgrind (callgrind), which must be installed.
absl::Status CountInstructions(const std::string& directory);
// What that runs: "OPERATION:TIMES".
absl::Status Repeat(const std::string& what, const std::string& directory);

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_INSTRUCTIONS_H_
