#include "extent/tree_keys.h"

#include <cstring>
#include <limits>
#include <utility>

namespace untorn {
namespace {

constexpr size_t kMappingKeyBytes = 17, kInodeKeyBytes = 9;
constexpr size_t kMappingValueBytes = 16, kNameValueBytes = 8;

void AppendBigEndian(std::string& out, uint64_t v) {
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(v >> shift);
}
uint64_t LoadBigEndian(std::string_view at) {
  uint64_t v = 0;
  for (int i = 0; i < 8; ++i) v = v << 8 | static_cast<uint8_t>(at[i]);
  return v;
}
template <typename T>
void Append(std::string& out, T v) {
  out.append(reinterpret_cast<const char*>(&v), sizeof(v));
}
template <typename T>
T Load(std::string_view at) {
  T v;
  std::memcpy(&v, at.data(), sizeof(v));
  return v;
}

std::string KeyOf(KeySpace space) { return std::string(1, static_cast<char>(space)); }

bool IsObject(uint64_t id) { return id > 0 && id <= kNumberMax; }
bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax && name.find('\0') == std::string_view::npos;
}

}  // namespace

std::string MappingKey(ObjectId object, uint64_t logical_block) {
  std::string key = KeyOf(KeySpace::kMapping);
  AppendBigEndian(key, Value(object));
  AppendBigEndian(key, logical_block);
  return key;
}

std::string InodeKey(ObjectId object) {
  std::string key = KeyOf(KeySpace::kInode);
  AppendBigEndian(key, Value(object));
  return key;
}

std::string NameKey(std::string_view name) { return KeyOf(KeySpace::kName).append(name); }

std::string MappingValue(uint64_t physical, uint32_t count, MappingState state) {
  std::string value;
  Append<uint64_t>(value, physical);
  Append<uint32_t>(value, count);
  Append<uint32_t>(value, static_cast<uint32_t>(state));
  return value;
}

std::string InodeValue(const Inode& inode) {
  std::string value;
  Append<uint64_t>(value, inode.size_bytes);
  return value.append(inode.name);
}

std::string NameValue(ObjectId object) {
  std::string value;
  Append<uint64_t>(value, Value(object));
  return value;
}

std::optional<KeySpace> KeySpaceOf(std::string_view key) {
  if (key.empty()) return std::nullopt;
  const std::string_view rest = key.substr(1);
  switch (static_cast<KeySpace>(key[0])) {
    case KeySpace::kMapping:
      if (key.size() != kMappingKeyBytes || !IsObject(LoadBigEndian(rest))) return std::nullopt;
      if (LoadBigEndian(rest.substr(8)) >= kObjectBlocksMax) return std::nullopt;
      return KeySpace::kMapping;
    case KeySpace::kInode:
      if (key.size() != kInodeKeyBytes || !IsObject(LoadBigEndian(rest))) return std::nullopt;
      return KeySpace::kInode;
    case KeySpace::kName:
      if (!IsName(rest)) return std::nullopt;
      return KeySpace::kName;
  }
  return std::nullopt;
}

std::optional<MappingEntry> ParseMapping(std::string_view key, std::string_view value) {
  if (KeySpaceOf(key) != KeySpace::kMapping || value.size() != kMappingValueBytes) return std::nullopt;
  MappingEntry entry;
  entry.object = ObjectId{LoadBigEndian(key.substr(1))};
  Mapping& m = entry.mapping;
  m.logical = {LoadBigEndian(key.substr(9)), Load<uint32_t>(value.substr(8))};
  m.physical = Load<uint64_t>(value);
  const uint32_t state = Load<uint32_t>(value.substr(12));
  if (state != static_cast<uint32_t>(MappingState::kWritten) &&
      state != static_cast<uint32_t>(MappingState::kUnwritten)) {
    return std::nullopt;
  }
  m.state = static_cast<MappingState>(state);
  if (m.logical.count == 0 || m.logical.end() > kObjectBlocksMax) return std::nullopt;
  if (m.physical == 0 || m.physical > std::numeric_limits<uint64_t>::max() - m.logical.count)
    return std::nullopt;
  return entry;
}

std::optional<Inode> ParseInode(std::string_view key, std::string_view value) {
  if (KeySpaceOf(key) != KeySpace::kInode || value.size() < 8 || !IsName(value.substr(8)))
    return std::nullopt;
  Inode inode;
  inode.id = ObjectId{LoadBigEndian(key.substr(1))};
  inode.size_bytes = Load<uint64_t>(value);
  inode.name = value.substr(8);
  if (inode.size_bytes > kObjectBytesMax) return std::nullopt;
  return inode;
}

std::optional<std::pair<std::string, ObjectId>> ParseName(std::string_view key, std::string_view value) {
  if (KeySpaceOf(key) != KeySpace::kName || value.size() != kNameValueBytes) return std::nullopt;
  const ObjectId object{Load<uint64_t>(value)};
  if (!IsObject(Value(object))) return std::nullopt;
  return std::pair(std::string(key.substr(1)), object);
}

}  // namespace untorn
