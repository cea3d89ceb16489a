#include "tools/command_line.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "untorn/version.h"

namespace untorn::tools {
namespace {

constexpr size_t kHelpWidth = 100;

std::string Dashed(absl::string_view flag) { return absl::StrReplaceAll(flag, {{"_", "-"}}); }

// `text` broken into lines; those after the first are indented.
std::string Wrap(absl::string_view text, size_t indent) {
  std::string out;
  size_t column = indent;
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (column > indent && column + 1 + word.size() > kHelpWidth) {
      absl::StrAppend(&out, "\n", std::string(indent, ' '));
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    absl::StrAppend(&out, word);
    column += word.size();
  }
  return out;
}

std::string OptionHelp(const Option& option) {
  constexpr size_t kTextColumn = 24;
  const absl::CommandLineFlag* flag = absl::FindCommandLineFlag(option.flag);
  std::string left =
      absl::StrCat("  --", flag->IsOfType<bool>() && flag->DefaultValue() == "true" ? "[no-]" : "",
                   Dashed(option.flag), *option.value ? "=" : "", option.value);
  std::string text = option.text != nullptr ? option.text : flag->Help();
  if (!flag->IsOfType<bool>() && !flag->DefaultValue().empty() && flag->DefaultValue() != "none") {
    absl::StrAppend(&text, " (default: ", flag->DefaultValue(), ")");
  }
  left.append(left.size() + 2 <= kTextColumn ? kTextColumn - left.size() : 2, ' ');
  return absl::StrCat(left, Wrap(text, kTextColumn), "\n");
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

// " Did you mean 'x'?", or nothing if nothing is near.
std::string Suggestion(absl::string_view wrong, const std::vector<std::string>& names,
                       absl::string_view prefix) {
  const std::string* best = nullptr;
  size_t best_distance = 3;
  for (const std::string& name : names) {
    const size_t distance = wrong.size() > 2 && absl::StartsWith(name, wrong) ? 1 : EditDistance(wrong, name);
    if (distance < best_distance && distance < name.size()) {
      best = &name;
      best_distance = distance;
    }
  }
  return best == nullptr ? "" : absl::StrCat(" Did you mean '", prefix, *best, "'?");
}

const Command* FindCommand(std::span<const Command> commands, absl::string_view name) {
  for (const Command& command : commands) {
    if (name == command.name) return &command;
  }
  return nullptr;
}

int UnknownCommand(std::span<const Command> commands, absl::string_view name) {
  std::vector<std::string> names = {"help"};
  for (const Command& command : commands) names.push_back(command.name);
  std::fprintf(stderr, "untorn: %s\nTry 'untorn help'.\n",
               absl::StrCat("there is no command '", name, "'.", Suggestion(name, names, "")).c_str());
  return kExitUsage;
}

// Options and arguments of one command.
class Parser {
 public:
  explicit Parser(const Command& command) : command_(command) {}

  // What is wrong with argv, if anything.
  std::optional<std::string> Parse(std::span<const char* const> argv) {
    bool options_ended = false;
    for (size_t i = 0; i < argv.size(); ++i) {
      absl::string_view word = argv[i];
      if (options_ended || word == "-" || !absl::StartsWith(word, "-")) {
        arguments.emplace_back(word);
      } else if (word == "--") {
        options_ended = true;
      } else if (word == "--help" || word == "-h") {
        help = true;
      } else if (!absl::StartsWith(word, "--")) {
        return absl::StrCat("unknown option '", word, "': options begin with two dashes");
      } else {
        const char* next = i + 1 < argv.size() ? argv[i + 1] : nullptr;
        bool used_next = false;
        if (auto wrong = ParseOption(word.substr(2), next, &used_next)) return wrong;
        if (used_next) ++i;
      }
    }
    return std::nullopt;
  }

  std::vector<std::string> arguments;
  bool help = false;

 private:
  absl::CommandLineFlag* Find(absl::string_view name) const {
    for (const Option& option : command_.options) {
      if (name == option.flag) return absl::FindCommandLineFlag(name);
    }
    return nullptr;
  }

  std::string Unknown(absl::string_view name) const {
    const std::string flag = absl::StrReplaceAll(name, {{"-", "_"}});
    if (absl::FindCommandLineFlag(flag) != nullptr) {
      return absl::StrCat("'--", name, "' is not an option of this command");
    }
    std::vector<std::string> names = {"help"};
    for (const Option& option : command_.options) names.push_back(Dashed(option.flag));
    return absl::StrCat("unknown option '--", name, "'.", Suggestion(name, names, "--"));
  }

  std::optional<std::string> ParseOption(absl::string_view word, const char* next, bool* used_next) {
    const std::pair<absl::string_view, absl::string_view> split =
        absl::StrSplit(word, absl::MaxSplits('=', 1));
    const bool has_value = absl::StrContains(word, "=");
    const std::string name = absl::StrReplaceAll(split.first, {{"-", "_"}});
    std::string value(split.second);
    absl::CommandLineFlag* flag = Find(name);
    if (flag == nullptr) {
      absl::string_view positive = name;
      if (absl::ConsumePrefix(&positive, "no")) absl::ConsumePrefix(&positive, "_");
      flag = Find(positive);
      if (flag == nullptr || !flag->IsOfType<bool>()) return Unknown(split.first);
      if (has_value) return absl::StrCat("'--", split.first, "' takes no value");
      value = "false";
    } else if (!has_value) {
      if (flag->IsOfType<bool>()) {
        value = "true";
      } else if (next == nullptr) {
        return absl::StrCat("'--", split.first, "' needs a value");
      } else {
        value = next;
        *used_next = true;
      }
    }
    std::string error;
    if (flag->ParseFrom(value, &error)) return std::nullopt;
    // Abseil's text around it speaks of flags; ours comes last.
    const size_t own = error.rfind("; ");
    return absl::StrCat("--", split.first, ": ", own == std::string::npos ? error : error.substr(own + 2));
  }

  const Command& command_;
};

}  // namespace

int Invocation::Fail(const absl::Status& status) const {
  std::string message(status.message());
  if (message.empty()) message = status.ToString();
  const bool damaged = absl::IsDataLoss(status) && !arguments.empty();
  if (damaged && !absl::StrContains(message, arguments[0]))
    message = absl::StrCat(arguments[0], ": ", message);
  std::fprintf(stderr, "untorn: %s: %s\n", command.name, message.c_str());
  if (damaged) {
    std::fprintf(stderr, "Try 'untorn fsck %s' to see what is damaged.\n", arguments[0].c_str());
  }
  return kExitFailed;
}

int Invocation::Finish(const absl::Status& changed, const absl::Status& closed) const {
  if (!changed.ok()) return Fail(changed);
  if (closed.ok()) return kExitOk;
  return Fail(
      absl::Status(closed.code(), absl::StrCat("the change was made, but the store could not be closed: ",
                                               std::string(closed.message()))));
}

int Invocation::Misuse(const std::string& message) const {
  std::fprintf(stderr, "untorn: %s: %s\nTry 'untorn help %s'.\n", command.name, message.c_str(),
               command.name);
  return kExitUsage;
}

std::vector<Option> WithCommonOptions(std::vector<Option> options) {
  options.push_back({"quiet"});
  options.push_back({"verbose"});
  return options;
}

std::vector<Option> WithOpenOptions(std::vector<Option> options) {
  options.insert(options.end(), {{"atomic_unit", "SIZE"}, {"cache", "SIZE"}, {"engine", "ENGINE"}});
  return WithCommonOptions(std::move(options));
}

std::string CommandHelp(const Command& command) {
  std::string out = absl::StrCat("Usage: untorn ", command.name, " ", command.arguments, " [OPTIONS]\n\n",
                                 Wrap(command.summary, 0), ".\n");
  for (absl::string_view paragraph : absl::StrSplit(command.description, "\n\n", absl::SkipEmpty())) {
    absl::StrAppend(&out, "\n", Wrap(absl::StrReplaceAll(paragraph, {{"\n", " "}}), 0), "\n");
  }
  absl::StrAppend(&out, "\nOptions:\n");
  for (const Option& option : command.options) absl::StrAppend(&out, OptionHelp(option));
  absl::StrAppend(&out, "\nExamples:\n");
  for (absl::string_view line : absl::StrSplit(command.examples, '\n', absl::SkipEmpty())) {
    absl::StrAppend(&out, "  ", line, "\n");
  }
  absl::StrAppend(&out, "\nExit code:\n  0  success\n  1  ", Wrap(command.findings, 5),
                  "\n  2  wrong usage\n");
  return out;
}

std::string GeneralHelp(std::span<const Command> commands) {
  std::string out =
      "Usage: untorn COMMAND ARGUMENTS [OPTIONS]\n\n"
      "Works with untorn stores: files or block devices that hold named objects whose writes are there\n"
      "whole or not at all, whatever happens.\n\n"
      "Commands:\n";
  for (const Command& command : commands) {
    std::string name = absl::StrCat("  ", command.name);
    name.resize(12, ' ');
    absl::StrAppend(&out, name, command.summary, "\n");
  }
  absl::StrAppend(
      &out,
      "  help      Explains a command\n"
      "\n"
      "Sizes and offsets take K, M, G and T (powers of 1024). '--' ends the options. 'untorn help COMMAND'\n"
      "and 'untorn COMMAND --help' explain a command. 'untorn --version' prints the version.\n"
      "\n"
      "Examples:\n"
      "  untorn create app.untorn --size=4G\n"
      "  untorn put app.untorn data.bin\n"
      "  untorn write app.untorn data.bin --offset=64K < page\n"
      "  untorn fsck app.untorn\n"
      "\n"
      "Exit code: 0 success, 1 the operation failed or fsck found something, 2 wrong usage.\n");
  return out;
}

int RunCommandLine(std::span<const Command> commands, std::span<const char* const> argv) {
  if (argv.empty()) {
    std::fputs(GeneralHelp(commands).c_str(), stderr);
    return kExitUsage;
  }
  const std::string name = argv[0];
  if (name == "help" || name == "--help" || name == "-h") {
    if (argv.size() < 2) {
      std::fputs(GeneralHelp(commands).c_str(), stdout);
      return kExitOk;
    }
    if (argv[1] == name) {
      std::fputs(GeneralHelp(commands).c_str(), stdout);
      return kExitOk;
    }
    const Command* command = FindCommand(commands, argv[1]);
    if (command == nullptr) return UnknownCommand(commands, argv[1]);
    std::fputs(CommandHelp(*command).c_str(), stdout);
    return kExitOk;
  }
  if (name == "--version") {
    std::printf("untorn %s\n", std::string(kVersion).c_str());
    return kExitOk;
  }
  if (absl::StartsWith(name, "-")) {
    std::fprintf(stderr, "untorn: '%s': options come after the command.\nTry 'untorn help'.\n", name.c_str());
    return kExitUsage;
  }
  const Command* command = FindCommand(commands, name);
  if (command == nullptr) return UnknownCommand(commands, name);

  Parser parser(*command);
  const std::optional<std::string> wrong = parser.Parse(argv.subspan(1));
  if (parser.help) {
    std::fputs(CommandHelp(*command).c_str(), stdout);
    return kExitOk;
  }
  const Invocation invocation{*command, std::move(parser.arguments)};
  if (wrong.has_value()) return invocation.Misuse(*wrong);
  const size_t count = invocation.arguments.size();
  if (count < command->min_arguments || count > command->max_arguments) {
    return invocation.Misuse(
        absl::StrCat(count < command->min_arguments ? "missing argument" : "too many arguments", ": untorn ",
                     command->name, " ", command->arguments));
  }
  const int exit_code = command->run(invocation);
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return invocation.Fail(absl::InternalError("the output could not be written"));
  }
  return exit_code;
}

}  // namespace untorn::tools
