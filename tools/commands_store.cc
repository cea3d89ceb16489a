// create, resize, trim, info, stats, scrub.
#include <cstdio>
#include <memory>
#include <string>

#include "base/byte_size.h"
#include "inspect/printable.h"
#include "tools/commands.h"
#include "tools/flags.h"
#include "tools/output.h"
#include "tools/progress.h"
#include "untorn/metrics.h"
#include "untorn/store.h"

namespace untorn::tools {
namespace {

int RunCreate(const Invocation& invocation) {
  const std::string& path = invocation.arguments[0];
  const bool quiet = absl::GetFlag(FLAGS_quiet);
  const ByteSize size = absl::GetFlag(FLAGS_size);
  CreateOptions options;
  options.size_bytes = size.given() ? size.bytes : 0;
  options.force = absl::GetFlag(FLAGS_force);
  options.prepare = absl::GetFlag(FLAGS_prepare);
  {
    Progress progress("create", !quiet);
    options.progress = [&progress](uint64_t done, uint64_t total) { progress.Update(done, total); };
    if (absl::Status created = Store::Create(path, options); !created.ok()) {
      return invocation.Fail(WithForceHint(created));
    }
  }
  OpenOptions open_options = OpenOptionsFromFlags(/*read_only=*/true);
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path, open_options);
  if (!store.ok()) return invocation.Fail(store.status());
  if (!quiet) {
    std::fprintf(stderr, "created %s: at most %s, store %s\n", Printable(path).c_str(),
                 HumanBytes((*store)->info().size_bytes).c_str(), (*store)->info().uuid.c_str());
  }
  return kExitOk;
}

ShrinkOptions Showing(Progress& progress) {
  ShrinkOptions options;
  options.progress = [&progress](uint64_t done, uint64_t total) {
    progress.Update(done, total);
    return true;
  };
  return options;
}

int RunResize(const Invocation& invocation) {
  const std::string& path = invocation.arguments[0];
  const ByteSize size = absl::GetFlag(FLAGS_size);
  auto store = Store::Open(path, OpenOptionsFromFlags(/*read_only=*/false));
  if (!store.ok()) return invocation.Fail(store.status());
  const uint64_t before_bytes = (*store)->info().size_bytes;
  {
    Progress progress("resize", !absl::GetFlag(FLAGS_quiet));
    const absl::Status resized = (*store)->Resize(size.given() ? size.bytes : 0, Showing(progress));
    if (!resized.ok()) return invocation.Fail(resized);
  }
  const uint64_t after_bytes = (*store)->info().size_bytes;
  if (absl::Status closed = (*store)->Close(); !closed.ok()) return invocation.Fail(closed);
  if (!absl::GetFlag(FLAGS_quiet)) {
    std::fprintf(stderr, "%s: at most %s, before %s\n", Printable(path).c_str(),
                 HumanBytes(after_bytes).c_str(), HumanBytes(before_bytes).c_str());
  }
  return kExitOk;
}

int RunTrim(const Invocation& invocation) {
  const std::string& path = invocation.arguments[0];
  const bool as_json = absl::GetFlag(FLAGS_json);
  auto store = Store::Open(path, OpenOptionsFromFlags(/*read_only=*/false));
  if (!store.ok()) return invocation.Fail(store.status());
  absl::StatusOr<TrimResult> result;
  {
    Progress progress("trim", !as_json && !absl::GetFlag(FLAGS_quiet));
    result = (*store)->Trim(Showing(progress));
  }
  if (!result.ok()) return invocation.Fail(result.status());
  if (absl::Status closed = (*store)->Close(); !closed.ok()) return invocation.Fail(closed);
  as_json ? PrintJson(TrimJson(path, *result)) : PrintText(TrimText(path, *result));
  return kExitOk;
}

int RunInfo(const Invocation& invocation) {
  auto store = Store::Open(invocation.arguments[0], OpenOptionsFromFlags(/*read_only=*/true));
  if (!store.ok()) return invocation.Fail(store.status());
  const StoreInfo info = (*store)->info();
  absl::GetFlag(FLAGS_json) ? PrintJson(InfoJson(info)) : PrintText(InfoText(info));
  return kExitOk;
}

int RunStats(const Invocation& invocation) {
  const bool as_json = absl::GetFlag(FLAGS_json), as_metrics = absl::GetFlag(FLAGS_prometheus);
  if (as_json && as_metrics) return invocation.Misuse("--json and --prometheus exclude one another");
  auto store = Store::Open(invocation.arguments[0], OpenOptionsFromFlags(/*read_only=*/true));
  if (!store.ok()) return invocation.Fail(store.status());
  const Stats stats = (*store)->stats();
  if ((*store)->info().beside_owner && !absl::GetFlag(FLAGS_quiet)) {
    std::fprintf(
        stderr,
        "untorn: stats: another process has the store open for writing; 'untorn top' shows what it does\n");
  }
  if (as_metrics) {
    PrintText(PrometheusText((*store)->info(), stats));
  } else {
    as_json ? PrintJson(StatsJson(stats)) : PrintText(StatsText(stats));
  }
  return kExitOk;
}

int RunScrub(const Invocation& invocation) {
  const std::string& path = invocation.arguments[0];
  const bool as_json = absl::GetFlag(FLAGS_json);
  auto store = Store::Open(path, OpenOptionsFromFlags(/*read_only=*/false));
  if (!store.ok()) return invocation.Fail(store.status());
  absl::StatusOr<ScrubResult> result;
  {
    Progress progress("scrub", !as_json && !absl::GetFlag(FLAGS_quiet));
    ScrubOptions options;
    options.bytes_per_second_max = absl::GetFlag(FLAGS_limit).bytes;
    options.progress = [&progress](uint64_t done, uint64_t total) {
      progress.Update(done, total);
      return true;
    };
    result = (*store)->Scrub(options);
  }
  if (!result.ok()) return invocation.Fail(result.status());
  if (absl::Status closed = (*store)->Close(); !closed.ok()) return invocation.Fail(closed);
  as_json ? PrintJson(ScrubJson(path, *result)) : PrintText(ScrubText(path, *result));
  return result->damaged_total == 0 ? kExitOk : kExitFailed;
}

}  // namespace

