#include "inspect/final_mappings.h"

#include <utility>

namespace untorn::internal {

FinalMappings::FinalMappings(const Delta& delta) : delta_(delta) {
  delta.ForEachMapping([&](ObjectId object, const Mapping& m, bool) {
    if (m.state != MappingState::kHole) log_.push_back({object, m});
  });
}

void FinalMappings::LogBefore(ObjectId object, ObjectBlock logical, bool all, Fn fn) {
  for (; next_ < log_.size(); ++next_) {
    const MappingEntry& e = log_[next_];
    if (!all && std::pair(e.object, e.mapping.logical.start) >= std::pair(object, logical)) return;
    fn(e.object, e.mapping, true);
  }
}

void FinalMappings::Tree(const MappingEntry* entry, Fn fn) {
  if (entry == nullptr) return LogBefore(ObjectId::kNone, 0, true, fn);
  const Mapping& m = entry->mapping;
  // What the log says of the range wins. The tree's mapping holds in the gaps between.
  delta_.Visit(
      entry->object, m.logical, [](const Mapping&) {},
      [&](BlockRange gap) {
        LogBefore(entry->object, gap.start, false, fn);
        fn(entry->object, m.Part(gap), false);
      });
}

}  // namespace untorn::internal
