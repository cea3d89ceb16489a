// fsck: everything a store says of itself, held against itself. docs/fsck.md lists what it finds.
//
//     superblock → log, replayed in memory → tree (what the checkpoint has in use; objects; mappings)
//                → log again, against what is in use → free-space map → names
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/str_cat.h"
#include "device/aligned_buffer.h"
#include "device/file_device.h"
#include "untorn/block_set.h"
#include "untorn/inspect.h"
#include "untorn/inspect_reader.h"

namespace untorn {

const char* FindingCodeName(FindingCode code) {
  switch (code) {
    case FindingCode::kSuperblockUnreadable:
      return "superblock-unreadable";
    case FindingCode::kNoSuperblock:
      return "no-superblock";
    case FindingCode::kLogDamaged:
      return "log-damaged";
    case FindingCode::kTreeNodeDamaged:
      return "tree-node-damaged";
    case FindingCode::kEntryIllFormed:
      return "entry-ill-formed";
    case FindingCode::kMappingOutOfBounds:
      return "mapping-out-of-bounds";
    case FindingCode::kMappingOverlap:
      return "mapping-overlap";
    case FindingCode::kMappingOfNoObject:
      return "mapping-of-no-object";
    case FindingCode::kFreeMapDamaged:
      return "free-map-damaged";
    case FindingCode::kUsedMarkedFree:
      return "used-marked-free";
    case FindingCode::kLeak:
      return "leak";
    case FindingCode::kNameWithoutObject:
      return "name-without-object";
    case FindingCode::kObjectWithoutName:
      return "object-without-name";
    case FindingCode::kNameMismatch:
      return "name-mismatch";
    case FindingCode::kMappingBeyondSize:
      return "mapping-beyond-size";
    case FindingCode::kCountMismatch:
      return "count-mismatch";
    case FindingCode::kStoreCutShort:
      return "store-cut-short";
  }
  return "unknown-finding";
}

namespace internal {
namespace {

constexpr size_t kFindingsInFull = 1000;
constexpr uint64_t kProgressEvery = 256;  // blocks

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class Findings {
 public:
  explicit Findings(FsckResult& result) : result_(result) {}
  // Words are put together only where they are kept.
  template <typename... Words>
  void Add(FindingCode code, const Words&... words) {
    if (result_.findings.size() < kFindingsInFull) result_.findings.push_back({code, absl::StrCat(words...)});
    ++result_.findings_total;
  }

 private:
  FsckResult& result_;
};

// Joins runs of blocks that are found group by group into one finding each.
class RunFindings {
 public:
  RunFindings(Findings& findings, FindingCode code, const char* meaning)
      : findings_(findings), code_(code), meaning_(meaning) {}
  void Add(Extent run) {
    if (held_.count > 0 && held_.end() == run.start) {
      held_.count += run.count;
      return;
    }
    Flush();
    held_ = run;
  }
  void Flush() {
    if (held_.count > 0) findings_.Add(code_, DescribeRun(held_), meaning_);
    held_ = {};
  }

 private:
  Findings& findings_;
  const FindingCode code_;
  const char* const meaning_;
  Extent held_;
};

class Progress {
 public:
  Progress(std::function<void(uint64_t, uint64_t)> report, uint64_t total)
      : report_(std::move(report)), total_(total) {}
  void Add(uint64_t blocks) {
    done_ += blocks;
    if (!report_ || done_ < next_) return;
    next_ = done_ + kProgressEvery;
    report_(std::min(done_, total_), total_);
  }
  void Done() {
    if (report_) report_(total_, total_);
  }

