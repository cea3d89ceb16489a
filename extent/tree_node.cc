#include "extent/tree_node.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "extent/tree_keys.h"

namespace untorn {
namespace {

constexpr size_t kLevelAt = offsetof(BlockHeader, by_type);
constexpr size_t kCountAt = kLevelAt + 2;
constexpr size_t kPayloadAt = offsetof(BlockHeader, payload_bytes);

template <typename T>
T Load(const std::byte* at) {
  T v;
  std::memcpy(&v, at, sizeof(v));
  return v;
}

absl::Status Misshapen(std::string_view why) {
  return absl::DataLossError(
      absl::StrCat("tree node: bad structure: ", absl::string_view(why.data(), why.size())));
}

// Compares the keys of entries with one key. Keys of mappings are compared as numbers.
class KeyComparer {
 public:
  explicit KeyComparer(std::string_view key) : key_(key) {
    if (IsMappingKey(key)) std::tie(object_, block_) = MappingKeyNumbers(key.data());
  }
  bool IsFloor(const NodeEntry& entry) const {  // the entry's key is <= the key
    if (object_ == ObjectId::kNone || !entry.has_mapping_key()) return CompareKeys(entry.key(), key_) <= 0;
    const MappingEntry& m = entry.mapping;
    return m.object != object_ ? m.object < object_ : m.mapping.logical.start <= block_;
  }

