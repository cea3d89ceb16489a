// untorn beside plain I/O and its peers, at the same work in the same run.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/instructions.h"
#include "bench/works.h"

ABSL_FLAG(bool, quick, false, "fewer works and rounds: within three minutes");
ABSL_FLAG(int, rounds, 0, "rounds of each work; 0: 7, or 3 with --quick");
ABSL_FLAG(int, milliseconds, 0, "of each subject in each round; 0: 300, or 100 with --quick");
ABSL_FLAG(std::string, only, "",
          "only these groups of works, separated by commas, of durable, clients, memory, mixed, writeback, "
          "policy, latency, xfs, ageing and sqlite; all without it");
ABSL_FLAG(std::string, dir, "bench-data",
          "directory for the stores, on the file system to be measured; removed at the end");
ABSL_FLAG(std::string, out, "bench-results", "directory for the results");
ABSL_FLAG(bool, instructions, false, "count the instructions of single operations instead, with valgrind");
// How it calls itself for that.
ABSL_FLAG(std::string, repeat, "", "internal");

namespace untorn::bench {
namespace {

struct Group {
  const char* name;
  const char* what;
  absl::Status (*run)(const Setting&, Results*);
};

constexpr Group kGroups[] = {
    {"durable", "durable transactions of one client", DurableWorks},
    {"clients", "durable writes of many clients", ManyClientsWorks},
    {"memory", "buffered writes and cached reads", MemoryWorks},
    {"mixed", "reads and durable updates, skewed", MixedWorks},
    {"sqlite", "SQLite on untorn", SqliteWorks},
    {"writeback", "writeback of a dirty set, and scans", WritebackWorks},
    {"policy", "what goes in place", PolicyWorks},
    {"latency", "how even commits are", LatencyWorks},
    {"xfs", "durable writes on XFS", XfsWorks},
    {"ageing", "a store that is nearly full", AgeingWorks},
};

// The exit code for it.
int Told(const absl::Status& status, const char* what) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "untorn_bench: %s: %s\n", what, std::string(status.message()).c_str());
  return 1;
}

int Main() {
  Setting setting;
  setting.quick = absl::GetFlag(FLAGS_quick);
  setting.pace = setting.quick ? Pace{3, 100, 300} : Pace();
  if (absl::GetFlag(FLAGS_rounds) > 0) setting.pace.rounds = absl::GetFlag(FLAGS_rounds);
  if (absl::GetFlag(FLAGS_milliseconds) > 0) setting.pace.milliseconds = absl::GetFlag(FLAGS_milliseconds);
  setting.directory = absl::GetFlag(FLAGS_dir);
  const std::vector<std::string> only = absl::StrSplit(absl::GetFlag(FLAGS_only), ',', absl::SkipEmpty());
  for (const std::string& name : only) {
    if (std::none_of(std::begin(kGroups), std::end(kGroups),
                     [&](const Group& g) { return g.name == name; })) {
      std::fprintf(stderr, "untorn_bench: no group of works is called '%s'\n", name.c_str());
      return 2;
    }
  }
  if (!absl::GetFlag(FLAGS_repeat).empty())
    return Told(Repeat(absl::GetFlag(FLAGS_repeat), setting.directory), "--repeat");
  const absl::Cleanup remove = [&] {
    std::error_code error;
    std::filesystem::remove_all(setting.directory, error);
  };
  if (absl::GetFlag(FLAGS_instructions)) return Told(CountInstructions(setting.directory), "--instructions");
  Results results;
  for (const Group& group : kGroups) {
    if (!only.empty() && std::find(only.begin(), only.end(), group.name) == only.end()) continue;
    std::fprintf(stderr, "%s\n", group.what);
    Setting own = setting;
    own.directory += absl::StrCat("/", group.name);
    std::error_code error;
    std::filesystem::create_directories(own.directory, error);  // that there is none the group tells
    if (const int failed = Told(group.run(own, &results), group.what); failed != 0) return failed;
    std::filesystem::remove_all(own.directory, error);
  }
  if (const int failed = Told(results.Write(absl::GetFlag(FLAGS_out)), "results"); failed != 0) return failed;
  for (const std::string& line : results.BarLines()) std::printf("%s\n", line.c_str());
  return 0;
}

}  // namespace
}  // namespace untorn::bench

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "Measures untorn beside plain I/O and its peers. Writes results.json, figures.json and results.md, and "
      "ends with one line for each bar.");
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    std::fprintf(stderr, "untorn_bench: unexpected argument '%s'\n", rest[1]);
    return 2;
  }
  return untorn::bench::Main();
}
