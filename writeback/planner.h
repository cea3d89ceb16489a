// The planner decides which way each change set of a batch goes, in place or by copy-on-write, and why.
//
// FindMappings() says what the blocks of the change sets are mapped to now, where a plan depends on it. Most
// change sets go by copy-on-write whatever their blocks are mapped to: such a set is planned blind. MakePlan()
// is a pure function of the mappings. Neither of the two does I/O.
#ifndef UNTORN_WRITEBACK_PLANNER_H_
#define UNTORN_WRITEBACK_PLANNER_H_

#include <span>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "cow/change_set.h"
#include "device/device.h"
#include "extent/mapping_reader.h"
#include "untorn/options.h"
#include "writeback/layout.h"
#include "writeback/plan.h"

namespace untorn {

// Judges a batch by all but its mappings: whether overwrites in place may be cheaper than one packed run.
struct InPlaceChance {
  bool possible = false;
  bool scattered = false;  // only if ranges lie together on the device that do not in their object
};
InPlaceChance ChanceOfInPlace(std::span<const ChangeSetRef> sets, WritePolicy policy,
                              const AtomicLimits& limits);

// Holds the mappings under all data of one change, in order and without gaps.
struct FoundMappings {
  explicit FoundMappings(const ObjectChange& of) : change(&of) {}
  const ObjectChange* change;
  Mappings mappings;
};
using AllMappings = absl::InlinedVector<FoundMappings, 1>;

// Looks up the mappings on which a plan of the change sets depends, in the order of sets and objects: those of
// preallocated objects, and with `in_place_possible` all others. Tree nodes that are needed and not cached go
// to `missing`. The caller then loads those nodes and calls the function again.
absl::Status FindMappings(std::span<const ChangeSetRef> sets, bool in_place_possible, MappingReader& reader,
                          AllMappings* found, MissingNodes* missing) REQUIRES_STORE_LOCK;

struct PlanContext {
  WritePolicy policy = WritePolicy::kAutomatic;
  AtomicLimits limits;
  MappingsKnown mappings_known = MappingsKnown::kAll;
  std::span<const FoundMappings> mappings;  // as FindMappings() found them
  Settled settled = {};
  // Something is committing whose barrier epoch is earlier than that of the batch's last change set.
  bool earlier_in_flight = false;
  // Says whether a read of the extent may be under way, here or in another process (SpaceLedger::MayOverwrite).
  absl::FunctionRef<bool(Extent)> read_outstanding;
};

// `sets` must not be empty, and must be in the order of the barrier epochs.
Plan MakePlan(std::span<const ChangeSetRef> sets, const PlanContext& context);

// Holds the data of a plan whose change sets are frozen, before all of the data has a place.
struct DataToPlace {
  CowPieces into_unwritten;  // goes into unwritten extents, and so has its place
  // Needs new extents. LayoutItem::source is an index into `sources`.
  absl::InlinedVector<LayoutItem, 1> items;
  absl::InlinedVector<std::pair<const ChangeSet*, const FrozenRange*>, 1> sources;
};
DataToPlace FindDataToPlace(const Plan& plan);
// Appends the piece, cut into parts that one log entry can name.
void AddPiece(CowPiece piece, CowPieces* pieces);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_PLANNER_H_