 private:
  const std::function<void(uint64_t, uint64_t)> report_;
  const uint64_t total_;
  uint64_t done_ = 0, next_ = 0;
};

// Ranges of keys that damage has hidden, found in key order.
class LostKeys {
 public:
  void Add(std::string_view first, std::optional<std::string_view> limit) {
    ranges_.push_back({std::string(first), limit ? std::optional<std::string>(*limit) : std::nullopt});
  }
  bool Has(const std::string& key) const {
    const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), key,
                                        [](const std::string& k, const Range& r) { return k < r.first; });
    if (after == ranges_.begin()) return false;
    const Range& range = *std::prev(after);
    return !range.limit || key < *range.limit;
  }

 private:
  struct Range {
    std::string first;
    std::optional<std::string> limit;
  };
  std::vector<Range> ranges_;
};

struct ObjectRecord {
  bool exists = false;  // has a record of its own
  bool named = false;   // a name refers to it
  uint64_t size_bytes = 0;
  std::string name;
  uint64_t mappings = 0;
  BlockRange furthest;  // its last mapping
};

class TreeCheck : public TreeVisitor {
 public:
  TreeCheck(const Superblock& superblock, const Delta& delta, FsckResult& result, Progress& progress)
      : sb_(superblock),
        delta_(delta),
        result_(result),
        findings_(result),
        progress_(progress),
        final_(delta) {
    base_.Add({0, sb_.geometry.data_start}, [](Extent) {});
    for (const auto& [id, inode] : delta.inodes()) {
      if (inode) SetInode(*inode);
    }
  }

  const BlockSet& base() const { return base_; }
  const BlockSet& reserved() const { return reserved_; }
  // Some of the blocks in use are unknown.
  bool mappings_lost() const { return nodes_lost_ > 0 || mappings_ill_formed_; }
  uint64_t nodes_lost() const { return nodes_lost_; }

  void Node(const TreeNode& node) override {
    ++result_.tree_nodes;
    progress_.Add(1);
    const uint64_t block = node.pointer().block;
    base_.Add({block, 1}, [&](Extent) {
      findings_.Add(FindingCode::kMappingOverlap, "block ", block,
                    " is a node of the mapping tree and mapped by an object too");
    });
  }

  void Damaged(BlockPointer pointer, const absl::Status& why, std::string_view first,
               std::optional<std::string_view> limit) override {
    ++nodes_lost_;
    progress_.Add(1);
    lost_.Add(first, limit);
    if (pointer.block >= sb_.geometry.data_start && pointer.block < sb_.geometry.total_blocks)
      base_.Add({pointer.block, 1}, [](Extent) {});
    findings_.Add(FindingCode::kTreeNodeDamaged, "block ", pointer.block, ": ", Message(why),
                  "; what it held is unknown: ", DescribeRange(first, limit));
  }

  void Entry(const TreeNode& leaf, int index) override {
    const std::string_view key = leaf.key(index), value = leaf.value(index);
    const std::optional<KeySpace> space = KeySpaceOf(key);
    if (space == KeySpace::kMapping) {
      if (const auto mapping = ParseMapping(key, value)) return TreeMapping(leaf, *mapping);
    } else if (space == KeySpace::kInode) {
      if (const auto inode = ParseInode(key, value)) {
        if (inode->id >= ObjectId{sb_.next_object}) {
          findings_.Add(FindingCode::kCountMismatch, "the superblock says that object number ",
                        sb_.next_object, " is the next to be given, but ", Describe(*inode), " exists");
        }
        if (delta_.FindInode(inode->id) == nullptr) SetInode(*inode);
        return;
      }
    } else if (space == KeySpace::kName) {
      if (const auto name = ParseName(key, value)) {
        if (delta_.FindName(name->first) == nullptr) Name(name->first, name->second);
        return;
      }
    }
    if (space != KeySpace::kInode && space != KeySpace::kName) mappings_ill_formed_ = true;
    lost_.Add(key, std::string(key) + '\0');
    findings_.Add(FindingCode::kEntryIllFormed, "tree node at block ", leaf.pointer().block, ", entry ",
                  index, " (", DescribeKey(key), ") makes no sense");
  }

