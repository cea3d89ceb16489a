// top.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "store/watcher.h"
#include "tools/commands.h"
#include "tools/flags.h"
#include "tools/metrics_page.h"
#include "tools/output.h"
#include "tools/top_view.h"

namespace untorn::tools {
namespace {

constexpr std::chrono::milliseconds kPoll(50);

volatile sig_atomic_t interrupted = 0;

void StopAtSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = 1; };
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

class Top {
 public:
  Top(const std::string& store, uint64_t interval_seconds)
      : store_(store), interval_seconds_(interval_seconds), as_json_(absl::GetFlag(FLAGS_json)) {
    redraws_ = !as_json_ && !absl::GetFlag(FLAGS_once) && isatty(STDOUT_FILENO) != 0;
  }

  // Takes a page. Returns true if the page has ended an interval, which is shown.
  bool Take(const std::string& text) {
    MetricsPage page(text);
    const bool same = begin_.has_value() &&
                      begin_->Value("untorn_process_id") == page.Value("untorn_process_id") &&
                      begin_->Value("untorn_log_epoch") == page.Value("untorn_log_epoch");
    // An interval lies within one opening of the store.
    if (!same) {
      begin_ = std::move(page);
      return false;
    }
    const Interval interval(*begin_, page);
    // Pages come about once a second.
    constexpr double kEarly = 0.5;
    if (interval.seconds() < static_cast<double>(interval_seconds_) - kEarly) return false;
    Show(interval);
    begin_ = std::move(page);
    return true;
  }
  bool shown() const { return shown_; }

 private:
  void Show(const Interval& interval) {
    if (as_json_) {
      PrintText(TopJson(store_, interval).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    } else if (redraws_) {
      // Clears the terminal, from the upper left corner on.
      PrintText("\x1b[H\x1b[2J" + TopText(store_, interval));
    } else {
      PrintText((shown_ ? "\n" : "") + TopText(store_, interval));
    }
    std::fflush(stdout);
    shown_ = true;
  }

  const std::string store_;
  const uint64_t interval_seconds_;
  const bool as_json_;
  bool redraws_ = false, shown_ = false;
  std::optional<MetricsPage> begin_;
};

int RunTop(const Invocation& invocation) {
  const std::string& path = invocation.arguments[0];
  const uint64_t interval_seconds = absl::GetFlag(FLAGS_interval);
  if (interval_seconds == 0) return invocation.Misuse("--interval is 0; it must be at least 1");
  StopAtSignals();
  absl::StatusOr<std::unique_ptr<internal::Watcher>> watcher = internal::Watcher::Open(path);
  if (!watcher.ok()) return invocation.Fail(watcher.status());
  Top top(path, interval_seconds);
  while (interrupted == 0) {
    absl::StatusOr<std::optional<std::string>> page = (*watcher)->Poll();
    // The process that was watched may end, and then so does this one.
    if (absl::IsAborted(page.status()) && top.shown()) {
      std::fprintf(stderr, "untorn: top: %s\n", std::string(page.status().message()).c_str());
      return kExitOk;
    }
    if (!page.ok()) return invocation.Fail(page.status());
    if (page->has_value() && top.Take(**page) && absl::GetFlag(FLAGS_once)) return kExitOk;
    if (std::ferror(stdout) != 0) return kExitFailed;  // told at the end
    std::this_thread::sleep_for(kPoll);
  }
  return kExitOk;
}

}  // namespace

std::vector<Command> TopCommands() {
  return {
      {.name = "top",
       .arguments = "STORE",
       .summary = "Shows live what the process does that has a store open",
       .description =
           "Shows throughput, commits, the path of changes and the reasons, data that is not durable yet, "
           "cache, log, space, and latencies, each of the last interval. On a terminal the view is redrawn; "
           "elsewhere it comes as one block of lines for each interval, and with --json as one object a "
           "line. "
           "Ctrl-C ends it.\n\n"
           "While somebody watches, the process writes its statistics once a second to STORE.stats, in the "
           "text format of Prometheus, and removes the file afterwards. Nothing is written otherwise. Ends "
           "when the process closes the store. docs/watching.md explains the numbers.",
       .options =
           WithCommonOptions({{"interval", "SECONDS"}, {"once", "", "show one interval, and end"}, {"json"}}),
       .examples = "untorn top app.untorn\nuntorn top app.untorn --json --interval=10\n"
                   "untorn top app.untorn --once",
       .min_arguments = 1,
       .max_arguments = 1,
       .run = RunTop,
       .findings =
           "no process has the store open for writing, or the process tells nothing; the message says why"},
  };
}

}  // namespace untorn::tools
