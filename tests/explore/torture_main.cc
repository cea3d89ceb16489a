// The explorer for as long as one likes: tools/torture.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <thread>
#include <tuple>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "tests/explore/campaign.h"
#include "tests/explore/faults.h"
#include "tests/explore/workloads.h"

ABSL_FLAG(uint64_t, seconds, 600, "how long to go on");
ABSL_FLAG(uint64_t, seed, 0, "what everything follows from; 0: one drawn and printed");
ABSL_FLAG(int, threads, 0, "0: as many as there are processors");
ABSL_FLAG(std::string, base, "clean",
          "with --steps: the store to begin with (clean, tail, wrap, full, tight, growing, lanes, leaves)");
ABSL_FLAG(std::string, steps, "", "run only these steps, as a violation's replay line has them");
ABSL_FLAG(uint64_t, images, 16, "with --steps: power cuts tried at each point");
ABSL_FLAG(uint64_t, kill_one_in, 8, "with --steps: points at which the process is killed too");
ABSL_FLAG(uint64_t, go_on_one_in, 16, "with --steps: recovered stores that do the next writes");
ABSL_FLAG(std::string, next_writes, "", "with --steps: the next writes; none: some of the explorer's own");
ABSL_FLAG(uint64_t, explore_from, 0, "with --steps: the step, from 0, with which cuts begin");

namespace untorn {
namespace {

using Clock = Campaign::Clock;

// What became of faults of one kind.
struct Faults {
  uint64_t injected = 0, reported = 0, compared = 0;
};

struct FaultKind {
  const char* name;
  SimulatedFault fault;
};

std::vector<FaultKind> FaultKinds() {
  const absl::Status eio = absl::InternalError("EIO, by torture");
  return {{"EIO of a read", {.op = IoOp::kRead, .status = absl::DataLossError("EIO, by torture")}},
          {"EIO of a write", {.op = IoOp::kWrite, .status = eio}},
          {"EIO of an atomic write", {.op = IoOp::kAtomicWrite, .status = eio}},
          {"EIO of a flush", {.op = IoOp::kFlush, .status = eio}},
          {"ENOSPC of a write",
           {.op = IoOp::kWrite, .status = absl::ResourceExhaustedError("ENOSPC, by torture")}},
          {"lost write", {.kind = SimulatedFault::kLostWrite, .op = IoOp::kWrite}},
          {"misdirected write", {.kind = SimulatedFault::kMisdirectedWrite, .op = IoOp::kWrite}},
          {"bit rot", {.kind = SimulatedFault::kBitRot, .op = IoOp::kRead}},
          {"bit flip", {.kind = SimulatedFault::kBitFlip, .op = IoOp::kRead}},
          {"stale read", {.kind = SimulatedFault::kStaleRead, .op = IoOp::kRead}}};
}

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

class Torture {
 public:
  Torture(uint64_t seed, int threads, uint64_t seconds)
      : seed_(seed),
        seconds_(seconds),
        begun_(Clock::now()),
        deadline_(begun_ + std::chrono::seconds(seconds)),
        campaign_(threads) {}

  // Returns the number of violations.
  size_t Run() {
    const auto progress = [this](uint64_t) { Report(false); };
    const auto run = [&](uint64_t count, const std::function<Exploration(uint64_t)>& make) {
      if (campaign_.violations().empty()) campaign_.Run(count, make, deadline_, progress);
    };
    for (uint64_t round = 0; Clock::now() < deadline_ && campaign_.violations().empty() && broken_.empty();
         ++round) {
      const uint64_t seed = seed_ + 1'000'000 * round;
      run(Scenarios().size() * 4, [&](uint64_t i) { return ScenarioExploration(i / 4, seed + i % 4, 64); });
      run(300, [&](uint64_t i) { return RandomExploration(seed + i, 40 + i % 80, 48); });
      run(1000, [&](uint64_t i) {
        std::mt19937_64 rng(seed + i);
        const ExploreBase& base = ExploreBases()[rng() % ExploreBases().size()];
        Exploration exploration = SequenceExploration(base, rng() % SequencesOf(4), 4, 48);
        exploration.options.seed = rng();
        return exploration;
      });
      InjectFaults(seed);
    }
    Report(true);
    return campaign_.violations().size() + broken_.size();
  }

 private:
  // One fault of each kind in each of some random workloads.
  void InjectFaults(uint64_t seed) {
    std::mt19937_64 rng(seed);
    for (int i = 0; i < 200 && Clock::now() < deadline_; ++i) {
      const ExploreBase& base = ExploreBases()[rng() % ExploreBases().size()];
      const std::vector<Step> steps = RandomSteps(rng(), 20);
      for (FaultKind kind : FaultKinds()) {
        kind.fault.first = 1 + rng() % 40;
        const uint64_t order = rng();
        const FaultOutcome outcome = RunWithFault(base, steps, kind.fault, order);
        Faults& faults = faults_[kind.name];
        faults.injected += outcome.came;
        faults.reported += outcome.came && outcome.reported;
        if (outcome.wrong.empty()) continue;
        if (kind.fault.kind != SimulatedFault::kError) {
          ++faults.compared;
          continue;
        }
        broken_.push_back(absl::StrCat(kind.name, " number ", kind.fault.first, ", order ", order, ": ",
                                       outcome.wrong, "\n  base ", base.name, ", steps ", ToString(steps)));
      }
      Report(false);
    }
  }

