// Imports a real file into a store, has a process with several threads overwrite parts of it atomically,
// kills that process again and again, and checks each time that nothing is torn and nothing durable is lost.
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "base/byte_size.h"
#include "demo/child.h"
#include "demo/driver.h"
#include "demo/report.h"
#include "untorn/store.h"

ABSL_FLAG(int, rounds, 20, "how often the writers are killed, in each of the two modes");
ABSL_FLAG(uint64_t, seed, 0, "seed of everything random; 0: a new one, which is printed");
ABSL_FLAG(std::string, dir, "", "directory for the stores; without it, a temporary one");
ABSL_FLAG(bool, keep, false, "do not remove the stores at the end");

// How the demo calls itself for the process that is killed.
ABSL_FLAG(std::string, child_store, "", "internal");
ABSL_FLAG(std::string, child_shared, "", "internal");
ABSL_FLAG(bool, child_open_only, false, "internal");
ABSL_FLAG(bool, child_cow, false, "internal");

namespace untorn::demo {
namespace {

constexpr uint64_t kStatedUnitBytes = 64 << 10;
constexpr uint64_t kFileBytesMax = 256 << 20;
constexpr uint64_t kDefaultFileBytesMax = 64 << 20;
constexpr int kReasonsMin = 6;

OpenOptions ModeOptions(bool always_cow) {
  OpenOptions options;
  options.policy = always_cow ? WritePolicy::kAlwaysCow : WritePolicy::kAutomatic;
  options.stated_atomic_unit_bytes = kStatedUnitBytes;
  options.cache_bytes = 32 << 20;
  return options;
}

int ChildMain() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const OpenOptions options = ModeOptions(absl::GetFlag(FLAGS_child_cow));
  const std::string store_path = absl::GetFlag(FLAGS_child_store);
  if (absl::GetFlag(FLAGS_child_open_only)) {
    const auto store = Store::Open(store_path, options);
    return store.ok() ? 0 : 1;
  }
  return RunChild(store_path, options, absl::GetFlag(FLAGS_child_shared), absl::GetFlag(FLAGS_seed));
}

// The largest file that is not too large, of places where a developer's machine has large ones.
std::string DefaultFile() {
  std::string best;
  uintmax_t best_size = 0;
  for (const char* directory : {"/usr/bin", "/usr/lib/bazel/bin", "/usr/share/bazel",
                                "/usr/lib/gcc/x86_64-linux-gnu/12", "/usr/lib/x86_64-linux-gnu"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
      if (!entry.is_regular_file(error)) continue;
      const uintmax_t size = entry.file_size(error);
      if (error || size <= best_size || size > kDefaultFileBytesMax ||
          access(entry.path().c_str(), R_OK) != 0)
        continue;
      best = entry.path();
      best_size = size;
    }
  }
  return best;
}

std::optional<std::string> MakeDirectory() {
  for (const char* parent : {"/var/tmp", "/tmp"}) {
    std::string path = absl::StrCat(parent, "/untorn-demo-XXXXXX");
    if (mkdtemp(path.data()) != nullptr) return path;
  }
  return std::nullopt;
}

int Fail(const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "demo: %s\n", message.c_str());
  return 1;
}

int ParentMain(const std::string& file) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(file, error);
  if (error) return Fail(absl::StrCat(file, ": ", error.message()));
  if (size < kFileBytesMin) {
    return Fail(absl::StrCat(file, " is smaller than ", HumanBytes(kFileBytesMin)));
  }
  std::string directory = absl::GetFlag(FLAGS_dir);
  if (directory.empty()) {
    const std::optional<std::string> made = MakeDirectory();
    if (!made.has_value()) return Fail("no directory could be made in /var/tmp or /tmp");
    directory = *made;
  }
  const bool own_directory = absl::GetFlag(FLAGS_dir).empty();
  const absl::Cleanup remove = [&] {
    if (absl::GetFlag(FLAGS_keep)) return;
    std::error_code ignored;
    for (const char* name :
         {"automatic.untorn", "automatic.shared", "always-cow.untorn", "always-cow.shared"}) {
      std::filesystem::remove(absl::StrCat(directory, "/", name), ignored);
    }
    if (own_directory) std::filesystem::remove(directory, ignored);
  };
  uint64_t seed = absl::GetFlag(FLAGS_seed);
  if (seed == 0) seed = std::random_device()() | 1;
  std::printf("file %s, stores in %s, seed %s\n", file.c_str(), directory.c_str(),
              absl::StrCat(seed).c_str());

  std::string tables;
  Stats all;
  uint64_t torn = 0, lost = 0, findings = 0;
  for (const bool always_cow : {false, true}) {
    DriverOptions options{.name = always_cow ? "always-cow" : "automatic",
                          .file = file,
                          .file_bytes = std::min<uint64_t>(size, kFileBytesMax),
                          .directory = directory,
                          .rounds = absl::GetFlag(FLAGS_rounds),
                          .seed = seed,
                          .open = ModeOptions(always_cow)};
    options.child_arguments = [always_cow](const std::string& store, const std::string& shared,
                                           uint64_t child_seed, bool open_only) {
      return std::vector<std::string>{
          absl::StrCat("--child_store=", store), absl::StrCat("--child_shared=", shared),
          absl::StrCat("--seed=", child_seed), absl::StrCat("--child_open_only=", open_only),
          absl::StrCat("--child_cow=", always_cow)};
    };
    const absl::StatusOr<ModeReport> report = Driver(options).Run();
    if (!report.ok()) return Fail(absl::StrCat(options.name, ": ", report.status().ToString()));
    absl::StrAppend(&tables, "\n", ModeTable(*report));
    AddCounters(report->counters, &all);
    torn += report->torn;
    lost += report->lost;
    findings += report->fsck_findings;
  }
  int reasons = 0;
  for (const uint64_t units : all.change_sets_by_reason) reasons += units != 0 ? 1 : 0;
  const bool both_paths = all.change_sets_in_place() != 0 && all.change_sets_by_cow() != 0;
  std::printf("%s\npaths: %s, with %d reasons; fsck findings: %s\ntorn: %s\nlost: %s\n", tables.c_str(),
              both_paths ? "in place and copy-on-write" : "only one was taken", reasons,
              absl::StrCat(findings).c_str(), absl::StrCat(torn).c_str(), absl::StrCat(lost).c_str());
  if (!both_paths) return Fail("only one of the two paths was taken");
  if (reasons < kReasonsMin) return Fail("fewer than six reasons occurred");
  return torn == 0 && lost == 0 && findings == 0 ? 0 : 1;
}

}  // namespace
}  // namespace untorn::demo

int main(int argc, char* argv[]) {
  absl::SetProgramUsageMessage(
      "Kills a process that writes into a store, and checks what is left. Arguments: [FILE]");
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (!absl::GetFlag(FLAGS_child_store).empty()) return untorn::demo::ChildMain();
  if (arguments.size() > 2) return untorn::demo::Fail("one FILE at most");
  const std::string file = arguments.size() > 1 ? arguments[1] : untorn::demo::DefaultFile();
  if (file.empty()) return untorn::demo::Fail("no file found to import; name one");
  return untorn::demo::ParentMain(file);
}
