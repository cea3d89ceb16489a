#include "tools/flags.h"

#include <cstdio>

#include "absl/strings/str_cat.h"

using untorn::ByteSize;

ABSL_FLAG(ByteSize, size, ByteSize{}, "size in bytes");
ABSL_FLAG(ByteSize, offset, ByteSize{0}, "first byte, counted from the start of the object");
ABSL_FLAG(ByteSize, length, ByteSize{}, "number of bytes; without it, up to the end of the object");
ABSL_FLAG(ByteSize, cache, ByteSize{0},
          "memory for cached data and metadata, at least 4M; 0 fits the machine");
ABSL_FLAG(
    ByteSize, atomic_unit, ByteSize{0},
    "your word that the device keeps any aligned power-of-two write up to this size whole, although the "
    "kernel does not report it; 0 relies on the kernel's report");
ABSL_FLAG(
    untorn::WritePolicy, policy, untorn::WritePolicy::kAutomatic,
    "how atomic writes reach the device: auto (in place where possible and cheaper), cow (never in place) "
    "or hardware (refuse what can never go in place)");
ABSL_FLAG(untorn::tools::Engine, engine, untorn::tools::Engine::kAuto,
          "auto (io_uring where the system allows it) or syscalls");
ABSL_FLAG(bool, force, false, "replace what is there");
ABSL_FLAG(bool, prepare, false, "write all of the file once now, so that no commit has to wait for it later");
ABSL_FLAG(bool, create, false,
          "create the object if it does not exist, in the same atomic step (with --no-atomic, before it)");
ABSL_FLAG(
    bool, atomic, true,
    "the whole write is there or not at all after a crash; --no-atomic makes that true of each 4 KiB block "
    "only, and lets the input be of any size");
ABSL_FLAG(
    bool, sync, true,
    "wait until the device has confirmed the change; with --no-sync it is confirmed only when the store "
    "is closed, at the end of the command");
ABSL_FLAG(bool, show_stats, false, "print on stderr which path the writes took, and why");
ABSL_FLAG(bool, repair, false, "do what can be done about what is found");
ABSL_FLAG(ByteSize, limit, ByteSize{0}, "bytes to read a second at most; 0 sets no limit");
ABSL_FLAG(bool, data, false, "read all data too, and compare it with its checksums");
ABSL_FLAG(bool, dry_run, false, "with --repair: only tell what would be done");
ABSL_FLAG(bool, json, false, "print JSON");
ABSL_FLAG(bool, prometheus, false, "print the text format of Prometheus");
ABSL_FLAG(bool, once, false, "show one interval only");
ABSL_FLAG(uint32_t, interval, 1, "seconds from one view to the next, at least 1");
ABSL_FLAG(bool, quiet, false, "no progress and no summary on stderr");
ABSL_FLAG(bool, verbose, false, "print the store's log messages on stderr");
ABSL_FLAG(std::string, object, "", "only the mappings of this object");
ABSL_FLAG(
    std::string, parts, "",
    "what to print, separated by commas: log, tree, objects, free-map; without it, all of them, or objects "
    "alone where --object is given");

namespace untorn {

bool AbslParseFlag(absl::string_view text, WritePolicy* policy, std::string* error) {
  for (WritePolicy candidate :
       {WritePolicy::kAutomatic, WritePolicy::kAlwaysCow, WritePolicy::kHardwareOnly}) {
    if (text == AbslUnparseFlag(candidate)) {
      *policy = candidate;
      return true;
    }
  }
  *error = absl::StrCat("'", text, "' is not a policy: auto, cow or hardware");
  return false;
}

std::string AbslUnparseFlag(WritePolicy policy) {
  switch (policy) {
    case WritePolicy::kAutomatic:
      return "auto";
    case WritePolicy::kAlwaysCow:
      return "cow";
    case WritePolicy::kHardwareOnly:
      return "hardware";
  }
  return "";
}

namespace tools {

bool AbslParseFlag(absl::string_view text, Engine* engine, std::string* error) {
  if (text != "auto" && text != "syscalls") {
    *error = absl::StrCat("'", text, "' is not an engine: auto or syscalls");
    return false;
  }
  *engine = text == "auto" ? Engine::kAuto : Engine::kSyscalls;
  return true;
}

std::string AbslUnparseFlag(Engine engine) { return engine == Engine::kAuto ? "auto" : "syscalls"; }

OpenOptions OpenOptionsFromFlags(bool read_only) {
  OpenOptions options;
  options.read_only = read_only;
  options.policy = absl::GetFlag(FLAGS_policy);
  options.stated_atomic_unit_bytes = absl::GetFlag(FLAGS_atomic_unit).bytes;
  options.cache_bytes = absl::GetFlag(FLAGS_cache).bytes;
  options.use_io_uring = absl::GetFlag(FLAGS_engine) == Engine::kAuto;
  const bool verbose = absl::GetFlag(FLAGS_verbose);
  options.log = [verbose](LogLevel level, std::string_view message) {
    // An error is told by the call that meets it too.
    if (!verbose && level != LogLevel::kWarning) return;
    const char* name = level == LogLevel::kInfo ? "info" : level == LogLevel::kWarning ? "warning" : "error";
    std::fprintf(stderr, "untorn: %s: %.*s\n", name, static_cast<int>(message.size()), message.data());
  };
  return options;
}

Durability DurabilityFromFlags() {
  return absl::GetFlag(FLAGS_sync) ? Durability::kSync : Durability::kBuffered;
}

absl::Status WithForceHint(const absl::Status& status) {
  if (!absl::IsAlreadyExists(status)) return status;
  return absl::AlreadyExistsError(absl::StrCat(std::string(status.message()), " (--force replaces it)"));
}

}  // namespace tools
}  // namespace untorn