std::vector<Command> StoreCommands() {
  return {
      {.name = "create",
       .arguments = "STORE",
       .summary = "Makes a store in a new file or on a block device",
       .description =
           "A file begins small and grows by itself. --size limits it; without --size, the size of the file "
           "system does. "
           "The least is 8M. With --prepare, the file has its full size at once. A block device is used "
           "whole unless "
           "--size says less. 'untorn resize' changes the limit.\n\n"
           "Refuses to overwrite an existing file, and a device that holds anything recognisable, unless "
           "--force is given: then everything there is lost.",
       .options = WithCommonOptions(
           {{"size", "SIZE", "the most that the store may take"},
            {"prepare", "", "write all of the file once now, so that growing costs nothing later"},
            {"force", "", "overwrite an existing file or whatever the device holds"}}),
       .examples = "untorn create app.untorn --size=4G\nuntorn create /dev/sdx1",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunCreate},
      {.name = "resize",
       .arguments = "STORE",
       .summary = "Sets the most that a store may take",
       .description =
           "Raises the limit, or lowers it. Copies nothing, unless the store has grown beyond the new limit "
           "already. Then what lies there moves, and the file is cut. An interrupted resize leaves the old "
           "limit, and loses nothing. "
           "A block device must have grown before. An application resizes a store in use by Store::Resize.",
       .options = WithOpenOptions(
           {{"size", "SIZE",
             "the most that the store may take; without it, all of the block device or file system"},
            {"quiet"}}),
       .examples = "untorn resize app.untorn --size=100G\nuntorn resize /dev/sdx1",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunResize},
      {.name = "trim",
       .arguments = "STORE",
       .summary = "Gives back to the file system what a store can do without",
       .description =
           "Moves what lies at the end of the file to free places before, and cuts the file. Takes a pass "
           "over "
           "the metadata, and copies at most as much as it gives back. The store keeps 16 to 32 MiB prepared "
           "for what comes, and grows again by itself. An interrupted trim loses nothing. An application "
           "trims "
           "a store in use by Store::Trim. A block device has no file system to give space to.",
       .options = WithOpenOptions({{"json"}, {"quiet"}}),
       .examples = "untorn trim app.untorn\nuntorn trim app.untorn --json",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunTrim},
      {.name = "info",
       .arguments = "STORE",
       .summary = "Shows what a store is, and how atomic writes reach its device",
       .description =
           "Prints size, format, the largest atomic write the store promises, the range of sizes its device "
           "can overwrite atomically in place and where that is known from, and the I/O engine in use "
           "with the reason why it is not a better one. Changes nothing.",
       .options = WithOpenOptions({{"json"}}),
       .examples = "untorn info app.untorn\nuntorn info app.untorn --atomic-unit=64K --json",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunInfo},
      {.name = "stats",
       .arguments = "STORE",
       .summary = "Shows space, log positions and counters",
       .description =
           "Opens the store for reading only and prints its space, cache and log. Counters (writes, flushes, "
           "units per path) belong to one open of a store and are not kept in it, so that here they tell "
           "little but the log records that opening replayed. 'untorn top' shows those of a process that has "
           "the "
           "store open. To see what a write did, use 'untorn write --show-stats' or 'untorn put "
           "--show-stats'.",
       .options = WithOpenOptions({{"json"}, {"prometheus"}}),
       .examples = "untorn stats app.untorn\nuntorn stats app.untorn --prometheus",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunStats},
      {.name = "scrub",
       .arguments = "STORE",
       .summary = "Reads all data of a store and compares it with its checksums",
       .description =
           "Prints one line for each damaged range: object, bytes, and the cause. Reads of such a range "
           "fail; "
           "writing it anew, or restoring it from a copy, mends it. What the last owner of the store was "
           "overwriting in place when it crashed is taken as it is, and gets a checksum. An application "
           "scrubs a "
           "store in use by Store::Scrub. A store that cannot be opened is checked by 'untorn fsck --data'.",
       .options = WithOpenOptions({{"limit", "SIZE"}, {"json"}, {"quiet"}}),
       .examples = "untorn scrub app.untorn\nuntorn scrub app.untorn --limit=50M --json",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunScrub,
       .findings = "there is damage, or the store cannot be opened"},
  };
}

}  // namespace untorn::tools
