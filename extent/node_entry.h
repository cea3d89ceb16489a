// Defines the entries of a node of the mapping tree, as values and as bytes.
//
// An entry leads from a key to a value. The entries of a node lie one behind the other, in key order. Numbers
// are told as differences from the entry before, so a mapping of one block takes about five bytes, and eight more
// for the checksum of its data.
//
// BYTES          PRESENT IN                   DESCRIPTION
// 1              all                          tag
// varint         tag bit 1                    the object, less the object of the entry before
// varint         tag bit 2                    the logical block, less the end of the mapping before
// varint         leaf, tag bit 0, bits 4-7=0  count of blocks, which is 16 or more
// varint         tag bit 3                    0 if the extent is unwritten; else the log epoch in which the
//                                             blocks were opened
// varint, bytes  not tag bit 0                length of the key, key
// varint, bytes  leaf, not tag bit 0          length of the value, value
// varint         tag bit 0, or internal       the physical block, less the end of the extent before, in zigzag
// 8              internal                     checksum of the child
// 8 a block      leaf, tag bit 0, written     checksums of the blocks (extent/checksums.h)
//
// TAG BIT
// 0     the key is that of a mapping, and is told by numbers; else the whole tag is 0
// 1     the object is another than before; "the mapping before" then ends at block 0
// 2     blocks that are not mapped come before
// 3     leaf: the extent is unwritten, or is written and open
// 4-7   leaf: count of blocks, 1 to 15
//
// Before the first entry the object, the end of the mapping and the end of the extent are 0. Behind an entry
// without a mapping's key the object and the end of the mapping are 0, and in a leaf the end of the extent too.
// An internal entry counts as a mapping of one block: the block of the child.
//
// A varint has 7 bits in a byte, the lowest first. Bit 7 says that more bytes follow, and the last byte is not
// 0 unless it is the only one. Zigzag is 0, -1, 1, -2 and so on. So every entry has exactly one encoding.
#ifndef UNTORN_EXTENT_NODE_ENTRY_H_
#define UNTORN_EXTENT_NODE_ENTRY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "extent/tree_keys.h"
#include "extent/types.h"

namespace untorn {

// Holds the key of an entry: the key of a mapping by value, and any other key as a view.
class NodeKey {
 public:
  explicit NodeKey(std::string_view other) : mapping_(ObjectId::kNone, 0), other_(other) {}
  NodeKey(ObjectId object, ObjectBlock block) : mapping_(object, block) {}
  operator std::string_view() const { return other_.empty() ? std::string_view(mapping_) : other_; }
  friend bool operator==(const NodeKey& a, std::string_view b) { return std::string_view(a) == b; }

 private:
  MappingKeyBytes mapping_;
  std::string_view other_;  // no key is empty
};

// One entry. Views are of the node, or of whatever the entry was made from.
struct NodeEntry {
  // The mapping of a leaf. Of an internal node: the child's block as the extent, and the key as the logical
  // block. The object is kNone if the key is not that of a mapping.
  MappingEntry mapping;
  std::string_view other_key;
  std::string_view value;  // of a leaf's entry that is not a mapping
  uint64_t checksum = 0;   // of the child

  static NodeEntry OfMapping(ObjectId object, const Mapping& mapping) { return {{object, mapping}, {}, {}}; }
  static NodeEntry OfPoint(std::string_view key, std::string_view value) { return {{}, key, value}; }
  static NodeEntry OfChild(std::string_view key, BlockPointer child);

  bool has_mapping_key() const { return mapping.object != ObjectId::kNone; }
  NodeKey key() const {
    return has_mapping_key() ? NodeKey(mapping.object, mapping.mapping.logical.start) : NodeKey(other_key);
  }
  BlockPointer child() const { return {mapping.mapping.physical, checksum}; }
  std::optional<LostEntries> lost() const {
    return has_mapping_key() ? std::nullopt : ParseLost(other_key, value);
  }
};

// What the numbers of the next entry are told from.
struct NodeEntryBase {
  ObjectId object = ObjectId::kNone;
  ObjectBlock end;
  BlockNumber physical_end;
  bool operator==(const NodeEntryBase&) const = default;

  void Pass(const NodeEntry& entry) {
    const Mapping& m = entry.mapping.mapping;
    object = entry.mapping.object;
    end = m.logical.end();
    physical_end = m.extent().end();
  }
};

// An entry with a mapping's key has no more bytes than this, besides the checksums of its blocks.
inline constexpr size_t kNumberEntryBytesMax = 1 + 9 + 7 + 1 + 9 + 10;
// Bounds the bytes of `entry`, wherever it stands.
size_t EntryBytesMax(const NodeEntry& entry);
// Encodes an entry of a node of `level`, and returns the end. `out` has room for EntryBytesMax(entry). A mapping
// does not begin before `base`, if both are of one object.
std::byte* EncodeEntry(const NodeEntry& entry, int level, const NodeEntryBase& base, std::byte* out);

// Reads the entries of a node one after another. Any bytes may be read.
class NodeReader {
 public:
  NodeReader() = default;
  // Stands before the entry at [begin, …), which has the number `index`. The entries of the node end at `end`.
  NodeReader(const std::byte* block, int level, size_t begin, size_t end, const NodeEntryBase& base = {},
             int index = 0)
      : block_(block),
        level_(level),
        index_(index - 1),
        begin_(static_cast<uint32_t>(begin)),
        next_(static_cast<uint32_t>(begin)),
        end_(static_cast<uint32_t>(end)),
        base_(base) {}

  // Goes to the following entry. Returns false at the end, and if the bytes there are no entry.
  bool Next();
  bool at_end() const { return next_ == end_; }
  // Returns the number of the entry. Before the first Next() it is one less than that of the next entry.
  int index() const { return index_; }
  const NodeEntry& entry() const { return entry_; }
  // The entry is at bytes [begin, next) of the block.
  size_t begin() const { return begin_; }
  size_t next() const { return next_; }
  const NodeEntryBase& base() const { return base_; }  // behind the entry

 private:
  bool ReadNumbers(uint8_t tag, const std::byte*& at);
  bool ReadExtent(const std::byte*& at);
  bool ReadChecksums(const std::byte*& at);

  const std::byte* block_ = nullptr;
  int level_ = 0;
  int index_ = -1;
  uint32_t begin_ = 0, next_ = 0, end_ = 0;
  NodeEntryBase base_;
  NodeEntry entry_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_NODE_ENTRY_H_
