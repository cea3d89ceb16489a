#include "untorn/salvage.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "untorn/printable.h"

namespace untorn::internal {
namespace {

constexpr char kQuarantine[] = "quarantine/";

// The block of `object` that is the first with a key of at least `key`, which lies between those of its first and of
// its last block.
uint64_t FirstBlockFrom(std::string_view key) {
  constexpr size_t kPrefix = 1 + sizeof(uint64_t);
  uint64_t block = 0;
  for (size_t i = 0; i < sizeof(block); ++i) {
    block = block << 8 | (kPrefix + i < key.size() ? static_cast<uint8_t>(key[kPrefix + i]) : 0);
  }
  return key.size() > kPrefix + sizeof(block) ? block + 1 : block;
}

// The object of a key of a mapping, or the first one after a key that has none.
ObjectId FirstObjectFrom(std::string_view key) {
  if (key < MappingKey(ObjectId::kNone, 0)) return ObjectId::kNone;
  uint64_t id = 0;
  for (size_t i = 1; i <= sizeof(id); ++i) id = id << 8 | (i < key.size() ? static_cast<uint8_t>(key[i]) : 0);
  return ObjectId{id};
}

absl::Status ReadsDiffer() {
  return absl::InternalError("the device does not read the same twice; the store is as it was");
}

}  // namespace

// ---- Reading ----

// The tree's nodes, what they refer to, and its objects and names where the log says nothing of them.
class Salvage::NodeScan : public TreeVisitor {
 public:
  explicit NodeScan(Salvage& s) : s_(s) {}

  void Node(const TreeNode& node) override {
    s_.progress_.Add(1);
    s_.nodes_.Add({node.pointer().block, 1});
  }

  void Damaged(BlockPointer pointer, const absl::Status&, std::string_view first,
               std::optional<std::string_view> limit) override {
    s_.progress_.Add(1);
    ++s_.nodes_lost_;
    s_.mapping_nodes_lost_ += first < InodeKey(ObjectId::kNone);
    s_.mappings_lost_ = true;
    s_.lost_.Add(first, limit);
    if (s_.sb_.geometry.InDataArea({pointer.block, 1})) s_.untouchable_.Add({pointer.block, 1});
  }

  void Entry(const TreeNode& leaf, int index) override {
    const std::string_view key = leaf.key(index), value = leaf.value(index);
    const std::optional<KeySpace> space = KeySpaceOf(key);
    if (space == KeySpace::kMapping) {
      if (const auto entry = ParseMapping(key, value)) return Mapping(*entry);
    } else if (space == KeySpace::kInode) {
      if (const auto inode = ParseInode(key, value)) {
        s_.next_object_ = std::max(s_.next_object_, Value(inode->id) + 1);
        if (s_.delta_.FindInode(inode->id) == nullptr) SetRecord(*inode);
        return;
      }
    } else if (space == KeySpace::kName) {
      if (const auto name = ParseName(key, value)) {
        if (s_.delta_.FindName(name->first) == nullptr) s_.names_[name->first] = name->second;
        return;
      }
    }
    if (space != KeySpace::kInode && space != KeySpace::kName) s_.mappings_lost_ = true;
    std::string limit = std::string(key) + '\0';
    if (space == KeySpace::kMapping) {
      // How far it reached is unknown.
      limit = index + 1 < leaf.count() ? std::string(leaf.key(index + 1))
                                       : MappingKey(ObjectId{Value(FirstObjectFrom(key)) + 1}, 0);
    }
    s_.lost_.Add(key, limit);
  }

  void SetRecord(const Inode& inode) {
    Object& object = s_.objects_[inode.id];
    object.recorded = true;
    object.size_bytes = inode.size_bytes;
    object.name = inode.name;
  }

 private:
  void Mapping(const MappingEntry& entry) {
    const BlockRange range = entry.mapping.logical;
    if (entry.object == object_ && range.start < end_) {
      s_.doubtful_.push_back({object_, absl::StrCat("two mappings of its block ", range.start)});
    }
    if (entry.object != object_) end_ = 0;
    object_ = entry.object;
    end_ = std::max(end_, range.end());
    if (s_.sb_.geometry.InDataArea(entry.mapping.extent())) {
      s_.untouchable_.Add(entry.mapping.extent());
    } else {
      s_.doubtful_.push_back({object_, "a mapping that leads outside the data area"});
    }
  }

  Salvage& s_;
  ObjectId object_ = ObjectId::kNone;  // of the last mapping
  uint64_t end_ = 0;
};

// The final mappings, cut to what no other has.
class Salvage::MappingScan : public TreeVisitor {
 public:
  MappingScan(Salvage& s, BlockSet& claimed, KeptFn kept)
      : s_(s), final_(s.delta_), claimed_(claimed), kept_(kept) {}

