// The demo's counts, and the table that shows them.
#ifndef UNTORN_DEMO_REPORT_H_
#define UNTORN_DEMO_REPORT_H_

#include <cstdint>
#include <string>

#include "untorn/options.h"

namespace untorn::demo {

// Adds the counters of `from`. Leaves the figures alone that describe a state.
void AddCounters(const Stats& from, Stats* to);

struct ModeReport {
  std::string name;
  std::string path_note;  // says what the device can do, by StoreInfo
  Stats counters;         // the sum over all opens
  uint64_t kills = 0;
  uint64_t recoveries = 0;
  uint64_t recoveries_killed = 0;
  uint64_t fsck_findings = 0;
  uint64_t ranges_checked = 0;
  uint64_t live_reads = 0;
  uint64_t torn = 0;
  uint64_t lost = 0;
};

std::string ModeTable(const ModeReport& report);

}  // namespace untorn::demo

#endif  // UNTORN_DEMO_REPORT_H_
