#include "integrations/rocksdb/names.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>

namespace untorn::rocks {

std::string FileName(std::string_view path) {
  std::string name = std::filesystem::path("/").append(path).lexically_normal().string();
  while (name.ends_with('/')) name.pop_back();
  return name.substr(std::min(name.size(), name.find_first_not_of('/')));
}

std::string DirectoryName(std::string_view path) {
  const std::string name = FileName(path);
  return name.empty() ? name : name + '/';
}

std::string LastNameWith(std::string_view prefix) {
  constexpr size_t kNameBytesMax = 255;
  std::string name(prefix);
  name.resize(std::max(name.size(), kNameBytesMax), '\xff');
  return name;
}

}  // namespace untorn::rocks
