// What the commands print: values of the API as JSON and as text.
#ifndef UNTORN_TOOLS_OUTPUT_H_
#define UNTORN_TOOLS_OUTPUT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "inspect/store_json.h"
#include "untorn/inspect.h"
#include "untorn/options.h"

namespace untorn::tools {

using Json = nlohmann::ordered_json;

Json FsckJson(const std::string& path, const FsckResult& result);
Json RepairJson(const std::string& path, const RepairResult& result, bool dry_run);

Json TrimJson(const std::string& path, const TrimResult& result);
Json ScrubJson(const std::string& path, const ScrubResult& result);

std::string InfoText(const StoreInfo& info);
std::string TrimText(const std::string& path, const TrimResult& result);
std::string ScrubText(const std::string& path, const ScrubResult& result);
std::string StatsText(const Stats& stats);
std::string FsckText(const std::string& path, const FsckResult& result);
// What was found, and what is done about it.
std::string RepairPlanText(const std::string& path, const RepairResult& plan, bool dry_run);
// The units of writeback by path and reason, those that occurred.
std::string ReasonsText(const Stats& stats);
std::string LatenciesText(const Stats& stats);

// Any JSON as indented text: members one to a line, arrays of plain objects as tables.
std::string JsonAsText(const Json& json);

void PrintText(const std::string& text);
void PrintJson(const Json& json);

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_OUTPUT_H_
