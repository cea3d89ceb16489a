// fsck: compares all that a store says of itself. docs/fsck.md lists the findings.
//
//     superblock → log, replayed in memory → tree: the blocks in use by the checkpoint, objects, mappings, names
//                → log again, compared with the blocks in use → free-space map
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/memory_reserve.h"
#include "base/status_macros.h"
#include "extent/free_map_format.h"
#include "extent/open_for_reading.h"
#include "inspect/block_set.h"
#include "inspect/describe.h"
#include "inspect/findings.h"
#include "inspect/fsck_data.h"
#include "inspect/fsck_free_map.h"
#include "inspect/fsck_tree.h"
#include "inspect/on_device.h"
#include "inspect/progress.h"
#include "inspect/replay_log.h"
#include "untorn/inspect.h"

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
    case FindingCode::kDataDamaged:
      return "data-damaged";
  }
  return "unknown-finding";
}

namespace internal {
namespace {

class Fsck {
 public:
  Fsck(Device& device, const FsckOptions& options) : device_(device), options_(options) {}

  // Checks a checkpoint that is leased. The log and the free-space map are not the checkpoint's any more.
  absl::StatusOr<FsckResult> RunOnLeased(const Superblock& sb) {
    SetNumbers(sb);
    result_.beside_owner = true;
    result_.lsn_recovered = sb.checkpoint_lsn.value();
    result_.blocks_used = sb.used_blocks.value();
    Progress progress(options_.progress,
                      sb.tree.node_count + (options_.data ? sb.used_blocks : BlockCount(0)));
    DataCheck data(device_, sb, sb.epoch, result_, progress);
    const Delta nothing;
    TreeCheck tree(sb, nothing, result_, progress, options_.data ? &data : nullptr);
    RETURN_IF_ERROR(CheckTree(sb, data, tree));
    progress.Done();
    return std::move(result_);
  }

  absl::StatusOr<FsckResult> Run() {
    std::optional<Superblock> superblock = CheckSuperblocks();
    if (superblock) RETURN_IF_ERROR(CheckStore(*superblock));
    return std::move(result_);
  }

 private:
  // Returns the superblock in use, or nothing where no further check makes sense.
  std::optional<Superblock> CheckSuperblocks() {
    const SuperblockSlots slots = ReadSuperblocks(device_);
    absl::StatusOr<Superblock> usable = UsableSuperblock(slots, device_, /*for_writing=*/false);
    const bool cut_short = !usable.ok() && absl::IsDataLoss(usable.status()) && slots.current >= 0;
    if (!usable.ok() && !cut_short) {
      findings_.Add(FindingCode::kNoSuperblock, Message(usable.status()));
      return std::nullopt;
    }
    const Superblock& current = *slots.slots[slots.current];
    const auto& spare = slots.slots[1 - slots.current];
    current_slot_ = slots.current;
    if (!spare.ok()) {
      SpareIsDamaged(current, Message(spare.status()));
    } else if (spare->uuid != current.uuid) {
      SpareIsDamaged(current, "belongs to another store, " + UuidString(spare->uuid));
    } else if (spare->generation == current.generation && *spare != current) {
      SpareIsDamaged(current, "has the same generation and other contents");
    } else {
      spare_generation_ = spare->generation;
    }
    SetNumbers(current);
    if (cut_short) {
      findings_.Add(FindingCode::kStoreCutShort, Message(usable.status()));
      return std::nullopt;
    }
    return current;
  }

  void SetNumbers(const Superblock& superblock) {
    result_.generation = superblock.generation.value();
    result_.log_epoch = superblock.epoch.value();
    result_.blocks_total = superblock.geometry.total_blocks.value();
    result_.lsn_checkpoint = superblock.checkpoint_lsn.value();
  }

  void SpareIsDamaged(const Superblock& current, const std::string& why) {
    findings_.Add(FindingCode::kSuperblockUnreadable, "superblock slot ", 1 - current_slot_, ": ", why,
                  "; slot ", current_slot_, " with generation ", current.generation, " is in use");
  }

