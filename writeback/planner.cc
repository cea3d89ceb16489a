#include "writeback/planner.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "writeback/log_entries.h"

namespace untorn {
namespace {

// The planner looks for so many tree nodes at once.
constexpr size_t kNodesPerLoad = 32;

// Returns the part of an unwritten mapping that lies in `range`.
Mapping Clip(const Mapping& m, BlockRange range) {
  const ObjectBlock start = std::max(m.logical.start, range.start),
                    end = std::min(m.logical.end(), range.end());
  UNTORN_CHECK(start < end, "a mapping is cut where it does not reach");
  return m.Part({start, end - start});
}

// New data goes into the unwritten blocks themselves, unless a hole of the same set gives the blocks back.
void AddUnwritten(const FoundMappings& found, Plan::SetPlan* plan) {
  for (const Mapping& m : found.mappings) {
    if (m.state != MappingState::kUnwritten) continue;
    RangeSet kept;
    kept.Add(m.logical);
    found.change->holes.ForEach([&](BlockRange hole) { kept.Remove(hole); });
    kept.ForEach([&](BlockRange r) { plan->unwritten.push_back({found.change->object->id, Clip(m, r)}); });
  }
}

// True if only a record can say what the set changes besides data.
bool ChangesMetadata(const ChangeSet& set) {
  bool grows = false;
  for (const auto& [id, change] : set.changes) {
    grows |= change.grow_to_bytes > change.object->durable_size_bytes;
  }
  return grows || set.metadata();
}

// True if settling records would let the change set go in place. The same range must also have been
// rewritten before for want of such records, unless the policy asks for the hardware.
bool SettlingPays(PathReason reason, WritePolicy policy, std::span<const Mapping> mappings) {
  if (reason != PathReason::kUnsettled && reason != PathReason::kNotOpened) return false;
  return policy == WritePolicy::kHardwareOnly ||
         (mappings.size() == 1 && mappings[0].unsettled_rewrites >= 1);
}

}  // namespace

InPlaceChance ChanceOfInPlace(std::span<const ChangeSetRef> sets, WritePolicy policy,
                              const AtomicLimits& limits) {
  if (policy == WritePolicy::kAlwaysCow || !limits.usable()) return {};
  const bool hardware_only = policy == WritePolicy::kHardwareOnly;
  InPlaceChance chance;
  uint64_t bytes = 0;
  absl::InlinedVector<std::pair<ObjectId, BlockRange>, 8> ranges;
  for (const ChangeSetRef& set : sets) {
    size_t runs = 0;
    for (const auto& [id, change] : set->changes) {
      runs += change.data.runs();
      if (runs == 1 && !hardware_only) {
        change.data.ForEach([&, id = id](BlockRange r) { ranges.push_back({id, r}); });
      }
    }
    bytes += Bytes(set->data_blocks);
    const bool may = runs == 1 && !ChangesMetadata(*set) && !set->device_refused &&
                     DecideForever(policy, limits, false, Bytes(set->data_blocks)) == PathReason::kInPlace;
    // One set that needs a record makes a packed run cheaper for all.
    if (!hardware_only && (!may || !InPlaceMayBeCheaper(limits, bytes))) return {};
    chance.possible |= may;
  }
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first, a.second.start) < std::tie(b.first, b.second.start);
  });
  size_t together = ranges.size();
  for (size_t i = 1; i < ranges.size(); ++i) {
    const auto& [id, before] = ranges[i - 1];
    together -= id == ranges[i].first && before.end() == ranges[i].second.start;
  }
  chance.scattered = together > kInPlaceRunsMax;
  return chance;
}

absl::Status FindMappings(std::span<const ChangeSetRef> sets, bool in_place_possible, MappingReader& reader,
                          AllMappings* found, MissingNodes* missing) {
  found->clear();
  for (const ChangeSetRef& set : sets) {
    UNTORN_CHECK(set->state == ChangeSet::State::kPending, "mappings are looked up for a frozen change set");
    for (const auto& [id, change] : set->changes) {
      if (!in_place_possible && !change.object->preallocated) continue;
      Mappings& mappings = found->emplace_back(change).mappings;
      absl::Status failed;
      Mappings of_run;
      const auto look_up = [&, &change = change](BlockRange run) REQUIRES_STORE_LOCK {
        // The caller loads these nodes and calls again.
        if (!failed.ok() || missing->size() >= kNodesPerLoad) return;
        failed = reader.Lookup(change.object->id, run, &of_run, missing);
        mappings.insert(mappings.end(), of_run.begin(), of_run.end());
      };
      // Clang would check the call of the lambda inside ForEach(), and ForEach() does not know of the lock.
      change.data.ForEach(absl::FunctionRef<void(BlockRange)>(look_up));
      RETURN_IF_ERROR(failed);
    }
  }
  return absl::OkStatus();
}

