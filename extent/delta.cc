#include "extent/delta.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "extent/tree_keys.h"

namespace untorn {

Mapping Delta::MakeMapping(const Object::value_type& v) {
  const ObjectBlock start = v.first;
  const Entry& entry = *v.second;
  Mapping m;
  m.logical = {start, entry.count};
  m.state = entry.state;
  m.physical = entry.physical;
  m.lsn = entry.lsn;
  m.unsettled_rewrites = entry.unsettled_rewrites;
  m.opened = entry.opened;
  m.opened_by = entry.opened_by;
  if (entry.state == MappingState::kWritten) m.checksums = ChecksumsRef(entry.checksums);
  return m;
}

template <typename Map>
auto Delta::FirstBeyond(Map& object, ObjectBlock block) {
  auto it = object.lower_bound(block);
  // The entry before may reach beyond `block`.
  if (it != object.begin()) {
    const auto before = std::prev(it);
    if (before->first + before->second->count > block) it = before;
  }
  return it;
}

void Delta::Fill(Entry& entry, const Mapping& m, bool owned) {
  entry.count = m.logical.count;
  entry.physical = m.physical;
  entry.lsn = m.lsn;
  entry.state = m.state;
  entry.unsettled_rewrites = m.unsettled_rewrites;
  entry.owned = owned;
  entry.opened = m.opened;
  entry.opened_by = m.opened_by;
  entry.checksums.resize(m.checksums ? m.logical.count.value() : 0);
  m.checksums.CopyTo(entry.checksums);
}

void Delta::CountIn(const Entry& entry) {
  ++mapping_count_;
  if (entry.owns_extent()) mapped_blocks_ += entry.count;
  checksum_entries_ += entry.checksum_entries();
}

void Delta::CountOut(const Entry& entry) {
  UNTORN_CHECK(mapping_count_ > 0 && (!entry.owns_extent() || mapped_blocks_ >= entry.count) &&
                   checksum_entries_ >= entry.checksum_entries(),
               "a delta counts fewer mappings than it has");
  --mapping_count_;
  if (entry.owns_extent()) mapped_blocks_ -= entry.count;
  checksum_entries_ -= entry.checksum_entries();
}

void Delta::Put(Object& object, const Mapping& m, bool owned) {
  Put(object, object.lower_bound(m.logical.start), m, owned);
}

void Delta::Put(Object& object, Object::iterator before, const Mapping& m, bool owned) {
  UNTORN_CHECK(m.logical.count > 0, "an empty mapping");
  UNTORN_CHECK((m.state == MappingState::kWritten) == static_cast<bool>(m.checksums),
               "written blocks have checksums, and no others");
  auto entry = std::make_unique<Entry>();
  Fill(*entry, m, owned);
  CountIn(*entry);
  const size_t entries = object.size();
  const auto it = object.try_emplace(before, m.logical.start, std::move(entry));
  UNTORN_CHECK(object.size() == entries + 1, "two mappings of one block");
  UNTORN_CHECK(it == object.begin() || std::prev(it)->first + std::prev(it)->second->count <= m.logical.start,
               "invariant 2: a mapping overlaps the one before it");
  UNTORN_CHECK(std::next(it) == object.end() || m.logical.end() <= std::next(it)->first,
               "invariant 2: a mapping overlaps the one behind it");
}

void Delta::ReplaceWhole(Entry& entry, const Mapping& mapping, DisplacedFn displaced) {
  const Extent old{entry.physical, entry.count};
  const Lsn old_lsn = entry.lsn;
  const bool displaces = entry.owns_extent();
  UNTORN_CHECK(mapping.logical.count == entry.count, "a mapping is replaced by one of another length");
  CountOut(entry);
  // The planner pays for a settling record only if the same range is rewritten repeatedly.
  const bool rewritten = entry.state == MappingState::kWritten && mapping.state == MappingState::kWritten;
  const int rewrites = rewritten ? std::min<int>(entry.unsettled_rewrites + 1, UINT8_MAX) : 0;
  Fill(entry, mapping, /*owned=*/true);
  entry.unsettled_rewrites = static_cast<uint8_t>(rewrites);
  CountIn(entry);
  if (displaces) displaced(old, old_lsn);
}

Delta::Pieces Delta::TakeOut(Object& object, BlockRange range) {
  Pieces taken;
  // What stays is put back behind the loop, because an insertion would make `it` invalid.
  Pieces stay;
  for (auto it = FirstBeyond(object, range.start); it != object.end() && it->first < range.end();) {
    const Mapping old = MakeMapping(*it);
    const bool owned = it->second->owned;
    const ObjectBlock start = std::max(old.logical.start, range.start);
    const ObjectBlock end = std::min(old.logical.end(), range.end());
    taken.emplace_back(old.Part({start, end - start}), owned);
    if (old.logical.start < start) stay.emplace_back(old.Before(start), owned);
    if (end < old.logical.end()) stay.emplace_back(old.From(end), owned);
    CountOut(*it->second);
    it = object.erase(it);
  }
  for (const Piece& piece : stay) Put(object, piece.mapping(), piece.owned);
  return taken;
}

void Delta::Replace(ObjectId id, const Mapping& mapping, DisplacedFn displaced) {
  UNTORN_CHECK(mapping.logical.count > 0, "an empty mapping");
  Object& object = mappings_[id];
  const auto it = FirstBeyond(object, mapping.logical.start);
  if (it == object.end() || it->first >= mapping.logical.end()) {
    // The delta says nothing of the range yet.
    return Put(object, it, mapping, /*owned=*/true);
  }
  // The usual rewrite of a whole entry changes no keys of the map.
  if (it->first == mapping.logical.start && it->second->count == mapping.logical.count) {
    return ReplaceWhole(*it->second, mapping, displaced);
  }
  for (const Piece& piece : TakeOut(object, mapping.logical)) {
    const Mapping& old = piece.without_checksums;
    if (old.state != MappingState::kHole && piece.owned) displaced(old.extent(), old.lsn);
  }
  Put(object, mapping, /*owned=*/true);
}

absl::Status Delta::Keep(ObjectId id, const Mapping& mapping, MappingState before) {
  Object& object = mappings_[id];
  absl::Status result;
  ObjectBlock at = mapping.logical.start;
  // Blocks of which the delta says nothing belong to the layer below.
  const auto below_until = [&](ObjectBlock end) {
    if (at < end) Put(object, mapping.Part({at, end - at}), /*owned=*/false);
    at = end;
  };
  for (const Piece& piece : TakeOut(object, mapping.logical)) {
    const Mapping& old = piece.without_checksums;
    below_until(old.logical.start);
    Mapping part = mapping.Part(old.logical);
    // Anything else contradicts an earlier record.
    if (old.state != before || old.physical != part.physical) {
      result = absl::DataLossError(
          absl::StrCat("the log ", before == MappingState::kUnwritten ? "writes" : "opens", " blocks ",
                       old.logical.start.value(), " to ", (old.logical.end() - 1).value(), " of object ",
                       Value(id), before == MappingState::kUnwritten ? " into unwritten" : " as written",
                       " blocks from ", part.physical.value(), " on, but the store has ",
                       old.state == MappingState::kHole ? absl::StrCat("a hole there")
                       : old.state == MappingState::kUnwritten
                           ? absl::StrCat("unwritten blocks from ", old.physical.value(), " on")
                           : absl::StrCat("written them at ", old.physical.value())));
    }
    if (before == MappingState::kWritten) {
      part.lsn = old.lsn;
      part.opened_by = std::max(part.opened_by, old.opened_by);
      part.unsettled_rewrites = old.unsettled_rewrites;
    }
    // The owner of the blocks stays their owner.
    Put(object, part, piece.owned);
    at = old.logical.end();
  }
  below_until(mapping.logical.end());
  return result;
}

void Delta::Note(ObjectId object, const Mapping& mapping) {
  UNTORN_CHECK(Keep(object, mapping, MappingState::kWritten).ok(),
               "a mapping that keeps its place is somewhere else");
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
      if (e.state == MappingState::kWritten) m.checksums = ChecksumsRef(e.data.blocks);
      if (e.into_unwritten) return Keep(e.object, m, MappingState::kUnwritten);
      Replace(e.object, m, displaced);
      break;
    case LogEntry::Type::kOpen:
      m.state = MappingState::kWritten;
      m.physical = e.physical;
      m.checksums = ChecksumsRef(e.data.blocks);
      m.opened = e.opened;
      m.opened_by = lsn;
      return Keep(e.object, m, MappingState::kWritten);
    case LogEntry::Type::kHole:
      Replace(e.object, m, displaced);
      break;
    case LogEntry::Type::kInode:
      inodes_[e.object] = Inode{e.object, e.size_bytes, e.name, e.preallocated};
      break;
    case LogEntry::Type::kInodeGone:
      inodes_[e.object] = std::nullopt;
      // The hole also hides the mappings of the layers below.
      m.logical = {0, kObjectBlocksMax};
      Replace(e.object, m, displaced);
      break;
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
    const Mapping m = MakeMapping(*it);
    const ObjectBlock start = std::max(at, m.logical.start);
    const ObjectBlock end = std::min(range.end(), m.logical.end());
    if (start > at) gap({at, start - at});
    piece(m.Part({start, end - start}));
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
      if (v.second->has_extent()) extent({v.second->physical, v.second->count});
    }
  }
}

