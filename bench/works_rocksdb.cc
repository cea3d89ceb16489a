// RocksDB on untorn beside RocksDB on the file system, by RocksDB's own db_bench.
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/works.h"

ABSL_FLAG(std::string, rocksdb_module, "", "untorn_rocksdb.so, for the group rocksdb");

namespace untorn::bench {
namespace {

const char kUntorn[] = "RocksDB on untorn", kFiles[] = "RocksDB on the file system";

struct Work {
  std::string name;
  std::string options;  // of db_bench
  int threads = 1;
  bool on_filled = true;  // or on a database that is made for it
};

// What db_bench tells of its last benchmark: "overwrite    :      94.510 micros/op 10579 ops/sec 0.945 seconds ...".
absl::StatusOr<double> Operations(const std::string& told) {
  double last = 0;
  for (const auto line : absl::StrSplit(told, '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    double per_second;
    if (words.size() > 5 && words[3] == "micros/op" && absl::SimpleAtod(words[4], &per_second))
      last = per_second;
  }
  if (last > 0) return last;
  return absl::InternalError("db_bench: " + told);
}

absl::StatusOr<double> RunDbBench(const Setting& setting, bool on_untorn, const Work& work) {
  const std::string where =
      on_untorn ? absl::StrCat("--fs_uri='untorn://", setting.directory, "/rocksdb.untorn' --db=/bench")
                : absl::StrCat("--db='", setting.directory, "/rocksdb'");
  const std::string command = absl::StrCat(
      on_untorn ? absl::StrCat("LD_PRELOAD='", absl::GetFlag(FLAGS_rocksdb_module), "' ") : "", "db_bench ",
      where, " --compression_type=none --num=", setting.quick ? 50'000 : 500'000,
      " --use_existing_db=", work.on_filled ? 1 : 0, " --threads=", work.threads, " ", work.options, " 2>&1");
  std::FILE* out = popen(command.c_str(), "r");
  if (out == nullptr) return absl::InternalError("db_bench cannot be started");
  std::string told;
  char piece[1000];
  while (const size_t n = std::fread(piece, 1, sizeof(piece), out)) told.append(piece, n);
  if (pclose(out) != 0) return absl::InternalError(absl::StrCat(command, ": ", told));
  return Operations(told);
}

}  // namespace

absl::Status RocksdbWorks(const Setting& setting, Results* results) {
  const int share = setting.quick ? 10 : 1;
  const Work fill{"RocksDB fillrandom", "--benchmarks=fillrandom", 1, false};
  const auto some = [&](int n) { return absl::StrCat(" --writes=", n / share, " --reads=", n / share); };
  const std::vector<Work> works = {
      fill,
      {"RocksDB overwrite, synced", "--benchmarks=overwrite --sync" + some(5'000)},
      {"RocksDB overwrite, synced, 8 threads", "--benchmarks=overwrite --sync" + some(2'000), 8},
      // The first benchmark fills the caches: those of the file system outlast a process, and the store's does not.
      {"RocksDB readrandom", "--benchmarks=readrandom,readrandom" + some(200'000)},
      {"RocksDB readwhilewriting", "--benchmarks=readrandom,readwhilewriting" + some(200'000)},
  };
  for (const Work& work : works) {
    auto series = Alternate({{kUntorn, [&] { return RunDbBench(setting, true, work); }},
                             {kFiles, [&] { return RunDbBench(setting, false, work); }}},
                            setting.pace.rounds);
    if (!series.ok()) return series.status();
    const std::string name = work.name + setting.on;
    AddRatio(name, *series, kUntorn, kFiles, results);
    for (const Series& s : *series) results->figures.push_back({name, s.subject, "", MedianOf(s.per_second)});
    if (work.options.find("--sync") != std::string::npos)
      results->bars.push_back({name, kUntorn, kFiles, 1.2, {}});
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