  // After the walk: what the log says, and what the parts say of each other.
  void Finish() {
    final_.Tree(nullptr, [this](ObjectId id, const Mapping& m, bool) { FinalMapping(id, m); });
    for (const auto& [name, id] : delta_.names()) {
      if (id) Name(name, *id);
    }
    for (const auto& [id, object] : objects_) CheckObject(id, object);
  }

 private:
  static std::string Describe(const Inode& inode) {
    return absl::StrCat("object ", Value(inode.id), " '", Printable(inode.name), "'");
  }

  void TreeMapping(const TreeNode& leaf, const MappingEntry& entry) {
    const Geometry& g = sb_.geometry;
    const Mapping& m = entry.mapping;
    const auto what = [&] {
      return absl::StrCat("object ", Value(entry.object), ", ",
                          DescribeRun({m.logical.start, m.logical.count}), " of it, mapped to ",
                          DescribeRun(m.extent()));
    };
    if (entry.object != last_object_) last_end_ = 0;
    last_object_ = entry.object;
    const uint64_t first_new =
        std::max(m.logical.start, std::exchange(last_end_, std::max(last_end_, m.logical.end())));
    if (first_new > m.logical.start) {
      findings_.Add(FindingCode::kEntryIllFormed, "tree node at block ", leaf.pointer().block, ": ", what(),
                    ": an earlier entry maps some of these too");
    }
    if (m.physical < g.data_start || m.extent().end() > g.total_blocks) {
      findings_.Add(FindingCode::kMappingOutOfBounds, what(), ": outside the data area, ",
                    DescribeRun({g.data_start, g.total_blocks - g.data_start}));
    }
    const uint64_t start = std::max(m.physical, g.data_start);
    const uint64_t end = std::min(m.extent().end(), g.total_blocks);
    if (start < end) {
      base_.Add({start, end - start}, [&](Extent run) {
        findings_.Add(FindingCode::kMappingOverlap, what(), ": ", DescribeRun(run),
                      " mapped or used by the tree already");
      });
    }
    if (m.state == MappingState::kUnwritten && first_new < m.logical.end()) {
      // What the log writes in there stays the object's own.
      delta_.Visit(
          entry.object, {first_new, m.logical.end() - first_new},
          [&](const Mapping& piece) {
            const uint64_t place = m.physical + (piece.logical.start - m.logical.start);
            if (piece.state == MappingState::kHole || piece.physical != place) return;
            if (place >= start && place + piece.logical.count <= end)
              reserved_.Add(piece.extent(), [](Extent) {});
          },
          [](BlockRange) {});
    }
    final_.Tree(&entry, [this](ObjectId id, const Mapping& part, bool) { FinalMapping(id, part); });
  }

  void FinalMapping(ObjectId id, const Mapping& m) {
    ++result_.mappings;
    (m.state == MappingState::kWritten ? result_.mapped_blocks : result_.unwritten_blocks) += m.logical.count;
    ObjectRecord& object = objects_[id];
    ++object.mappings;
    if (m.logical.start >= object.furthest.start) object.furthest = m.logical;
  }

  void SetInode(const Inode& inode) {
    ++result_.objects;
    ObjectRecord& object = objects_[inode.id];
    object.exists = true;
    object.size_bytes = inode.size_bytes;
    object.name = inode.name;
  }

  // Names come after all objects: in the tree by the order of keys.
  void Name(const std::string& name, ObjectId id) {
    ++result_.names;
    const auto it = objects_.find(id);
    if (it == objects_.end() || !it->second.exists) {
      if (lost_.Has(InodeKey(id))) return;
      findings_.Add(FindingCode::kNameWithoutObject, "name '", Printable(name), "' leads to object ",
                    Value(id), ", which does not exist");
      return;
    }
    it->second.named = true;
    if (it->second.name == name) return;
    findings_.Add(FindingCode::kNameMismatch, "name '", Printable(name), "' leads to object ", Value(id),
                  ", whose own record says '", Printable(it->second.name), "'");
  }

