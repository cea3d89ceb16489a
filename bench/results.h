// What the benchmark found out: ratios, the bars they are held against, and how they are told.
#ifndef UNTORN_BENCH_RESULTS_H_
#define UNTORN_BENCH_RESULTS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace untorn::bench {

// How often as fast `subject` is as `against`, round by round; or how often as long it takes, where the work is a time.
struct Ratio {
  std::string work, subject, against;
  std::vector<double> rounds;
  double median() const;
  double min() const;
  double max() const;
};

// What a ratio's median has to be.
struct Bar {
  std::string work, subject, against;
  std::optional<double> at_least, at_most;
};

// A figure of one subject by itself, for the tables.
struct Figures {
  std::string work, subject, settings;
  double per_second = 0;                                     // operations, the median of the rounds
  double p50_us = 0, p99_us = 0, p999_us = 0, p9999_us = 0;  // 0: not measured
};

struct Results {
  std::vector<Ratio> ratios;
  std::vector<Bar> bars;
  std::vector<Figures> figures;

  // A line for each bar: met or not, and by how much.
  std::vector<std::string> BarLines() const;
  // results.json (the ratios), figures.json, results.md in `directory`, which is made.
  absl::Status Write(const std::string& directory) const;
};

double MedianOf(std::vector<double> values);

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_RESULTS_H_
