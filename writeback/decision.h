// The decision says whether a change set goes to the device as one atomic overwrite in place, or by
// copy-on-write, and why.
//
// The decision is a pure function of values: no I/O, no lock and no clock take part. Source of the rules for
// atomic writes: Linux, statx(2) STATX_WRITE_ATOMIC and block/ atomic write limits. docs/design.md, "The
// decision", has the other rules.
#ifndef UNTORN_WRITEBACK_DECISION_H_
#define UNTORN_WRITEBACK_DECISION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "device/device.h"
#include "extent/types.h"
#include "untorn/options.h"

namespace untorn {

// Says what a plan knows of the mappings under its data.
enum class MappingsKnown {
  kAll,
  kNotNeeded,  // the batch is packed whatever they are
  kDamaged,    // the tree cannot be read there
};

struct DecisionInput {
  WritePolicy policy = WritePolicy::kAutomatic;
  AtomicLimits limits;
  bool device_refused = false;   // the device refused this change set before
  bool several_ranges = false;   // the change set has more than this range
  bool metadata_change = false;  // size, names, holes
  // Something of an earlier barrier epoch is not durable, or the batch spans several barrier epochs.
  bool barrier_unmet = false;
  bool read_outstanding = false;  // on any of the blocks
  uint64_t length_bytes = 0;      // whole blocks
  Settled settled;
  MappingsKnown mappings_known = MappingsKnown::kAll;
  std::span<const Mapping> mappings;  // of the blocks, in order, without gaps
};

// Returns kInPlace, or the first reason that speaks against in place.
PathReason Decide(const DecisionInput& input);

// Returns the part of Decide() that is known at submit and never changes for a range. The result is kInPlace
// if the range may qualify one day.
PathReason DecideForever(WritePolicy policy, const AtomicLimits& limits, bool several_ranges,
                         uint64_t length_bytes);

// Two scattered overwrites cost what a packed run and its record cost, and keep the layout.
inline constexpr size_t kInPlaceRunsMax = 2;

// An in-place run is one atomic write for change sets that are adjacent on the device. MergeInPlace() merges
// candidates up to the largest write that qualifies, and never splits a change set.
struct InPlaceRun {
  Extent extent;
  std::vector<size_t> candidates;  // indices into the candidates, in order of their place
};
std::vector<InPlaceRun> MergeInPlace(std::span<const Extent> candidates, const AtomicLimits& limits);

// Says whether a batch with so many bytes of data may need few enough overwrites in place.
bool InPlaceMayBeCheaper(const AtomicLimits& limits, uint64_t bytes);
// Says whether the candidates of a batch go in place, or are packed with the rest of the batch. A lone range
// is cheaper in place, because no record is needed. Scattered ranges are cheaper as one packed run with a
// record.
bool InPlaceIsCheaper(size_t in_place_runs, size_t cow_sets);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_DECISION_H_