  void CheckObject(ObjectId id, const ObjectRecord& object) {
    if (!object.exists) {
      if (lost_.Has(InodeKey(id))) return;
      findings_.Add(FindingCode::kMappingOfNoObject, "object ", Value(id), " does not exist but has ",
                    object.mappings, " mappings");
      return;
    }
    const auto what = [&, id = id] { return Describe({id, 0, object.name}); };
    if (!object.named && !lost_.Has(NameKey(object.name)))
      findings_.Add(FindingCode::kObjectWithoutName, what(), ": no name leads to it");
    if (object.mappings > 0 && object.furthest.start >= BlocksFor(object.size_bytes)) {
      findings_.Add(FindingCode::kMappingBeyondSize, what(), " has ", object.size_bytes,
                    " bytes, but a mapping of ", DescribeRun({object.furthest.start, object.furthest.count}),
                    " of it");
    }
  }

  const Superblock& sb_;
  const Delta& delta_;
  FsckResult& result_;
  Findings findings_;
  Progress& progress_;
  FinalMappings final_;
  BlockSet base_;      // in use by the checkpoint
  BlockSet reserved_;  // of those, what the log writes into for the same object
  LostKeys lost_;
  uint64_t nodes_lost_ = 0;
  bool mappings_ill_formed_ = false;
  ObjectId last_object_ = ObjectId::kNone;
  uint64_t last_end_ = 0;
  absl::btree_map<ObjectId, ObjectRecord> objects_;
};

class FreeMapCheck : public FreeMapVisitor {
 public:
  FreeMapCheck(const Superblock& superblock, const BlockSet& base, bool leaks, FsckResult& result,
               Progress& progress)
      : sb_(superblock),
        base_(base),
        leaks_(leaks),
        findings_(result),
        progress_(progress),
        marked_free_(
            findings_, FindingCode::kUsedMarkedFree,
            ": in use by the checkpoint, but free in the free-space map: a new write could overwrite "
            "them"),
        leaked_(findings_, FindingCode::kLeak, ": in use in the free-space map, but nothing uses them") {}

  void Table(const FreeMapNode&, uint64_t) override { progress_.Add(1); }
  void Bitmap(const FreeMapNode& node, const BlockSet::Words& bits, uint64_t used) override {
    progress_.Add(1);
    used_ += used;
    Compare(node.first_group, bits);
  }
  void Null(const FreeMapNode& node) override {
    const uint64_t first = node.first_group * kGroupBlocks;
    if (sb_.geometry.data_start > first)
      used_ += std::min(sb_.geometry.data_start - first, (node.last_group - node.first_group) * kGroupBlocks);
    base_.ForEachGroup(node.first_group, node.last_group, [&](uint64_t group) {
      Compare(group, BlockSet::Below(group, sb_.geometry.data_start));
    });
  }
  void Damaged(const FreeMapNode& node, const absl::Status& why) override {
    progress_.Add(1);
    damaged_ = true;
    const uint64_t first = node.first_group * kGroupBlocks;
    const uint64_t end = std::min(node.last_group * kGroupBlocks, sb_.geometry.total_blocks);
    findings_.Add(FindingCode::kFreeMapDamaged, Message(why), "; which of ",
                  DescribeRun({first, end - first}), " are free is unknown");
  }
  void WrongCount(const FreeMapNode& node, uint64_t said, uint64_t used) override {
    findings_.Add(FindingCode::kCountMismatch, "free-space map: the table above block ", node.pointer.block,
                  " says that ", said, " blocks are in use below it, but there ", used, " are");
  }

  void Finish() {
    marked_free_.Flush();
    leaked_.Flush();
    if (!damaged_ && used_ != sb_.used_blocks) {
      findings_.Add(FindingCode::kCountMismatch, "the superblock says that ", sb_.used_blocks,
                    " blocks are in use, the free-space map has ", used_);
    }
  }

