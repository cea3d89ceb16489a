#include "extent/delta.h"

#include <algorithm>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "extent/tree_keys.h"

namespace untorn {

Mapping Delta::MakeMapping(const Object::value_type& v) {
  Mapping m;
  m.logical = {v.first, v.second.count};
  m.state = v.second.state;
  m.physical = v.second.physical;
  m.lsn = v.second.lsn;
  m.unsettled_rewrites = v.second.unsettled_rewrites;
  return m;
}

template <typename Map>
auto Delta::FirstBeyond(Map& object, ObjectBlock block) {
  auto it = object.lower_bound(block);
  // The entry before may reach beyond `block`.
  if (it != object.begin()) {
    const auto before = std::prev(it);
    if (before->first + before->second.count > block) it = before;
  }
  return it;
}

void Delta::Put(Object& object, const Mapping& m, bool owned) {
  UNTORN_CHECK(m.logical.count > 0, "an empty mapping");
  const Entry entry{m.logical.count, m.physical, m.lsn, m.state, m.unsettled_rewrites, owned};
  const auto [it, inserted] = object.try_emplace(m.logical.start, entry);
  UNTORN_CHECK(inserted, "two mappings of one block");
  UNTORN_CHECK(it == object.begin() || std::prev(it)->first + std::prev(it)->second.count <= m.logical.start,
               "invariant 2: a mapping overlaps the one before it");
  UNTORN_CHECK(std::next(it) == object.end() || m.logical.end() <= std::next(it)->first,
               "invariant 2: a mapping overlaps the one behind it");
  ++mapping_count_;
  if (entry.has_extent()) mapped_blocks_ += entry.count;
}

void Delta::ReplaceWhole(Entry& entry, const Mapping& mapping, DisplacedFn displaced) {
  const Entry old = entry;
  UNTORN_CHECK(mapping.logical.count == old.count, "a mapping is replaced by one of another length");
  UNTORN_CHECK(!old.has_extent() || mapped_blocks_ >= old.count, "a delta counts fewer blocks than it maps");
  entry = {mapping.logical.count, mapping.physical, mapping.lsn, mapping.state, 0, /*owned=*/true};
  // The planner pays for a settling record only if the same range is rewritten repeatedly.
  if (old.state == MappingState::kWritten && entry.state == MappingState::kWritten) {
    entry.unsettled_rewrites = static_cast<uint8_t>(std::min<int>(old.unsettled_rewrites + 1, UINT8_MAX));
  }
  if (old.has_extent()) mapped_blocks_ -= old.count;
  if (entry.has_extent()) mapped_blocks_ += entry.count;
  if (old.has_extent() && old.owned) displaced({old.physical, old.count}, old.lsn);
}

absl::Status Delta::Replace(ObjectId id, const Mapping& mapping, bool keeps_extent, DisplacedFn displaced) {
  UNTORN_CHECK(mapping.logical.count > 0, "an empty mapping");
  Object& object = mappings_[id];
  const auto it = FirstBeyond(object, mapping.logical.start);
  if (it == object.end() || it->first >= mapping.logical.end()) {
    // The delta says nothing of the range yet. Blocks that were mapped as unwritten belong to the layer
    // below.
    Put(object, mapping, !keeps_extent);
    return absl::OkStatus();
  }
  // The usual rewrite of a whole entry changes no keys of the map.
  if (!keeps_extent && it->first == mapping.logical.start && it->second.count == mapping.logical.count) {
    ReplaceWhole(it->second, mapping, displaced);
    return absl::OkStatus();
  }
  return ReplaceOverlapping(object, it, id, mapping, keeps_extent, displaced);
}

absl::Status Delta::ReplaceOverlapping(Object& object, Object::iterator it, ObjectId id, Mapping mapping,
                                       bool keeps_extent, DisplacedFn displaced) {
  struct Piece {
    Mapping mapping;
    bool owned = true;
  };
  const BlockRange range = mapping.logical;
  UNTORN_CHECK(it->first < range.end() && range.start < it->first + it->second.count,
               "a mapping replaces one that it does not overlap");
  absl::Status result;
  // The pieces are put behind the loop, because an insertion would make `it` invalid.
  absl::InlinedVector<Piece, 4> put;
  ObjectBlock owned_from = range.start;  // with keeps_extent: where the next part not owned would begin
  const auto add = [&](ObjectBlock start, ObjectBlock end, bool owned) {
    if (start == end) return;
    Mapping part = mapping;
    part.logical = {start, end - start};
    if (part.state != MappingState::kHole) part.physical += start - range.start;
    put.push_back({part, owned});
  };
  while (it != object.end() && it->first < range.end()) {
    const Mapping old = MakeMapping(*it);
    const bool owned = it->second.owned;
    if (old.logical == range && mapping.state == MappingState::kWritten &&
        old.state == MappingState::kWritten) {
      mapping.unsettled_rewrites = static_cast<uint8_t>(std::min<int>(old.unsettled_rewrites + 1, UINT8_MAX));
    }
    const ObjectBlock cut_start = std::max(old.logical.start, range.start);
    const ObjectBlock cut_end = std::min(old.logical.end(), range.end());
    const bool has_extent = old.state != MappingState::kHole;
    const auto part_of_old = [&](ObjectBlock start, ObjectBlock end) {
      Piece p{old, owned};
      p.mapping.logical = {start, end - start};
      if (has_extent) p.mapping.physical += start - old.logical.start;
      return p;
    };
    if (keeps_extent) {
      const BlockNumber expected = mapping.physical + (cut_start - range.start);
      const Extent place = part_of_old(cut_start, cut_end).mapping.extent();
      // The record says that these blocks were mapped as unwritten. Anything else contradicts an earlier
      // record.
      if (old.state != MappingState::kUnwritten || place.start != expected) {
        result = absl::DataLossError(absl::StrCat(
            "the log writes blocks ", cut_start.value(), " to ", (cut_end - 1).value(), " of object ",
            Value(id), " into unwritten blocks from ", expected.value(), " on, but the store has ",
            old.state == MappingState::kHole ? absl::StrCat("a hole there")
            : old.state == MappingState::kUnwritten
                ? absl::StrCat("unwritten blocks from ", place.start.value(), " on")
                : absl::StrCat("written them at ", place.start.value())));
      }
      // The owner of the unwritten blocks also owns what is written into them.
      add(owned_from, cut_start, false);
      add(cut_start, cut_end, owned);
      owned_from = cut_end;
    } else if (has_extent && owned) {
      displaced(part_of_old(cut_start, cut_end).mapping.extent(), old.lsn);
    }
    // What sticks out of the range on either side stays.
    if (old.logical.start < cut_start) put.push_back(part_of_old(old.logical.start, cut_start));
    if (cut_end < old.logical.end()) put.push_back(part_of_old(cut_end, old.logical.end()));
    UNTORN_CHECK(mapping_count_ > 0 && (!has_extent || mapped_blocks_ >= old.logical.count),
                 "a delta counts fewer mappings than it has");
    if (has_extent) mapped_blocks_ -= old.logical.count;
    --mapping_count_;
    it = object.erase(it);
  }
  if (keeps_extent) {
    add(owned_from, range.end(), false);
  } else {
    add(range.start, range.end(), true);
  }
  for (const Piece& p : put) Put(object, p.mapping, p.owned);
  return result;
}

absl::Status Delta::Apply(const LogEntry& e, Lsn lsn, DisplacedFn displaced) {
  // LSN 0 would say that a checkpoint has settled the mapping.
  UNTORN_CHECK(lsn > 0, "an entry takes effect without a record");
  Mapping m;
  m.logical = e.logical;
  m.lsn = lsn;
  switch (e.type) {
    case LogEntry::Type::kMap:
      m.state = e.state;
      m.physical = e.physical;
      return Replace(e.object, m, e.into_unwritten, displaced);
    case LogEntry::Type::kHole:
      return Replace(e.object, m, false, displaced);
    case LogEntry::Type::kInode:
      inodes_[e.object] = Inode{e.object, e.size_bytes, e.name, e.preallocated};
      break;
    case LogEntry::Type::kInodeGone:
      inodes_[e.object] = std::nullopt;
      // The hole also hides the mappings of the layers below.
      m.logical = {0, kObjectBlocksMax};
      return Replace(e.object, m, false, displaced);
    case LogEntry::Type::kName:
    case LogEntry::Type::kNameGone: {
      // A name that is gone stays as an entry, because the entry hides the name in the layers below.
      std::optional<ObjectId>& object = names_[e.name];
      UNTORN_CHECK(!object || names_set_ > 0, "a delta counts fewer names than it has");
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
  const auto found = mappings_.find(object);
  if (found == mappings_.end()) return gap(range);
  ObjectBlock at = range.start;
  for (auto it = FirstBeyond(found->second, at);
       at < range.end() && it != found->second.end() && it->first < range.end(); ++it) {
    Mapping m = MakeMapping(*it);
    const ObjectBlock start = std::max(at, m.logical.start);
    const ObjectBlock end = std::min(range.end(), m.logical.end());
    if (start > at) gap({at, start - at});
    if (m.state != MappingState::kHole) m.physical += start - m.logical.start;
    // A piece of a mapping does not count as the same range rewritten.
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
  for (const auto& [id, object] : mappings_) {
    for (const auto& v : object) {
      if (v.second.has_extent()) extent({v.second.physical, v.second.count});
    }
  }
}

void Delta::ForEachMapping(absl::FunctionRef<void(ObjectId, const Mapping&, bool owned)> mapping) const {
  for (const auto& [id, object] : mappings_) {
    for (const auto& v : object) mapping(id, MakeMapping(v), v.second.owned);
  }
}

absl::Status Delta::CheckInvariants() const {
  size_t count = 0;
  BlockCount blocks;
  for (const auto& [id, object] : mappings_) {
    ObjectBlock end;
    for (const auto& [start, entry] : object) {
      if (start < end || entry.count == 0) {
        return absl::InternalError(absl::StrCat("delta, invariant 2: mappings of object ", Value(id),
                                                " overlap at block ", start.value()));
      }
      end = start + entry.count;
      ++count;
      if (entry.has_extent()) blocks += entry.count;
      if (!entry.has_extent() && !entry.owned) {
        return absl::InternalError(absl::StrCat("delta, invariant 3: a hole of object ", Value(id),
                                                " at block ", start.value(),
                                                " is said to be another layer's"));
      }
    }
  }
  uint64_t names = 0;
  for (const auto& [name, object] : names_) names += object.has_value();
  if (count != mapping_count_ || blocks != mapped_blocks_ || names != names_set_) {
    return absl::InternalError(absl::StrCat(
        "delta, invariant 2: has ", count, " mappings of ", blocks.value(), " blocks and ", names,
        " names, but counts ", mapping_count_, ", ", mapped_blocks_.value(), " and ", names_set_));
  }
  return absl::OkStatus();
}

class Delta::EditSource : public TreeEditSource {
 public:
  explicit EditSource(const Delta& d)
      : d_(d), object_(d.mappings_.begin()), inode_(d.inodes_.begin()), name_(d.names_.begin()) {
    EnterObject();
  }

  const TreeEdit* Next() override {
    // The caller may still hold the edit before, so two edits take turns. Mappings, inodes and names come in
    // the order of their keys.
    TreeEdit& e = edits_[turn_ ^= 1];
    if (object_ != d_.mappings_.end()) {
      e.is_range = true;
      e.object = object_->first;
      e.mapping = MakeMapping(*mapping_);
      ++mapping_;
      if (mapping_ == object_->second.end()) {
        ++object_;
        EnterObject();
      }
      return &e;
    }
    e.is_range = false;
    e.value.reset();
    if (inode_ != d_.inodes_.end()) {
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
  // Goes to the first mapping of object_, or of the next object that has any.
  void EnterObject() {
    while (object_ != d_.mappings_.end() && object_->second.empty()) ++object_;
    if (object_ != d_.mappings_.end()) mapping_ = object_->second.begin();
  }

  const Delta& d_;
  Objects::const_iterator object_;
  Object::const_iterator mapping_;  // of object_
  absl::btree_map<ObjectId, std::optional<Inode>>::const_iterator inode_;
  absl::btree_map<std::string, std::optional<ObjectId>>::const_iterator name_;
  TreeEdit edits_[2];
  int turn_ = 0;
};

std::unique_ptr<TreeEditSource> Delta::Edits() const { return std::make_unique<EditSource>(*this); }

}  // namespace untorn
