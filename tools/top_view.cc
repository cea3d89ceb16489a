#include "tools/top_view.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/byte_size.h"
#include "inspect/printable.h"

namespace untorn::tools {
namespace {

constexpr size_t kColumns = 80;
constexpr int kReasonsMax = 3;

constexpr std::pair<const char*, const char*> kTimes[] = {{"durable call", "untorn_durable_call_seconds"},
                                                          {"commit", "untorn_commit_seconds"},
                                                          {"device read", "untorn_device_read_seconds"}};

// Returns the end of the text if it is too long. The path of a store says most at its end.
std::string EndOf(const std::string& text, size_t columns) {
  if (text.size() <= columns) return text;
  size_t from = text.size() - columns + 3;
  // Not within a character.
  while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xc0) == 0x80) ++from;
  return absl::StrCat("...", text.substr(from));
}

std::string Line(const char* name, const std::string& text) {
  return absl::StrCat(absl::StrFormat("%-14s", name), text).substr(0, kColumns);
}

std::string Bytes(double bytes) { return HumanBytes(static_cast<uint64_t>(std::max(bytes, 0.0))); }

std::string Percent(double part, double whole) {
  return whole > 0 ? absl::StrFormat("%.1f %%", 100 * part / whole) : "-";
}

std::string Time(double seconds) {
  if (seconds < 1e-3) return absl::StrFormat("%.1f us", seconds * 1e6);
  if (seconds < 1) return absl::StrFormat("%.2f ms", seconds * 1e3);
  return absl::StrFormat("%.2f s", seconds);
}

std::string Since(double seconds) {
  const auto s = static_cast<uint64_t>(seconds);
  return absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
}

// Returns the change sets of the interval by copy-on-write, and the most frequent reasons.
std::pair<double, std::vector<std::pair<double, PathReason>>> ByCow(const Interval& i) {
  std::vector<std::pair<double, PathReason>> reasons;
  double cow = 0;
  for (int r = 1; r < kPathReasonCount; ++r) {
    const auto reason = static_cast<PathReason>(r);
    const double count = i.ChangeSets(reason);
    cow += count;
    if (count > 0) reasons.emplace_back(count, reason);
  }
  std::stable_sort(reasons.begin(), reasons.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  return {cow, std::move(reasons)};
}

std::string Rate(const Interval& i, const char* bytes, const char* operations) {
  return absl::StrFormat("%10s/s %8.0f/s", Bytes(i.PerSecond(bytes)), i.PerSecond(operations));
}

}  // namespace

