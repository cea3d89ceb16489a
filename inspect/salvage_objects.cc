// The second half of a salvage: which objects are doubtful, and what they and their names become.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "inspect/describe.h"
#include "inspect/printable.h"
#include "inspect/salvage.h"
#include "inspect/salvage_scans.h"

namespace untorn::internal {
namespace {

constexpr char kQuarantine[] = "quarantine/";

// Returns the first block of an object whose key is at least `key`. `key` lies between the keys of the
// object's first and last block.
ObjectBlock FirstBlockFrom(std::string_view key) {
  constexpr size_t kPrefix = 1 + sizeof(uint64_t);
  uint64_t block = 0;
  for (size_t i = 0; i < sizeof(block); ++i) {
    block = block << 8 | (kPrefix + i < key.size() ? static_cast<uint8_t>(key[kPrefix + i]) : 0);
  }
  return ObjectBlock(key.size() > kPrefix + sizeof(block) ? block + 1 : block);
}

}  // namespace

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
  // The extents of the checkpoint are as they were. But a lost record may have displaced an extent of an
  // earlier record, and then another write may have used that extent's blocks again.
  AlignedBuffer scratch;
  absl::Status status;
  absl::Status read = ForEachRecord(device_, sb_, tail_, [&](const LogRecord& record, Lsn) {
    for (const LogEntry& e : record.entries) {
      if (e.type != LogEntry::Type::kMap || e.state != MappingState::kWritten || !status.ok()) continue;
      bool mapped = false;
      delta_.Visit(
          e.object, e.logical,
          [&](const Mapping& m) {
            mapped |= m.state == MappingState::kWritten && m.opened == 0 &&
                      m.physical == e.physical + (m.logical.start - e.logical.start);
          },
          [](BlockRange) {});
      if (!mapped) continue;
      absl::StatusOr<bool> there = DataIsThere(device_, e, sb_.data_key, &scratch);
      if (!there.ok()) {
        status = there.status();
      } else if (!*there) {
        Doubt(objects_[e.object],
              absl::StrCat("what was written to ", DescribeRun(e.logical), " of it by log record ",
                           Word(record.lsn),
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
  const ObjectBlock object_end = ObjectEnd(object.size_bytes);
  if (object_end == 0 || id >= first_of_log_) return;
  const std::string from = MappingKey(id, 0), to = MappingKey(id, object_end);
  if (range.first >= to) return;
  const ObjectBlock start = range.first <= from ? ObjectBlock(0) : FirstBlockFrom(range.first);
  const ObjectBlock end = !range.limit || *range.limit >= to ? object_end : FirstBlockFrom(*range.limit);
  if (start >= end) return;
  // What the log says of the range holds. Only the gaps between are lost.
  delta_.Visit(
      id, {start, end - start}, [](const Mapping&) {},
      [&](BlockRange gap) {
        Doubt(object, absl::StrCat("where ", DescribeRun(gap),
                                   " of it are is unknown: what was written there reads as zeros"));
      });
}

void Salvage::CompleteRecords() {
  // The name may be all that is left of an object whose record is lost.
  for (const auto& [name, id] : names_) {
    if (!objects_.contains(id) && lost_.Has(InodeKey(id)) && delta_.FindInode(id) == nullptr) objects_[id];
  }
  for (auto& [id, object] : objects_) {
    const uint64_t end_bytes = ByteOffset(object.last.end());
    if (!object.recorded) {
      object.size_bytes = end_bytes;
      Doubt(object, absl::StrCat("its record is ", lost_.Has(InodeKey(id)) ? "unknown" : "missing",
                                 ", so its size is taken from its last mapping"));
    } else if (object.last.end() > ObjectEnd(object.size_bytes)) {
      Doubt(object, absl::StrCat("mappings beyond its size of ", object.size_bytes,
                                 " bytes, which is raised to cover them"));
      object.size_bytes = end_bytes;
    }
    next_object_ = std::max(next_object_, Value(id) + 1);
  }
}

void Salvage::CompleteNames() {
  // An object keeps the name that its record has. Failing that, it gets the first name that leads to it.
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

}  // namespace untorn::internal
