#include "base/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
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

// The path of the process in one hierarchy of cgroups, whose lines in /proc/self/cgroup are "N:CONTROLLERS:PATH". The unified
// hierarchy has no controllers there.
std::string CgroupOfProcess(const std::string& root, const std::string& controller) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers.find("," + controller + ",") != std::string::npos) return line.substr(second + 1);
  }
  return "";
}

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

// The names of the files that tell of a group.
struct GroupFiles {
  const char *limit, *soft_limit, *current;
};

// What the groups of the process leave, from its own up to the root of what is mounted at `mount`. In a container the root is
// that of the container.
uint64_t LeftByGroups(const std::string& mount, std::string group, const GroupFiles& files) {
  uint64_t left = kNoLimit;
  while (true) {
    while (group.ends_with('/')) group.pop_back();
    const std::string directory = mount + group + "/";
    // "max" is no number, and no limit.
    const uint64_t limit = std::min(NumberIn(directory + files.limit).value_or(kNoLimit),
                                    NumberIn(directory + files.soft_limit).value_or(kNoLimit));
    if (const std::optional<uint64_t> current = NumberIn(directory + files.current)) {
      const uint64_t cached = NumberAfter(directory + "memory.stat", "active_file").value_or(0) +
                              NumberAfter(directory + "memory.stat", "inactive_file").value_or(0);
      const uint64_t used = *current - std::min(*current, cached);
      left = std::min(left, limit - std::min(limit, used));
    }
    if (group.empty()) return left;
    group.resize(group.rfind('/'));
  }
}

}  // namespace

std::optional<uint64_t> AvailableMemoryBytes(const std::string& root) {
  const std::optional<uint64_t> kib = NumberAfter(root + "/proc/meminfo", "MemAvailable:");
  if (!kib) return std::nullopt;
  const std::string groups = root + "/sys/fs/cgroup";
  return std::min(
      {*kib << 10,
       LeftByGroups(groups, CgroupOfProcess(root, ""), {"memory.max", "memory.high", "memory.current"}),
       LeftByGroups(groups + "/memory", CgroupOfProcess(root, "memory"),
                    {"memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.usage_in_bytes"})});
}

}  // namespace untorn
