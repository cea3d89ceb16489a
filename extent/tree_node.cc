#include "extent/tree_node.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"

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
    const size_t at = Load16(&block[kHeaderBytes + kOffsetBytes * i]);
    if (at < offsets_end || at + kEntryHeaderBytes > kBlockBytes) return Misshapen("entry outside the block");
    const size_t key_bytes = Load16(&block[at]);
    const size_t value_bytes = Load16(&block[at + 2]);
    if (at + kEntryHeaderBytes + key_bytes + value_bytes > kBlockBytes)
      return Misshapen("entry outside the block");
    const char* data = reinterpret_cast<const char*>(&block[at]) + kEntryHeaderBytes;
    const std::string_view key(data, key_bytes);
    if (i > 0 && key <= previous) return Misshapen("keys not ascending");
    previous = key;
    if (level == 0) continue;
    if (value_bytes != kChildBytes || !ParseChildValue({data + key_bytes, value_bytes}))
      return Misshapen("bad child pointer");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const TreeNode>> TreeNode::Parse(std::span<const std::byte> block,
                                                                const Uuid& uuid, BlockPointer pointer) {
  if (absl::Status s = VerifyBlock(block, BlockType::kTreeNode, uuid, pointer.block, "tree node"); !s.ok())
    return s;
  uint64_t checksum;
  std::memcpy(&checksum, &block[offsetof(BlockHeader, checksum)], sizeof(checksum));
  if (checksum != pointer.checksum) {
    return absl::DataLossError(absl::StrCat("tree node at ", pointer.block,
                                            ": wrong identity: another version of the node, checksum 0x",
                                            absl::Hex(checksum, absl::kZeroPad16), ", its parent says 0x",
                                            absl::Hex(pointer.checksum, absl::kZeroPad16)));
  }
  if (absl::Status s = VerifyNode(block); !s.ok()) {
    return absl::DataLossError(absl::StrCat(s.message(), " (block ", pointer.block, ")"));
  }
  std::shared_ptr<TreeNode> node(new TreeNode());
  std::memcpy(node->bytes_, block.data(), kBlockBytes);
  node->level_ = std::to_integer<int>(block[kLevelAt]);
  node->count_ = Load16(&block[kCountAt]);
  node->pointer_ = pointer;
  return std::shared_ptr<const TreeNode>(std::move(node));
}

std::string_view TreeNode::Field(int i, bool want_value) const {
  UNTORN_CHECK(i >= 0 && i < count_, "no such entry");
  const std::byte* entry = bytes_ + Load16(bytes_ + kHeaderBytes + kOffsetBytes * i);
  const size_t key_bytes = Load16(entry);
  const char* data = reinterpret_cast<const char*>(entry) + kEntryHeaderBytes;
  if (!want_value) return {data, key_bytes};
  return {data + key_bytes, Load16(entry + 2)};
}

uint64_t TreeNode::entry_bytes() const {
  uint64_t bytes = 0;
  for (int i = 0; i < count_; ++i) bytes += EntryBytes(key(i), value(i));
  return bytes;
}

std::string_view TreeNode::key(int i) const { return Field(i, false); }
std::string_view TreeNode::value(int i) const { return Field(i, true); }

BlockPointer TreeNode::child(int i) const {
  UNTORN_CHECK(level_ > 0, "a leaf has no children");
  return ParseChildValue(value(i));
}

int TreeNode::FloorIndex(std::string_view key) const {
  int low = 0, high = count_;  // the first entry above `key` is in [low, high]
  while (low < high) {
    const int middle = (low + high) / 2;
    if (this->key(middle) <= key) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low - 1;
}

bool TreeNodeBuilder::Fits(std::string_view key, std::string_view value) const {
  return used_bytes_ + EntryBytes(key, value) <= kBlockBytes;
}

void TreeNodeBuilder::Add(std::string_view key, std::string_view value) {
  UNTORN_CHECK(Fits(key, value), "entry does not fit");
  UNTORN_CHECK(entries_.empty() || entries_.back().first < key, "entries out of order");
  UNTORN_CHECK(level_ == 0 || value.size() == kChildBytes, "not a child pointer");
  entries_.emplace_back(key, value);
  used_bytes_ += EntryBytes(key, value);
}

BlockPointer TreeNodeBuilder::Finish(const Uuid& uuid, uint64_t address, uint64_t generation,
                                     std::span<std::byte> out) {
  UNTORN_CHECK(out.size() == kBlockBytes, "a node is one block");
  BlockHeader header;
  header.type = static_cast<uint16_t>(BlockType::kTreeNode);
  header.uuid = uuid;
  header.address = address;
  header.generation = generation;
  header.payload_bytes = kBlockBytes - kHeaderBytes;
  std::memset(out.data(), 0, out.size());
  std::memcpy(out.data(), &header, sizeof(header));
  out[kLevelAt] = static_cast<std::byte>(level_);
  Store16(&out[kCountAt], entries_.size());
  size_t at = kBlockBytes;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const auto& [key, value] = entries_[i];
    at -= kEntryHeaderBytes + key.size() + value.size();
    Store16(&out[kHeaderBytes + kOffsetBytes * i], at);
    Store16(&out[at], key.size());
    Store16(&out[at + 2], value.size());
    std::memcpy(out.data() + at + kEntryHeaderBytes, key.data(), key.size());
    std::memcpy(out.data() + at + kEntryHeaderBytes + key.size(), value.data(), value.size());
  }
  const absl::Status verified = VerifyNode(out);
  UNTORN_CHECK(verified.ok(), "built a bad tree node");
  Take();
  return {address, SealBlock(out)};
}

std::vector<std::pair<std::string, std::string>> TreeNodeBuilder::Take() {
  used_bytes_ = kHeaderBytes;
  return std::exchange(entries_, {});
}

}  // namespace untorn
