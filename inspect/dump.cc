// dump: shows a store's metadata as JSON text. The text is written piece by piece, so memory holds the text
// and little else.
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/aligned_buffer.h"
#include "base/memory_reserve.h"
#include "base/status_macros.h"
#include "extent/free_map_format.h"
#include "extent/open_for_reading.h"
#include "inspect/dump_json.h"
#include "inspect/dump_walks.h"
#include "inspect/on_device.h"
#include "inspect/printable.h"
#include "inspect/replay_log.h"
#include "untorn/inspect.h"

namespace untorn {
namespace internal {
namespace {

Json LanesJson(const LaneExtents& lanes) {
  Json json = Json::array();
  for (Extent e : lanes) json.push_back({{"start", e.start}, {"count", e.count}});
  return json;
}

Json SuperblockJson(const Superblock& s) {
  return {{"uuid", UuidString(s.uuid)},
          {"generation", s.generation},
          {"features",
           {{"compatible", Hex(s.features.compatible)},
            {"read_only_compatible", Hex(s.features.read_only_compatible)},
            {"incompatible", Hex(s.features.incompatible)}}},
          {"total_blocks", s.geometry.total_blocks},
          {"log_epoch", s.epoch},
          {"checkpoint_lsn", s.checkpoint_lsn},
          {"checkpoint_position", s.checkpoint_position},
          {"checkpoint_checksum", Hex(s.checkpoint_checksum)},
          {"durable_lsn", s.durable_lsn},
          {"prepared_blocks", s.prepared_blocks},
          {"next_object", s.next_object},
          {"tree_root", PointerJson(s.tree.root)},
          {"tree_nodes", s.tree.node_count},
          {"tree_leaf_bytes", s.tree.leaf_bytes},
          {"tree_levels", s.tree.levels},
          {"free_map", PointerJson(s.free_map)},
          {"used_blocks", s.used_blocks},
          {"lanes", LanesJson(s.lanes)}};
}

void PutChecksums(Json& json, const DataChecksums& data) {
  if (data.blocks.empty()) return;
  Json& checksums = json["checksums"] = Json::array();
  for (uint64_t checksum : data.blocks) checksums.push_back(Hex(checksum));
}

Json EntryJson(const LogEntry& e) {
  Json json;
  switch (e.type) {
    case LogEntry::Type::kMap:
      json = {{"type", "map"},          {"object", Value(e.object)}, {"logical", e.logical.start},
              {"physical", e.physical}, {"count", e.logical.count},  {"state", StateName(e.state)}};
      if (e.into_unwritten) json["into_unwritten"] = true;
      if (e.state == MappingState::kWritten) {
        json["check"] = Hex(e.data.check);
        PutChecksums(json, e.data);
      }
      break;
    case LogEntry::Type::kOpen:
      json = {{"type", "open"},
              {"object", Value(e.object)},
              {"logical", e.logical.start},
              {"physical", e.physical},
              {"count", e.logical.count}};
      PutChecksums(json, e.data);
      break;
    case LogEntry::Type::kHole:
      json = {{"type", "hole"},
              {"object", Value(e.object)},
              {"logical", e.logical.start},
              {"count", e.logical.count}};
      break;
    case LogEntry::Type::kInode:
      json = {{"type", "inode"}, {"object", Value(e.object)}, {"size_bytes", e.size_bytes}};
      if (e.preallocated) json["preallocated"] = true;
      PutName(json, e.name);
      break;
    case LogEntry::Type::kInodeGone:
      json = {{"type", "inode-gone"}, {"object", Value(e.object)}};
      break;
    case LogEntry::Type::kName:
      json = {{"type", "name"}, {"object", Value(e.object)}};
      PutName(json, e.name);
      break;
    case LogEntry::Type::kNameGone:
      json = {{"type", "name-gone"}};
      PutName(json, e.name);
      break;
  }
  return json;
}

Json RecordJson(const LogRecord& r) {
  Json entries = Json::array();
  for (const LogEntry& e : r.entries) entries.push_back(EntryJson(e));
  const bool in_lane = r.lane_block > 0;
  return {{in_lane ? "lane_block" : "position", in_lane ? r.lane_block.value() : r.position.value()},
          {"blocks", r.blocks},
          {"lsn", r.lsn},
          {"log_epoch", r.epoch},
          {"claim", r.claim},
          {"superblock_generation", r.superblock_generation},
          {"prepared_blocks", r.prepared_blocks},
          {"last", r.last},
          {"settling", r.settling},
          {"by_opening", r.by_opening},
          {"lanes", LanesJson(r.lanes)},
          {"checksum", Hex(r.checksum)},
          {"previous_checksum", Hex(r.previous_checksum)},
          {"entries", std::move(entries)}};
}

class Dump {
 public:
  Dump(Device& device, const DumpOptions& options) : device_(device), options_(options) {}

