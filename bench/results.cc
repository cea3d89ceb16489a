#include "bench/results.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <span>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file_io.h"
#include "nlohmann/json.hpp"

namespace untorn::bench {
namespace {

absl::Status WriteFile(const std::string& path, const std::string& text) {
  absl::StatusOr<OutputFile> file = OutputFile::Create(path, /*replace=*/true);
  if (!file.ok()) return file.status();
  absl::Status s = file->Write(std::as_bytes(std::span(text)));
  return s.ok() ? file->Finish() : s;
}

std::string Number(double value) { return absl::StrFormat(value < 10 ? "%.2f" : "%.1f", value); }

}  // namespace

double MedianOf(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double Ratio::median() const { return MedianOf(rounds); }
double Ratio::min() const { return rounds.empty() ? 0 : *std::min_element(rounds.begin(), rounds.end()); }
double Ratio::max() const { return rounds.empty() ? 0 : *std::max_element(rounds.begin(), rounds.end()); }

std::vector<std::string> Results::BarLines() const {
  std::vector<std::string> lines;
  for (const Bar& bar : bars) {
    const auto found = std::find_if(ratios.begin(), ratios.end(), [&](const Ratio& r) {
      return r.work == bar.work && r.subject == bar.subject && r.against == bar.against;
    });
    const std::string what = absl::StrCat(bar.work, ": ", bar.subject, " against ", bar.against);
    if (found == ratios.end()) {
      lines.push_back(absl::StrCat("not measured  ", what));
      continue;
    }
    const double median = found->median();
    const double wanted = bar.at_least ? *bar.at_least : *bar.at_most;
    const bool met = bar.at_least ? median >= wanted : median <= wanted;
    lines.push_back(absl::StrFormat("%s  %s: %s (%s to %s), %s %s", met ? "met    " : "NOT MET", what,
                                    Number(median), Number(found->min()), Number(found->max()),
                                    bar.at_least ? "at least" : "at most", Number(wanted)));
  }
  return lines;
}

absl::Status Results::Write(const std::string& directory) const {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return absl::InternalError(absl::StrCat(directory, ": ", error.message()));

  nlohmann::json all = nlohmann::json::array();
  for (const Ratio& r : ratios) {
    all.push_back({{"work", r.work},
                   {"subject", r.subject},
                   {"against", r.against},
                   {"ratio_median", r.median()},
                   {"ratio_min", r.min()},
                   {"ratio_max", r.max()},
                   {"rounds", r.rounds.size()}});
  }
  if (absl::Status s = WriteFile(directory + "/results.json", all.dump(1) + "\n"); !s.ok()) return s;

  all = nlohmann::json::array();
  for (const Figures& f : figures) {
    all.push_back({{"work", f.work},
                   {"subject", f.subject},
                   {"settings", f.settings},
                   {"per_second", f.per_second},
                   {"p50_us", f.p50_us},
                   {"p99_us", f.p99_us},
                   {"p999_us", f.p999_us},
                   {"p9999_us", f.p9999_us}});
  }
  if (absl::Status s = WriteFile(directory + "/figures.json", all.dump(1) + "\n"); !s.ok()) return s;

  std::string md =
      "# Results\n\nRatios are medians over the rounds of one run, with the least and the greatest.\n\n";
  for (const std::string& line : BarLines()) absl::StrAppend(&md, "    ", line, "\n");
  absl::StrAppend(
      &md, "\n| work | subject | against | ratio | from | to | rounds |\n|---|---|---|---|---|---|---|\n");
  for (const Ratio& r : ratios) {
    absl::StrAppend(&md, "| ", r.work, " | ", r.subject, " | ", r.against, " | ", Number(r.median()), " | ",
                    Number(r.min()), " | ", Number(r.max()), " | ", r.rounds.size(), " |\n");
  }
  absl::StrAppend(
      &md, "\n## Figures\n\nLatencies in µs, of all rounds together.\n\n",
      "| work | subject | a second | p50 | p99 | p99.9 | p99.99 |\n|---|---|---|---|---|---|---|\n");
  std::set<std::string> settings;
  for (const Figures& f : figures) {
    absl::StrAppendFormat(&md, "| %s | %s | %.0f |", f.work, f.subject, f.per_second);
    for (const double us : {f.p50_us, f.p99_us, f.p999_us, f.p9999_us})
      absl::StrAppend(&md, us > 0 ? absl::StrFormat(" %.1f |", us) : " |");
    absl::StrAppend(&md, "\n");
    if (!f.settings.empty()) settings.insert(absl::StrCat("- ", f.subject, ": ", f.settings, "\n"));
  }
  absl::StrAppend(&md, "\n## Settings\n\n");
  for (const std::string& line : settings) absl::StrAppend(&md, line);
  return WriteFile(directory + "/results.md", md);
}

}  // namespace untorn::bench
