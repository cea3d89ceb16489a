// untorn beside plain I/O and its peers, at the same work in the same run.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <string>
#include <string_view>
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
ABSL_FLAG(std::string, only, "", "only these groups of works, separated by commas; all of them without it");
ABSL_FLAG(std::string, dir, "bench-data",
          "directory for the stores, on the file system to be measured; removed at the end");
ABSL_FLAG(std::string, out, "bench-results", "directory for the results");
ABSL_FLAG(bool, instructions, false, "count the instructions of single operations instead, with valgrind");
// The program calls itself with this flag for --instructions.
ABSL_FLAG(std::string, repeat, "", "internal");

namespace untorn::bench {
namespace {

struct Group {
  const char* name;
  const char* what;
  const char* help;  // a sentence
  absl::Status (*run)(const Setting&, Results*);
};

constexpr Group kGroups[] = {
    {"durable", "durable transactions of one client",
     "One client commits durable transactions of one page and of many.", DurableWorks},
    {"clients", "durable writes of many clients", "Many clients write durably to one object and to several.",
     ManyClientsWorks},
    {"memory", "buffered writes and cached reads",
     "Buffered writes and cached reads run beside memcpy and the kernel's page cache.", MemoryWorks},
    {"mixed", "reads and durable updates, skewed",
     "Clients read and durably update pages, some of them far more often than others.", MixedWorks},
    {"sqlite", "SQLite on untorn",
     "SQLite on untorn runs beside SQLite with a write-ahead log and with a rollback journal.", SqliteWorks},
    {"rocksdb", "RocksDB on untorn", "RocksDB on untorn runs beside RocksDB on the file system, by db_bench.",
     RocksdbWorks},
    {"writeback", "writeback of a dirty set, and scans",
     "A dirty set is written back and an object is read from end to end, beside sequential I/O.",
     WritebackWorks},
    {"policy", "what goes in place",
     "Batches of buffered writes go out in place, by copy-on-write, or as untorn decides.", PolicyWorks},
    {"latency", "how even commits are",
     "The longest of many commits are measured in the virtual time of a simulated device.", LatencyWorks},
    {"xfs", "durable writes on XFS",
     "Durable writes run beside the atomic writes of XFS, which only root can mount for it.", XfsWorks},
    {"fast", "clients that wait for commits, on a fast disk",
     "The works durable, clients, mixed and sqlite run on a disk in memory, which only root can mount.",
     FastWorks},
    {"mappings", "many mappings beside few",
     "The same writes run in stores with 10^4, 10^6 and 10^7 mappings, which take 70 GB (10^4 and 10^5 with "
     "--quick).",
     MappingsWorks},
    {"ageing", "a store that is nearly full",
     "A store that is nearly full is written new, and again after random overwrites.", AgeingWorks},
};

constexpr char kHelp[] =
    "Usage: tools/bench [OPTIONS]\n"
    "\n"
    "Measures untorn beside plain I/O and its peers (SQLite, LMDB, RocksDB), at the same work in the same "
    "run. Writes\n"
    "results.json, figures.json, results.md and plots (SVG), and ends with one line for each bar. Leave the "
    "machine\n"
    "alone meanwhile.\n"
    "\n"
    "Options:\n"
    "  --quick           runs fewer works and rounds, and takes about three minutes\n"
    "  --only=GROUP,...  runs only these groups of works\n"
    "  --rounds=N        repeats each work N times (7, or 3 with --quick)\n"
    "  --milliseconds=N  measures each subject for N ms in each round (300, or 100 with --quick)\n"
    "  --dir=DIRECTORY   puts the stores there, on the file system to be measured (bench-data); removes it "
    "at the end\n"
    "  --out=DIRECTORY   writes the results there (bench-results)\n"
    "  --instructions    counts the instructions of single operations instead, with valgrind\n"
    "  --help            prints this text\n"
    "\n"
    "Groups:\n";

void PrintHelp() {
  std::fputs(kHelp, stdout);
  for (const Group& group : kGroups) std::printf("  %-16s  %s\n", group.name, group.help);
}

// Prints the error, if there is one, and returns the exit code.
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
  int failed = 0;
  for (const Group& group : kGroups) {
    if (!only.empty() && std::find(only.begin(), only.end(), group.name) == only.end()) continue;
    std::fprintf(stderr, "%s\n", group.what);
    Setting own = setting;
    own.directory += absl::StrCat("/", group.name);
    std::error_code error;
    std::filesystem::create_directories(own.directory,
                                        error);  // the group reports a directory that is missing
    failed |= Told(group.run(own, &results), group.what);
    std::filesystem::remove_all(own.directory, error);
    // A run takes long, so what was measured is kept whatever comes.
    failed |= Told(results.Write(absl::GetFlag(FLAGS_out)), "results");
  }
  for (const std::string& line : results.BarLines()) std::printf("%s\n", line.c_str());
  return failed;
}

}  // namespace
}  // namespace untorn::bench

int main(int argc, char** argv) {
  // Abseil's own --help shows only flags of a file with the program's name.
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      untorn::bench::PrintHelp();
      return 0;
    }
  }
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
