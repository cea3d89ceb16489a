// This header has the version of the library and its tools. CHANGELOG.md lists what each version changes.
#ifndef UNTORN_VERSION_H_
#define UNTORN_VERSION_H_

#include <string_view>

namespace untorn {

inline constexpr std::string_view kVersion = "0.2.0";

}  // namespace untorn

#endif  // UNTORN_VERSION_H_