  absl::Status CheckStore(const Superblock& sb) {
    BlockCount map_nodes;
    for (uint64_t nodes : FreeMapShape::ForGroups(sb.geometry.groups()).nodes) map_nodes += BlockCount(nodes);
    const BlockCount data_blocks = options_.data ? sb.used_blocks : BlockCount(0);
    Progress progress(options_.progress,
                      sb.geometry.log.count + sb.tree.node_count + map_nodes + data_blocks);

    Delta delta;
    ASSIGN_OR_RETURN(const LogTail tail, ReplayLog(device_, sb, &delta, [](const LogRecord&) {}));
    if (absl::Status s = CheckNotCutShort(device_, tail.prepared_blocks); !s.ok())
      findings_.Add(FindingCode::kStoreCutShort, Message(s));
    if (!tail.damage.ok()) {
      findings_.Add(FindingCode::kLogDamaged, Message(tail.damage), "; the log counts up to record ",
                    tail.lsn);
    }
    // A crash between the writes of the two slots leaves the generation before in one of them. But a log
    // record names only a generation that both slots held.
    if (spare_generation_ && *spare_generation_ + 1 < sb.generation) {
      SpareIsDamaged(sb, absl::StrCat("is stale, of generation ", Word(*spare_generation_)));
    } else if (spare_generation_ && *spare_generation_ < tail.superblock_generation) {
      SpareIsDamaged(sb, absl::StrCat("is stale, of generation ", Word(*spare_generation_),
                                      ", while log records name ", Word(tail.superblock_generation)));
    }
    result_.log_records = tail.kept.size();
    result_.log_records_dropped = tail.dropped;
    result_.lsn_recovered = tail.lsn.value();
    progress.Add(sb.geometry.log.count);

    DataCheck data(device_, sb, /*session=*/LogEpoch(), result_, progress);
    TreeCheck tree(sb, delta, result_, progress, options_.data ? &data : nullptr);
    RETURN_IF_ERROR(CheckTree(sb, data, tree));
    CheckLogSpace(sb, tail, delta, tree);

    const bool all_known = tree.nodes_lost() == 0;
    if (!all_known) {
      findings_.Add(FindingCode::kTreeNodeDamaged,
                    "because parts of the tree are unknown, leaks were not looked for");
    }
    FreeMapCheck map(sb, tree.base(), all_known, result_, progress);
    RETURN_IF_ERROR(WalkFreeMap(device_, sb, map));
    map.Finish();
    progress.Done();
    return absl::OkStatus();
  }

  absl::Status CheckTree(const Superblock& sb, DataCheck& data, TreeCheck& tree) {
    RETURN_IF_ERROR(WalkTree(device_, sb, "", "", tree));
    tree.Finish();
    RETURN_IF_ERROR(data.status());
    TellDamage(data, tree);
    if (tree.nodes_lost() == 0 && BlockCount(result_.tree_nodes) != sb.tree.node_count) {
      findings_.Add(FindingCode::kCountMismatch, "the superblock says that the tree has ", sb.tree.node_count,
                    " nodes, it has ", result_.tree_nodes);
    }
    if (tree.nodes_lost() == 0 &&
        (tree.leaf_bytes() != sb.tree.leaf_bytes || tree.levels() != sb.tree.levels)) {
      findings_.Add(FindingCode::kCountMismatch, "the superblock says that the tree has ", sb.tree.levels,
                    " levels and ", sb.tree.leaf_bytes, " bytes in its leaves, it has ", tree.levels(),
                    " and ", tree.leaf_bytes());
    }
    tree.base().ForEachRun([&](Extent run) {
      const BlockNumber start = std::max(run.start, BlockAfterFirst(sb.prepared_blocks));
      if (start >= run.end()) return;
      findings_.Add(FindingCode::kMappingOutOfBounds, DescribeRun(Extent{start, run.end() - start}),
                    " in use, but only the ", sb.prepared_blocks,
                    " before may be: a store open for writing zeroes those behind");
    });
    return absl::OkStatus();
  }

  void TellDamage(const DataCheck& data, const TreeCheck& tree) {
    result_.data_checked = options_.data;
    for (const DataCheck::Damage& d : data.damages()) {
      findings_.Add(FindingCode::kDataDamaged, tree.Describe(d.object), ", ", DescribeRun(d.blocks),
                    " of it, at ", DescribeRun(Extent{d.physical, d.blocks.count}),
                    d.unreadable ? ": cannot be read" : ": does not match its checksum");
    }
    result_.findings_total += data.damages_total() - data.damages().size();
  }

