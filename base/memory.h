// How much memory the machine could still give.
#ifndef UNTORN_BASE_MEMORY_H_
#define UNTORN_BASE_MEMORY_H_

#include <cstdint>
#include <optional>
#include <string>

namespace untorn {

// Returns how many bytes the process could take without making others swap: MemAvailable of /proc/meminfo, or less if
// a cgroup of the process, or one above it, has a limit. The page cache counts as available. Returns nullopt if /proc
// does not tell. Takes some 50 us. `root` stands before all paths, for tests.
//
// Source: proc(5); of the kernel's documents cgroup-v2.rst ("memory.max", "memory.high", "memory.stat") and
// cgroup-v1/memory.rst.
std::optional<uint64_t> AvailableMemoryBytes(const std::string& root = "");

}  // namespace untorn

#endif  // UNTORN_BASE_MEMORY_H_
