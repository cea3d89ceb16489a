#include "extent/tree_keys.h"

#include <array>
#include <cstring>
#include <limits>
#include <utility>

namespace untorn {
namespace {

constexpr size_t kInodeKeyBytes = 9, kNameValueBytes = 8;
constexpr uint64_t kLost = UINT64_MAX;  // no extent begins there, and no size or object is so large
constexpr uint64_t kPreallocated = uint64_t{1} << 63;  // in the word of an inode's size

void StoreBigEndian(char* at, uint64_t v) {
  v = __builtin_bswap64(v);
  std::memcpy(at, &v, sizeof(v));
}
uint64_t LoadBigEndian(const char* at) {
  uint64_t v;
  std::memcpy(&v, at, sizeof(v));
  return __builtin_bswap64(v);
}
template <typename T>
void Store(char* at, T v) {
  std::memcpy(at, &v, sizeof(v));
}
template <typename T>
T Load(const char* at) {
  T v;
  std::memcpy(&v, at, sizeof(v));
  return v;
}

bool IsObject(uint64_t id) { return id > 0 && id <= kNumberMax; }
bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax && name.find('\0') == std::string_view::npos;
}

}  // namespace

std::string MappingKey(ObjectId object, ObjectBlock block) {
  return std::string(std::string_view(MappingKeyBytes(object, block)));
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

std::string InodeValue(const Inode& inode) {
  std::string value(sizeof(uint64_t), '\0');
  Store<uint64_t>(value.data(), inode.size_bytes | (inode.preallocated ? kPreallocated : 0));
  return value.append(inode.name);
}

std::string NameValue(ObjectId object) {
  std::string value(kNameValueBytes, '\0');
  Store<uint64_t>(value.data(), Value(object));
  return value;
}

std::string LostValue(BlockNumber node, std::string_view limit) {
  std::string value(2 * sizeof(uint64_t), '\0');
  Store<uint64_t>(value.data(), kLost);
  Store<uint64_t>(value.data() + sizeof(uint64_t), node.value());
  return value.append(limit);
}

std::string FirstKeyOf(KeySpace space) {
  switch (space) {
    case KeySpace::kMapping:
      return MappingKey(ObjectId{1}, 0);
    case KeySpace::kInode:
      return InodeKey(ObjectId{1});
    case KeySpace::kName:
      break;
  }
  return NameKey("\x01");
}

std::string NextKey(std::string_view key) {
  const std::string_view rest = key.substr(1);
  switch (static_cast<KeySpace>(key[0])) {
    case KeySpace::kMapping: {
      const auto [object, block] = MappingKeyNumbers(key.data());
      // No mapping begins at the end of all objects.
      return block + 1 < kObjectEnd ? MappingKey(object, block + 1)
                                    : MappingKey(ObjectId{Value(object) + 1}, 0);
    }
    case KeySpace::kInode:
      return InodeKey(ObjectId{LoadBigEndian(rest.data()) + 1});
    case KeySpace::kName:
      break;
  }
  std::string name(rest);
  if (name.size() < kNameBytesMax) return NameKey(name + '\x01');
  // No longer name lies between this one and the next of its length.
  while (!name.empty() && name.back() == '\xff') name.pop_back();
  if (name.empty()) return "";
  ++name.back();
  return NameKey(name);
}

std::optional<KeySpace> KeySpaceOf(std::string_view key) {
  if (key.empty()) return std::nullopt;
  const std::string_view rest = key.substr(1);
  switch (static_cast<KeySpace>(key[0])) {
    case KeySpace::kMapping:
      if (key.size() != kMappingKeyBytes || !IsObject(LoadBigEndian(rest.data()))) return std::nullopt;
      if (ObjectBlock(LoadBigEndian(rest.data() + 8)) >= kObjectEnd) return std::nullopt;
      return KeySpace::kMapping;
    case KeySpace::kInode:
      if (key.size() != kInodeKeyBytes || !IsObject(LoadBigEndian(rest.data()))) return std::nullopt;
      return KeySpace::kInode;
    case KeySpace::kName:
      if (!IsName(rest)) return std::nullopt;
      return KeySpace::kName;
  }
  return std::nullopt;
}

bool IsWellFormed(std::string_view key, std::string_view value) {
  const std::optional<KeySpace> space = KeySpaceOf(key);
  if (!space) return false;
  if (ParseLost(key, value)) return true;
  switch (*space) {
    case KeySpace::kMapping:
      break;
    case KeySpace::kInode:
      return value.size() > sizeof(uint64_t) &&
             (Load<uint64_t>(value.data()) & ~kPreallocated) <= kObjectBytesMax &&
             IsName(value.substr(sizeof(uint64_t)));
    case KeySpace::kName:
      return value.size() == kNameValueBytes && IsObject(Load<uint64_t>(value.data()));
  }
  return false;
}

std::optional<Inode> ParseInode(std::string_view key, std::string_view value) {
  if (KeySpaceOf(key) != KeySpace::kInode || ParseLost(key, value) || !IsWellFormed(key, value))
    return std::nullopt;
  Inode inode;
  inode.id = ObjectId{LoadBigEndian(key.data() + 1)};
  const uint64_t word = Load<uint64_t>(value.data());
  inode.size_bytes = word & ~kPreallocated;
  inode.preallocated = (word & kPreallocated) != 0;
  inode.name = value.substr(sizeof(uint64_t));
  return inode;
}

std::optional<LostEntries> ParseLost(std::string_view key, std::string_view value) {
  constexpr size_t kFixed = 2 * sizeof(uint64_t);
  if (value.size() < kFixed || Load<uint64_t>(value.data()) != kLost || !KeySpaceOf(key)) return std::nullopt;
  const LostEntries lost{key, value.substr(kFixed),
                         BlockNumber(Load<uint64_t>(value.data() + sizeof(uint64_t)))};
  if (lost.node == 0 || (!lost.limit.empty() && (!KeySpaceOf(lost.limit) || lost.limit <= key))) {
    return std::nullopt;
  }
  return lost;
}

std::optional<std::pair<std::string, ObjectId>> ParseName(std::string_view key, std::string_view value) {
  if (KeySpaceOf(key) != KeySpace::kName || ParseLost(key, value) || !IsWellFormed(key, value))
    return std::nullopt;
  return std::pair(std::string(key.substr(1)), ObjectId{Load<uint64_t>(value.data())});
}

}  // namespace untorn
