#include "extent/tree_keys.h"

#include <array>
#include <cstring>
#include <limits>
#include <utility>

namespace untorn {
namespace {

constexpr size_t kMappingKeyBytes = 17, kInodeKeyBytes = 9;
constexpr size_t kMappingValueBytes = 16, kNameValueBytes = 8;

void StoreBigEndian(char* at, uint64_t v) {
  v = __builtin_bswap64(v);
  std::memcpy(at, &v, sizeof(v));
}
uint64_t LoadBigEndian(std::string_view at) {
  uint64_t v;
  std::memcpy(&v, at.data(), sizeof(v));
  return __builtin_bswap64(v);
}
template <typename T>
void Store(char* at, T v) {
  std::memcpy(at, &v, sizeof(v));
}
template <typename T>
T Load(std::string_view at) {
  T v;
  std::memcpy(&v, at.data(), sizeof(v));
  return v;
}

bool IsObject(uint64_t id) { return id > 0 && id <= kNumberMax; }
bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax && name.find('\0') == std::string_view::npos;
}

}  // namespace

std::string MappingKey(ObjectId object, uint64_t logical_block) {
  std::array<char, kMappingKeyBytes> key;
  key[0] = static_cast<char>(KeySpace::kMapping);
  StoreBigEndian(&key[1], Value(object));
  StoreBigEndian(&key[9], logical_block);
  return {key.data(), key.size()};
}

std::string InodeKey(ObjectId object) {
  std::array<char, kInodeKeyBytes> key;
  key[0] = static_cast<char>(KeySpace::kInode);
  StoreBigEndian(&key[1], Value(object));
  return {key.data(), key.size()};
}

std::string NameKey(std::string_view name) {
  return std::string(1, static_cast<char>(KeySpace::kName)).append(name);
}

std::string MappingValue(uint64_t physical, uint32_t count, MappingState state) {
  std::array<char, kMappingValueBytes> value;
  Store<uint64_t>(&value[0], physical);
  Store<uint32_t>(&value[8], count);
  Store<uint32_t>(&value[12], static_cast<uint32_t>(state));
  return {value.data(), value.size()};
}

std::string InodeValue(const Inode& inode) {
  std::string value(sizeof(uint64_t), '\0');
  Store<uint64_t>(value.data(), inode.size_bytes);
  return value.append(inode.name);
}

std::string NameValue(ObjectId object) {
  std::string value(kNameValueBytes, '\0');
  Store<uint64_t>(value.data(), Value(object));
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
