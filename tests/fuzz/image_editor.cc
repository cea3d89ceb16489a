#include "tests/fuzz/image_editor.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "extent/free_map_format.h"
#include "extent/tree_keys.h"

namespace untorn {
namespace {

constexpr size_t kSuperblockFields = 23;

template <typename T>
T Load(const BlockBytes& block, size_t at) {
  T value;
  std::memcpy(&value, block.data() + at, sizeof(value));
  return value;
}
template <typename T>
void Store(BlockBytes& block, size_t at, T value) {
  std::memcpy(block.data() + at, &value, sizeof(value));
}

BlockType TypeOf(const BlockBytes& block) {
  return static_cast<BlockType>(Load<uint16_t>(block, offsetof(BlockHeader, type)));
}
uint64_t ChecksumOf(const BlockBytes& block) {
  return Load<uint64_t>(block, offsetof(BlockHeader, checksum));
}

// Where a superblock has its pointers: block, then checksum.
constexpr size_t kTreeRootAt = 184, kMapRootAt = 208;

}  // namespace

// ---- Edits ----

BlockBytes& ImageEditor::Change(size_t index) {
  if (!edited_[index]) edited_[index] = std::make_unique<BlockBytes>(base_.contents[index]);
  return *edited_[index];
}

bool ImageEditor::InRing(size_t index) {
  return index >= kFirstLogBlock && index < kFirstLogBlock + kLogBlocks;
}

std::optional<size_t> ImageEditor::IndexOf(BlockNumber block) const {
  const auto it = std::find(base_.blocks.begin(), base_.blocks.end(), block);
  if (it == base_.blocks.end()) return std::nullopt;
  return it - base_.blocks.begin();
}

void ImageEditor::Edit(std::span<const uint8_t> bytes) {
  Parts edit;
  static_assert(sizeof(edit) == kEditBytes);
  std::memcpy(&edit, bytes.data(), sizeof(edit));
  const size_t index = edit.block % edited_.size();
  if (edit.kind % 16 < 6) return EditBytes(edit, index);
  switch (TypeOf(Block(index))) {
    case BlockType::kSuperblock:
      return EditSuperblock(edit, index);
    case BlockType::kTreeNode:
      return EditNode(edit, index);
    case BlockType::kFreeMapTable:
      return EditTable(edit, index);
    case BlockType::kFreeMapBitmap:
      return EditBitmap(edit, index);
    case BlockType::kLaneRecord:
      return EditRecord(edit, index);
    case BlockType::kLogRecord:
      break;
  }
  if (InRing(index)) EditRecord(edit, index);
}

uint64_t ImageEditor::NewValue(const Parts& edit, uint64_t old) const {
  switch (edit.form % 5) {
    case 0:
      return edit.value;
    case 1:
      return old + static_cast<int8_t>(edit.value);
    case 2:
      return (uint64_t{1} << edit.value % 64) - (edit.value >> 8) % 3;
    case 3:
      return base_.blocks[edit.value % base_.blocks.size()].value();
    default:  // a block of the data area
      return base_.superblock.geometry.log.end().value() + edit.value % 512;
  }
}

template <typename T>
void ImageEditor::ChangeField(const Parts& edit, void* at) const {
  T value;
  std::memcpy(&value, at, sizeof(value));
  value = static_cast<T>(NewValue(edit, value));
  std::memcpy(at, &value, sizeof(value));
}

void ImageEditor::EditBytes(const Parts& edit, size_t index) {
  BlockBytes& block = Change(index);
  const BlockBytes from = Block(edit.other % edited_.size());
  size_t at = edit.at % kBlockBytes;
  // Most of what means something is at the beginning.
  if ((edit.kind & 0x40) != 0) at %= 512;
  if ((edit.kind & 0x80) != 0) at %= 128;
  switch (edit.kind % 16) {
    case 0:
      block[at] ^= static_cast<std::byte>(edit.value);
      break;
    case 1:
      std::memcpy(block.data() + at, &edit.value, std::min(sizeof(edit.value), kBlockBytes - at));
      break;
    case 2:
      if (at + sizeof(uint64_t) <= kBlockBytes) ChangeField<uint64_t>(edit, block.data() + at);
      break;
    case 3: {
      const auto address = Load<uint64_t>(block, offsetof(BlockHeader, address));
      block = from;
      if (edit.form % 2 == 0) Store(block, offsetof(BlockHeader, address), address);
      break;
    }
    case 4:
      block = {};
      break;
    case 5:
      std::memcpy(
          block.data() + at, from.data() + edit.from % kBlockBytes,
          std::min({size_t{edit.value % 256}, kBlockBytes - at, kBlockBytes - edit.from % kBlockBytes}));
      break;
  }
}

void ImageEditor::EditSuperblock(const Parts& edit, size_t index) {
  const size_t field = edit.at % (kSuperblockFields + 1);
  const size_t at = field < kSuperblockFields ? kHeaderBytes + field * 8 : offsetof(BlockHeader, generation);
  ChangeField<uint64_t>(edit, Change(index).data() + at);
}

void ImageEditor::EditNode(const Parts& edit, size_t index) {
  std::optional<Entries> entries = EntriesOf(index);
  if (!entries || entries->empty()) return;
  int level = LevelOf(index);
  auto& entry = (*entries)[edit.at % entries->size()];
  auto& other = (*entries)[edit.from % entries->size()];
  const auto change_key = [&](std::string& key) {  // the number at its end, which is big-endian
    if (key.size() < sizeof(uint64_t)) return;
    std::reverse(key.end() - 8, key.end());
    ChangeField<uint64_t>(edit, key.data() + key.size() - 8);
    std::reverse(key.end() - 8, key.end());
  };
  switch ((edit.kind / 16 + edit.form / 8) % 10) {
    case 0:
      entries->erase(entries->begin() + edit.at % static_cast<ptrdiff_t>(entries->size()));
      break;
    case 1: {
      auto copy = entry;
      change_key(copy.first);
      entries->push_back(std::move(copy));
      break;
    }
    case 2:
      change_key(entry.first);
      break;
    case 3:
      std::swap(entry.second, other.second);
      break;
    case 4:
      if (const auto from = EntriesOf(edit.other % edited_.size()); from && !from->empty())
        entries->push_back((*from)[edit.from % from->size()]);
      break;
    case 5:
      entry.second.resize(edit.value % 300, 'x');
      break;
    case 6:
      level = static_cast<int>(edit.value % (kTreeLevelMax + 1));
      break;
    case 7:
      entry.second = LostValue(BlockNumber(edit.value % 4096), edit.from % 3 == 0 ? "" : other.first);
      break;
    default:
      EditNodeValue(edit, level, entry);
      break;
  }
  PutNode(index, level, *std::move(entries));
}

void ImageEditor::EditNodeValue(const Parts& edit, int level,
                                std::pair<std::string, std::string>& entry) const {
  std::string& value = entry.second;
  if (level == 0 && KeySpaceOf(entry.first) == KeySpace::kMapping && value.size() == 16) {
    switch (edit.from % 4) {
      case 0:
      case 1:
        return ChangeField<uint64_t>(edit, value.data());
      case 2:
        return ChangeField<uint32_t>(edit, value.data() + 8);
      default:
        value[12] = value[12] == 1 ? 2 : 1;
        return;
    }
  }
  if (value.size() < 8) return;
  if (edit.from % 4 == 3) {
    value.back() = static_cast<char>(edit.value);  // of a name, or of a checksum
  } else {
    ChangeField<uint64_t>(edit, value.data());
  }
}

void ImageEditor::EditRecord(const Parts& edit, size_t index) {
  LogRecord record = RecordIn(index).value_or(LogRecord());
  std::vector<LogEntry>& entries = record.entries;
  const auto pick = [](std::vector<LogEntry>& from, uint16_t which) { return from[which % from.size()]; };
  switch ((edit.kind / 16 + edit.form / 8) % 10) {
    case 0:
      if (!entries.empty()) entries.erase(entries.begin() + edit.at % static_cast<ptrdiff_t>(entries.size()));
      break;
    case 1:
      if (!entries.empty()) entries.push_back(pick(entries, edit.at));
      break;
    case 2:
      if (std::optional<LogRecord> from = RecordIn(edit.other % edited_.size());
          from && !from->entries.empty()) {
        entries.push_back(pick(from->entries, edit.from));
        if (edit.at % 2 == 0) EditRecordEntry(edit, entries.back());
      }
      break;
    case 3:
      switch (edit.at % 7) {
        case 0:
          record.claim = NewValue(edit, record.claim);
          break;
        case 1:
          record.superblock_generation = NewValue(edit, record.superblock_generation);
          break;
        case 2:
          record.prepared_blocks = NewValue(edit, record.prepared_blocks);
          break;
        case 3:
          record.epoch = NewValue(edit, record.epoch);
          break;
        case 4:
          record.last = !record.last;
          break;
        default:
          record.settling = !record.settling;
          break;
      }
      break;
    case 4:
      if (!entries.empty()) std::swap(entries.front(), entries[edit.at % entries.size()]);
      break;
    default:
      if (!entries.empty()) EditRecordEntry(edit, entries[edit.at % entries.size()]);
      break;
  }
  PutRecord(index, std::move(record));
}

void ImageEditor::EditRecordEntry(const Parts& edit, LogEntry& e) const {
  switch (edit.from % 10) {
    case 0:
      e.object = static_cast<ObjectId>(NewValue(edit, Value(e.object)));
      break;
    case 1:
      e.logical.start = NewValue(edit, e.logical.start);
      break;
    case 2:
      e.logical.count = NewValue(edit, e.logical.count);
      break;
    case 3:
      e.physical = NewValue(edit, e.physical);
      break;
    case 4:
      e.state = e.state == MappingState::kWritten ? MappingState::kUnwritten : MappingState::kWritten;
      break;
    case 5:
      e.into_unwritten = !e.into_unwritten;
      break;
    case 6:
      e.size_bytes = NewValue(edit, e.size_bytes);
      break;
    case 7:
      if (!e.name.empty()) e.name.back() = static_cast<char>(edit.value);
      break;
    default:  // another type, of which the rest makes what it may
      e.type = static_cast<LogEntry::Type>(1 + edit.value % 7);
      if (e.logical.count == 0) e.logical.count = 1;
      if (e.name.empty()) e.name = "made by an edit";
      break;
  }
}

void ImageEditor::EditTable(const Parts& edit, size_t index) {
  const size_t at = kHeaderBytes + edit.at % 2 * sizeof(FreeMapEntry) + edit.from % 3 * sizeof(uint64_t);
  ChangeField<uint64_t>(edit, Change(index).data() + at);
}

void ImageEditor::EditBitmap(const Parts& edit, size_t index) {
  BlockBytes& block = Change(index);
  const uint64_t first = edit.at % base_.superblock.geometry.total_blocks.value();
  for (uint64_t bit = first; bit <= first + edit.from % 64 && bit < kGroupBits; ++bit) {
    const std::byte mask = std::byte{1} << bit % 8;
    std::byte& byte = block[kHeaderBytes + bit / 8];
    byte = edit.form % 2 == 0 ? byte | mask : byte & ~mask;
  }
}

// ---- Nodes and records ----

int ImageEditor::LevelOf(size_t index) const {
  return std::to_integer<int>(Block(index)[offsetof(BlockHeader, by_type)]);
}

uint32_t ImageEditor::EntryBytesOf(size_t index) const {
  return Load<uint32_t>(Block(index), offsetof(BlockHeader, payload_bytes));
}

std::optional<ImageEditor::Entries> ImageEditor::EntriesOf(size_t index) const {
  const BlockBytes& block = Block(index);
  if (TypeOf(block) != BlockType::kTreeNode || !VerifyNode(block).ok()) return std::nullopt;
  const size_t end = kHeaderBytes + EntryBytesOf(index);
  Entries entries;
  for (NodeReader at(block.data(), LevelOf(index), kHeaderBytes, end); at.Next();)
    entries.push_back(StringsOf(at.entry(), LevelOf(index)));
  return entries;
}

void ImageEditor::PutNode(size_t index, int level, Entries entries) {
  std::sort(entries.begin(), entries.end());
  TreeNodeBuilder builder(level);
  // Edits of bytes make nodes that are not sound. Here each entry is left out that would make the node so.
  std::string from;
  for (const EntryStrings& strings : entries) {
    const std::optional<NodeEntry> entry = EntryOf(strings, level);
    if (!entry || strings.first < from || !builder.Add(*entry)) continue;
    from = strings.first + '\0';
    if (level > 0) continue;
    const BlockRange range = entry->mapping.mapping.logical;
    if (entry->has_mapping_key()) from = MappingKey(entry->mapping.object, range.end());
    if (const auto lost = entry->lost()) from = lost->limit;
    if (from.empty()) break;  // all the rest is lost
  }
  if (level > 0 && builder.empty()) return;
  BlockBytes& block = Change(index);
  const Generation generation(Load<uint64_t>(block, offsetof(BlockHeader, generation)));
  const auto node = builder.Finish(base_.superblock.uuid, base_.blocks[index], generation);
  std::copy(node->block().begin(), node->block().end(), block.begin());
}

std::optional<LogRecord> ImageEditor::RecordIn(size_t index) const {
  BlockBytes block = Block(index);
  const Superblock& sb = base_.superblock;
  absl::StatusOr<LogRecord> record = absl::NotFoundError("");
  if (TypeOf(block) == BlockType::kLogRecord) {
    SealBlock(block);
    record = DecodeRecord(block, sb.uuid, LogPosition(Load<uint64_t>(block, offsetof(BlockHeader, address))),
                          sb.geometry);
  } else if (TypeOf(block) == BlockType::kLaneRecord) {
    SealBlock(block, sb.data_key);
    record = DecodeLaneRecord(block, sb.uuid, sb.data_key, base_.blocks[index], sb.geometry);
  }
  if (!record.ok()) return std::nullopt;
  return *std::move(record);
}

void ImageEditor::PutRecord(size_t index, LogRecord record) {
  if (!InRing(index) && record.lane_block == 0) return;
  size_t bytes = kRecordHeaderBytes;
  for (LogEntry& e : record.entries) {
    bytes += EncodedBytes(e);
    if (bytes > kBlockBytes) return;
    const bool has_checksums = e.type == LogEntry::Type::kOpen ||
                               (e.type == LogEntry::Type::kMap && e.state == MappingState::kWritten);
    if (has_checksums && e.logical.count > kMapEntryBlocksMax) return;
    e.data.blocks.resize(has_checksums ? e.logical.count.value() : 0);
    if (e.type != LogEntry::Type::kMap || e.state != MappingState::kWritten || e.logical.count > 16 ||
        !base_.superblock.geometry.InDataArea({e.physical, e.logical.count})) {
      continue;
    }
    // Recovery takes no record whose data is not there.
    std::vector<std::byte> data(Bytes(e.logical.count));
    base_.disk->Peek(ByteOffset(e.physical), data.data(), data.size());
    const iovec piece{data.data(), data.size()};
    e.data = DataChecksums::Of({&piece, 1}, base_.superblock.data_key);
  }
  if (record.epoch == 0) record.epoch = base_.superblock.epoch;
  if (record.lane_block == 0) {
    // The record follows the one before it, and repeats as many commits as it did.
    const std::optional<LogRecord> before = index > kFirstLogBlock ? RecordIn(index - 1) : std::nullopt;
    const Lsn repeated = record.lsn - record.first_lsn.value();
    record.position = base_.superblock.checkpoint_position + BlockCount(index - kFirstLogBlock);
    record.first_lsn = (before ? before->lsn : base_.superblock.checkpoint_lsn) + 1;
    record.lsn = record.first_lsn + repeated.value();
  }
  for (LogEntry& e : record.entries) e.lsn = std::clamp(e.lsn, record.first_lsn, record.lsn);
  EncodeRecord(record, base_.superblock.uuid, Change(index), base_.superblock.data_key);
}

// ---- Finishing ----

void ImageEditor::SealLanes() {
  for (size_t i = 0; i < edited_.size(); ++i) {
    if (edited_[i] && TypeOf(Block(i)) == BlockType::kLaneRecord)
      SealBlock(*edited_[i], base_.superblock.data_key);
  }
}

void ImageEditor::SealTree(BlockNumber block) {
  const std::optional<size_t> index = IndexOf(block);
  if (!index || !visited_.insert(*index).second) return;
  if (TypeOf(Block(*index)) == BlockType::kTreeNode && LevelOf(*index) > 0) {
    if (std::optional<Entries> entries = EntriesOf(*index)) {
      const Entries before = *entries;
      for (auto& [key, value] : *entries) {
        BlockPointer child = *ParseChild(value);
        SealTree(child.block);
        const std::optional<size_t> at = IndexOf(child.block);
        if (!at) continue;
        child.checksum = ChecksumOf(Block(*at));
        value = ChildValue(child);
        if (const auto below = EntriesOf(*at); below && !below->empty()) key = below->front().first;
      }
      if (*entries != before) PutNode(*index, LevelOf(*index), *std::move(entries));
    }
  }
  if (edited_[*index]) SealBlock(*edited_[*index]);
}

void ImageEditor::SealLog() {
  constexpr size_t kPreviousChecksumAt = 72;
  for (size_t i = kFirstLogBlock; i < kFirstLogBlock + kLogBlocks; ++i) {
    if (TypeOf(Block(i)) != BlockType::kLogRecord) continue;
    const uint64_t previous =
        i == kFirstLogBlock ? base_.superblock.checkpoint_checksum : ChecksumOf(Block(i - 1));
    if (Load<uint64_t>(Block(i), kPreviousChecksumAt) != previous)
      Store(Change(i), kPreviousChecksumAt, previous);
    if (edited_[i]) SealBlock(*edited_[i]);
  }
}

void ImageEditor::SealMap() {
  for (const BlockType type : {BlockType::kFreeMapBitmap, BlockType::kFreeMapTable}) {
    for (size_t i = 0; i < edited_.size(); ++i) {
      if (TypeOf(Block(i)) != type) continue;
      for (size_t n = 0; n < 2 && type == BlockType::kFreeMapTable; ++n) {
        const size_t at = kHeaderBytes + n * sizeof(FreeMapEntry);
        const auto entry = Load<FreeMapEntry>(Block(i), at);
        const std::optional<size_t> child = IndexOf(entry.block);
        if (child && ChecksumOf(Block(*child)) != entry.checksum)
          Store(Change(i), at + offsetof(FreeMapEntry, checksum), ChecksumOf(Block(*child)));
      }
      if (edited_[i]) SealBlock(*edited_[i]);
    }
  }
}

void ImageEditor::SealSuperblocks(bool mirror) {
  for (size_t slot : {0, 1}) {
    if (mirror && slot == 1 && edited_[0]) {
      Change(1) = Block(0);
      Store(Change(1), offsetof(BlockHeader, address), kSuperblockSlots[1]);
    }
    for (const size_t at : {kTreeRootAt, kMapRootAt}) {
      const std::optional<size_t> root = IndexOf(Load<BlockNumber>(Block(slot), at));
      if (root && Load<uint64_t>(Block(slot), at + 8) != ChecksumOf(Block(*root)))
        Store(Change(slot), at + 8, ChecksumOf(Block(*root)));
    }
    if (edited_[slot]) SealBlock(*edited_[slot]);
  }
}

void ImageEditor::CorrectTotals() {
  BlockBytes sealed = Block(0);
  SealBlock(sealed);
  absl::StatusOr<Superblock> sb = DecodeSuperblock(sealed, 0);
  if (!sb.ok()) return;
  const std::optional<size_t> table = IndexOf(sb->free_map.block);
  if (!table) return;
  const std::optional<size_t> bitmap = IndexOf(Load<FreeMapEntry>(Block(*table), kHeaderBytes).block);
  if (!bitmap) return;

  const Geometry& g = base_.superblock.geometry;
  std::array<uint64_t, kGroupBits / 64> bits{};
  const auto mark = [&](Extent extent) {
    for (BlockNumber b = extent.start; b < std::min(extent.end(), g.end()); ++b)
      bits[b.value() / 64] |= uint64_t{1} << b.value() % 64;
  };
  g.ForEachFixedArea(g.total_blocks, mark);
  sb->tree.node_count = BlockCount(visited_.size());
  sb->tree.levels = 0;
  sb->tree.leaf_bytes = 0;
  for (size_t i : visited_) {
    mark({base_.blocks[i], 1});
    sb->tree.levels = std::max(sb->tree.levels, LevelOf(i) + 1);
    const std::optional<Entries> entries = EntriesOf(i);
    if (!entries || LevelOf(i) > 0) continue;
    sb->tree.leaf_bytes += EntryBytesOf(i);
    for (const auto& [key, value] : *entries) {
      if (const auto m = ParseMapping(key, value); m && g.InDataArea(m->mapping.extent()))
        mark(m->mapping.extent());
    }
  }
  sb->used_blocks = 0;
  for (uint64_t word : bits) sb->used_blocks += BlockCount(static_cast<uint64_t>(std::popcount(word)));
  std::memcpy(Change(*bitmap).data() + kHeaderBytes, bits.data(), sizeof(bits));
  Store(Change(*table), kHeaderBytes + offsetof(FreeMapEntry, used_blocks), sb->used_blocks);
  EncodeSuperblock(*sb, 0, Change(0));
}

std::shared_ptr<SimulatedDisk> ImageEditor::FinishedDisk(Finish finish) {
  if (finish != Finish::kNot) {
    SealTree(Load<BlockNumber>(Block(0), kTreeRootAt));
    SealLog();
    SealLanes();
    if (finish == Finish::kTotals) CorrectTotals();
    SealMap();
    SealSuperblocks(finish != Finish::kSeal);
  }
  std::shared_ptr<SimulatedDisk> disk = base_.disk->Clone();
  for (size_t i = 0; i < edited_.size(); ++i) {
    if (edited_[i]) disk->Poke(ByteOffset(base_.blocks[i]), edited_[i]->data(), kBlockBytes);
  }
  return disk;
}

}  // namespace untorn
