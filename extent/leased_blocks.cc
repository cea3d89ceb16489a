#include "extent/leased_blocks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "extent/bit_runs.h"
#include "extent/rules.h"

namespace untorn {
namespace {

uint64_t BitOf(BlockNumber block) { return (block % kGroupBlocks).value(); }
bool IsSet(const FreeSpace::Bits& bits, uint64_t bit) { return (bits[bit / 64] >> (bit % 64) & 1) != 0; }

}  // namespace

void LeasedBlocks::Begin(Generation checkpoint) {
  const auto same = [&](const Lease& lease) { return lease.checkpoint == checkpoint; };
  if (std::any_of(leases_.begin(), leases_.end(), same)) return;
  Lease& lease = leases_.emplace_back();
  lease.checkpoint = checkpoint;
  lease.used.resize(space_.groups());
  for (uint64_t group = 0; group < lease.used.size(); ++group) lease.used[group] = space_.DurableBase(group);
}

void LeasedBlocks::GroupLoaded(uint64_t group) {
  // Nothing of the group has changed since the lease began, because that would have loaded it.
  for (Lease& lease : leases_) {
    if (group < lease.used.size() && lease.used[group] == nullptr)
      lease.used[group] = space_.DurableBase(group);
  }
}

BlockNumber LeasedBlocks::EndOfRun(BlockNumber block, BlockNumber limit, bool* used) const {
  const uint64_t group = GroupOf(block), from = BitOf(block), to = from + (limit - block).value();
  uint64_t end = to;
  *used = false;
  for (const Lease& lease : leases_) {
    // A group that was not prepared yet has nothing of the checkpoint.
    if (group >= lease.used.size()) continue;
    const FreeSpace::Bits* const bits = lease.used[group].get();
    const bool set = bits == nullptr || IsSet(*bits, from);
    const uint64_t run_end = bits == nullptr ? to : FindBit(bits->data(), from, to, !set);
    // The run of unused blocks ends where the first lease uses one. A run of used blocks may end early.
    if (set == *used) {
      end = set ? std::max(end, run_end) : std::min(end, run_end);
    } else if (set) {
      *used = true;
      end = run_end;
    }
  }
  return block + BlockCount(end - from);
}

bool LeasedBlocks::Uses(Extent extent) const {
  if (leases_.empty()) return false;
  for (BlockNumber at = extent.start; at < extent.end();) {
    const BlockNumber limit = std::min(extent.end(), FirstBlockOf(GroupOf(at) + 1));
    bool used = false;
    at = EndOfRun(at, limit, &used);
    if (used) return true;
  }
  return false;
}

absl::Status LeasedBlocks::Keep(Extent extent, absl::FunctionRef<void(Extent)> freed) {
  absl::Status status;
  for (BlockNumber at = extent.start; at < extent.end();) {
    const BlockNumber limit = std::min(extent.end(), FirstBlockOf(GroupOf(at) + 1));
    bool used = false;
    const BlockNumber end = EndOfRun(at, limit, &used);
    if (MayReuseLeased(used)) {
      freed({at, end - at});
    } else {
      const uint64_t group = GroupOf(at);
      if (kept_.size() <= group) kept_.resize(group + 1);
      if (kept_[group] == nullptr) kept_[group] = std::make_unique<FreeSpace::Bits>();
      const uint64_t changed =
          ChangeBits(kept_[group]->data(), BitOf(at), BitOf(at) + (end - at).value(), true);
      kept_blocks_ += BlockCount(changed);
      if (changed != (end - at).value()) {
        status = absl::DataLossError(absl::StrCat("mapping tree: blocks ", at.value(), " to ",
                                                  (end - 1).value(), " were mapped more than once"));
      }
    }
    at = end;
  }
  return status;
}

void LeasedBlocks::End(Generation checkpoint, absl::FunctionRef<void(Extent)> freed) {
  std::erase_if(leases_, [&](const Lease& lease) { return lease.checkpoint == checkpoint; });
  for (uint64_t group = 0; group < kept_.size(); ++group) {
    if (kept_[group] == nullptr) continue;
    uint64_t* const bits = kept_[group]->data();
    bool any = false;
    for (uint64_t at = FindBit(bits, 0, kGroupBits, true); at < kGroupBits;) {
      const BlockNumber start = FirstBlockOf(group) + BlockCount(at);
      const BlockNumber run_end = FirstBlockOf(group) + BlockCount(FindBit(bits, at, kGroupBits, false));
      bool used = false;
      const BlockNumber end = EndOfRun(start, run_end, &used);
      any |= used;
      if (!used) {
        ChangeBits(bits, BitOf(start), BitOf(start) + (end - start).value(), false);
        kept_blocks_ -= end - start;
        freed({start, end - start});
      }
      at = FindBit(bits, at + (end - start).value(), kGroupBits, true);
    }
    if (!any) kept_[group].reset();
  }
}

}  // namespace untorn
