// The options of all subcommands. Each subcommand names those it takes (see Command in command_line.h).
#ifndef UNTORN_TOOLS_FLAGS_H_
#define UNTORN_TOOLS_FLAGS_H_

#include <cstdint>
#include <string>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/status/status.h"
#include "base/byte_size.h"
#include "untorn/options.h"

namespace untorn {

bool AbslParseFlag(absl::string_view text, WritePolicy* policy, std::string* error);
std::string AbslUnparseFlag(WritePolicy policy);

namespace tools {

enum class Engine { kAuto, kSyscalls };

bool AbslParseFlag(absl::string_view text, Engine* engine, std::string* error);
std::string AbslUnparseFlag(Engine engine);

// What the flags say about opening a store.
OpenOptions OpenOptionsFromFlags(bool read_only);
Durability DurabilityFromFlags();
// Adds to kAlreadyExists the option that lifts the error. Returns other errors as they are.
absl::Status WithForceHint(const absl::Status& status);

}  // namespace tools
}  // namespace untorn

ABSL_DECLARE_FLAG(untorn::ByteSize, size);
ABSL_DECLARE_FLAG(untorn::ByteSize, offset);
ABSL_DECLARE_FLAG(untorn::ByteSize, length);
ABSL_DECLARE_FLAG(untorn::ByteSize, cache);
ABSL_DECLARE_FLAG(untorn::ByteSize, atomic_unit);
ABSL_DECLARE_FLAG(untorn::WritePolicy, policy);
ABSL_DECLARE_FLAG(untorn::tools::Engine, engine);
ABSL_DECLARE_FLAG(bool, force);
ABSL_DECLARE_FLAG(bool, prepare);
ABSL_DECLARE_FLAG(bool, create);
ABSL_DECLARE_FLAG(bool, atomic);
ABSL_DECLARE_FLAG(bool, sync);
ABSL_DECLARE_FLAG(bool, show_stats);
ABSL_DECLARE_FLAG(bool, json);
ABSL_DECLARE_FLAG(bool, prometheus);
ABSL_DECLARE_FLAG(bool, once);
ABSL_DECLARE_FLAG(uint32_t, interval);
ABSL_DECLARE_FLAG(bool, quiet);
ABSL_DECLARE_FLAG(bool, repair);
ABSL_DECLARE_FLAG(untorn::ByteSize, limit);
ABSL_DECLARE_FLAG(bool, data);
ABSL_DECLARE_FLAG(bool, dry_run);
ABSL_DECLARE_FLAG(bool, verbose);
ABSL_DECLARE_FLAG(std::string, object);
ABSL_DECLARE_FLAG(std::string, parts);

#endif  // UNTORN_TOOLS_FLAGS_H_
