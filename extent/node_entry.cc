#include "extent/node_entry.h"

#include <cstring>

#include "base/check.h"

namespace untorn {
namespace {

constexpr uint8_t kMappingKeyBit = 1, kOtherObjectBit = 2, kGapBit = 4, kStateBit = 8;
constexpr int kCountShift = 4;
constexpr uint64_t kCountInTagMax = 15;
constexpr size_t kLengthBytesMax = 2;

std::byte* PutVarint(uint64_t v, std::byte* out) {
  for (; v >= 0x80; v >>= 7) *out++ = static_cast<std::byte>(v | 0x80);
  *out++ = static_cast<std::byte>(v);
  return out;
}

bool GetLongVarint(const std::byte*& at, const std::byte* end, uint64_t* v) {
  *v = 0;
  for (int shift = 0; shift < 64 && at != end; shift += 7) {
    const auto byte = std::to_integer<uint64_t>(*at++);
    *v |= (byte & 0x7f) << shift;
    if (byte < 0x80) return (byte != 0 || shift == 0) && (shift < 63 || byte == 1);
  }
  return false;
}

inline bool GetVarint(const std::byte*& at, const std::byte* end, uint64_t* v) {
  if (at == end || std::to_integer<uint8_t>(*at) >= 0x80) return GetLongVarint(at, end, v);
  *v = std::to_integer<uint64_t>(*at++);
  return true;
}

uint64_t Zigzag(uint64_t distance) { return distance << 1 ^ (distance >> 63 != 0 ? UINT64_MAX : 0); }
uint64_t Unzigzag(uint64_t v) { return v >> 1 ^ (v % 2 != 0 ? UINT64_MAX : 0); }

std::byte* PutBytes(std::string_view bytes, std::byte* out) {
  out = PutVarint(bytes.size(), out);
  std::memcpy(out, bytes.data(), bytes.size());
  return out + bytes.size();
}

bool GetBytes(const std::byte*& at, const std::byte* end, std::string_view* bytes) {
  uint64_t size;
  if (!GetVarint(at, end, &size) || size > static_cast<uint64_t>(end - at)) return false;
  *bytes = {reinterpret_cast<const char*>(at), size};
  at += size;
  return true;
}

}  // namespace

NodeEntry NodeEntry::OfChild(std::string_view key, BlockPointer child) {
  NodeEntry entry;
  Mapping& m = entry.mapping.mapping;
  m.state = MappingState::kWritten;
  m.physical = child.block;
  m.logical.count = 1;
  entry.checksum = child.checksum;
  if (IsMappingKey(key)) {
    std::tie(entry.mapping.object, m.logical.start) = MappingKeyNumbers(key.data());
  } else {
    entry.other_key = key;
  }
  return entry;
}

size_t EntryBytesMax(const NodeEntry& entry) {
  const Mapping& m = entry.mapping.mapping;
  const size_t checksum_bytes = m.checksums ? m.logical.count.value() * kChecksumBytes : 0;
  return kNumberEntryBytesMax + 2 * kLengthBytesMax + entry.other_key.size() + entry.value.size() +
         checksum_bytes;
}

std::byte* EncodeEntry(const NodeEntry& entry, int level, const NodeEntryBase& base, std::byte* out) {
  const Mapping& m = entry.mapping.mapping;
  const bool is_leaf = level == 0;
  std::byte& tag = *out++;
  tag = {};
  if (entry.has_mapping_key()) {
    const bool written = m.state == MappingState::kWritten;
    UNTORN_CHECK(m.logical.count > 0 && m.logical.count <= MappingEntryBlocksMax(m.state) &&
                     m.physical != 0 && m.state != MappingState::kHole &&
                     entry.mapping.object >= base.object &&
                     (!is_leaf || (m.checksums ? written : !written && m.opened == 0)),
                 "an entry that no node may have");
    const uint64_t count = is_leaf ? m.logical.count.value() : 0;
    const bool count_follows = count > kCountInTagMax;
    uint8_t bits = kMappingKeyBit | static_cast<uint8_t>(count_follows ? 0 : count << kCountShift);
    ObjectBlock before = base.end;
    if (entry.mapping.object != base.object) {
      bits |= kOtherObjectBit;
      out = PutVarint(Value(entry.mapping.object) - Value(base.object), out);
      before = 0;
    }
    UNTORN_CHECK(m.logical.start >= before, "entries out of order");
    if (m.logical.start > before) {
      bits |= kGapBit;
      out = PutVarint((m.logical.start - before).value(), out);
    }
    if (count_follows) out = PutVarint(count, out);
    if (!written || m.opened > 0) {
      bits |= kStateBit;
      out = PutVarint(m.opened.value(), out);
    }
    tag = static_cast<std::byte>(bits);
  } else {
    out = PutBytes(entry.other_key, out);
    if (is_leaf) return PutBytes(entry.value, out);
  }
  out = PutVarint(Zigzag(m.physical.value() - base.physical_end.value()), out);
  if (!is_leaf) {
    std::memcpy(out, &entry.checksum, sizeof(entry.checksum));
    return out + sizeof(entry.checksum);
  }
  if (!m.checksums) return out;
  const size_t checksum_bytes = m.logical.count.value() * kChecksumBytes;
  std::memcpy(out, m.checksums.bytes(), checksum_bytes);
  return out + checksum_bytes;
}

inline bool NodeReader::ReadNumbers(uint8_t tag, const std::byte*& at) {
  const std::byte* const end = block_ + end_;
  Mapping& m = entry_.mapping.mapping;
  ObjectBlock before = base_.end;
  uint64_t object = Value(base_.object);
  if ((tag & kOtherObjectBit) != 0) {
    uint64_t step;
    if (!GetVarint(at, end, &step) || step == 0 || step > kNumberMax - object) return false;
    object += step;
    before = 0;
  }
  uint64_t gap = 0;
  if ((tag & kGapBit) != 0 && (!GetVarint(at, end, &gap) || gap == 0 || gap > kObjectBlocksMax.value()))
    return false;
  uint64_t count = 1;
  if (level_ == 0) {
    count = tag >> kCountShift;
    if (count == 0 && (!GetVarint(at, end, &count) || count <= kCountInTagMax)) return false;
  } else if (tag > (kMappingKeyBit | kOtherObjectBit | kGapBit)) {
    return false;
  }
  m.logical = {before + BlockCount(gap), BlockCount(count)};
  m.state = MappingState::kWritten;
  m.opened = LogEpoch();
  m.checksums = ChecksumsRef();
  if ((tag & kStateBit) != 0) {
    uint64_t opened;
    if (!GetVarint(at, end, &opened) || opened > kNumberMax) return false;
    m.opened = LogEpoch(opened);
    if (opened == 0) m.state = MappingState::kUnwritten;
  }
  entry_.mapping.object = ObjectId{object};
  return object != 0 && m.logical.count <= MappingEntryBlocksMax(m.state) && m.logical.end() <= kObjectEnd;
}

inline bool NodeReader::ReadExtent(const std::byte*& at) {
  const std::byte* const end = block_ + end_;
  Mapping& m = entry_.mapping.mapping;
  uint64_t distance;
  if (!GetVarint(at, end, &distance)) return false;
  m.physical = BlockNumber(base_.physical_end.value() + Unzigzag(distance));
  if (m.physical == 0 || m.physical > BlockNumber::Max() - m.logical.count) return false;
  if (level_ == 0) return m.state == MappingState::kUnwritten || ReadChecksums(at);
  if (static_cast<size_t>(end - at) < sizeof(entry_.checksum)) return false;
  std::memcpy(&entry_.checksum, at, sizeof(entry_.checksum));
  at += sizeof(entry_.checksum);
  return true;
}

inline bool NodeReader::ReadChecksums(const std::byte*& at) {
  Mapping& m = entry_.mapping.mapping;
  const size_t bytes = m.logical.count.value() * kChecksumBytes;
  if (static_cast<size_t>(block_ + end_ - at) < bytes) return false;
  m.checksums = ChecksumsRef(at);
  at += bytes;
  return true;
}

bool NodeReader::Next() {
  begin_ = next_;
  if (next_ == end_) return false;
  const std::byte* at = block_ + next_;
  const auto tag = std::to_integer<uint8_t>(*at++);
  Mapping& m = entry_.mapping.mapping;
  bool has_extent = true;
  if ((tag & kMappingKeyBit) != 0) {
    if (!ReadNumbers(tag, at)) return false;
    entry_.other_key = entry_.value = {};
  } else {
    if (tag != 0 || !GetBytes(at, block_ + end_, &entry_.other_key) || entry_.other_key.empty()) return false;
    has_extent = level_ > 0;
    if (level_ == 0 && !GetBytes(at, block_ + end_, &entry_.value)) return false;
    entry_.mapping.object = ObjectId::kNone;
    m.logical = {0, BlockCount(uint64_t{has_extent})};
    m.physical = 0;
    m.state = MappingState::kWritten;
    m.opened = LogEpoch();
    m.checksums = ChecksumsRef();
  }
  if (has_extent && !ReadExtent(at)) return false;
  next_ = static_cast<uint32_t>(at - block_);
  ++index_;
  base_.Pass(entry_);
  return true;
}

}  // namespace untorn
