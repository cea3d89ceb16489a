#include "demo/report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/byte_size.h"

namespace untorn::demo {

void AddCounters(const Stats& from, Stats* to) {
  for (uint64_t Stats::*counter : {&Stats::bytes_written,
                                   &Stats::bytes_read,
                                   &Stats::writes,
                                   &Stats::reads,
                                   &Stats::transactions,
                                   &Stats::commits,
                                   &Stats::log_records,
                                   &Stats::log_bytes,
                                   &Stats::flushes,
                                   &Stats::durable_writes,
                                   &Stats::settling_records,
                                   &Stats::checkpoints,
                                   &Stats::device_writes,
                                   &Stats::device_reads,
                                   &Stats::device_bytes_written,
                                   &Stats::device_bytes_read,
                                   &Stats::in_place_bytes,
                                   &Stats::cow_bytes,
                                   &Stats::recovered_records,
                                   &Stats::dropped_records}) {
    to->*counter += from.*counter;
  }
  for (int i = 0; i < kPathReasonCount; ++i) to->change_sets_by_reason[i] += from.change_sets_by_reason[i];
}

std::string ModeTable(const ModeReport& report) {
  const Stats& stats = report.counters;
  std::string out = absl::StrFormat("%s (%s)\n", report.name, report.path_note);
  const auto line = [&out](absl::string_view name, const std::string& text) {
    absl::StrAppendFormat(&out, "  %-22s%s\n", name, text);
  };
  line("writes", absl::StrCat(stats.writes, " and ", stats.transactions, " transactions, ",
                              HumanBytes(stats.bytes_written)));
  line("commits", absl::StrCat(stats.commits, " durable batches, ", stats.log_records, " log records (",
                               stats.settling_records, " settling), ", stats.flushes, " flushes, ",
                               stats.durable_writes, " durable writes, ", stats.checkpoints, " checkpoints"));
  line("in place", absl::StrCat(stats.change_sets_in_place(), " units, ", HumanBytes(stats.in_place_bytes)));
  line("copy-on-write", absl::StrCat(stats.change_sets_by_cow(), " units, ", HumanBytes(stats.cow_bytes)));
  for (int i = 0; i < kPathReasonCount; ++i) {
    if (stats.change_sets_by_reason[i] == 0) continue;
    const auto reason = static_cast<PathReason>(i);
    absl::StrAppendFormat(&out, "    %-24s%9d  %s\n", PathReasonName(reason), stats.change_sets_by_reason[i],
                          PathReasonSentence(reason));
  }
  line("recoveries", absl::StrCat(report.recoveries, " after ", report.kills, " kills, and ",
                                  report.recoveries_killed, " killed themselves; ", stats.recovered_records,
                                  " records replayed, ", stats.dropped_records, " incomplete ones dropped"));
  line("checked", absl::StrCat(report.ranges_checked, " ranges after kills, ", report.live_reads,
                               " reads beside the writers, fsck findings ", report.fsck_findings));
  line("torn, lost", absl::StrCat(report.torn, ", ", report.lost));
  return out;
}

}  // namespace untorn::demo