  void Report(bool last) {
    const double seconds = std::chrono::duration<double>(Clock::now() - begun_).count();
    if (!last && seconds < next_report_) return;
    next_report_ = seconds + 10;
    if (!last) {
      std::fprintf(stderr, "%4.0f of %llu s: %llu states, %zu violations\n", seconds,
                   static_cast<unsigned long long>(seconds_),
                   static_cast<unsigned long long>(campaign_.states().size()),
                   campaign_.violations().size() + broken_.size());
      return;
    }
    const ExploreCounts c = campaign_.counts();
    for (const std::string& text : campaign_.violations()) std::cout << "VIOLATION: " << text << "\n";
    for (const std::string& text : broken_) std::cout << "VIOLATION: " << text << "\n";
    std::cout << "workloads: " << c.runs << " with " << c.steps << " calls; units written in place "
              << c.change_sets_in_place << ", by copy-on-write " << c.change_sets_by_cow << "; checkpoints "
              << c.checkpoints << "\n"
              << "cuts: " << c.images << " at " << c.points << " points; recoveries " << c.recoveries
              << ", of them " << c.second_cuts
              << " after a second cut, in a recovery or in the writes after it; " << c.next_writes
              << " recovered stores wrote on; log records dropped " << c.dropped_records << "\n";
    for (const auto& [name, faults] : faults_) {
      std::cout << "faults: " << name << ": injected " << faults.injected << ", reported " << faults.reported;
      if (faults.compared > 0) std::cout << ", shown only by comparing data " << faults.compared;
      std::cout << "\n";
    }
    const double cpu = CpuSeconds();
    std::cout << "states per CPU second: "
              << static_cast<uint64_t>(static_cast<double>(campaign_.states().size()) / cpu)
              << "\nstates: " << campaign_.states().size()
              << "\nviolations: " << campaign_.violations().size() + broken_.size() << std::endl;
  }

  const uint64_t seed_, seconds_;
  const Clock::time_point begun_, deadline_;
  Campaign campaign_;
  std::map<std::string, Faults> faults_;
  std::vector<std::string> broken_;
  double next_report_ = 10;
};

// Nothing, if the flags make no sense; that is said.
std::optional<Exploration> FromFlags(uint64_t seed) {
  Exploration exploration;
  ExploreOptions& options = exploration.options;
  options = {.seed = seed,
             .images_per_cut = absl::GetFlag(FLAGS_images),
             .kill_one_in = absl::GetFlag(FLAGS_kill_one_in),
             .go_on_one_in = absl::GetFlag(FLAGS_go_on_one_in)};
  exploration.explore_from = absl::GetFlag(FLAGS_explore_from);
  for (const auto& [flag, text, to] :
       {std::tuple("--steps", absl::GetFlag(FLAGS_steps), &exploration.steps),
        {"--next_writes", absl::GetFlag(FLAGS_next_writes), &options.next_writes}}) {
    absl::StatusOr<std::vector<Step>> steps = ParseSteps(text);
    if (!steps.ok()) {
      std::cerr << "torture: " << flag << ": " << steps.status().message() << "\n";
      return std::nullopt;
    }
    *to = *std::move(steps);
  }
  const std::string name = absl::GetFlag(FLAGS_base);
  exploration.base = FindExploreBase(name);
  if (exploration.base != nullptr) return exploration;
  std::cerr << "torture: --base: there is none named '" << name << "'\n";
  return std::nullopt;
}

int Replay(const Exploration& exploration) {
  StateSet states;
  const std::optional<Violation> violation =
      Explorer(exploration.options, &states)
          .Run(*exploration.base, exploration.steps, exploration.explore_from);
  if (violation) std::cout << "VIOLATION: " << violation->what << "\n  at " << violation->where << "\n";
  std::cout << "states: " << states.size() << "\nviolations: " << violation.has_value() << std::endl;
  return violation ? 1 : 0;
}

int Main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "Explores power cuts, kills and faults of random and exhaustive workloads on a simulated disk.\n"
      "torture [--seconds=N] [--seed=S] [--threads=N]\n"
      "torture --base=B --seed=S ... --steps='...'   replays a violation, by the line that it comes with");
  absl::ParseCommandLine(argc, argv);
  uint64_t seed = absl::GetFlag(FLAGS_seed);
  if (!absl::GetFlag(FLAGS_steps).empty()) {
    const std::optional<Exploration> exploration = FromFlags(seed);
    return exploration ? Replay(*exploration) : 2;
  }
  if (seed == 0) seed = std::random_device()();
  int threads = absl::GetFlag(FLAGS_threads);
  if (threads <= 0) threads = std::max(1u, std::thread::hardware_concurrency());
  std::cout << "seed: " << seed << std::endl;
  return Torture(seed, threads, absl::GetFlag(FLAGS_seconds)).Run() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace untorn

int main(int argc, char** argv) { return untorn::Main(argc, argv); }
