#include "base/memory.h"

#include <algorithm>
#include <fstream>
#include <string_view>

namespace untorn {
namespace {

// The number behind `key` in a file with one key and number a line; nullopt if there is none.
std::optional<uint64_t> NumberAfter(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string word;
  uint64_t number;
  for (std::string line; file >> word; std::getline(file, line)) {
    if (word == key && file >> number) return number;
  }
  return std::nullopt;
}

std::optional<uint64_t> NumberIn(const std::string& path) {
  std::ifstream file(path);
  uint64_t number;
  return file >> number ? std::optional(number) : std::nullopt;
}

// The path of the process in the unified hierarchy: "0::/path".
std::string CgroupOfProcess(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::")) return line.substr(3);
  }
  return "";
}

}  // namespace

std::optional<uint64_t> AvailableMemoryBytes(const std::string& root) {
  const std::optional<uint64_t> kib = NumberAfter(root + "/proc/meminfo", "MemAvailable:");
  if (!kib) return std::nullopt;
  uint64_t available = *kib << 10;
  // Every group above has its own limit. "max" is no number, and no limit.
  for (std::string group = CgroupOfProcess(root); !group.empty(); group.resize(group.rfind('/'))) {
    const std::string directory = root + "/sys/fs/cgroup" + (group == "/" ? "" : group);
    const std::optional<uint64_t> limit = NumberIn(directory + "/memory.max"),
                                  current = NumberIn(directory + "/memory.current");
    if (limit && current) {
      const uint64_t files = NumberAfter(directory + "/memory.stat", "active_file").value_or(0) +
                             NumberAfter(directory + "/memory.stat", "inactive_file").value_or(0);
      const uint64_t used = *current - std::min(*current, files);
      available = std::min(available, *limit - std::min(*limit, used));
    }
  }
  return available;
}

}  // namespace untorn
