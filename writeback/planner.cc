#include "writeback/planner.h"

#include <algorithm>
#include <vector>

#include "absl/functional/function_ref.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "writeback/log_entries.h"

namespace untorn {
namespace {

// The planner looks for so many tree nodes at once.
constexpr size_t kNodesPerLoad = 32;

// True if the sorted mappings leave no gap in the blocks of `data`.
bool Cover(std::span<const Mapping> mapped, const RangeSet& data) {
  size_t i = 0;
  bool covered = true;
  data.ForEach([&](BlockRange run) {
    ObjectBlock at = run.start;
    while (covered && at < run.end()) {
      while (i < mapped.size() && mapped[i].logical.end() <= at) ++i;
      if (i == mapped.size() || mapped[i].logical.start > at) {
        covered = false;
      } else {
        at = mapped[i].logical.end();
      }
    }
  });
  return covered;
}

// Returns the part of the mapping that lies in `range`.
Mapping Clip(const Mapping& m, BlockRange range) {
  const ObjectBlock start = std::max(m.logical.start, range.start),
                    end = std::min(m.logical.end(), range.end());
  UNTORN_CHECK(start < end, "a mapping is cut where it does not reach");
  if (start == m.logical.start && end == m.logical.end()) return m;
  Mapping part = m;
  if (part.state != MappingState::kHole) part.physical += start - m.logical.start;
  part.logical = {start, end - start};
  part.unsettled_rewrites = 0;  // the count is for the whole range only
  return part;
}

// Returns the known mappings of `range`, in order and without gaps.
Mappings MappingsOf(const ObjectChange& change, BlockRange range) {
  Mappings found;
  ObjectBlock at = range.start;
  for (const Mapping& m : change.mapped) {
    if (m.logical.end() <= at) continue;
    if (m.logical.start >= range.end()) break;
    found.push_back(Clip(m, {at, range.end() - at}));
    at = found.back().logical.end();
  }
  UNTORN_CHECK(at >= range.end(), "a block of a planned change set has no known mapping");
  return found;
}

absl::Status LookUp(ObjectId id, ObjectChange& change, MappingReader& reader, MissingNodes* missing) {
  change.ForgetMapped();
  Mappings found;
  absl::Status failed;
  const size_t missing_before = missing->size();
  const auto look_up = [&](BlockRange run) REQUIRES_STORE_LOCK {
    if (!failed.ok() || missing->size() >= kNodesPerLoad) return;
    failed = reader.Lookup(id, run, &found, missing);
    change.mapped.insert(change.mapped.end(), found.begin(), found.end());
  };
  // Clang would check the call of the lambda inside ForEach(), and ForEach() does not know of the lock.
  change.data.ForEach(absl::FunctionRef<void(BlockRange)>(look_up));
  RETURN_IF_ERROR(failed);
  // With a node missing the mappings are not complete.
  change.mapped_known = missing->size() == missing_before;
  UNTORN_CHECK(!change.mapped_known || Cover(change.mapped, change.data),
               "a lookup leaves a gap in the data of a change set");
  return absl::OkStatus();
}

// New data goes into the unwritten blocks themselves, unless a hole of the same set gives the blocks back.
void AddUnwritten(ObjectId id, const ObjectChange& change, Plan::SetPlan* plan) {
  change.data.ForEach([&](BlockRange run) {
    for (const Mapping& m : MappingsOf(change, run)) {
      if (m.state != MappingState::kUnwritten) continue;
      RangeSet kept;
      kept.Add(m.logical);
      change.holes.ForEach([&](BlockRange hole) { kept.Remove(hole); });
      kept.ForEach([&](BlockRange r) { plan->unwritten.push_back({id, Clip(m, r)}); });
    }
  });
}

bool HasUnwritten(const ObjectChange& change) {
  return std::any_of(change.mapped.begin(), change.mapped.end(),
                     [](const Mapping& m) { return m.state == MappingState::kUnwritten; });
}

// True if settling records would let the change set go in place. The same range must also have been
// rewritten before for want of such records.
bool SettlingPays(PathReason reason, std::span<const Mapping> mappings) {
  return reason == PathReason::kUnsettled && mappings.size() == 1 && mappings[0].unsettled_rewrites >= 1;
}

}  // namespace

absl::Status FindMappings(std::span<const ChangeSetRef> sets, MappingReader& reader, MissingNodes* missing) {
  const auto before = [](const Mapping& a, const Mapping& b) { return a.logical.start < b.logical.start; };
  for (const ChangeSetRef& set : sets) {
    UNTORN_CHECK(set->state == ChangeSet::State::kPending, "mappings are looked up for a frozen change set");
    for (auto& [id, change] : set->changes) {
      // The caller loads these nodes and calls again.
      if (missing->size() >= kNodesPerLoad) return absl::OkStatus();
      auto& mapped = change.mapped;
      if (!std::is_sorted(mapped.begin(), mapped.end(), before))
        std::sort(mapped.begin(), mapped.end(), before);
      // No page tells a set when the mapping of a detached block changes.
      const bool told = set->detached.empty();
      if (told && change.mapped_known && Cover(mapped, change.data)) continue;
      RETURN_IF_ERROR(LookUp(id, change, reader, missing));
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
  bool settling_pays = false;
  uint64_t entry_bytes = 0;
  DecisionInput in;
  in.policy = context.policy;
  in.limits = context.limits;
  in.settled_twice = context.settled_twice;
  in.barrier_unmet = several_epochs || context.earlier_in_flight;
  plan.sets.reserve(sets.size());
  for (const ChangeSetRef& set : sets) {
    Plan::SetPlan& own = plan.sets.emplace_back();
    own.set = set;
    entry_bytes += LogBytesMax(*set);
    size_t ranges = 0;
    bool metadata = set->metadata();
    Mappings mappings;
    for (const auto& [id, change] : set->changes) {
      ranges += change.data.runs();
      metadata |= change.grow_to_bytes > change.object->durable_size_bytes;
      // Only sets of the first barrier epoch write into unwritten blocks. Before a later set, other sets of
      // the batch may change those blocks.
      if (set->epoch == sets.front()->epoch && HasUnwritten(change)) AddUnwritten(id, change, &own);
    }
    // A set without data has nothing to put in place.
    if (ranges == 0) {
      own.reason = PathReason::kMetadataChange;
      continue;
    }
    in.device_refused = set->device_refused;
    in.several_ranges = ranges > 1;
    in.metadata_change = metadata;
    in.length_bytes = Bytes(set->data_blocks);
    // The mappings do not matter for a set that can never go in place, such as one of several ranges.
    const PathReason forever = DecideForever(in.policy, in.limits, in.several_ranges, in.length_bytes);
    if (forever != PathReason::kInPlace) {
      own.reason = forever;
      continue;
    }
    // The set has one range, so the loop finds the mappings of that range.
    for (const auto& [id, change] : set->changes) {
      change.data.ForEach([&, &change = change](BlockRange run) { mappings = MappingsOf(change, run); });
    }
    in.mappings = mappings;
    in.read_outstanding = std::any_of(mappings.begin(), mappings.end(), [&](const Mapping& m) {
      return m.state == MappingState::kWritten && context.read_outstanding(m.extent());
    });
    own.reason = Decide(in);
    settling_pays = SettlingPays(own.reason, mappings);
    if (own.reason == PathReason::kInPlace) {
      UNTORN_CHECK(ranges == 1 && !metadata, "a change set that needs a record goes in place");
      own.in_place = {mappings.front().physical, set->data_blocks};
      candidates.push_back(own.in_place);
      candidate_sets.push_back(plan.sets.size() - 1);
    }
  }
  // The committer pays for a settling record only if the change set is the only one of its batch.
  plan.settle_first = settling_pays && sets.size() == 1;
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
    for (const FrozenRange& range : own.set->frozen) {
      const ObjectId id = range.object->id;
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
        data.items.push_back({own.set->epoch, id, blocks, data.sources.size()});
        found += blocks.count;
      });
      UNTORN_CHECK(found == range.blocks.count, "a block of a change set has two unwritten places");
      data.sources.push_back({own.set.get(), &range});
    }
  }
  return data;
}

}  // namespace untorn
