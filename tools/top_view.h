// What `untorn top` shows of an interval.
#ifndef UNTORN_TOOLS_TOP_VIEW_H_
#define UNTORN_TOOLS_TOP_VIEW_H_

#include <nlohmann/json.hpp>
#include <string>

#include "tools/metrics_page.h"

namespace untorn::tools {

// Returns lines of at most 80 characters, at most 24 of them.
std::string TopText(const std::string& store, const Interval& interval);
nlohmann::ordered_json TopJson(const std::string& store, const Interval& interval);

}  // namespace untorn::tools

#endif  // UNTORN_TOOLS_TOP_VIEW_H_