 private:
  void Compare(uint64_t group, const BlockSet::Words& on_disk) {
    const BlockSet::Words in_use = base_.Group(group);
    BlockSet::Difference(group, in_use, on_disk, [&](Extent run) { marked_free_.Add(run); });
    if (leaks_) BlockSet::Difference(group, on_disk, in_use, [&](Extent run) { leaked_.Add(run); });
  }

  const Superblock& sb_;
  const BlockSet& base_;
  const bool leaks_;
  Findings findings_;
  Progress& progress_;
  RunFindings marked_free_, leaked_;
  uint64_t used_ = 0;
  bool damaged_ = false;
};

class Fsck {
 public:
  Fsck(Device& device, std::function<void(uint64_t, uint64_t)> progress)
      : device_(device), report_(std::move(progress)) {}

  absl::StatusOr<FsckResult> Run() {
    std::optional<Superblock> superblock = CheckSuperblocks();
    if (superblock) {
      if (absl::Status s = CheckStore(*superblock); !s.ok()) return s;
    }
    return std::move(result_);
  }

 private:
  bool SlotIsZero(int slot) {
    AlignedBuffer block(kBlockBytes);
    absl::Status read =
        ReadBlocking(device_, kSuperblockSlots[slot] * kBlockBytes, block.data(), kBlockBytes);
    return read.ok() && std::all_of(block.data(), block.data() + kBlockBytes,
                                    [](std::byte b) { return b == std::byte{0}; });
  }

  // Nothing: no further check makes sense.
  std::optional<Superblock> CheckSuperblocks() {
    const SuperblockSlots slots = ReadSuperblocks(device_);
    absl::StatusOr<Superblock> usable = UsableSuperblock(slots, device_.info(), /*for_writing=*/false);
    const bool cut_short = !usable.ok() && absl::IsDataLoss(usable.status()) && slots.current >= 0;
    if (!usable.ok() && !cut_short) {
      findings_.Add(FindingCode::kNoSuperblock, Message(usable.status()));
      return std::nullopt;
    }
    const Superblock& current = *slots.slots[slots.current];
    const int other = 1 - slots.current;
    const auto& spare = slots.slots[other];
    const auto damaged = [&](const std::string& why) {
      findings_.Add(FindingCode::kSuperblockUnreadable, "superblock slot ", other, ": ", why, "; slot ",
                    slots.current, " with generation ", current.generation, " is in use");
    };
    if (!spare.ok()) {
      if (!SlotIsZero(other)) damaged(Message(spare.status()));
    } else if (spare->uuid != current.uuid || spare->geometry != current.geometry) {
      damaged("belongs to another store, " + UuidString(spare->uuid));
    } else if (spare->generation == current.generation) {
      damaged("has the same generation");
    }
    result_.generation = current.generation;
    result_.epoch = current.epoch;
    result_.blocks_total = current.geometry.total_blocks;
    result_.lsn_checkpoint = current.checkpoint_lsn;
    if (cut_short) {
      findings_.Add(FindingCode::kStoreCutShort, Message(usable.status()));
      return std::nullopt;
    }
    return current;
  }

