#include "store/transaction_draft.h"

#include <algorithm>
#include <cstring>

namespace untorn::internal {

void DraftBlock::Note(uint32_t from, uint32_t to) {
  if (whole()) return;
  // Ranges that overlap or touch [from, to) merge with it.
  std::vector<std::pair<uint32_t, uint32_t>> merged;
  for (const auto& [a, b] : written) {
    if (b < from || a > to) {
      merged.push_back({a, b});
    } else {
      from = std::min(from, a);
      to = std::max(to, b);
    }
  }
  merged.push_back({from, to});
  std::sort(merged.begin(), merged.end());
  written = std::move(merged);
  if (from == 0 && to == kBlockBytes) written.clear();
}

void DraftBlock::CopyWritten(std::byte* to) const {
  for (const auto& [a, b] : written) std::memcpy(to + a, buffer.data() + a, b - a);
}

RangeSet ObjectDraft::Data() const {
  RangeSet data;
  for (const auto& [number, block] : blocks) data.Add({number, 1});
  for (const auto& [start, extent] : spilled) data.Add({start, extent.count});
  return data;
}

}  // namespace untorn::internal
