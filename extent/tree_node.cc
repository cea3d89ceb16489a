#include "extent/tree_node.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "extent/tree_keys.h"

namespace untorn {
namespace {

constexpr size_t kLevelAt = offsetof(BlockHeader, by_type);
constexpr size_t kCountAt = kLevelAt + 2;
constexpr size_t kOffsetBytes = 2;
constexpr size_t kEntryHeaderBytes = 4;
constexpr size_t kChildBytes = 16;

uint16_t Load16(const std::byte* at) {
  uint16_t v;
  std::memcpy(&v, at, sizeof(v));
  return v;
}
void Store16(std::byte* at, size_t v) {
  const uint16_t narrow = static_cast<uint16_t>(v);
  std::memcpy(at, &narrow, sizeof(narrow));
}

size_t EntryBytes(std::string_view key, std::string_view value) {
  return kOffsetBytes + kEntryHeaderBytes + key.size() + value.size();
}

// Both read entry `i` of a block that is known to be well-formed.
std::string_view KeyAt(const std::byte* block, int i) {
  const std::byte* entry = block + Load16(block + kHeaderBytes + kOffsetBytes * i);
  return {reinterpret_cast<const char*>(entry) + kEntryHeaderBytes, Load16(entry)};
}
std::string_view ValueAt(const std::byte* block, int i) {
  const std::byte* entry = block + Load16(block + kHeaderBytes + kOffsetBytes * i);
  return {reinterpret_cast<const char*>(entry) + kEntryHeaderBytes + Load16(entry), Load16(entry + 2)};
}

absl::Status Misshapen(std::string_view why) {
  return absl::DataLossError(
      absl::StrCat("tree node: bad structure: ", absl::string_view(why.data(), why.size())));
}

}  // namespace

std::string ChildValue(BlockPointer pointer) {
  std::string value(kChildBytes, '\0');
  std::memcpy(value.data(), &pointer.block, 8);
  std::memcpy(value.data() + 8, &pointer.checksum, 8);
  return value;
}

BlockPointer ParseChildValue(std::string_view value) {
  UNTORN_CHECK(value.size() == kChildBytes, "not a child pointer");
  BlockPointer pointer;
  std::memcpy(&pointer.block, value.data(), 8);
  std::memcpy(&pointer.checksum, value.data() + 8, 8);
  return pointer;
}

absl::Status VerifyNode(std::span<const std::byte> block) {
  if (block.size() != kBlockBytes) return Misshapen("not one block");
  const int level = std::to_integer<int>(block[kLevelAt]);
  const size_t count = Load16(&block[kCountAt]);
  uint32_t payload_bytes;
  std::memcpy(&payload_bytes, &block[offsetof(BlockHeader, payload_bytes)], sizeof(payload_bytes));
  if (payload_bytes != kBlockBytes - kHeaderBytes) return Misshapen("payload is not the rest of the block");
  if (level > kTreeLevelMax) return Misshapen("level above 15");
  if (count == 0 && level > 0) return Misshapen("internal node without entries");
  const size_t offsets_end = kHeaderBytes + kOffsetBytes * count;
  if (offsets_end > kBlockBytes) return Misshapen("more offsets than fit");
  std::string_view previous;
  for (size_t i = 0; i < count; ++i) {
    // The block may hold anything, so every offset and length is checked before it is used.
    const size_t at = Load16(&block[kHeaderBytes + kOffsetBytes * i]);
    if (at < offsets_end || at + kEntryHeaderBytes > kBlockBytes) return Misshapen("entry outside the block");
    const size_t key_bytes = Load16(&block[at]);
    const size_t value_bytes = Load16(&block[at + 2]);
    if (at + kEntryHeaderBytes + key_bytes + value_bytes > kBlockBytes)
      return Misshapen("entry outside the block");
    const char* data = reinterpret_cast<const char*>(&block[at]) + kEntryHeaderBytes;
    const std::string_view key(data, key_bytes);
    if (i > 0 && CompareKeys(key, previous) <= 0) return Misshapen("keys not ascending");
    previous = key;
    if (level == 0) continue;
    if (value_bytes != kChildBytes || !ParseChildValue({data + key_bytes, value_bytes}))
      return Misshapen("bad child pointer");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const TreeNode>> TreeNode::Parse(std::span<const std::byte> block,
                                                                const Uuid& uuid, BlockPointer pointer) {
  if (absl::Status s = VerifyBlock(block, BlockType::kTreeNode, uuid, pointer.block.value(), "tree node");
      !s.ok())
    return s;
  uint64_t checksum;
  std::memcpy(&checksum, &block[offsetof(BlockHeader, checksum)], sizeof(checksum));
  // The block is sound, but it may be another version of the node than its parent means.
  if (checksum != pointer.checksum) {
    return absl::DataLossError(absl::StrCat("tree node at ", pointer.block.value(),
                                            ": wrong identity: another version of the node, checksum 0x",
                                            absl::Hex(checksum, absl::kZeroPad16), ", its parent says 0x",
                                            absl::Hex(pointer.checksum, absl::kZeroPad16)));
  }
  if (absl::Status s = VerifyNode(block); !s.ok()) {
    return absl::DataLossError(absl::StrCat(s.message(), " (block ", pointer.block.value(), ")"));
  }
  return OfSealed(block, pointer);
}

std::shared_ptr<const TreeNode> TreeNode::OfSealed(std::span<const std::byte> block, BlockPointer pointer) {
  std::shared_ptr<TreeNode> node(new TreeNode());
  std::memcpy(node->bytes_, block.data(), kBlockBytes);
  node->level_ = std::to_integer<int>(block[kLevelAt]);
  node->count_ = Load16(&block[kCountAt]);
  node->pointer_ = pointer;
  for (int i = 0; i < node->count_; ++i) {
    const std::byte* entry = &block[Load16(&block[kHeaderBytes + kOffsetBytes * i])];
    node->entry_bytes_ += kOffsetBytes + kEntryHeaderBytes + Load16(entry) + Load16(entry + 2);
  }
  return node;
}

std::string_view TreeNode::key(int i) const {
  UNTORN_CHECK(i >= 0 && i < count_, "no such entry");
  return KeyAt(bytes_, i);
}
std::string_view TreeNode::value(int i) const {
  UNTORN_CHECK(i >= 0 && i < count_, "no such entry");
  return ValueAt(bytes_, i);
}

std::pair<std::string_view, std::string_view> TreeNode::entry(int i) const {
  UNTORN_CHECK(i >= 0 && i < count_, "no such entry");
  const std::byte* const entry = bytes_ + Load16(bytes_ + kHeaderBytes + kOffsetBytes * i);
  const char* const data = reinterpret_cast<const char*>(entry) + kEntryHeaderBytes;
  const size_t key_bytes = Load16(entry);
  return {{data, key_bytes}, {data + key_bytes, Load16(entry + 2)}};
}

BlockPointer TreeNode::child(int i) const {
  UNTORN_CHECK(level_ > 0, "a leaf has no children");
  return ParseChildValue(value(i));
}

int TreeNode::FloorIndex(std::string_view key) const {
  if (IsMappingKey(key)) return FloorIndexOfMapping(key);
  int low = 0, high = count_;  // the first entry above `key` is in [low, high]
  while (low < high) {
    const int middle = (low + high) / 2;
    if (CompareKeys(KeyAt(bytes_, middle), key) <= 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low - 1;
}

int TreeNode::FloorIndexOfMapping(std::string_view wanted_key) const {
  const auto [object, block] = MappingKeyNumbers(wanted_key.data());
  int low = 0, high = count_;
  while (low < high) {
    const int middle = (low + high) / 2;
    const std::byte* const entry = bytes_ + Load16(bytes_ + kHeaderBytes + kOffsetBytes * middle);
    const char* const key = reinterpret_cast<const char*>(entry) + kEntryHeaderBytes;
    // A leaf may hold entries of several key spaces.
    bool below_or_equal;
    if (const std::string_view entry_key(key, Load16(entry)); IsMappingKey(entry_key)) {
      const auto [entry_object, entry_block] = MappingKeyNumbers(key);
      below_or_equal = entry_object != object ? entry_object < object : entry_block <= block;
    } else {
      below_or_equal = CompareKeys(entry_key, wanted_key) <= 0;
    }
    if (below_or_equal) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low - 1;
}

bool TreeNodeBuilder::Fits(std::string_view key, std::string_view value) const {
  return used_bytes() + EntryBytes(key, value) <= kBlockBytes;
}

std::string_view TreeNodeBuilder::key(int i) const {
  UNTORN_CHECK(i >= 0 && i < count(), "no such entry");
  return KeyAt(block_->bytes.data(), i);
}
std::string_view TreeNodeBuilder::value(int i) const {
  UNTORN_CHECK(i >= 0 && i < count(), "no such entry");
  return ValueAt(block_->bytes.data(), i);
}

void TreeNodeBuilder::Add(std::string_view key, std::string_view value) {
  UNTORN_CHECK(Fits(key, value), "entry does not fit");
  std::byte* const block = block_->bytes.data();
  UNTORN_CHECK(count_ == 0 || CompareKeys(KeyAt(block, count() - 1), key) < 0, "entries out of order");
  UNTORN_CHECK(level_ == 0 || value.size() == kChildBytes, "not a child pointer");
  entries_start_ -= kEntryHeaderBytes + key.size() + value.size();
  std::byte* const entry = block + entries_start_;
  Store16(block + kHeaderBytes + kOffsetBytes * count_, entries_start_);
  Store16(entry, key.size());
  Store16(entry + 2, value.size());
  std::memcpy(entry + kEntryHeaderBytes, key.data(), key.size());
  std::memcpy(entry + kEntryHeaderBytes + key.size(), value.data(), value.size());
  ++count_;
}

int TreeNodeBuilder::AddRun(const TreeNode& from, int first, int last) {
  UNTORN_CHECK(from.level() == level_, "entries of another level");
  std::byte* const block = block_->bytes.data();
  UNTORN_CHECK(count_ == 0 || CompareKeys(KeyAt(block, count() - 1), from.key(first)) < 0,
               "entries out of order");
  const std::byte* const offsets = from.bytes_ + kHeaderBytes;
  const auto offset_of = [&](int i) { return size_t{Load16(offsets + kOffsetBytes * i)}; };
  int done = first;
  while (done < last) {
    // A builder leaves entries one below the other. Such entries are copied at once.
    size_t room = kBlockBytes - used_bytes();
    const size_t begin = offset_of(done);
    size_t end = begin;  // the run is [end, top)
    size_t top = 0, start = entries_start_;
    const int run = done;
    for (; done < last; ++done) {
      const size_t at = done == run ? begin : offset_of(done);
      const size_t bytes = kEntryHeaderBytes + Load16(from.bytes_ + at) + Load16(from.bytes_ + at + 2);
      if (room < kOffsetBytes + bytes) break;
      if (done == run) {
        top = at + bytes;
      } else if (at + bytes != end) {
        break;
      }
      end = at;
      room -= kOffsetBytes + bytes;
      start -= bytes;
      Store16(block + kHeaderBytes + kOffsetBytes * count_, start);
      ++count_;
    }
    if (done == run) break;  // full
    std::memcpy(block + start, from.bytes_ + end, top - end);
    entries_start_ = start;
  }
  return done - first;
}

BlockPointer TreeNodeBuilder::Seal(const Uuid& uuid, BlockNumber address, Generation generation) {
  BlockHeader header;
  header.type = static_cast<uint16_t>(BlockType::kTreeNode);
  header.uuid = uuid;
  header.address = address.value();
  header.generation = generation.value();
  header.payload_bytes = kBlockBytes - kHeaderBytes;
  const std::span<std::byte> out(block_->bytes);
  std::memcpy(out.data(), &header, sizeof(header));
  out[kLevelAt] = static_cast<std::byte>(level_);
  Store16(&out[kCountAt], count_);
  // An earlier node may have left bytes between the offsets and the entries.
  const size_t offsets_end = kHeaderBytes + kOffsetBytes * count_;
  std::memset(out.data() + offsets_end, 0, entries_start_ - offsets_end);
  const absl::Status verified = VerifyNode(out);
  UNTORN_CHECK(verified.ok(), "built a bad tree node");
  return {address, SealBlock(out)};
}

void TreeNodeBuilder::Clear() {
  count_ = 0;
  entries_start_ = kBlockBytes;
}

BlockPointer TreeNodeBuilder::Finish(const Uuid& uuid, BlockNumber address, Generation generation,
                                     std::span<std::byte> out) {
  UNTORN_CHECK(out.size() == kBlockBytes, "a node is one block");
  const BlockPointer pointer = Seal(uuid, address, generation);
  std::memcpy(out.data(), block_->bytes.data(), kBlockBytes);
  Clear();
  return pointer;
}

std::vector<std::pair<std::string, std::string>> TreeNodeBuilder::Take() {
  std::vector<std::pair<std::string, std::string>> entries;
  for (int i = 0; i < count(); ++i) entries.emplace_back(key(i), value(i));
  Clear();
  return entries;
}

}  // namespace untorn
