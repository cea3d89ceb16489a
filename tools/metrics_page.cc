#include "tools/metrics_page.h"

#include <cmath>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace untorn::tools {
namespace {

// Returns the value of the last label. All that this reads of labels are those behind the path, which have no escapes.
absl::string_view LastLabel(absl::string_view labels) {
  labels.remove_suffix(labels.empty() ? 0 : 1);  // the quote
  const size_t begin = labels.rfind('"');
  return begin == labels.npos ? absl::string_view() : labels.substr(begin + 1);
}

}  // namespace

MetricsPage::MetricsPage(std::string_view text) {
  for (const absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    // No value has a brace, so the last one ends the labels.
    const size_t labels = line.find('{'), end = line.rfind("} ");
    if (absl::StartsWith(line, "#") || labels == line.npos || end == line.npos || end < labels) continue;
    const std::string name(line.substr(0, labels));
    const absl::string_view last = LastLabel(line.substr(labels + 1, end - labels - 1));
    double value = 0;
    if (!absl::SimpleAtod(line.substr(end + 2), &value)) continue;
    if (absl::EndsWith(name, "_bucket")) {
      double bound = std::numeric_limits<double>::infinity();
      if (last != "+Inf" && !absl::SimpleAtod(last, &bound)) continue;
      buckets_[name.substr(0, name.size() - 7)][bound] = value;
    } else if (name == "untorn_change_sets_total") {
      change_sets_[std::string(last)] = value;
    } else {
      values_[name] = value;
    }
  }
}

double MetricsPage::Value(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? 0 : found->second;
}

double MetricsPage::ChangeSets(PathReason reason) const {
  const auto found = change_sets_.find(PathReasonName(reason));
  return found == change_sets_.end() ? 0 : found->second;
}

const std::map<double, double>& MetricsPage::Buckets(const std::string& name) const {
  static const std::map<double, double> kNone;
  const auto found = buckets_.find(name);
  return found == buckets_.end() ? kNone : found->second;
}

Times Interval::TimesOf(const std::string& histogram) const {
  const std::map<double, double>&before = from_.Buckets(histogram), &after = to_.Buckets(histogram);
  // The counts of the interval, with those of the buckets before.
  std::vector<std::pair<double, double>> buckets;
  for (const auto& [end, count] : after) {
    const auto then = before.find(end);
    buckets.emplace_back(end, count - (then == before.end() ? 0 : then->second));
  }
  if (buckets.empty() || buckets.back().second <= 0) return {};
  const double total = buckets.back().second;
  // Within a bucket, times are taken for evenly spread. Behind the last finite end nothing is known.
  const auto percentile = [&](double percent) {
    const double rank = total * percent / 100;
    double begin = 0, count_before = 0;
    for (const auto& [end, count] : buckets) {
      if (count >= rank && count > count_before) {
        return std::isinf(end) ? begin
                               : begin + (end - begin) * (rank - count_before) / (count - count_before);
      }
      begin = end;
      count_before = count;
    }
    return begin;
  };
  return {.count = static_cast<uint64_t>(total),
          .p50 = percentile(50),
          .p99 = percentile(99),
          .p99_9 = percentile(99.9),
          .max = percentile(100)};
}

}  // namespace untorn::tools