 private:
  const std::string_view key_;
  ObjectId object_ = ObjectId::kNone;
  ObjectBlock block_;
};

// Checks what NodeReader does not: the entry by itself, and beside the entry before it.
absl::Status VerifyEntry(const NodeEntry& entry, int level, const NodeEntry* before) {
  if (!entry.has_mapping_key()) {
    const std::optional<KeySpace> space = KeySpaceOf(entry.other_key);
    if (!space) return Misshapen("a key of no key space");
    if (level > 0 && *space == KeySpace::kMapping)
      return Misshapen("a mapping's key that is not told by numbers");
    if (level == 0 && !IsWellFormed(entry.other_key, entry.value)) return Misshapen("an ill-formed value");
  }
  if (before == nullptr) return absl::OkStatus();
  // The encoding lets mappings only follow one another.
  if (entry.has_mapping_key() && before->has_mapping_key()) return absl::OkStatus();
  if (CompareKeys(before->key(), entry.key()) >= 0) return Misshapen("keys not ascending");
  if (before->has_mapping_key()) {
    const Mapping& m = before->mapping.mapping;
    const bool overlap =
        level == 0 && CompareKeys(MappingKeyBytes(before->mapping.object, m.logical.end()), entry.key()) > 0;
    return overlap ? Misshapen("what is lost was mapped before") : absl::OkStatus();
  }
  const std::optional<LostEntries> lost = level == 0 ? before->lost() : std::nullopt;
  if (lost && (lost->limit.empty() || CompareKeys(lost->limit, entry.key()) > 0)) {
    return Misshapen("what is lost reaches into the following entry");
  }
  return absl::OkStatus();
}

}  // namespace

// Verifies a node, and gives `node` its level, counts and marks, unless `node` is nullptr.
absl::Status VerifyEntries(std::span<const std::byte> block, TreeNode* node) {
  if (block.size() != kBlockBytes) return Misshapen("not one block");
  const int level = std::to_integer<int>(block[kLevelAt]);
  const int count = Load<uint16_t>(&block[kCountAt]);
  const auto entry_bytes = Load<uint32_t>(&block[kPayloadAt]);
  if (entry_bytes > kBlockBytes - kHeaderBytes) return Misshapen("more entries than fit");
  if (level > kTreeLevelMax) return Misshapen("level above 15");
  if (count == 0 && level > 0) return Misshapen("internal node without entries");
  NodeReader reader(block.data(), level, kHeaderBytes, kHeaderBytes + entry_bytes);
  NodeEntry before;
  for (int i = 0; i < count; ++i) {
    const NodeEntryBase base = reader.base();
    if (!reader.Next()) return Misshapen(absl::StrCat("entry ", i, " makes no sense"));
    RETURN_IF_ERROR(VerifyEntry(reader.entry(), level, i > 0 ? &before : nullptr));
    before = reader.entry();
    if (node != nullptr) node->MarkIfDue(base, reader.begin(), i);
  }
  if (!reader.at_end()) return Misshapen("bytes behind the last entry");
  if (node == nullptr) return absl::OkStatus();
  node->level_ = level;
  node->count_ = count;
  node->entry_bytes_ = entry_bytes;
  return absl::OkStatus();
}

absl::Status VerifyNode(std::span<const std::byte> block) { return VerifyEntries(block, nullptr); }

absl::StatusOr<std::shared_ptr<const TreeNode>> TreeNode::Parse(std::span<const std::byte> block,
                                                                const Uuid& uuid, BlockPointer pointer) {
  RETURN_IF_ERROR(VerifyBlock(block, BlockType::kTreeNode, uuid, pointer.block.value(), "tree node"));
  const auto checksum = Load<uint64_t>(&block[offsetof(BlockHeader, checksum)]);
  // The block is sound, but it may be another version of the node than its parent means.
  if (checksum != pointer.checksum) {
    return absl::DataLossError(absl::StrCat("tree node at ", pointer.block.value(),
                                            ": wrong identity: another version of the node, checksum 0x",
                                            absl::Hex(checksum, absl::kZeroPad16), ", its parent says 0x",
                                            absl::Hex(pointer.checksum, absl::kZeroPad16)));
  }
  std::shared_ptr<TreeNode> node(new TreeNode());
  if (const absl::Status verified = VerifyEntries(block, node.get()); !verified.ok()) {
    return absl::DataLossError(absl::StrCat(verified.message(), " (block ", pointer.block.value(), ")"));
  }
  std::memcpy(node->bytes_, block.data(), kBlockBytes);
  node->pointer_ = pointer;
  return node;
}

NodeReader TreeNode::At(int i) const {
  UNTORN_CHECK(i >= 0 && i < count_, "no such entry");
  const auto above = std::upper_bound(marks().begin(), marks().end(), i,
                                      [](int index, const Mark& mark) { return index < mark.index; });
  NodeReader reader = ReaderAt(*(above - 1));
  while (reader.index() < i) UNTORN_CHECK(reader.Next(), "a verified node has a bad entry");
  return reader;
}

NodeReader TreeNode::FloorFrom(const NodeReader& at, std::string_view key, int near,
                               NodeReader* before) const {
  const KeyComparer comparer(key);
  NodeReader floor = at;
  const auto go_on = [&] {
    NodeReader next = floor;
    if (!next.Next() || !comparer.IsFloor(next.entry())) return false;
    if (before != nullptr) *before = floor;
    floor = next;
    return true;
  };
  for (int tried = 0; tried < near; ++tried) {
    if (!go_on()) return floor;
  }
  size_t low = 0, high = mark_count_;  // the first mark whose entry is above `key` is in [low, high]
  while (low < high) {
    const size_t middle = (low + high) / 2;
    NodeReader marked = ReaderAt(marks_[middle]);
    marked.Next();
    if (comparer.IsFloor(marked.entry())) {
      low = middle + 1;
      floor = marked;
    } else {
      high = middle;
    }
  }
  if (low == 0) return floor;
  const int first = floor.index();
  while (go_on()) {
  }
  if (before != nullptr && floor.index() == first && first > 0) *before = At(first - 1);
  return floor;
}

absl::Status TreeNode::CheckInvariants() const {
  size_t marked = 0;
  size_t last_mark = kHeaderBytes;
  NodeReader at = reader();
  for (NodeEntryBase base = at.base(); at.Next(); base = at.base()) {
    const bool is_mark = marked < mark_count_ && marks_[marked].at == at.begin();
    if (is_mark && (marks_[marked].base != base || marks_[marked].index != at.index())) break;
    if (is_mark) last_mark = at.begin(), ++marked;
    if (!is_mark && at.begin() > last_mark + 2 * kMarkBytes) break;
  }
  if (at.at_end() && at.index() + 1 == count_ && marked == mark_count_) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("tree node, marks: mark ", marked, ", entry ", at.index()));
}