  // Shows a checkpoint that is leased. The log and the free-space map are not the checkpoint's any more.
  absl::StatusOr<std::string> RunOnLeased(const Superblock& superblock) {
    out_.Begin('{');
    out_.Member("path", Printable(device_.info().path));
    out_.Member("device_bytes", device_.size_bytes());
    out_.Member("beside_owner", true);
    out_.Key("superblocks");
    out_.Begin('[');
    out_.Element(SuperblockJson(superblock));
    out_.End(']');
    DumpGeometry(superblock.geometry);
    RETURN_IF_ERROR(DumpTree(superblock, Delta(), /*log_sound=*/true));
    out_.End('}');
    return out_.Take() + "\n";
  }

  absl::StatusOr<std::string> Run() {
    const SuperblockSlots slots = ReadSuperblocks(device_);
    const absl::StatusOr<Superblock> usable = UsableSuperblock(slots, device_, /*for_writing=*/false);
    out_.Begin('{');
    out_.Member("path", Printable(device_.info().path));
    out_.Member("device_bytes", device_.size_bytes());
    if (!usable.ok()) out_.Member("error", ErrorJson(usable.status()));
    DumpSlots(slots);
    if (slots.current >= 0) {
      RETURN_IF_ERROR(DumpStore(*slots.slots[slots.current]));
    }
    out_.End('}');
    return out_.Take() + "\n";
  }

 private:
  void DumpSlots(const SuperblockSlots& slots) {
    out_.Key("superblocks");
    out_.Begin('[');
    for (int i = 0; i < 2; ++i) {
      Json json = {{"slot", i}, {"block", kSuperblockSlots[i]}, {"in_use", i == slots.current}};
      if (slots.slots[i].ok()) {
        json.update(SuperblockJson(*slots.slots[i]));
      } else {
        json["error"] = ErrorJson(slots.slots[i].status());
        AlignedBuffer block(kBlockBytes);
        if (ReadBlocking(device_, ByteOffset(kSuperblockSlots[i]), block.data(), kBlockBytes).ok()) {
          const auto* bytes = reinterpret_cast<const char*>(block.data());
          json["first_bytes"] = absl::BytesToHexString(absl::string_view(bytes, kSuperblockBytes));
        }
      }
      out_.Element(json);
    }
    out_.End(']');
  }

  void DumpGeometry(const Geometry& g) {
    out_.Member("geometry", {{"block_bytes", kBlockBytes},
                             {"total_blocks", g.total_blocks},
                             {"group_blocks", kGroupBlocks},
                             {"head_blocks", kHeadBlocks},
                             {"log_start", g.log.start},
                             {"log_blocks", g.log.count}});
  }

  absl::Status DumpStore(const Superblock& sb) {
    DumpGeometry(sb.geometry);
    Delta delta;
    const absl::Status log = DumpLog(sb, &delta);
    if (!log.ok() && !options_.log) out_.Member("log_error", ErrorJson(log));
    RETURN_IF_ERROR(DumpTree(sb, delta, log.ok()));
    if (options_.free_map) {
      out_.Key("free_map");
      out_.Begin('{');
      out_.Member("root", PointerJson(sb.free_map));
      out_.Key("nodes");
      out_.Begin('[');
      FreeMapDump map(out_);
      RETURN_IF_ERROR(WalkFreeMap(device_, sb, map));
      out_.End(']');
      out_.End('}');
    }
    return absl::OkStatus();
  }

