// Several subjects at the same work, in turn.
#ifndef UNTORN_BENCH_COMPARE_H_
#define UNTORN_BENCH_COMPARE_H_

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "bench/page_store.h"
#include "bench/results.h"
#include "bench/run.h"

namespace untorn::bench {

struct Pace {
  int rounds = 7;
  int milliseconds = 300;           // of each subject in each round
  int warm_up_milliseconds = 1500;  // before the first: until logs and free space go round
};

// What each subject did, round by round.
struct Series {
  std::string subject;
  std::vector<double> per_second;
  CommitCounts counts;  // of all rounds; only CompareStores() fills them in
};

// For works of which `per_second` is measured otherwise than by a Driver: one measurement of each subject a round.
struct Contestant {
  std::string subject;
  std::function<absl::StatusOr<double>()> measure;  // per second
};
inline double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
absl::StatusOr<std::vector<Series>> Alternate(const std::vector<Contestant>& contestants, int rounds);

struct Entrant {
  Subject subject;
  Load load;
};

// Runs each one's load in every round, verifies what each has written, and adds figures. No two of one name.
absl::StatusOr<std::vector<Series>> CompareStores(const std::string& work,
                                                  const std::vector<Entrant>& entrants, const Pace& pace,
                                                  const std::string& directory, Results* results);

// Returns the series of a subject, which must be there.
const Series& Find(const std::vector<Series>& series, const std::string& subject);

// The ratio of two of them; of one to the peer whose median is the best, under the name `as`.
void AddRatio(const std::string& work, const std::vector<Series>& series, const std::string& subject,
              const std::string& against, Results* results);
void AddRatioToBest(const std::string& work, const std::vector<Series>& series, const std::string& subject,
                    const std::vector<std::string>& peers, Results* results,
                    const std::string& as = "best peer");

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_COMPARE_H_