  // Checks the blocks that the log uses, record by record as recovery does. A record may map only blocks that neither the
  // checkpoint nor an earlier record has in use. Nodes of the checkpoint are an exception up to the log's end: the
  // checkpoint may have taken the blocks when a later record had displaced them. A record that writes into unwritten
  // blocks must find them unwritten in the checkpoint, for the same object.
  void CheckLogSpace(const Superblock& sb, const LogTail& tail, const Delta& delta, const TreeCheck& tree) {
    BlockSet used;
    Delta replayed;
    const auto overlap = [&](Lsn lsn, Extent run, ObjectId object, const char* by) {
      findings_.Add(FindingCode::kMappingOverlap, "log record ", lsn, " maps ", DescribeRun(run),
                    " for object ", Value(object), ", in use by ", by);
    };
    absl::Status read = ForEachRecord(device_, sb, tail, [&](const LogRecord& record, Lsn chain_lsn) {
      for (const LogEntry& e : record.entries) {
        // Where a record contradicts an earlier one, tail.damage says so already.
        (void)replayed.Apply(e, chain_lsn, [&](Extent extent, Lsn) { used.Remove(extent); });
        if (e.type != LogEntry::Type::kMap || e.into_unwritten) continue;
        const Extent extent{e.physical, e.logical.count};
        if (extent.end() > BlockAfterFirst(tail.prepared_blocks)) {
          findings_.Add(FindingCode::kMappingOutOfBounds, "log record ", record.lsn, " maps ",
                        DescribeRun(extent), ", but only the blocks before ", tail.prepared_blocks,
                        " are prepared");
        }
        tree.base().ForEachRun(extent, true, [&](Extent in_use) {
          tree.nodes().ForEachRun(in_use, false,
                                  [&](Extent run) { overlap(record.lsn, run, e.object, "the checkpoint"); });
        });
        used.Add(extent, [&](Extent run) { overlap(record.lsn, run, e.object, "an earlier record"); });
      }
    });
    // Either tail.damage tells of the record that cannot be read, or the device has begun to fail.
    if (!read.ok() && tail.damage.ok()) findings_.Add(FindingCode::kLogDamaged, Message(read));
    const bool all_known = tree.nodes_lost() == 0;
    delta.ForEachMapping([&](ObjectId object, const Mapping& m, bool owned) {
      if (m.state == MappingState::kHole) return;
      if (owned) {
        tree.nodes().ForEachRun(m.extent(), true,
                                [&](Extent run) { overlap(m.lsn, run, object, "the checkpoint"); });
      } else if (all_known) {
        tree.reserved().ForEachRun(m.extent(), false, [&](Extent run) {
          const bool in_use = tree.base().Contains(run.start);
          findings_.Add(in_use ? FindingCode::kMappingOverlap : FindingCode::kUsedMarkedFree,
                        DescribeRun(run), ": the log keeps them for object ", Value(object),
                        " as blocks that it has, but the checkpoint has them ",
                        in_use ? "for something else" : "not in use");
        });
      }
    });
    result_.blocks_used =
        (sb.geometry.FixedBlocks(tail.prepared_blocks) + tree.base().count() + used.count()).value();
  }

  Device& device_;
  const FsckOptions& options_;
  FsckResult result_;
  Findings findings_{result_};
  int current_slot_ = 0;
  std::optional<Generation>
      spare_generation_;  // the generation in the slot not in use, if that slot is sound
};

}  // namespace
}  // namespace internal

absl::StatusOr<FsckResult> FsckDevice(Device& device, const FsckOptions& options) {
  return internal::Fsck(device, options).Run();
}

absl::StatusOr<FsckResult> Fsck(const std::string& path, const FsckOptions& options) {
  return UnlessOutOfMemory([&]() -> absl::StatusOr<FsckResult> {
    ASSIGN_OR_RETURN(const ReadDevice reading, OpenForReading(path, {}));
    if (!reading.leased) return FsckDevice(*reading.device, options);
    absl::StatusOr<FsckResult> result = internal::Fsck(*reading.device, options).RunOnLeased(*reading.leased);
    // What cannot be read is no damage if the lease has ended.
    RETURN_IF_ERROR(CheckLease(*reading.device));
    return result;
  });
}

}  // namespace untorn