  absl::Status CheckStore(const Superblock& sb) {
    uint64_t map_nodes = 0;
    for (uint64_t nodes : FreeMapShape::ForBlocks(sb.geometry.total_blocks).nodes) map_nodes += nodes;
    Progress progress(report_, sb.geometry.log_blocks + sb.tree.node_count + map_nodes);

    Delta delta;
    absl::StatusOr<LogTail> tail = ReplayLog(device_, sb, &delta, [](const LogRecord&) {});
    if (!tail.ok()) return tail.status();
    if (!tail->damage.ok()) {
      findings_.Add(FindingCode::kLogDamaged, Message(tail->damage), "; the log counts up to record ",
                    tail->lsn);
    }
    result_.log_records = tail->kept.size();
    result_.log_records_dropped = tail->dropped;
    result_.lsn_recovered = tail->lsn;
    progress.Add(sb.geometry.log_blocks);

    TreeCheck tree(sb, delta, result_, progress);
    WalkTree(device_, sb, "", "", tree);
    tree.Finish();
    if (tree.nodes_lost() == 0 && result_.tree_nodes != sb.tree.node_count) {
      findings_.Add(FindingCode::kCountMismatch, "the superblock says that the tree has ", sb.tree.node_count,
                    " nodes, it has ", result_.tree_nodes);
    }
    CheckLogSpace(sb, *tail, delta, tree);

    if (tree.mappings_lost()) {
      findings_.Add(tree.nodes_lost() > 0 ? FindingCode::kTreeNodeDamaged : FindingCode::kEntryIllFormed,
                    "because parts of the tree are unknown, leaks were not looked for");
    }
    FreeMapCheck map(sb, tree.base(), !tree.mappings_lost(), result_, progress);
    WalkFreeMap(device_, sb, map);
    map.Finish();
    progress.Done();
    return absl::OkStatus();
  }

  // The log may use only what neither the checkpoint nor the log itself had in use, record by record, as
  // recovery does; and where it writes into what was reserved before, the checkpoint must have reserved it.
  void CheckLogSpace(const Superblock& sb, const LogTail& tail, const Delta& delta, const TreeCheck& tree) {
    BlockSet used;
    Delta replayed;
    absl::Status read = ForEachRecord(device_, sb, tail, [&](const LogRecord& record, Lsn chain_lsn) {
      for (const LogEntry& e : record.entries) {
        replayed.Apply(e, chain_lsn, [&](Extent extent, Lsn) { used.Remove(extent); });
        if (e.type != LogEntry::Type::kMap || e.reserved_before) continue;
        const auto overlap = [&](Extent run, const char* by) {
          findings_.Add(FindingCode::kMappingOverlap, "log record ", record.lsn, " maps ", DescribeRun(run),
                        " for object ", Value(e.object), ", in use by ", by);
        };
        const Extent extent{e.physical, e.logical.count};
        tree.base().ForEachRun(extent, true, [&](Extent run) { overlap(run, "the checkpoint"); });
        used.Add(extent, [&](Extent run) { overlap(run, "an earlier record"); });
      }
    });
    // A record that could not be read again is in tail.damage already, or the device is failing.
    if (!read.ok() && tail.damage.ok()) findings_.Add(FindingCode::kLogDamaged, Message(read));
    if (tree.nodes_lost() == 0) {
      delta.ForEachMapping([&](ObjectId object, const Mapping& m, bool owned) {
        if (owned || m.state == MappingState::kHole) return;
        tree.reserved().ForEachRun(m.extent(), false, [&](Extent run) {
          const bool in_use = tree.base().Contains(run.start);
          findings_.Add(in_use ? FindingCode::kMappingOverlap : FindingCode::kUsedMarkedFree,
                        DescribeRun(run), ": the log writes there for object ", Value(object),
                        " as into blocks reserved for it, which the checkpoint has ",
                        in_use ? "for something else" : "not in use");
        });
      });
    }
    result_.blocks_used = tree.base().count() + used.count();
  }

  Device& device_;
  const std::function<void(uint64_t, uint64_t)> report_;
  FsckResult result_;
  Findings findings_{result_};
};

}  // namespace
}  // namespace internal

absl::StatusOr<FsckResult> FsckDevice(Device& device, std::function<void(uint64_t, uint64_t)> progress) {
  return internal::Fsck(device, std::move(progress)).Run();
}

absl::StatusOr<FsckResult> Fsck(const std::string& path, std::function<void(uint64_t, uint64_t)> progress) {
  absl::StatusOr<std::unique_ptr<Device>> device = OpenFileDevice(path, {.read_only = true});
  if (!device.ok()) return device.status();
  return FsckDevice(**device, std::move(progress));
}

}  // namespace untorn
