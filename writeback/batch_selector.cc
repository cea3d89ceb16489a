#include "writeback/batch_selector.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "writeback/log_entries.h"

namespace untorn {

void WantedSets::Refresh() {
  // A wanted set may have been joined to another set. That other set is wanted then.
  for (ChangeSetRef& set : sets_) {
    if (set->joined_to) set = Resolve(set);
  }
  std::erase_if(sets_, [](const ChangeSetRef& s) { return s->state != ChangeSet::State::kPending; });
  const auto before = [](const ChangeSetRef& a, const ChangeSetRef& b) {
    return std::pair(a->epoch, a->sequence) < std::pair(b->epoch, b->sequence);
  };
  if (!std::is_sorted(sets_.begin(), sets_.end(), before)) std::sort(sets_.begin(), sets_.end(), before);
  sets_.erase(std::unique(sets_.begin(), sets_.end()), sets_.end());
  UNTORN_CHECK(sets_.empty() || !sets_.back()->joined_to, "a wanted change set is part of another");
}

ChangeSetRefs Candidates(Take take, const WantedSets& wanted, const CowFork& fork, BlockCount blocks_max) {
  ChangeSetRefs candidates;
  if (take == Take::kWanted) {
    if (wanted.empty()) return candidates;
    const BarrierEpoch last = wanted.sets().back()->epoch;
    UNTORN_CHECK(wanted.sets().front()->epoch <= last, "wanted change sets are out of order");
    // Everything of earlier barrier epochs must be durable first, also what nobody waits for.
    for (const ChangeSetRef& set : fork.pending()) {
      if (set->epoch >= last) break;
      candidates.push_back(set);
    }
    for (const ChangeSetRef& set : wanted.sets()) {
      if (set->epoch == last) candidates.push_back(set);
    }
    return candidates;
  }
  BlockCount blocks;
  for (const ChangeSetRef& set : fork.pending()) {
    candidates.push_back(set);
    blocks += set->data_blocks;
    // Twice the limit leaves a choice, because some of the sets may have to wait.
    if (blocks >= 2 * blocks_max) break;
  }
  return candidates;
}

Batch SelectBatch(std::span<const ChangeSetRef> candidates, const BatchLimits& limits,
                  absl::FunctionRef<bool(const ChangeSet&)> must_wait) {
  Batch batch;
  BlockCount blocks;
  uint64_t log_bytes = 0;
  BarrierEpoch held_epoch = BarrierEpoch::Max();
  for (const ChangeSetRef& set : candidates) {
    UNTORN_CHECK(set->state == ChangeSet::State::kPending && !set->joined_to, "a candidate is not pending");
    // A set that must wait holds back later barrier epochs, and not other sets of its own barrier epoch.
    if (set->epoch > held_epoch) break;
    if (must_wait(*set)) {
      held_epoch = std::min(held_epoch, set->epoch);
      continue;
    }
    const uint64_t bytes = LogBytesMax(*set);
    // A set is never split. So the first one goes alone if it is larger than the limits.
    if (!batch.sets.empty() && (blocks + set->data_blocks > limits.data_blocks ||
                                LogBlocksMax(log_bytes + bytes) > limits.log_blocks)) {
      batch.full = true;
      break;
    }
    blocks += set->data_blocks;
    log_bytes += bytes;
    UNTORN_CHECK(batch.sets.empty() || batch.sets.back()->epoch <= set->epoch,
                 "a batch is out of order of its barrier epochs");
    batch.sets.push_back(set);
  }
  UNTORN_CHECK(!batch.full || !batch.sets.empty(), "a batch is full of nothing");
  return batch;
}

}  // namespace untorn