  void Node(const TreeNode&) override { s_.progress_.Add(1); }
  void Damaged(BlockPointer, const absl::Status&, std::string_view,
               std::optional<std::string_view>) override {
    ++nodes_lost_;
  }
  void Entry(const TreeNode& leaf, int index) override {
    if (const auto entry = ParseMapping(leaf.key(index), leaf.value(index))) Next(&*entry);
  }
  absl::Status Finish() {
    Next(nullptr);
    if (status_.ok() && nodes_lost_ != s_.mapping_nodes_lost_) return ReadsDiffer();
    return status_;
  }

 private:
  void Next(const MappingEntry* entry) {
    final_.Tree(entry, [this](ObjectId id, const Mapping& m, bool) {
      if (status_.ok()) Take(id, m);
    });
  }

  void Take(ObjectId id, const Mapping& m) {
    const auto of_it = [&](Extent run) {
      const uint64_t first = m.logical.start + (run.start - m.physical);
      return DescribeRun({first, run.count});
    };
    if (!s_.sb_.geometry.InDataArea(m.extent())) {
      s_.Doubt(s_.objects_[id], absl::StrCat(of_it(m.extent()), " of it mapped outside the data area"));
      return;
    }
    const auto contested = [&](Extent run, const char* by) {
      s_.contested_.Add(run);
      s_.Doubt(s_.objects_[id], absl::StrCat(of_it(run), " of it in use by ", by, " too"));
    };
    s_.nodes_.ForEachRun(m.extent(), true, [&](Extent run) { contested(run, "the old mapping tree"); });
    s_.nodes_.ForEachRun(m.extent(), false, [&](Extent part) {
      claimed_.ForEachRun(part, true, [&](Extent run) { contested(run, "another mapping"); });
      claimed_.ForEachRun(part, false, [&](Extent run) {
        Mapping piece = m;
        piece.logical = {m.logical.start + (run.start - m.physical), run.count};
        piece.physical = run.start;
        if (status_.ok()) status_ = kept_(id, piece);
      });
      claimed_.Add(part);
    });
  }

  Salvage& s_;
  FinalMappings final_;
  BlockSet& claimed_;
  KeptFn kept_;
  uint64_t nodes_lost_ = 0;
  absl::Status status_;
};

// Which slots the old map has in use; and where mappings are lost, what it says of their blocks.
class Salvage::MapScan : public FreeMapVisitor {
 public:
  explicit MapScan(Salvage& s) : s_(s) {}
  void Table(const FreeMapNode& node, uint64_t) override { Slot(node); }
  void Bitmap(const FreeMapNode& node, const BlockSet::Words& bits, uint64_t) override {
    Slot(node);
    if (!s_.mappings_lost_) return;
    BlockSet::Difference(node.first_group, bits, {}, [&](Extent run) { s_.untouchable_.Add(run); });
  }
  void Null(const FreeMapNode&) override {}
  void Damaged(const FreeMapNode& node, const absl::Status&) override { Slot(node); }
  void WrongCount(const FreeMapNode&, uint64_t, uint64_t) override {}

