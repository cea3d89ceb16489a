// The decision: does a change set go to the device as one atomic overwrite in place, or by copy-on-write, and why.
//
// A pure function of values: no I/O, no lock, no clock. Source of the rules for atomic writes: Linux,
// statx(2) STATX_WRITE_ATOMIC and block/ atomic write limits; for the others: docs/design.md, "The decision".
#ifndef UNTORN_WRITEBACK_DECISION_H_
#define UNTORN_WRITEBACK_DECISION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "device/device.h"
#include "extent/types.h"
#include "untorn/options.h"

namespace untorn {

struct DecisionInput {
  WritePolicy policy = WritePolicy::kAutomatic;
  AtomicLimits limits;
  bool device_refused = false;   // this change set, before
  bool several_ranges = false;   // the change set has more than this one
  bool metadata_change = false;  // size, names, holes
  // Something of an earlier barrier epoch is not durable, or something of a later one goes along.
  bool barrier_unmet = false;
  bool read_outstanding = false;      // on any of its blocks
  uint64_t length_bytes = 0;          // whole blocks
  Lsn settled;                        // records up to this one are settled
  std::span<const Mapping> mappings;  // of its blocks, in order, without gaps
};

// kInPlace, or the first reason against it.
PathReason Decide(const DecisionInput& input);

// What of Decide() can be told at submit and never changes for a range: kInPlace if it can qualify one day.
PathReason DecideForever(WritePolicy policy, const AtomicLimits& limits, bool several_ranges,
                         uint64_t length_bytes);

// Change sets that qualify for the in-place path, merged where they are adjacent on the device, up to the largest
// write that qualifies; a change set is never split.
struct InPlaceRun {
  Extent extent;
  std::vector<size_t> candidates;  // indices into the candidates, in order of their place
};
std::vector<InPlaceRun> MergeInPlace(std::span<const Extent> candidates, const AtomicLimits& limits);

// Whether a batch's candidates go in place, or are packed with the rest: a lone range is cheaper in place (no
// record); scattered ranges are cheaper as one contiguous run and a record.
bool InPlaceIsCheaper(size_t in_place_runs, size_t cow_sets);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_DECISION_H_
