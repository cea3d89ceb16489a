#include "extent/delta.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "extent/tree_keys.h"

namespace untorn {

Mapping Delta::MakeMapping(const Map::value_type& v) {
  Mapping m;
  m.logical = {v.first.start, v.second.count};
  m.state = v.second.state;
  m.physical = v.second.physical;
  m.lsn = v.second.lsn;
  m.unsettled_rewrites = v.second.unsettled_rewrites;
  return m;
}

absl::Status Delta::Replace(ObjectId object, Mapping mapping, bool keeps_extent, DisplacedFn displaced) {
  const BlockRange range = mapping.logical;
  auto it = mappings_.lower_bound(Key{object, range.start});
  if (it != mappings_.begin()) {
    auto before = std::prev(it);
    if (before->first.object == object && before->first.start + before->second.count > range.start)
      it = before;
  }
  absl::Status result;
  std::vector<Piece> put;
  uint64_t owned_from = range.start;  // with keeps_extent: where the next part not owned would begin
  const auto add = [&](uint64_t start, uint64_t end, bool owned) {
    if (start == end) return;
    Mapping part = mapping;
    part.logical = {start, end - start};
    if (part.state != MappingState::kHole) part.physical += start - range.start;
    put.push_back({part, owned});
  };
  while (it != mappings_.end() && it->first.object == object && it->first.start < range.end()) {
    const Mapping old = MakeMapping(*it);
    const bool owned = it->second.owned;
    if (old.logical == range && mapping.state == MappingState::kWritten &&
        old.state == MappingState::kWritten) {
      mapping.unsettled_rewrites = static_cast<uint8_t>(std::min<int>(old.unsettled_rewrites + 1, UINT8_MAX));
    }
    const uint64_t cut_start = std::max(old.logical.start, range.start);
    const uint64_t cut_end = std::min(old.logical.end(), range.end());
    const bool has_extent = old.state != MappingState::kHole;
    const auto part_of_old = [&](uint64_t start, uint64_t end) {
      Piece p{old, owned};
      p.mapping.logical = {start, end - start};
      if (has_extent) p.mapping.physical += start - old.logical.start;
      return p;
    };
    if (keeps_extent) {
      const Extent place = part_of_old(cut_start, cut_end).mapping.extent();
      if (old.state != MappingState::kUnwritten ||
          place.start != mapping.physical + (cut_start - range.start)) {
        result = absl::DataLossError(absl::StrCat(
            "the log writes blocks ", cut_start, " to ", cut_end - 1, " of object ", Value(object),
            " into blocks as reserved for it from ", mapping.physical + (cut_start - range.start),
            " on, but has ",
            old.state == MappingState::kHole        ? absl::StrCat("a hole there")
            : old.state == MappingState::kUnwritten ? absl::StrCat("reserved those from ", place.start, " on")
                                                    : absl::StrCat("written them at ", place.start)));
      }
      add(owned_from, cut_start, false);
      add(cut_start, cut_end, owned);
      owned_from = cut_end;
    } else if (has_extent && owned) {
      displaced(part_of_old(cut_start, cut_end).mapping.extent(), old.lsn);
    }
    if (old.logical.start < cut_start) put.push_back(part_of_old(old.logical.start, cut_start));
    if (cut_end < old.logical.end()) put.push_back(part_of_old(cut_end, old.logical.end()));
    if (has_extent) mapped_blocks_ -= old.logical.count;
    it = mappings_.erase(it);
  }
  if (keeps_extent) {
    add(owned_from, range.end(), false);
  } else {
    add(range.start, range.end(), true);
  }
  for (const Piece& p : put) {
    const Mapping& m = p.mapping;
    if (m.state != MappingState::kHole) mapped_blocks_ += m.logical.count;
    mappings_[Key{object, m.logical.start}] = {m.logical.count, m.physical,           m.lsn,
                                               m.state,         m.unsettled_rewrites, p.owned};
  }
  return result;
}

absl::Status Delta::Apply(const LogEntry& e, Lsn lsn, DisplacedFn displaced) {
  Mapping m;
  m.logical = e.logical;
  m.lsn = lsn;
  switch (e.type) {
    case LogEntry::Type::kMap:
      m.state = e.state;
      m.physical = e.physical;
      return Replace(e.object, m, e.reserved_before, displaced);
    case LogEntry::Type::kHole:
      return Replace(e.object, m, false, displaced);
    case LogEntry::Type::kInode:
      inodes_[e.object] = Inode{e.object, e.size_bytes, e.name};
      break;
    case LogEntry::Type::kInodeGone:
      inodes_[e.object] = std::nullopt;
      m.logical = {0, kObjectBlocksMax};
      return Replace(e.object, m, false, displaced);
    case LogEntry::Type::kName:
    case LogEntry::Type::kNameGone: {
      std::optional<ObjectId>& object = names_[e.name];
      if (object) --names_set_;
      object = e.type == LogEntry::Type::kName ? std::optional(e.object) : std::nullopt;
      if (object) ++names_set_;
      break;
    }
  }
  return absl::OkStatus();
}

void Delta::Visit(ObjectId object, BlockRange range, absl::FunctionRef<void(const Mapping&)> piece,
                  absl::FunctionRef<void(BlockRange)> gap) const {
  uint64_t at = range.start;
  auto it = mappings_.lower_bound(Key{object, at});
  if (it != mappings_.begin()) {
    auto before = std::prev(it);
    if (before->first.object == object && before->first.start + before->second.count > at) it = before;
  }
  for (; at < range.end() && it != mappings_.end() && it->first.object == object &&
         it->first.start < range.end();
       ++it) {
    Mapping m = MakeMapping(*it);
    const uint64_t start = std::max(at, m.logical.start);
    const uint64_t end = std::min(range.end(), m.logical.end());
    if (start > at) gap({at, start - at});
    if (m.state != MappingState::kHole) m.physical += start - m.logical.start;
    // A piece of a mapping is not "the same range rewritten".
    if (start != m.logical.start || end != m.logical.end()) m.unsettled_rewrites = 0;
    m.logical = {start, end - start};
    piece(m);
    at = end;
  }
  if (at < range.end()) gap({at, range.end() - at});
}

const std::optional<Inode>* Delta::FindInode(ObjectId object) const {
  auto it = inodes_.find(object);
  return it == inodes_.end() ? nullptr : &it->second;
}

const std::optional<ObjectId>* Delta::FindName(const std::string& name) const {
  auto it = names_.find(name);
  return it == names_.end() ? nullptr : &it->second;
}

void Delta::ForEachExtent(absl::FunctionRef<void(Extent)> extent) const {
  for (const auto& v : mappings_) {
    if (v.second.state != MappingState::kHole) extent({v.second.physical, v.second.count});
  }
}

void Delta::ForEachMapping(absl::FunctionRef<void(ObjectId, const Mapping&, bool owned)> mapping) const {
  for (const auto& v : mappings_) mapping(v.first.object, MakeMapping(v), v.second.owned);
}

class Delta::EditSource : public TreeEditSource {
 public:
  explicit EditSource(const Delta& d)
      : d_(d), mapping_(d.mappings_.begin()), inode_(d.inodes_.begin()), name_(d.names_.begin()) {}

  const TreeEdit* Next() override {
    TreeEdit& e = edits_[turn_ ^= 1];
    e = TreeEdit();
    if (mapping_ != d_.mappings_.end()) {
      e.is_range = true;
      e.object = mapping_->first.object;
      e.mapping = MakeMapping(*mapping_);
      e.key = MappingKey(e.object, e.mapping.logical.start);
      ++mapping_;
    } else if (inode_ != d_.inodes_.end()) {
      e.key = InodeKey(inode_->first);
      if (inode_->second) e.value = InodeValue(*inode_->second);
      ++inode_;
    } else if (name_ != d_.names_.end()) {
      e.key = NameKey(name_->first);
      if (name_->second) e.value = NameValue(*name_->second);
      ++name_;
    } else {
      return nullptr;
    }
    return &e;
  }

 private:
  const Delta& d_;
  Map::const_iterator mapping_;
  absl::btree_map<ObjectId, std::optional<Inode>>::const_iterator inode_;
  absl::btree_map<std::string, std::optional<ObjectId>>::const_iterator name_;
  TreeEdit edits_[2];
  int turn_ = 0;
};

std::unique_ptr<TreeEditSource> Delta::Edits() const { return std::make_unique<EditSource>(*this); }

}  // namespace untorn
