// Reads a page of metrics (untorn/metrics.h), and tells what has happened between two pages.
#ifndef UNTORN_TOOLS_METRICS_PAGE_H_
#define UNTORN_TOOLS_METRICS_PAGE_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "untorn/options.h"

namespace untorn::tools {

// The numbers of one page.
class MetricsPage {
 public:
  MetricsPage() = default;
  explicit MetricsPage(std::string_view text);

  // Returns 0 for a metric that the page does not have.
  double Value(const std::string& name) const;
  double ChangeSets(PathReason reason) const;
  // Returns the counts of the buckets of a histogram by the ends of the buckets, in seconds. A bucket has those before it.
  const std::map<double, double>& Buckets(const std::string& name) const;

 private:
  std::map<std::string, double> values_;
  std::map<std::string, double> change_sets_;
  std::map<std::string, std::map<double, double>> buckets_;
};

// Times of the interval between two pages, as far as the buckets tell them. 0 if there were none.
struct Times {
  uint64_t count = 0;
  double p50 = 0, p99 = 0, p99_9 = 0, max = 0;  // seconds
};

// What has happened between two pages of one opening of a store.
class Interval {
 public:
  Interval(const MetricsPage& from, const MetricsPage& to) : from_(from), to_(to) {}

  double seconds() const { return Grown("untorn_open_seconds"); }
  double Grown(const std::string& counter) const { return to_.Value(counter) - from_.Value(counter); }
  double PerSecond(const std::string& counter) const {
    return seconds() > 0 ? Grown(counter) / seconds() : 0;
  }
  double ChangeSets(PathReason reason) const { return to_.ChangeSets(reason) - from_.ChangeSets(reason); }
  Times TimesOf(const std::string& histogram) const;
  const MetricsPage& now() const { return to_; }

 private:
  const MetricsPage& from_;
  const MetricsPage& to_;
};

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_METRICS_PAGE_H_
