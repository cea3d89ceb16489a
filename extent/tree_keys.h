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

#include <optional>
#include <string>
#include <string_view>

#include "extent/types.h"

namespace untorn {

enum class KeySpace : uint8_t { kMapping = 1, kInode = 2, kName = 3 };

std::string MappingKey(ObjectId object, uint64_t logical_block);
std::string InodeKey(ObjectId object);
std::string NameKey(std::string_view name);

std::string MappingValue(uint64_t physical, uint32_t count, MappingState state);
std::string InodeValue(const Inode& inode);
std::string NameValue(ObjectId object);

struct MappingEntry {
  ObjectId object = ObjectId::kNone;
  Mapping mapping;  // lsn 0
};

// Each returns nothing if key or value is not well-formed for its key space (lengths, state, object within
// kNumberMax, non-zero object and count, physical block non-zero, end within kObjectBlocksMax, name 1..255 bytes without NUL).
std::optional<KeySpace> KeySpaceOf(std::string_view key);
std::optional<MappingEntry> ParseMapping(std::string_view key, std::string_view value);
std::optional<Inode> ParseInode(std::string_view key, std::string_view value);
std::optional<std::pair<std::string, ObjectId>> ParseName(std::string_view key, std::string_view value);

}  // namespace untorn

#endif  // UNTORN_EXTENT_TREE_KEYS_H_