void Delta::ForEachMapping(absl::FunctionRef<void(ObjectId, const Mapping&, bool owned)> mapping) const {
  for (const auto& [id, object] : mappings_) {
    for (const auto& v : object) mapping(id, MakeMapping(v), v.second->owned);
  }
}

absl::Status Delta::CheckInvariants() const {
  size_t count = 0;
  BlockCount blocks;
  uint64_t checksum_entries = 0;
  for (const auto& [id, object] : mappings_) {
    ObjectBlock end;
    for (const auto& [start, pointer] : object) {
      const Entry& entry = *pointer;
      if (start < end || entry.count == 0) {
        return absl::InternalError(absl::StrCat("delta, invariant 2: mappings of object ", Value(id),
                                                " overlap at block ", start.value()));
      }
      end = start + entry.count;
      ++count;
      if (entry.owns_extent()) blocks += entry.count;
      checksum_entries += entry.checksum_entries();
      const bool written = entry.state == MappingState::kWritten;
      if (entry.checksums.size() != (written ? entry.count.value() : 0) || (!written && entry.opened > 0)) {
        return absl::InternalError(absl::StrCat("delta, invariant 2: other checksums than written blocks at ",
                                                start.value(), " of object ", Value(id)));
      }
      if (!entry.has_extent() && !entry.owned) {
        return absl::InternalError(absl::StrCat("delta, invariant 3: a hole of object ", Value(id),
                                                " at block ", start.value(),
                                                " is said to be another layer's"));
      }
    }
  }
  uint64_t names = 0;
  for (const auto& [name, object] : names_) names += object.has_value();
  if (count != mapping_count_ || blocks != mapped_blocks_ || names != names_set_ ||
      checksum_entries != checksum_entries_) {
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
