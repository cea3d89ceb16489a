#include "untorn/inspect_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "untorn/printable.h"

namespace untorn::internal {

std::string DescribeKey(std::string_view key) {
  if (const std::optional<KeySpace> space = KeySpaceOf(key)) {
    // A value that is well-formed for each key space, so that the parsers tell what the key says.
    switch (*space) {
      case KeySpace::kMapping:
        if (const auto m = ParseMapping(key, MappingValue(1, 1, MappingState::kWritten))) {
          return absl::StrCat("mapping of object ", Value(m->object), " at block ", m->mapping.logical.start);
        }
        break;
      case KeySpace::kInode:
        if (const auto inode = ParseInode(key, InodeValue({ObjectId{1}, 0, "x"}))) {
          return absl::StrCat("object ", Value(inode->id));
        }
        break;
      case KeySpace::kName:
        return absl::StrCat("name '", Printable(std::string(key.substr(1))), "'");
    }
  }
  return absl::StrCat("key 0x", absl::BytesToHexString(View(key.substr(0, 300))));
}

std::string DescribeRange(std::string_view first, std::optional<std::string_view> limit) {
  return absl::StrCat(first.empty() ? "everything" : absl::StrCat("everything from ", DescribeKey(first)),
                      limit           ? absl::StrCat(" to before ", DescribeKey(*limit))
                      : first.empty() ? ""
                                      : " on");
}

std::string DescribeRun(Extent extent) {
  return extent.count == 1 ? absl::StrCat("block ", extent.start)
                           : absl::StrCat("blocks ", extent.start, " to ", extent.end() - 1);
}

absl::StatusOr<LogTail> ReplayLog(Device& device, const Superblock& superblock, Delta* delta,
                                  absl::FunctionRef<void(const LogRecord&)> each) {
  absl::StatusOr<LogTail> tail = ReadLogTail(device, superblock);
  if (!tail.ok()) {
    // A part of the device that cannot be read is damage, and so is a record that no version wrote in a store
    // of this one; anything else is the device's failure.
    if (!absl::IsDataLoss(tail.status()) && !absl::IsOutOfRange(tail.status()) &&
        !absl::IsUnimplemented(tail.status())) {
      return tail;
    }
    LogTail none;
    none.lsn = superblock.checkpoint_lsn;
    none.position = superblock.checkpoint_position;
    none.checksum = superblock.checkpoint_checksum;
    none.prepared_blocks = superblock.prepared_blocks;
    none.damage = tail.status();
    return none;
  }
  absl::Status read = ForEachRecord(device, superblock, *tail, [&](const LogRecord& record, Lsn chain_lsn) {
    each(record);
    for (const LogEntry& e : record.entries) {
      const absl::Status applied = delta->Apply(e, chain_lsn, [](Extent, Lsn) {});
      if (!applied.ok() && tail->damage.ok()) tail->damage = applied;
    }
  });
  if (!read.ok() && tail->damage.ok()) tail->damage = read;
  return tail;
}

// ---- Tree ----

namespace {

using Limit = std::optional<std::string_view>;

class TreeWalker {
 public:
  TreeWalker(Device& device, const Superblock& superblock, std::string_view from, std::string_view to,
             TreeVisitor& visitor)
      : device_(device), superblock_(superblock), from_(from), to_(to), visitor_(visitor) {}

  absl::Status Run() {
    Walk(superblock_.tree.root, nullptr, 0, "", std::nullopt);
    return failed_;
  }

 private:
  // `parent` is nullptr for the root.
  void Walk(BlockPointer pointer, const TreeNode* parent, int index, std::string_view first, Limit limit) {
    absl::StatusOr<std::shared_ptr<const TreeNode>> loaded = Load(pointer);
    if (loaded.ok() && parent != nullptr) {
      if (absl::Status s = CheckChild(*parent, index, limit, **loaded); !s.ok()) loaded = s;
    }
    if (!failed_.ok()) return;
    if (!loaded.ok()) return visitor_.Damaged(pointer, loaded.status(), first, limit);
    const TreeNode& node = **loaded;
    visitor_.Node(node);
    for (int i = 0; i < node.count(); ++i) {
      if (node.level() == 0) {
        visitor_.Entry(node, i);
        continue;
      }
      const Limit next = i + 1 < node.count() ? Limit(node.key(i + 1)) : limit;
      if ((next && *next <= from_) || (!to_.empty() && node.key(i) >= to_)) continue;
      Walk(node.child(i), &node, i, node.key(i), next);
      if (!failed_.ok()) return;
    }
  }