  absl::Status DumpTree(const Superblock& sb, const Delta& delta, bool log_sound) {
    if (options_.tree) {
      out_.Key("tree");
      out_.Begin('{');
      out_.Member("root", PointerJson(sb.tree.root));
      out_.Member("node_count", sb.tree.node_count);
      out_.Key("nodes");
      out_.Begin('[');
    }
    NodeDump nodes(options_.tree ? &out_ : nullptr);
    if (options_.tree || options_.objects) {
      RETURN_IF_ERROR(WalkTree(device_, sb, "", "", nodes));
    }
    if (options_.tree) {
      out_.End(']');
      out_.End('}');
    }
    if (options_.objects) {
      RETURN_IF_ERROR(DumpObjects(sb, delta, nodes, log_sound));
    }
    return absl::OkStatus();
  }

  // Replays the log in any case, because objects need it, and writes it if the caller wants it. Returns what
  // is wrong with the log.
  absl::Status DumpLog(const Superblock& sb, Delta* delta) {
    if (options_.log) {
      out_.Key("log");
      out_.Begin('{');
      out_.Key("records");
      out_.Begin('[');
    }
    const absl::StatusOr<LogTail> tail = ReplayLog(device_, sb, delta, [&](const LogRecord& record) {
      if (options_.log) out_.Element(RecordJson(record));
    });
    const absl::Status damage = tail.ok() ? tail->damage : tail.status();
    if (!options_.log) return damage;
    out_.End(']');
    if (!damage.ok()) out_.Member("error", ErrorJson(damage));
    if (tail.ok()) {
      out_.Member("records_dropped", tail->dropped);
      out_.Member("lsn", tail->lsn);
      out_.Member("position", tail->position);
      out_.Member("prepared_blocks", tail->prepared_blocks);
    }
    out_.End('}');
    return damage;
  }

  absl::Status DumpObjects(const Superblock& sb, const Delta& delta, NodeDump& nodes, bool log_sound) {
    std::map<ObjectId, Inode>& inodes = nodes.inodes();
    for (const auto& [id, inode] : delta.inodes()) {
      if (inode) {
        inodes[id] = *inode;
      } else {
        inodes.erase(id);
      }
    }
    // A name that is not there may have been lost. It is an error only where nothing is damaged.
    std::optional<ObjectId> only;
    if (!options_.object.empty()) {
      for (const auto& [id, inode] : inodes) {
        if (inode.name == options_.object) only = id;
      }
      if (!only && log_sound && nodes.damaged() == 0) {
        return absl::NotFoundError(
            absl::StrCat(device_.info().path, ": no object '", Printable(options_.object), "'"));
      }
    }
    std::string error;
    if (nodes.damaged() > 0)
      error = absl::StrCat(nodes.damaged(), " tree nodes are damaged: what they held is missing here. ");
    if (!log_sound) error += "The log is damaged: what it said from there on is missing here. ";
    if (!options_.object.empty() && !only)
      error += "No object of this name is readable: " + Printable(options_.object);
    if (!error.empty()) out_.Member("objects_error", error);
    out_.Key("objects");
    out_.Begin('[');
    if (options_.object.empty() || only) {
      ObjectDump objects(out_, delta, inodes, only);
      // The second walk reads only the part of the tree with the mappings of one object, or of all objects.
      const std::string from = only ? MappingKey(*only, 0) : "";
      const std::string to = only ? MappingKey(*only, ObjectBlock::Max()) : InodeKey(ObjectId::kNone);
      RETURN_IF_ERROR(WalkTree(device_, sb, from, to, objects));
      objects.Finish();
    }
    out_.End(']');
    return absl::OkStatus();
  }

  static constexpr size_t kSuperblockBytes = 248;  // the part that is not zero
  Device& device_;
  const DumpOptions& options_;
  Writer out_;
};

}  // namespace
}  // namespace internal

absl::StatusOr<std::string> DumpJsonDevice(Device& device, const DumpOptions& options) {
  return internal::Dump(device, options).Run();
}

absl::StatusOr<std::string> DumpJson(const std::string& path, const DumpOptions& options) {
  return UnlessOutOfMemory([&]() -> absl::StatusOr<std::string> {
    ASSIGN_OR_RETURN(const ReadDevice reading, OpenForReading(path, {}));
    if (!reading.leased) return DumpJsonDevice(*reading.device, options);
    absl::StatusOr<std::string> result =
        internal::Dump(*reading.device, options).RunOnLeased(*reading.leased);
    // What cannot be read is no damage if the lease has ended.
    RETURN_IF_ERROR(CheckLease(*reading.device));
    return result;
  });
}

}  // namespace untorn
