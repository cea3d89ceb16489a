// The process of the demo's writers, which overwrites ranges until it is killed.
#ifndef UNTORN_DEMO_CHILD_H_
#define UNTORN_DEMO_CHILD_H_

#include <cstdint>
#include <string>

#include "untorn/options.h"

namespace untorn::demo {

inline constexpr char kFileObject[] = "file";
inline constexpr char kSecondObject[] = "second";
inline constexpr char kAppendsObject[] = "appends";

// Returns only on failure, with the exit code. The shared memory then has a message.
int RunChild(const std::string& store_path, const OpenOptions& options, const std::string& shared_path,
             uint64_t seed);

}  // namespace untorn::demo

#endif  // UNTORN_DEMO_CHILD_H_
