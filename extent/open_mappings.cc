#include "extent/open_mappings.h"

#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
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

uint64_t OpenMappings::tree_entries_max() const {
  uint64_t entries = 0;
  // Blocks that were remapped may leave a part of a mapping on either side of each other.
  for (const Open& open : mappings_) {
    entries += open.without_checksums.logical.count.value() +
               TreeEntriesOfBlocks(open.without_checksums.logical.count);
  }
  return entries;
}

void OpenMappings::Close(const std::vector<Open>& mappings, Delta* active) {
  for (const Open& open : mappings) {
    Mapping closed = open.mapping();
    closed.opened = LogEpoch();
    active->Note(open.object, closed);
  }
}

void OpenMappings::CloseQuiet(Delta* active) {
  std::vector<Open> stay, close;
  for (const Open& open : mappings_) {
    const Mapping m = open.mapping();
    // What the delta says of the blocks is newer, so the tree's mapping counts in the gaps alone.
    active->Visit(
        open.object, m.logical, [](const Mapping&) {},
        [&](BlockRange gap) {
          const Mapping part = m.Part(gap);
          (MayClose(InFlight(part.extent())) ? close : stay).emplace_back(open.object, part);
        });
  }
  Close(close, active);
  mappings_ = std::move(stay);
}

void OpenMappings::CloseAll(LogEpoch session, Delta* active) {
  UNTORN_CHECK(in_flight_.empty(), "all mappings are closed during an overwrite in place");
  CloseQuiet(active);
  std::vector<Open> close;
  active->ForEachMapping([&](ObjectId id, const Mapping& m, bool) {
    if (m.opened > 0 && m.opened == session) close.emplace_back(id, m);
  });
  Close(close, active);
}

void OpenMappings::Carried(LogEpoch session, const Delta& frozen) {
  frozen.ForEachMapping([&](ObjectId id, const Mapping& m, bool) {
    if (m.opened > 0 && m.opened == session) mappings_.emplace_back(id, m);
  });
}

}  // namespace untorn