std::string TopText(const std::string& store, const Interval& i) {
  const MetricsPage& now = i.now();
  std::vector<std::string> lines;
  const std::string process = absl::StrFormat("process %.0f, open for %s", now.Value("untorn_process_id"),
                                              Since(now.Value("untorn_open_seconds")));
  const std::string path = EndOf(Printable(store), kColumns - process.size() - 2);
  lines.push_back(absl::StrCat(path, "  ", process));
  lines.push_back(Line("application",
                       absl::StrCat("written ", Rate(i, "untorn_written_bytes_total", "untorn_writes_total"),
                                    "  read ", Rate(i, "untorn_read_bytes_total", "untorn_reads_total"))));
  lines.push_back(Line(
      "device",
      absl::StrCat("written ", Rate(i, "untorn_device_written_bytes_total", "untorn_device_writes_total"),
                   "  read ", Rate(i, "untorn_device_read_bytes_total", "untorn_device_reads_total"))));
  lines.push_back(
      Line("commits",
           absl::StrFormat("%.0f/s, %.0f flushes/s, %.0f transactions/s, %.0f checkpoints",
                           i.PerSecond("untorn_commits_total"), i.PerSecond("untorn_flushes_total"),
                           i.PerSecond("untorn_transactions_total"), i.Grown("untorn_checkpoints_total"))));
  const double in_place = i.ChangeSets(PathReason::kInPlace);
  const auto [cow, reasons] = ByCow(i);
  lines.push_back(Line("path", absl::StrCat("in place ", Percent(in_place, in_place + cow),
                                            ", copy-on-write ", Percent(cow, in_place + cow), " of ",
                                            absl::StrFormat("%.0f", in_place + cow), " change sets")));
  for (size_t r = 0; r < std::min<size_t>(reasons.size(), kReasonsMax); ++r) {
    lines.push_back(absl::StrFormat("  %7s  %s", Percent(reasons[r].first, in_place + cow),
                                    PathReasonSentence(reasons[r].second)));
  }
  const double hits = i.Grown("untorn_page_hits_total"), misses = i.Grown("untorn_page_misses_total");
  lines.push_back(Line("dirty", absl::StrCat(Bytes(now.Value("untorn_dirty_bytes")), " not durable yet")));
  lines.push_back(Line("cache", absl::StrCat(Bytes(now.Value("untorn_cache_used_bytes")), " of ",
                                             Bytes(now.Value("untorn_cache_limit_bytes")), ", hits ",
                                             Percent(hits, hits + misses))));
  const double log_used = now.Value("untorn_log_used_bytes"), log_size = now.Value("untorn_log_size_bytes");
  lines.push_back(
      Line("log", absl::StrCat(Bytes(log_used), " of ", Bytes(log_size), " (", Percent(log_used, log_size),
                               "), ", Bytes(i.PerSecond("untorn_log_written_bytes_total")), "/s")));
  const double limit = now.Value("untorn_space_limit_bytes"), free = now.Value("untorn_space_free_bytes");
  lines.push_back(
      Line("space", absl::StrCat(Bytes(free), " free of ", Bytes(limit), " (", Percent(free, limit), "), ",
                                 Bytes(now.Value("untorn_space_pending_bytes")), " pending")));
  lines.push_back(
      Line("leases", absl::StrFormat("%.0f, which keep %s; %.0f revoked", now.Value("untorn_leases"),
                                     Bytes(now.Value("untorn_space_leased_bytes")),
                                     i.Grown("untorn_leases_revoked_total"))));
  if (const double damaged = now.Value("untorn_damaged_blocks_total"); damaged > 0)
    lines.push_back(Line(
        "DAMAGED", absl::StrFormat("%.0f blocks since the store was opened; see untorn scrub", damaged)));
  lines.push_back(
      Line("latency", absl::StrFormat("%10s %11s %11s %11s %11s", "count", "p50", "p99", "p99.9", "max")));
  for (const auto& [name, metric] : kTimes) {
    const Times t = i.TimesOf(metric);
    const auto shown = [&](double seconds) { return t.count == 0 ? std::string("-") : Time(seconds); };
    lines.push_back(Line(absl::StrCat("  ", name).c_str(),
                         absl::StrFormat("%10d %11s %11s %11s %11s", t.count, shown(t.p50), shown(t.p99),
                                         shown(t.p99_9), shown(t.max))));
  }
  std::string text;
  for (const std::string& line : lines) absl::StrAppend(&text, line, "\n");
  return text;
}

nlohmann::ordered_json TopJson(const std::string& store, const Interval& i) {
  using Json = nlohmann::ordered_json;
  const MetricsPage& now = i.now();
  Json json;
  PutName(json, store);
  json["store"] = json["name"];
  json.erase("name");
  json["process"] = static_cast<int64_t>(now.Value("untorn_process_id"));
  json["time_seconds"] = now.Value("untorn_page_time_seconds");
  json["open_seconds"] = now.Value("untorn_open_seconds");
  json["interval_seconds"] = i.seconds();
  Json rates = Json::object();
  for (const char* name :
       {"written_bytes", "writes", "read_bytes", "reads", "device_written_bytes", "device_writes",
        "device_read_bytes", "device_reads", "commits", "transactions", "flushes", "checkpoints",
        "log_written_bytes", "in_place_bytes", "copy_on_write_bytes", "page_hits", "page_misses",
        "damaged_blocks", "leases_revoked"}) {
    rates[name] = i.PerSecond(absl::StrCat("untorn_", name, "_total"));
  }
  json["per_second"] = rates;
  Json reasons = Json::object();
  for (int r = 0; r < kPathReasonCount; ++r) {
    const double count = i.ChangeSets(static_cast<PathReason>(r));
    if (count > 0) reasons[PathReasonName(static_cast<PathReason>(r))] = static_cast<uint64_t>(count);
  }
  json["change_sets_by_reason"] = reasons;
  Json state = Json::object();
  for (const char* name :
       {"dirty_bytes", "cache_used_bytes", "cache_limit_bytes", "log_used_bytes", "log_size_bytes",
        "space_limit_bytes", "space_free_bytes", "space_pending_bytes", "space_leased_bytes", "leases"}) {
    state[name] = static_cast<uint64_t>(now.Value(absl::StrCat("untorn_", name)));
  }
  json["now"] = state;
  Json latencies = Json::object();
  for (const auto& [name, metric] : kTimes) {
    const Times t = i.TimesOf(metric);
    std::string key = name;
    std::replace(key.begin(), key.end(), ' ', '_');
    latencies[key] = {{"count", t.count},
                      {"p50_seconds", t.p50},
                      {"p99_seconds", t.p99},
                      {"p99_9_seconds", t.p99_9},
                      {"max_seconds", t.max}};
  }
  json["latencies"] = latencies;
  return json;
}

}  // namespace untorn::tools