  absl::StatusOr<std::shared_ptr<const TreeNode>> Load(BlockPointer pointer) {
    const Geometry& g = superblock_.geometry;
    if (!g.InDataArea({pointer.block, 1})) {
      return absl::DataLossError(
          absl::StrCat("a pointer of the tree leads outside the data area, to block ", pointer.block));
    }
    bool seen = false;
    visited_.Add({pointer.block, 1}, [&](Extent) { seen = true; });
    if (seen) {
      return absl::DataLossError(absl::StrCat("tree node at ", pointer.block, ": two pointers lead to it"));
    }
    absl::Status read = ReadOrMissing(device_, pointer.block * kBlockBytes, block_.data(), kBlockBytes);
    if (!read.ok() && !absl::IsDataLoss(read)) failed_ = read;
    if (!read.ok()) return read;
    return TreeNode::Parse(block_.span(), superblock_.uuid, pointer);
  }

  Device& device_;
  const Superblock& superblock_;
  const std::string_view from_, to_;
  TreeVisitor& visitor_;
  BlockSet visited_;
  AlignedBuffer block_{kBlockBytes};
  absl::Status failed_;
};

class FreeMapWalker {
 public:
  FreeMapWalker(Device& device, const Superblock& superblock, FreeMapVisitor& visitor)
      : device_(device),
        superblock_(superblock),
        shape_(FreeMapShape::ForBlocks(superblock.geometry.total_blocks)),
        visitor_(visitor) {}

  absl::Status Run() {
    Walk(shape_.root_level(), 0, superblock_.free_map);
    return failed_;
  }

 private:
  // The blocks in use below, as the node itself says; nothing if it is damaged.
  std::optional<uint64_t> Walk(int level, uint64_t index, BlockPointer pointer) {
    if (!failed_.ok()) return std::nullopt;
    FreeMapNode node{level, index, pointer};
    uint64_t span = 1;
    for (int l = 0; l < level; ++l) span *= kTableFanout;
    node.first_group = index * span;
    node.last_group = std::min(node.first_group + span, shape_.nodes[0]);
    if (!pointer) {
      visitor_.Null(node);
      return 0;
    }
    if (absl::Status s = Load(node); !s.ok()) {
      if (failed_.ok()) visitor_.Damaged(node, s);
      return std::nullopt;
    }
    uint64_t used = 0;
    if (level == 0) {
      BlockSet::Words bits;
      std::memcpy(bits.data(), block_.data() + kHeaderBytes, sizeof(bits));
      for (uint64_t word : bits) used += std::popcount(word);
      visitor_.Bitmap(node, bits, used);
      return used;
    }
    std::vector<FreeMapEntry> entries(kTableFanout);
    std::memcpy(entries.data(), block_.data() + kHeaderBytes, kTableFanout * sizeof(FreeMapEntry));
    if (absl::Status s = CheckPlaces(node, entries); !s.ok()) {
      visitor_.Damaged(node, s);
      return std::nullopt;
    }
    for (const FreeMapEntry& e : entries) used += e.used_blocks;
    visitor_.Table(node, used);
    for (uint64_t i = 0; i < kTableFanout; ++i) {
      const uint64_t child = index * kTableFanout + i;
      if (child >= shape_.nodes[level - 1]) break;
      const std::optional<uint64_t> below = Walk(level - 1, child, entries[i].pointer());
      if (below && *below != entries[i].used_blocks) {
        visitor_.WrongCount({level - 1, child, entries[i].pointer(), 0, 0}, entries[i].used_blocks, *below);
      }
    }
    return used;
  }

  bool IsSlot(int level, uint64_t index, uint64_t block) const {
    const uint64_t slot0 = superblock_.geometry.map_start + shape_.Slot(level, index, 0);
    return block == slot0 || block == slot0 + 1;
  }

