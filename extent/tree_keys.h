// The key spaces of the mapping tree, and how keys and values are encoded.
//
// KEY                                        VALUE
// 0x01, u64 BE object, u64 BE logical block  u64 physical block, u32 blocks, u32 state (1 written,
//                                            2 unwritten)
// 0x02, u64 BE object                        u64 size in bytes, name
// 0x03, name                                 u64 object
//
// Big-endian inside keys, so that byte order is numeric order; values are little-endian. A mapping of more
// than 2^32-1 blocks is several entries. Holes have no entry.
#ifndef UNTORN_EXTENT_TREE_KEYS_H_
#define UNTORN_EXTENT_TREE_KEYS_H_

#include <algorithm>
#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "extent/types.h"

namespace untorn {

enum class KeySpace : uint8_t { kMapping = 1, kInode = 2, kName = 3 };

inline constexpr size_t kMappingKeyBytes = 17, kMappingValueBytes = 16;

// The key and the value of a mapping as bytes that need no allocation.
class MappingKeyBytes {
 public:
  MappingKeyBytes(ObjectId object, ObjectBlock block) {
    bytes_[0] = static_cast<char>(KeySpace::kMapping);
    const uint64_t words[] = {__builtin_bswap64(Value(object)), __builtin_bswap64(block.value())};
    std::memcpy(&bytes_[1], words, sizeof(words));
  }
  operator std::string_view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::array<char, kMappingKeyBytes> bytes_;
};

inline bool IsMappingKey(std::string_view key) {
  return key.size() == kMappingKeyBytes && key[0] == static_cast<char>(KeySpace::kMapping);
}
// The object and the logical block of such a key.
inline std::pair<ObjectId, ObjectBlock> MappingKeyNumbers(const char* key) {
  uint64_t words[2];
  std::memcpy(words, key + 1, sizeof(words));
  return {ObjectId{__builtin_bswap64(words[0])}, ObjectBlock(__builtin_bswap64(words[1]))};
}

class MappingValueBytes {
 public:
  MappingValueBytes(BlockNumber physical, BlockCount count, MappingState state) {
    const uint32_t words[] = {static_cast<uint32_t>(count.value()), static_cast<uint32_t>(state)};
    std::memcpy(&bytes_[0], &physical, sizeof(physical));
    std::memcpy(&bytes_[8], words, sizeof(words));
  }
  operator std::string_view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::array<char, kMappingValueBytes> bytes_;
};

// Keys compare as byte strings, the shorter first: as std::string_view does, but without a call for short keys.
inline std::strong_ordering CompareKeys(std::string_view a, std::string_view b) {
  const auto word = [](std::string_view key, size_t at) {
    uint64_t v;
    std::memcpy(&v, key.data() + at, sizeof(v));
    return __builtin_bswap64(v);
  };
  const size_t n = std::min(a.size(), b.size());
  if (n < 8) return a <=> b;
  for (size_t at = 0; at + 8 <= n; at += 8) {
    const uint64_t x = word(a, at), y = word(b, at);
    if (x != y) return x <=> y;
  }
  // The rest, together with bytes before it that are equal.
  const uint64_t x = word(a, n - 8), y = word(b, n - 8);
  return x != y ? x <=> y : a.size() <=> b.size();
}

std::string MappingKey(ObjectId object, ObjectBlock block);
std::string InodeKey(ObjectId object);
std::string NameKey(std::string_view name);

std::string MappingValue(BlockNumber physical, BlockCount count, MappingState state);
std::string InodeValue(const Inode& inode);
std::string NameValue(ObjectId object);

inline constexpr BlockCount kMappingEntryBlocksMax{UINT32_MAX};

struct MappingEntry {
  ObjectId object = ObjectId::kNone;
  Mapping mapping;  // lsn 0

  // Whether one entry can say what this one and `next` say.
  bool Continues(const MappingEntry& next) const { return Continues(next.object, next.mapping); }
  bool Continues(ObjectId next_object, const Mapping& next) const {
    return object == next_object && mapping.logical.end() == next.logical.start &&
           mapping.state == next.state && mapping.extent().end() == next.physical &&
           mapping.logical.count + next.logical.count <= kMappingEntryBlocksMax;
  }
};

// Each returns nothing if key or value is not well-formed for its key space (lengths, state, object within
// kNumberMax, non-zero object and count, physical block non-zero, end within kObjectBlocksMax, name 1..255 bytes without NUL).
std::optional<KeySpace> KeySpaceOf(std::string_view key);
// Whether one of the three below would return something.
bool IsWellFormed(std::string_view key, std::string_view value);
std::optional<MappingEntry> ParseMapping(std::string_view key, std::string_view value);
// The same, into *entry, of which only what key and value say is changed. False: not well-formed.
inline bool ParseMapping(std::string_view key, std::string_view value, MappingEntry* entry) {
  if (!IsMappingKey(key) || value.size() != kMappingValueBytes) return false;
  const auto [object, start] = MappingKeyNumbers(key.data());
  BlockNumber physical;
  uint32_t words[2];  // blocks, state
  std::memcpy(&physical, value.data(), sizeof(physical));
  std::memcpy(words, value.data() + sizeof(physical), sizeof(words));
  const BlockCount count(words[0]);
  entry->object = object;
  entry->mapping.logical = {start, count};
  entry->mapping.physical = physical;
  entry->mapping.state = static_cast<MappingState>(words[1]);
  return object > ObjectId::kNone && Value(object) <= kNumberMax && start < kObjectEnd && count > 0 &&
         start + count <= kObjectEnd && physical > 0 && physical <= BlockNumber::Max() - count &&
         (words[1] == static_cast<uint32_t>(MappingState::kWritten) ||
          words[1] == static_cast<uint32_t>(MappingState::kUnwritten));
}
std::optional<Inode> ParseInode(std::string_view key, std::string_view value);
std::optional<std::pair<std::string, ObjectId>> ParseName(std::string_view key, std::string_view value);

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_KEYS_H_