 private:
  void Slot(const FreeMapNode& node) { s_.map_slots_[{node.level, node.index}] = node.pointer.block; }
  Salvage& s_;
};

absl::Status Salvage::Read() {
  if (absl::Status s = ReadLog(); !s.ok()) return s;
  if (absl::Status s = ReadNodes(); !s.ok()) return s;
  MapScan map(*this);
  if (absl::Status s = WalkFreeMap(device_, sb_, map); !s.ok()) return s;
  absl::Status read = ForEachMapping([&](ObjectId id, const Mapping& m) {
    ++mappings_kept_;
    used_end_ = std::max(used_end_, m.extent().end());
    Object& object = objects_[id];
    if (m.logical.start >= object.last.start) object.last = m.logical;
    return absl::OkStatus();
  });
  if (!read.ok()) return read;
  if (contested_.count() > 0) {
    // Who came first has the blocks, but whose data is in them?
    read = ForEachMapping([&](ObjectId id, const Mapping& m) {
      contested_.ForEachRun(m.extent(), true, [&](Extent run) {
        Doubt(objects_[id], absl::StrCat(DescribeRun(run), " of the store, which it has, mapped twice"));
      });
      return absl::OkStatus();
    });
    if (!read.ok()) return read;
  }
  // Also of a mapping that is only partly in the data area.
  used_.ForEachRun([&](Extent run) { untouchable_.Add(run); });
  for (const auto& [id, why] : doubtful_) {
    const auto object = objects_.find(id);
    if (object != objects_.end()) Doubt(object->second, why);
  }
  if (absl::Status s = DoubtLogExtents(); !s.ok()) return s;
  DoubtLostRanges();
  CompleteRecords();
  CompleteNames();
  Quarantine();
  return absl::OkStatus();
}

absl::Status Salvage::ReadLog() {
  uint64_t replayed = 0;
  absl::StatusOr<LogTail> tail = ReplayLog(device_, sb_, &delta_, [&](const LogRecord&) { ++replayed; });
  if (!tail.ok()) return tail.status();
  tail_ = *std::move(tail);
  if (replayed != tail_.kept.size()) return ReadsDiffer();
  absl::StatusOr<LogNewest> newest = NewestInLog(device_, sb_);
  if (!newest.ok()) return newest.status();
  newest_ = *newest;
  return absl::OkStatus();
}

absl::Status Salvage::ReadNodes() {
  next_object_ = sb_.next_object;
  NodeScan scan(*this);
  for (const auto& [id, inode] : delta_.inodes()) {
    if (inode) scan.SetRecord(*inode);
  }
  if (absl::Status s = WalkTree(device_, sb_, "", "", scan); !s.ok()) return s;
  first_of_log_ = ObjectId{next_object_};
  for (const auto& [name, id] : delta_.names()) {
    if (id) names_[name] = *id;
  }
  for (const auto& [id, inode] : delta_.inodes()) next_object_ = std::max(next_object_, Value(id) + 1);
  untouchable_.Add({0, sb_.geometry.data_start});
  nodes_.ForEachRun([&](Extent run) { untouchable_.Add(run); });
  delta_.ForEachExtent([&](Extent e) { untouchable_.Add(e); });
  return absl::OkStatus();
}

absl::Status Salvage::ForEachMapping(KeptFn kept) {
  used_ = BlockSet();
  MappingScan scan(*this, used_, kept);
  if (absl::Status s = WalkTree(device_, sb_, "", InodeKey(ObjectId::kNone), scan); !s.ok()) return s;
  return scan.Finish();
}

// ---- Deciding ----

void Salvage::Doubt(Object& object, const std::string& why) {
  if (object.doubts++ == 0) object.doubt = why;
}

absl::Status Salvage::DoubtLogExtents() {
  if (tail_.damage.ok()) return absl::OkStatus();
  if (tail_.superblock_lost) {
    for (auto& [id, object] : objects_)
      Doubt(object, "the superblock is older than the log, so that others may have overwritten its blocks");
    return absl::OkStatus();
  }
  // What the checkpoint refers to is as it was; but an extent that a lost record displaced may have been used again.
  AlignedBuffer scratch;
  absl::Status status;
  absl::Status read = ForEachRecord(device_, sb_, tail_, [&](const LogRecord& record, Lsn) {
    for (const LogEntry& e : record.entries) {
      if (e.type != LogEntry::Type::kMap || e.state != MappingState::kWritten || !status.ok()) continue;
      bool mapped = false;
      delta_.Visit(
          e.object, e.logical,
          [&](const Mapping& m) {
            mapped |= m.state == MappingState::kWritten &&
                      m.physical == e.physical + (m.logical.start - e.logical.start);
          },
          [](BlockRange) {});
      if (!mapped) continue;
      absl::StatusOr<bool> there = DataIsThere(device_, e, &scratch);
      if (!there.ok()) {
        status = there.status();
      } else if (!*there) {
        Doubt(objects_[e.object],
              absl::StrCat("what was written to ", DescribeRun({e.logical.start, e.logical.count}),
                           " of it by log record ", record.lsn,
                           " is no longer there, so it was overwritten later, by itself or another"));
      }
    }
  });
  return read.ok() ? status : read;
}

void Salvage::DoubtLostRanges() {
  for (const LostKeys::Range& range : lost_.ranges()) {
    if (range.first >= InodeKey(ObjectId::kNone)) break;
    for (auto it = objects_.lower_bound(FirstObjectFrom(range.first)); it != objects_.end(); ++it) {
      if (range.limit && *range.limit <= MappingKey(it->first, 0)) break;
      DoubtLostRange(range, it->first, it->second);
    }
  }
}

void Salvage::DoubtLostRange(const LostKeys::Range& range, ObjectId id, Object& object) {
  const uint64_t blocks = BlocksFor(object.size_bytes);
  if (blocks == 0 || id >= first_of_log_) return;
  const std::string from = MappingKey(id, 0), to = MappingKey(id, blocks);
  if (range.first >= to) return;
  const uint64_t start = range.first <= from ? 0 : FirstBlockFrom(range.first);
  const uint64_t end = !range.limit || *range.limit >= to ? blocks : FirstBlockFrom(*range.limit);
  if (start >= end) return;
  // What the log says holds.
  delta_.Visit(
      id, {start, end - start}, [](const Mapping&) {},
      [&](BlockRange gap) {
        Doubt(object, absl::StrCat("where ", DescribeRun({gap.start, gap.count}),
                                   " of it are is unknown: what was written there reads as zeros"));
      });
}

void Salvage::CompleteRecords() {
  // Of an object whose record is unknown, the name may be all there is.
  for (const auto& [name, id] : names_) {
    if (!objects_.contains(id) && lost_.Has(InodeKey(id)) && delta_.FindInode(id) == nullptr) objects_[id];
  }
  for (auto& [id, object] : objects_) {
    const uint64_t end_bytes = object.last.end() * kBlockBytes;
    if (!object.recorded) {
      object.size_bytes = end_bytes;
      Doubt(object, absl::StrCat("its record is ", lost_.Has(InodeKey(id)) ? "unknown" : "missing",
                                 ", so its size is taken from its last mapping"));
    } else if (object.last.end() > BlocksFor(object.size_bytes)) {
      Doubt(object, absl::StrCat("mappings beyond its size of ", object.size_bytes,
                                 " bytes, which is raised to cover them"));
      object.size_bytes = end_bytes;
    }
    next_object_ = std::max(next_object_, Value(id) + 1);
  }
}

void Salvage::CompleteNames() {
  // A name that is the object's own comes first, then the first in order.
  for (const bool own : {true, false}) {
    for (auto it = names_.begin(); it != names_.end();) {
      const auto& [name, id] = *it;
      const auto found = objects_.find(id);
      if (found == objects_.end()) {
        Act("remove the name '", Printable(name), "': it leads to object ", Value(id),
            ", which does not exist");
        it = names_.erase(it);
        continue;
      }
      Object& object = found->second;
      const bool matches = object.recorded && object.name == name;
      if (matches == own && object.named && !matches) {
        Act("remove the name '", Printable(name), "': object ", Value(id), " has the name '",
            Printable(object.name), "'");
        it = names_.erase(it);
        continue;
      }
      if (matches == own) {
        if (object.recorded && !matches)
          Act("set the name in the record of object ", Value(id), ", '", Printable(object.name),
              "', to the one that leads to it, '", Printable(name), "'");
        object.name = name;
        object.named = true;
      }
      ++it;
    }
  }
  for (auto& [id, object] : objects_) {
    if (object.named || !object.recorded) continue;
    if (names_.try_emplace(object.name, id).second) {
      Act("give object ", Value(id), " its name '", Printable(object.name), "' back");
      object.named = true;
    } else {
      Doubt(object, "no name leads to it, and another object has its name");
    }
  }
}

void Salvage::Quarantine() {
  for (auto& [id, object] : objects_) {
    if (object.doubts == 0) continue;
    ++quarantined_;
    const std::string place = absl::StrCat(kQuarantine, Value(id), "/");
    std::string name = object.name;
    if (object.named && absl::StartsWith(name, place)) {
      Act("keep '", Printable(name), "' in quarantine: ", object.doubt,
          object.doubts > 1 ? ", and more" : "");
      continue;
    }
    name = (place + name).substr(0, kNameBytesMax);
    for (uint64_t i = 1; names_.contains(name); ++i) {
      const std::string suffix = absl::StrCat("~", i);
      name = (place + object.name).substr(0, kNameBytesMax - suffix.size()) + suffix;
    }
    const std::string was = object.named
                                ? absl::StrCat("'", Printable(object.name), "' (object ", Value(id), ")")
                                : absl::StrCat("object ", Value(id), ", which has no name,");
    Act("rename ", was, " to '", Printable(name), "': ", object.doubt, object.doubts > 1 ? ", and more" : "");
    if (object.named) names_.erase(object.name);
    names_[name] = id;
    object.name = name;
    object.named = true;
  }
}

// ---- Writing ----

absl::Status Salvage::WriteEntries(TreeLeafWriter& leaf) {
  uint64_t mappings = 0;
  absl::Status s = ForEachMapping([&](ObjectId id, const Mapping& m) {
    ++mappings;
    return leaf.AddMapping(id, m);
  });
  if (!s.ok()) return s;
  if (mappings != mappings_kept_) return ReadsDiffer();
  for (const auto& [id, object] : objects_) {
    s = leaf.AddPoint(InodeKey(id), InodeValue({id, object.size_bytes, object.name}));
    if (!s.ok()) return s;
  }
  for (const auto& [name, id] : names_) {
    if (s = leaf.AddPoint(NameKey(name), NameValue(id)); !s.ok()) return s;
  }
  return leaf.Flush();
}

}  // namespace untorn::internal
