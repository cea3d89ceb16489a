// The works of the benchmark. Each adds its ratios, bars and figures to the results.
#ifndef UNTORN_BENCH_WORKS_H_
#define UNTORN_BENCH_WORKS_H_

#include <string>

#include "absl/status/status.h"
#include "bench/compare.h"
#include "bench/results.h"

namespace untorn::bench {

struct Setting {
  std::string directory;  // for the stores, on the file system to be measured
  bool quick = false;
  Pace pace;
};

// Durable transactions of one client, and of many on one object and on several.
absl::Status DurableWorks(const Setting& setting, Results* results);
absl::Status ManyClientsWorks(const Setting& setting, Results* results);
// Buffered atomic writes and cached reads beside memcpy and the page cache.
absl::Status MemoryWorks(const Setting& setting, Results* results);

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_WORKS_H_
