// The statistics of a store in the text format of Prometheus, for a program's own page of metrics.
#ifndef UNTORN_METRICS_H_
#define UNTORN_METRICS_H_

#include <string>

#include "untorn/options.h"

namespace untorn {

// Returns all of `stats`, the process and the time, in the text exposition format 0.0.4. Names begin with "untorn_", those of counters end in "_total",
// and units are bytes and seconds. Each sample has the label store="PATH". The counters of change sets have reason="NAME"
// too (PathReasonName). Latencies are histograms, with buckets from 4 us to 13 s. docs/watching.md lists the metrics.
// A page has one such text: the format wants all samples of a metric together. A program with several stores serves several
// pages.
std::string PrometheusText(const StoreInfo& info, const Stats& stats);

}  // namespace untorn

#endif  // UNTORN_METRICS_H_
