// Subcommands: their description, help texts, and the parsing of their options. The options are Abseil flags,
// set by reflection instead of absl::ParseCommandLine: that one exits 1 on a wrong flag, knows no subcommands
// and prints its own text for --help.
#ifndef UNTORN_TOOLS_COMMAND_LINE_H_
#define UNTORN_TOOLS_COMMAND_LINE_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace untorn::tools {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // the operation failed, or there are findings
inline constexpr int kExitUsage = 2;

// An option of a command: the flag of that name. `value` is how its value is called in the help ("" for a
// switch), `text` what it means here (nullptr: the flag's own text).
struct Option {
  const char* flag;
  const char* value = "";
  const char* text = nullptr;
};

struct Invocation;

struct Command {
  const char* name;
  const char* arguments;    // "STORE FILE [NAME]"
  const char* summary;      // one line
  const char* description;  // paragraphs
  std::vector<Option> options;
  const char* examples;
  size_t min_arguments;
  size_t max_arguments;
  int (*run)(const Invocation&);  // returns the exit code
  // What exit code 1 means.
  const char* findings = "the operation failed; nothing was changed unless the message says so";
};

struct Invocation {
  const Command& command;
  std::vector<std::string> arguments;

  // These print the reason on stderr and return the exit code.
  int Fail(const absl::Status& status) const;
  // The end of a command that changes the store, and has closed it.
  int Finish(const absl::Status& changed, const absl::Status& closed) const;
  int Misuse(const std::string& message) const;
};

// Options every command takes, and those of all commands that open the store.
std::vector<Option> WithCommonOptions(std::vector<Option> options);
std::vector<Option> WithOpenOptions(std::vector<Option> options);

std::string CommandHelp(const Command& command);
std::string GeneralHelp(std::span<const Command> commands);

// Interprets argv (without the program's name), runs what it asks for and returns the exit code.
int RunCommandLine(std::span<const Command> commands, std::span<const char* const> argv);

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_COMMAND_LINE_H_
