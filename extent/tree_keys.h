// Defines the key spaces of the mapping tree, and the encoding of keys and values.
//
// KEY                                        VALUE
// 0x01, u64 BE object, u64 BE logical block  an extent: physical block, blocks, state (extent/node_entry.h)
// 0x02, u64 BE object                        u64 size in bytes | 2^63 if space was preallocated, name
// 0x03, name                                 u64 object
// any of these                               u64 2^64-1, u64 block, key: nothing is known from here to that key,
//                                            or to the end if there is none. The node at `block` held it.
//
// Numbers in keys are big-endian, so byte order is numeric order. Values are little-endian. A mapping of more
// than MappingEntryBlocksMax() blocks is several entries. Holes have no entry.
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

inline constexpr size_t kMappingKeyBytes = 17;

// Holds the key of a mapping without an allocation.
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
// Returns the object and the logical block of a mapping key.
inline std::pair<ObjectId, ObjectBlock> MappingKeyNumbers(const char* key) {
  uint64_t words[2];
  std::memcpy(words, key + 1, sizeof(words));
  return {ObjectId{__builtin_bswap64(words[0])}, ObjectBlock(__builtin_bswap64(words[1]))};
}

// Compares keys as byte strings, the shorter first, as std::string_view does. Keys of 8 bytes or more need
// no call.
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
  // The last words hold the rest of the keys, and bytes before the rest that are equal.
  const uint64_t x = word(a, n - 8), y = word(b, n - 8);
  return x != y ? x <=> y : a.size() <=> b.size();
}

std::string MappingKey(ObjectId object, ObjectBlock block);
std::string InodeKey(ObjectId object);
std::string NameKey(std::string_view name);

// Describes keys whose entries are lost, because the node that held them is damaged.
struct LostEntries {
  std::string_view first;
  std::string_view limit;  // the first key behind them; empty: there is none
  BlockNumber node;
  bool Cover(std::string_view key) const { return first <= key && (limit.empty() || key < limit); }
};

std::string InodeValue(const Inode& inode);
std::string NameValue(ObjectId object);
std::string LostValue(BlockNumber node, std::string_view limit);

// An entry of a written extent has the checksums of all its blocks. A leaf holds eight of the longest such entries.
inline constexpr BlockCount kWrittenEntryBlocksMax{62};
inline constexpr BlockCount MappingEntryBlocksMax(MappingState state) {
  return state == MappingState::kWritten ? kWrittenEntryBlocksMax : BlockCount(UINT32_MAX);
}

struct MappingEntry {
  ObjectId object = ObjectId::kNone;
  Mapping mapping;  // lsn 0

  // Says whether one entry can say what this entry and `next` say.
  bool Continues(const MappingEntry& next) const { return Continues(next.object, next.mapping); }
  bool Continues(ObjectId next_object, const Mapping& next) const {
    return object == next_object && mapping.logical.end() == next.logical.start &&
           mapping.state == next.state && mapping.opened == next.opened &&
           mapping.extent().end() == next.physical &&
           mapping.logical.count + next.logical.count <= MappingEntryBlocksMax(mapping.state);
  }
};

// Each returns nothing if the key or value is not well-formed for its key space. The rules of each key space
// concern lengths, an object number from 1 to kNumberMax, and a logical block below kObjectEnd. A name has 1 to
// 255 bytes without NUL.
std::optional<KeySpace> KeySpaceOf(std::string_view key);
// Returns the least key of a key space, and the least key behind `key` that is well-formed. The latter is empty
// if there is none.
std::string FirstKeyOf(KeySpace space);
std::string NextKey(std::string_view key);
// Says whether one of the three parsers below would return something.
bool IsWellFormed(std::string_view key, std::string_view value);
std::optional<Inode> ParseInode(std::string_view key, std::string_view value);
std::optional<std::pair<std::string, ObjectId>> ParseName(std::string_view key, std::string_view value);
// Returns views of the arguments.
std::optional<LostEntries> ParseLost(std::string_view key, std::string_view value);

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_KEYS_H_
