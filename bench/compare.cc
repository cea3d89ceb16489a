#include "bench/compare.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace untorn::bench {

const Series& Find(const std::vector<Series>& series, const std::string& subject) {
  const auto it =
      std::find_if(series.begin(), series.end(), [&](const Series& s) { return s.subject == subject; });
  UNTORN_CHECK(it != series.end(), "no such subject in this work");
  return *it;
}

absl::StatusOr<std::vector<Series>> Alternate(const std::vector<Contestant>& contestants, int rounds) {
  std::vector<Series> series;
  for (const Contestant& c : contestants) series.push_back({c.subject, {}, {}});
  for (int round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < contestants.size(); ++i) {
      // Another one first each time, so that no one always follows the same.
      const size_t turn = (i + round) % contestants.size();
      absl::StatusOr<double> per_second = contestants[turn].measure();
      if (!per_second.ok()) return per_second.status();
      series[turn].per_second.push_back(*per_second);
    }
  }
  return series;
}

absl::StatusOr<std::vector<Series>> CompareStores(const std::string& work,
                                                  const std::vector<Entrant>& entrants, const Pace& pace,
                                                  const std::string& directory, Results* results) {
  std::vector<std::unique_ptr<Driver>> drivers;
  std::vector<std::vector<uint32_t>> latencies(entrants.size());
  std::vector<Contestant> contestants;
  for (const auto& [subject, load] : entrants) {
    auto driver =
        Driver::Make(subject, load, absl::StrCat(directory, "/", subject.name), /*seed=*/drivers.size() + 1);
    if (!driver.ok()) return driver.status();
    drivers.push_back(*std::move(driver));
    if (auto run = drivers.back()->RunFor(pace.warm_up_milliseconds); !run.ok()) return run.status();
    const size_t i = drivers.size() - 1;
    contestants.push_back({subject.name, [&, i]() -> absl::StatusOr<double> {
                             absl::StatusOr<Run> run = drivers[i]->RunFor(pace.milliseconds);
                             if (!run.ok()) return run.status();
                             latencies[i].insert(latencies[i].end(), run->latencies_ns.begin(),
                                                 run->latencies_ns.end());
                             return run->per_second();
                           }});
  }
  std::vector<CommitCounts> before;
  for (const auto& driver : drivers) before.push_back(driver->counts());
  absl::StatusOr<std::vector<Series>> series = Alternate(contestants, pace.rounds);
  if (!series.ok()) return series.status();
  for (size_t i = 0; i < drivers.size(); ++i) {
    const CommitCounts after = drivers[i]->counts();
    (*series)[i].counts = {after.commits - before[i].commits, after.in_one_write - before[i].in_one_write,
                           after.settlings - before[i].settlings};
  }
  for (size_t i = 0; i < entrants.size(); ++i) {
    if (absl::Status s = drivers[i]->Verify(); !s.ok()) return s;
    const Subject& subject = entrants[i].subject;
    results->figures.push_back({work, subject.name, subject.settings, MedianOf((*series)[i].per_second),
                                PercentileUs(latencies[i], 0.5), PercentileUs(latencies[i], 0.99),
                                PercentileUs(latencies[i], 0.999), PercentileUs(latencies[i], 0.9999)});
  }
  return series;
}

void AddRatio(const std::string& work, const std::vector<Series>& series, const std::string& subject,
              const std::string& against, Results* results) {
  Ratio ratio{work, subject, against, {}};
  const Series &a = Find(series, subject), &b = Find(series, against);
  for (size_t i = 0; i < a.per_second.size(); ++i) ratio.rounds.push_back(a.per_second[i] / b.per_second[i]);
  results->ratios.push_back(std::move(ratio));
}

void AddRatioToBest(const std::string& work, const std::vector<Series>& series, const std::string& subject,
                    const std::vector<std::string>& peers, Results* results, const std::string& as) {
  const auto median = [&](const std::string& peer) { return MedianOf(Find(series, peer).per_second); };
  const std::string best = *std::max_element(
      peers.begin(), peers.end(), [&](const auto& a, const auto& b) { return median(a) < median(b); });
  AddRatio(work, series, subject, best, results);
  results->ratios.back().against = as;
}

}  // namespace untorn::bench