void TreeNode::MarkUpTo(size_t end) {
  if (marks_[mark_count_ - 1].at + 2 * kMarkBytes >= end) return;
  NodeReader at = ReaderAt(marks_[mark_count_ - 1]);
  while (at.Next() && at.next() < end) MarkIfDue(at.base(), at.next(), at.index() + 1);
}

BlockPointer TreeNode::child(int i) const {
  UNTORN_CHECK(level_ > 0, "a leaf has no children");
  return At(i).entry().child();
}

bool TreeNodeBuilder::Add(const NodeEntry& entry) {
  const size_t end = used_bytes(), room = kBlockBytes - end, most = EntryBytesMax(entry);
  std::byte* const at = node_->bytes_ + end;
  size_t bytes;
  if (most <= room) {
    bytes = static_cast<size_t>(EncodeEntry(entry, level_, base_, at) - at);
  } else {
    std::array<std::byte, kBlockBytes> scratch;
    if (most > sizeof(scratch)) return false;
    bytes = static_cast<size_t>(EncodeEntry(entry, level_, base_, scratch.data()) - scratch.data());
    if (bytes > room) return false;
    std::memcpy(at, scratch.data(), bytes);
  }
  node_->MarkIfDue(base_, end, node_->count_);
  node_->entry_bytes_ += bytes;
  ++node_->count_;
  base_.Pass(entry);
  return true;
}

NodeReader TreeNodeBuilder::AddRun(const TreeNode& from, const NodeReader& first, const NodeReader& last) {
  UNTORN_CHECK(from.level() == level_ && !empty() && base_ == first.base(),
               "a run does not follow on what was added");
  const size_t begin = first.next(), end = used_bytes(), room = kBlockBytes - end;
  const int index_before = count() - (first.index() + 1);  // what is added to an index of `from`
  NodeReader at = last;
  if (last.next() - begin > room) {
    at = first;
    for (NodeReader next = at; next.Next() && next.next() - begin <= room;) at = next;
  }
  std::memcpy(node_->bytes_ + end, from.bytes_ + begin, at.next() - begin);
  node_->entry_bytes_ += at.next() - begin;
  node_->count_ += at.index() - first.index();
  for (const TreeNode::Mark& mark : from.marks()) {
    if (mark.at < begin) continue;
    if (mark.at >= at.next()) break;
    const size_t place = mark.at - begin + end;
    node_->MarkUpTo(place);
    node_->MarkIfDue(mark.base, place, mark.index + index_before);
  }
  node_->MarkUpTo(used_bytes());
  base_ = at.base();
  return at;
}

std::shared_ptr<const TreeNode> TreeNodeBuilder::Finish(const Uuid& uuid, BlockNumber address,
                                                        Generation generation) {
  const std::shared_ptr<TreeNode> node = std::exchange(node_, nullptr);
  Clear();
  BlockHeader header;
  header.type = static_cast<uint16_t>(BlockType::kTreeNode);
  header.uuid = uuid;
  header.address = address.value();
  header.generation = generation.value();
  header.payload_bytes = static_cast<uint32_t>(node->entry_bytes_);
  header.by_type[0] = static_cast<uint8_t>(level_);
  const auto count = static_cast<uint16_t>(node->count_);
  std::memcpy(&header.by_type[2], &count, sizeof(count));
  const std::span<std::byte> block(node->bytes_);
  std::memcpy(block.data(), &header, sizeof(header));
  std::fill(block.begin() + static_cast<ptrdiff_t>(kHeaderBytes + node->entry_bytes_), block.end(),
            std::byte{0});
  UNTORN_CHECK(VerifyNode(block).ok(), "built a bad tree node");
  node->pointer_ = {address, SealBlock(block)};
  return node;
}

void TreeNodeBuilder::Clear() {
  node_.reset(new TreeNode());
  node_->level_ = level_;
  base_ = {};
}

}  // namespace untorn
