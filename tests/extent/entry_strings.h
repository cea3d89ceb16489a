// The entries of tree nodes as pairs of strings, for tests that make them, change them and compare them.
#ifndef UNTORN_TESTS_EXTENT_ENTRY_STRINGS_H_
#define UNTORN_TESTS_EXTENT_ENTRY_STRINGS_H_

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "extent/node_entry.h"
#include "extent/tree_keys.h"
#include "extent/tree_node.h"
#include "tests/extent/test_checksums.h"

namespace untorn {

// A key, and a value of the functions below or of extent/tree_keys.h.
using EntryStrings = std::pair<std::string, std::string>;

// The value of a mapping's entry: place, count and state, log epoch of the opening, checksums.
inline std::string MappingValue(const Mapping& m) {
  std::string value(24, '\0');
  const uint64_t words[] = {m.physical.value(),
                            m.logical.count.value() | static_cast<uint64_t>(m.state) << 32, m.opened.value()};
  std::memcpy(value.data(), words, sizeof(words));
  if (m.checksums) {
    value.append(reinterpret_cast<const char*>(m.checksums.bytes()),
                 m.logical.count.value() * kChecksumBytes);
  }
  return value;
}
// Does the same with the checksums of test_checksums.h.
inline std::string MappingValue(BlockNumber physical, BlockCount count, MappingState state) {
  Mapping m;
  m.logical.count = count;
  m.physical = physical;
  m.state = state;
  return MappingValue(WithTestChecksums(m));
}
inline std::string ChildValue(BlockPointer child) {
  std::string value(16, '\0');
  const uint64_t words[] = {child.block.value(), child.checksum};
  std::memcpy(value.data(), words, sizeof(words));
  return value;
}

// Returns the mapping, with views of `value`.
inline std::optional<MappingEntry> ParseMapping(std::string_view key, std::string_view value) {
  if (KeySpaceOf(key) != KeySpace::kMapping || value.size() < 24) return std::nullopt;
  uint64_t words[3];
  std::memcpy(words, value.data(), sizeof(words));
  const auto [object, start] = MappingKeyNumbers(key.data());
  const BlockCount count(words[1] & UINT32_MAX);
  const auto state = static_cast<MappingState>(words[1] >> 32);
  const BlockNumber physical(words[0]);
  if (count == 0 || start + count > kObjectEnd || physical == 0 || physical > BlockNumber::Max() - count ||
      words[1] >> 32 > 2 || state == MappingState::kHole || count > MappingEntryBlocksMax(state)) {
    return std::nullopt;
  }
  const bool written = state == MappingState::kWritten;
  if (value.size() != 24 + (written ? count.value() * kChecksumBytes : 0)) return std::nullopt;
  if (words[2] > kNumberMax || (!written && words[2] != 0)) return std::nullopt;
  MappingEntry entry;
  entry.object = object;
  entry.mapping.logical = {start, count};
  entry.mapping.physical = physical;
  entry.mapping.state = state;
  entry.mapping.opened = LogEpoch(words[2]);
  if (written) entry.mapping.checksums = ChecksumsRef(reinterpret_cast<const std::byte*>(value.data()) + 24);
  return entry;
}
inline std::optional<BlockPointer> ParseChild(std::string_view value) {
  if (value.size() != 16) return std::nullopt;
  uint64_t words[2];
  std::memcpy(words, value.data(), sizeof(words));
  if (words[0] == 0 || words[0] == UINT64_MAX) return std::nullopt;
  return BlockPointer{BlockNumber(words[0]), words[1]};
}

inline EntryStrings StringsOf(const NodeEntry& entry, int level) {
  std::string key(std::string_view(entry.key()));
  if (level > 0) return {std::move(key), ChildValue(entry.child())};
  const Mapping& m = entry.mapping.mapping;
  if (!entry.has_mapping_key()) return {std::move(key), std::string(entry.value)};
  return {std::move(key), MappingValue(m)};
}

// Returns the entry, with views of `strings`. Returns nullopt if no sound node of `level` can hold it.
inline std::optional<NodeEntry> EntryOf(const EntryStrings& strings, int level) {
  const auto& [key, value] = strings;
  if (!KeySpaceOf(key)) return std::nullopt;
  if (level > 0) {
    const std::optional<BlockPointer> child = ParseChild(value);
    return child ? std::optional(NodeEntry::OfChild(key, *child)) : std::nullopt;
  }
  if (const auto m = ParseMapping(key, value)) return NodeEntry::OfMapping(m->object, m->mapping);
  return IsWellFormed(key, value) ? std::optional(NodeEntry::OfPoint(key, value)) : std::nullopt;
}

template <typename Node>  // TreeNode or TreeNodeBuilder
std::vector<EntryStrings> StringsOf(const Node& node) {
  std::vector<EntryStrings> entries;
  for (NodeReader at = node.reader(); at.Next();) entries.push_back(StringsOf(at.entry(), node.level()));
  return entries;
}

}  // namespace untorn

#endif  // UNTORN_TESTS_EXTENT_ENTRY_STRINGS_H_
