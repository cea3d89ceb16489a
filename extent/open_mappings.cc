#include "extent/open_mappings.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "extent/rules.h"

namespace untorn {

void OpenMappings::End(Extent extent) {
  const auto it = std::find(in_flight_.begin(), in_flight_.end(), extent);
  UNTORN_CHECK(it != in_flight_.end(), "an overwrite in place ends that never began");
  in_flight_.erase(it);
}

bool OpenMappings::InFlight(Extent extent) const {
  return std::any_of(in_flight_.begin(), in_flight_.end(),
                     [&](const Extent& e) { return e.start < extent.end() && extent.start < e.end(); });
}

void OpenMappings::Close(const Open& mapping, Delta* active) {
  Mapping closed = mapping.mapping();
  closed.opened = LogEpoch();
  active->Note(mapping.object, closed);
}

void OpenMappings::Forget(const Delta& active) {
  std::vector<Open> kept;
  for (const Open& open : mappings_) {
    const Mapping m = open.mapping();
    active.Visit(
        open.object, m.logical, [](const Mapping&) {},
        [&](BlockRange gap) { kept.emplace_back(open.object, m.Part(gap)); });
  }
  mappings_ = std::move(kept);
}

void OpenMappings::CloseQuiet(absl::FunctionRef<bool(uint64_t)> has_room, Delta* active) {
  std::vector<Open> kept;
  for (const Open& open : mappings_) {
    const Mapping& m = open.without_checksums;
    if (MayClose(InFlight(m.extent())) && has_room(TreeEntriesOfCut(m.logical.count))) {
      Close(open, active);
    } else {
      kept.push_back(open);
    }
  }
  mappings_ = std::move(kept);
}

void OpenMappings::CloseNewest(LogEpoch session, Delta* active) const {
  std::vector<Open> close;
  active->ForEachMapping([&](ObjectId id, const Mapping& m, bool) {
    if (m.opened > 0 && m.opened == session && MayClose(InFlight(m.extent()))) close.emplace_back(id, m);
  });
  for (const Open& open : close) Close(open, active);
}

void OpenMappings::Carried(LogEpoch session, const Delta& frozen) {
  frozen.ForEachMapping([&](ObjectId id, const Mapping& m, bool) {
    if (m.opened > 0 && m.opened == session) mappings_.emplace_back(id, m);
  });
}

}  // namespace untorn
