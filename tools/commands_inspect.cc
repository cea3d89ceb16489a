// dump, fsck.
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tools/commands.h"
#include "tools/flags.h"
#include "tools/output.h"
#include "tools/progress.h"
#include "untorn/inspect.h"

namespace untorn::tools {
namespace {

int RunDump(const Invocation& invocation) {
  DumpOptions options{.log = false, .tree = false, .objects = false, .free_map = false};
  options.object = absl::GetFlag(FLAGS_object);
  std::string parts = absl::GetFlag(FLAGS_parts);
  if (parts.empty()) parts = options.object.empty() ? "log,tree,objects,free-map" : "objects";
  for (absl::string_view part : absl::StrSplit(parts, ',', absl::SkipEmpty())) {
    bool* member = part == "log"        ? &options.log
                   : part == "tree"     ? &options.tree
                   : part == "objects"  ? &options.objects
                   : part == "free-map" ? &options.free_map
                                        : nullptr;
    if (member == nullptr) {
      return invocation.Misuse(
          absl::StrCat("--parts: there is no part '", part, "': log, tree, objects, free-map"));
    }
    *member = true;
  }
  if (!options.object.empty() && !options.objects) {
    return invocation.Misuse("--object names what to print of the part 'objects', which --parts leaves out");
  }
  absl::StatusOr<std::string> dump = DumpJson(invocation.arguments[0], options);
  if (!dump.ok()) return invocation.Fail(dump.status());
  if (absl::GetFlag(FLAGS_json)) {
    PrintText(absl::StrCat(*dump, dump->ends_with('\n') ? "" : "\n"));
  } else {
    PrintText(JsonAsText(Json::parse(*dump)));
  }
  return kExitOk;
}

int RunRepair(const Invocation& invocation) {
  const std::string& path = invocation.arguments[0];
  const bool as_json = absl::GetFlag(FLAGS_json), dry_run = absl::GetFlag(FLAGS_dry_run);
  absl::StatusOr<RepairResult> result;
  {
    Progress progress("repair", !as_json && !absl::GetFlag(FLAGS_quiet));
    RepairOptions options{.dry_run = dry_run};
    options.progress = [&progress](uint64_t done, uint64_t total) { progress.Update(done, total); };
    options.planned = [&](const RepairResult& plan) {
      if (as_json) return;
      PrintText(RepairPlanText(path, plan, dry_run));
      std::fflush(stdout);  // before anything is written
    };
    result = Repair(path, options);
  }
  if (!result.ok()) return invocation.Fail(result.status());
  if (as_json) {
    PrintJson(RepairJson(path, *result, dry_run));
  } else if (!dry_run || result->actions_total == 0) {
    PrintText(FsckText(path, result->repaired ? result->after : result->found));
  }
  return result->repaired || result->actions_total == 0 ? kExitOk : kExitFailed;
}

int RunFsck(const Invocation& invocation) {
  if (absl::GetFlag(FLAGS_repair)) {
    if (absl::GetFlag(FLAGS_data)) return invocation.Misuse("--data checks data, which --repair cannot mend");
    return RunRepair(invocation);
  }
  if (absl::GetFlag(FLAGS_dry_run)) return invocation.Misuse("--dry-run tells what --repair would do");
  const std::string& path = invocation.arguments[0];
  const bool as_json = absl::GetFlag(FLAGS_json);
  absl::StatusOr<FsckResult> result;
  {
    Progress progress("fsck", !as_json && !absl::GetFlag(FLAGS_quiet));
    FsckOptions options{.data = absl::GetFlag(FLAGS_data)};
    options.progress = [&progress](uint64_t done, uint64_t total) { progress.Update(done, total); };
    result = Fsck(path, options);
  }
  if (!result.ok()) return invocation.Fail(result.status());
  as_json ? PrintJson(FsckJson(path, *result)) : PrintText(FsckText(path, *result));
  return result->findings_total == 0 ? kExitOk : kExitFailed;
}

}  // namespace

std::vector<Command> InspectCommands() {
  return {
      {.name = "dump",
       .arguments = "STORE",
       .summary = "Shows a store's metadata, also of one that cannot be opened",
       .description =
           "Prints superblock slots, log records, tree nodes, the objects with their mappings, and the "
           "free-space map. Damaged parts are shown with what is wrong with them, and the rest goes on. "
           "Opens the store for reading only and changes nothing: the log is replayed in memory.",
       .options = {{"object", "NAME"}, {"parts", "LIST"}, {"json"}},
       .examples = "untorn dump app.untorn --parts=log\nuntorn dump app.untorn --object=data.bin\n"
                   "untorn dump app.untorn --json",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunDump,
       .findings = "the device cannot be read"},
      {.name = "fsck",
       .arguments = "STORE",
       .summary = "Checks a store, also one that cannot be opened, and repairs it",
       .description =
           "Checks superblocks, log, tree, every mapping against the free-space map, overlaps, leaks and "
           "names. Prints one line for each finding: what it is, its number, and where. Incomplete log "
           "records at the log's end are normal after a crash and no finding. Opens the store for "
           "reading only and changes nothing, unless told to repair it: then a superblock is restored from "
           "its twin, or the mapping tree and the free-space map are written anew from all that can be read. "
           "An object of which something is lost is kept as quarantine/NUMBER/NAME, and reads as zeros "
           "there. "
           "What is done is printed before it is done. A repair may be interrupted at any moment. "
           "With --data all data is read too, and compared with its checksums. 'untorn scrub' does that for "
           "a "
           "store that can be opened.",
       .options = {{"data"}, {"repair"}, {"dry_run"}, {"json"}, {"quiet"}},
       .examples = "untorn fsck app.untorn\nuntorn fsck app.untorn --data\nuntorn fsck app.untorn --json\n"
                   "untorn fsck app.untorn --repair --dry-run\nuntorn fsck app.untorn --repair",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunFsck,
       .findings = "there are findings, left if --repair was given, or the device cannot be read"},
  };
}

}  // namespace untorn::tools
