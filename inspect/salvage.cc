#include "inspect/salvage.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "inspect/describe.h"
#include "inspect/replay_log.h"
#include "inspect/salvage_scans.h"

namespace untorn::internal {

absl::Status Salvage::Read() {
  RETURN_IF_ERROR(ReadLog());
  RETURN_IF_ERROR(ReadNodes());
  MapScan map(*this);
  RETURN_IF_ERROR(WalkFreeMap(device_, sb_, map));
  RETURN_IF_ERROR(ForEachMapping([&](ObjectId id, const Mapping& m) {
    ++mappings_kept_;
    used_end_ = std::max(used_end_, m.extent().end());
    Object& object = objects_[id];
    if (m.logical.start >= object.last.start) object.last = m.logical;
    return absl::OkStatus();
  }));
  if (contested_.count() > 0) {
    // The first mapping keeps contested blocks, but nobody knows whose data is in them. So its object is
    // doubtful too.
    RETURN_IF_ERROR(ForEachMapping([&](ObjectId id, const Mapping& m) {
      contested_.ForEachRun(m.extent(), true, [&](Extent run) {
        Doubt(objects_[id], absl::StrCat(DescribeRun(run), " of the store, which it has, mapped twice"));
      });
      return absl::OkStatus();
    }));
  }
  // The log may replace the part of a mapping that leads outside the data area. Then the rest of the mapping
  // is kept, and its blocks become untouchable here.
  used_.ForEachRun([&](Extent run) { untouchable_.Add(run); });
  sb_.geometry.ForEachFixedArea(std::max(tail_.prepared_blocks, BlocksBefore(used_end_)),
                                [&](Extent area) { untouchable_.Add(area); });
  for (const auto& [id, why] : doubtful_) {
    const auto object = objects_.find(id);
    if (object != objects_.end()) Doubt(object->second, why);
  }
  RETURN_IF_ERROR(DoubtLogExtents());
  DoubtLostRanges();
  CompleteRecords();
  CompleteNames();
  Quarantine();
  return absl::OkStatus();
}

absl::Status Salvage::ReadLog() {
  uint64_t replayed = 0;
  ASSIGN_OR_RETURN(tail_, ReplayLog(device_, sb_, &delta_, [&](const LogRecord&) { ++replayed; }));
  if (replayed != tail_.kept.size()) return ReadsDiffer();
  RETURN_IF_ERROR(CheckNotCutShort(device_, tail_.prepared_blocks));
  ASSIGN_OR_RETURN(newest_, NewestInLog(device_, sb_));
  return absl::OkStatus();
}

absl::Status Salvage::ReadNodes() {
  next_object_ = sb_.next_object;
  NodeScan scan(*this);
  for (const auto& [id, inode] : delta_.inodes()) {
    if (inode) scan.SetRecord(*inode);
  }
  RETURN_IF_ERROR(WalkTree(device_, sb_, "", "", scan));
  first_of_log_ = ObjectId{next_object_};
  for (const auto& [name, id] : delta_.names()) {
    if (id) names_[name] = *id;
  }
  for (const auto& [id, inode] : delta_.inodes()) next_object_ = std::max(next_object_, Value(id) + 1);
  nodes_.ForEachRun([&](Extent run) { untouchable_.Add(run); });
  delta_.ForEachExtent([&](Extent e) { untouchable_.Add(e); });
  // A repair that is interrupted must not have overwritten what the next recovery reads: lane records, and the data of
  // records that nothing claims. A later entry of the same record may have displaced such data.
  for (Extent e : tail_.lanes) untouchable_.Add(e);
  return ForEachRecord(device_, sb_, tail_, [&](const LogRecord& record, Lsn) {
    if (record.lsn <= tail_.claimed) return;
    for (const LogEntry& e : record.entries) {
      if (e.type == LogEntry::Type::kMap) untouchable_.Add({e.physical, e.logical.count});
    }
  });
}

absl::Status Salvage::ForEachMapping(KeptFn kept) {
  used_ = BlockSet();
  MappingScan scan(*this, used_, kept);
  RETURN_IF_ERROR(WalkTree(device_, sb_, "", InodeKey(ObjectId::kNone), scan));
  return scan.Finish();
}

absl::Status Salvage::WriteEntries(TreeLeafWriter& leaf) {
  uint64_t mappings = 0;
  RETURN_IF_ERROR(ForEachMapping([&](ObjectId id, const Mapping& m) {
    ++mappings;
    const auto object = objects_.find(id);
    if (object != objects_.end()) object->second.preallocated |= m.state == MappingState::kUnwritten;
    return leaf.AddMapping(id, m);
  }));
  if (mappings != mappings_kept_) return ReadsDiffer();
  for (const auto& [id, object] : objects_) {
    RETURN_IF_ERROR(
        leaf.AddPoint(InodeKey(id), InodeValue({id, object.size_bytes, object.name, object.preallocated})));
  }
  for (const auto& [name, id] : names_) {
    RETURN_IF_ERROR(leaf.AddPoint(NameKey(name), NameValue(id)));
  }
  return leaf.Flush();
}

}  // namespace untorn::internal