Plan MakePlan(std::span<const ChangeSetRef> sets, const PlanContext& context) {
  UNTORN_CHECK(!sets.empty(), "a plan is made for nothing");
  UNTORN_CHECK(sets.front()->epoch <= sets.back()->epoch, "a batch is out of order of its barrier epochs");
  Plan plan;
  const bool several_epochs = sets.front()->epoch != sets.back()->epoch;
  std::vector<Extent> candidates;
  std::vector<size_t> candidate_sets;
  bool settling_pays = false, closed = false;
  uint64_t entry_bytes = 0;
  DecisionInput in;
  in.policy = context.policy;
  in.limits = context.limits;
  in.settled = context.settled;
  in.mappings_known = context.mappings_known;
  in.barrier_unmet = several_epochs || context.earlier_in_flight;
  // The mappings come in the order of the sets and their objects.
  const FoundMappings* next = context.mappings.data();
  const FoundMappings* const end = next + context.mappings.size();
  plan.sets.reserve(sets.size());
  for (const ChangeSetRef& set : sets) {
    Plan::SetPlan& own = plan.sets.emplace_back();
    own.set = set;
    entry_bytes += LogBytesMax(*set);
    size_t ranges = 0;
    std::span<const Mapping> mappings;
    for (const auto& [id, change] : set->changes) {
      ranges += change.data.runs();
      // Only sets of the first barrier epoch write into unwritten blocks. Before a later set, other sets of
      // the batch may change those blocks.
      if (next == end || next->change != &change) continue;
      if (set->epoch == sets.front()->epoch) AddUnwritten(*next, &own);
      // A set that may go in place has one range, so it has the mappings of that range.
      if (!next->mappings.empty()) mappings = next->mappings;
      ++next;
    }
    // A set without data has nothing to put in place.
    if (ranges == 0) {
      own.reason = PathReason::kMetadataChange;
      continue;
    }
    in.device_refused = set->device_refused;
    in.several_ranges = ranges > 1;
    in.metadata_change = ChangesMetadata(*set);
    in.length_bytes = Bytes(set->data_blocks);
    // Most sets can never go in place, and their mappings do not matter.
    const PathReason forever = DecideForever(in.policy, in.limits, in.several_ranges, in.length_bytes);
    if (forever != PathReason::kInPlace) {
      own.reason = forever;
      continue;
    }
    in.mappings = mappings;
    in.read_outstanding = std::any_of(mappings.begin(), mappings.end(), [&](const Mapping& m) {
      return m.state == MappingState::kWritten && context.read_outstanding(m.extent());
    });
    own.reason = Decide(in);
    settling_pays = SettlingPays(own.reason, in.policy, mappings);
    closed = std::any_of(mappings.begin(), mappings.end(), [](const Mapping& m) { return m.opened == 0; });
    if (own.reason == PathReason::kInPlace) {
      UNTORN_CHECK(ranges == 1 && !in.metadata_change, "a change set that needs a record goes in place");
      own.in_place = {mappings.front().physical, set->data_blocks};
      candidates.push_back(own.in_place);
      candidate_sets.push_back(plan.sets.size() - 1);
    }
  }
  // The committer pays for a settling record only if the change set is the only one of its batch.
  plan.settle_first = settling_pays && sets.size() == 1;
  plan.open_first = plan.settle_first && closed;
  plan.log_blocks_max = LogBlocksMax(entry_bytes);
  if (candidates.empty()) return plan;
  std::vector<InPlaceRun> runs = MergeInPlace(candidates, context.limits);
  // The decision so far is about each set alone. For the whole batch one packed run may be cheaper.
  const bool in_place = context.policy == WritePolicy::kHardwareOnly ||
                        InPlaceIsCheaper(runs.size(), sets.size() - candidates.size());
  for (InPlaceRun& run : runs) {
    for (size_t& i : run.candidates) {
      i = candidate_sets[i];
      if (!in_place) plan.sets[i].reason = PathReason::kCheaperPacked;
    }
    if (in_place) plan.in_place.push_back(std::move(run));
  }
  UNTORN_CHECK(!in_place || plan.sets_in_place() == candidates.size(), "a change set in place is in no run");
  return plan;
}

void AddPiece(CowPiece piece, CowPieces* pieces) {
  UNTORN_CHECK(piece.blocks.count > 0, "a piece of data is empty");
  UNTORN_CHECK(piece.physical > 0, "a piece of data has no place");
  // A log entry names an extent of bounded length.
  while (piece.blocks.count > kMapEntryBlocksMax) {
    CowPiece part = piece;
    part.blocks.count = kMapEntryBlocksMax;
    pieces->push_back(part);
    piece.blocks = {part.blocks.end(), piece.blocks.count - kMapEntryBlocksMax};
    piece.physical += kMapEntryBlocksMax;
  }
  pieces->push_back(piece);
}

DataToPlace FindDataToPlace(const Plan& plan) {
  DataToPlace data;
  for (const Plan::SetPlan& own : plan.sets) {
    if (own.reason == PathReason::kInPlace) continue;
    const size_t ranges = data.sources.size() + own.set->frozen.size();
    data.sources.reserve(ranges);
    data.items.reserve(ranges);
    for (const FrozenRange& range : own.set->frozen) {
      const ObjectId id = range.object->id;
      data.sources.push_back({own.set.get(), &range});
      const size_t source = data.sources.size() - 1;
      if (own.unwritten.empty()) {
        data.items.push_back({own.set->epoch, id, range.blocks, source});
        continue;
      }
      // The unwritten blocks of the range have their place already.
      RangeSet rest;
      BlockCount found;
      rest.Add(range.blocks);
      for (const auto& [object, m] : own.unwritten) {
        const bool here =
            object == id && m.logical.start >= range.blocks.start && m.logical.end() <= range.blocks.end();
        if (!here) continue;
        rest.Remove(m.logical);
        found += m.logical.count;
        AddPiece({own.set.get(), &range, m.logical, m.physical, true}, &data.into_unwritten);
      }
      rest.ForEach([&](BlockRange blocks) {
        data.items.push_back({own.set->epoch, id, blocks, source});
        found += blocks.count;
      });
      UNTORN_CHECK(found == range.blocks.count, "a block of a change set has two unwritten places");
    }
  }
  return data;
}

}  // namespace untorn