  absl::Status Load(const FreeMapNode& node) {
    const bool bitmap = node.level == 0;
    const char* what = bitmap ? "free-space bitmap" : "free-space table";
    if (!IsSlot(node.level, node.index, node.pointer.block)) {
      return absl::DataLossError(absl::StrCat("the pointer to the root of the free-space map leads to block ",
                                              node.pointer.block, ", which is none of its places"));
    }
    absl::Status s = ReadOrMissing(device_, node.pointer.block * kBlockBytes, block_.data(), kBlockBytes);
    if (!s.ok() && !absl::IsDataLoss(s)) failed_ = s;
    if (s.ok()) {
      s = VerifyBlock(block_.span(), bitmap ? BlockType::kFreeMapBitmap : BlockType::kFreeMapTable,
                      superblock_.uuid, node.pointer.block, what);
    }
    if (!s.ok()) return s;
    BlockHeader header;
    std::memcpy(&header, block_.data(), sizeof(header));
    if (header.checksum == node.pointer.checksum) return s;
    return absl::DataLossError(
        absl::StrCat(what, " at block ", node.pointer.block, ": stale: not the one its parent points to"));
  }

  absl::Status CheckPlaces(const FreeMapNode& node, const std::vector<FreeMapEntry>& entries) const {
    for (uint64_t i = 0; i < kTableFanout; ++i) {
      const uint64_t child = node.index * kTableFanout + i;
      if (entries[i].block == 0) continue;
      if (child < shape_.nodes[node.level - 1] && IsSlot(node.level - 1, child, entries[i].block)) continue;
      return absl::DataLossError(absl::StrCat("free-space table at block ", node.pointer.block, ": entry ", i,
                                              " points to block ", entries[i].block,
                                              ", which is not a slot of its child"));
    }
    return absl::OkStatus();
  }

  Device& device_;
  const Superblock& superblock_;
  const FreeMapShape shape_;
  FreeMapVisitor& visitor_;
  AlignedBuffer block_{kBlockBytes};
  absl::Status failed_;
};

}  // namespace

absl::Status WalkTree(Device& device, const Superblock& superblock, std::string_view from,
                      std::string_view to, TreeVisitor& visitor) {
  if (!superblock.tree.root) return absl::OkStatus();
  return TreeWalker(device, superblock, from, to, visitor).Run();
}

absl::Status WalkFreeMap(Device& device, const Superblock& superblock, FreeMapVisitor& visitor) {
  return FreeMapWalker(device, superblock, visitor).Run();
}

// ---- Final state ----

FinalMappings::FinalMappings(const Delta& delta) : delta_(delta) {
  delta.ForEachMapping([&](ObjectId object, const Mapping& m, bool) {
    if (m.state != MappingState::kHole) log_.push_back({object, m});
  });
}

void FinalMappings::LogBefore(ObjectId object, uint64_t logical, bool all, Fn fn) {
  for (; next_ < log_.size(); ++next_) {
    const MappingEntry& e = log_[next_];
    if (!all && std::pair(e.object, e.mapping.logical.start) >= std::pair(object, logical)) return;
    fn(e.object, e.mapping, true);
  }
}

void FinalMappings::Tree(const MappingEntry* entry, Fn fn) {
  if (entry == nullptr) return LogBefore(ObjectId::kNone, 0, true, fn);
  Mapping m = entry->mapping;
  if (entry->object == object_ && m.logical.start < end_) {
    // Damage: what an earlier entry maps too is left out.
    if (m.logical.end() <= end_) return;
    const uint64_t skip = end_ - m.logical.start;
    m.logical = {end_, m.logical.count - skip};
    m.physical += skip;
  }
  object_ = entry->object;
  end_ = m.logical.end();
  delta_.Visit(
      entry->object, m.logical, [](const Mapping&) {},
      [&](BlockRange gap) {
        LogBefore(entry->object, gap.start, false, fn);
        Mapping part = m;
        part.physical += gap.start - m.logical.start;
        part.logical = gap;
        fn(entry->object, part, false);
      });
}

}  // namespace untorn::internal
