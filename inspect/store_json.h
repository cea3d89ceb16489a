// What a store tells of itself, as JSON: for the command line and the C API.
#ifndef UNTORN_INSPECT_STORE_JSON_H_
#define UNTORN_INSPECT_STORE_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "untorn/options.h"

namespace untorn {

// One number of Stats.
struct StatsMember {
  const char* name;  // in JSON; with spaces for underscores in text
  uint64_t Stats::*value;
  bool bytes = false;
};
std::span<const StatsMember> StatsCounters();  // since the store was opened
std::span<const StatsMember> StatsState();     // now

// One histogram of Stats.
struct LatencyMember {
  const char* name;
  LatencyHistogram Stats::*times;
};
std::span<const LatencyMember> StatsLatencies();

// {"name": ...}, with "name_hex" beside it where the name is not UTF-8.
nlohmann::ordered_json NameJson(const std::string& name);
nlohmann::ordered_json InfoJson(const StoreInfo& info);
nlohmann::ordered_json StatsJson(const Stats& stats);

}  // namespace untorn

#endif  // UNTORN_INSPECT_STORE_JSON_H_
