// Planning: which way each change set of a batch goes, in place or by copy-on-write, and why.
//
// FindMappings() says what the change sets' blocks are mapped to now; MakePlan() is a pure function of that.
// Neither does I/O.
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

// Makes ObjectChange::mapped known, sorted and without gaps for all data of the change sets. What staging found is
// used where it still holds; otherwise the mappings are looked up. Tree nodes that this needs and that are not cached go
// to `missing`: load those, and call it again.
absl::Status FindMappings(std::span<const ChangeSetRef> sets, MappingReader& reader,
                          MissingNodes* missing) REQUIRES_STORE_LOCK;

struct PlanContext {
  WritePolicy policy = WritePolicy::kAutomatic;
  AtomicLimits limits;
  Lsn settled = {};  // records up to this one are settled
  bool earlier_in_flight =
      false;  // something of an earlier barrier epoch than the batch's last is committing
  // Whether a device read of the extent is outstanding.
  absl::FunctionRef<bool(Extent)> read_outstanding;
};

// `sets`: in the order of their barrier epochs, not empty, with known mappings.
Plan MakePlan(std::span<const ChangeSetRef> sets, const PlanContext& context);

// The data of a plan whose change sets are frozen, before it has its place.
struct DataToPlace {
  CowPieces into_unwritten;  // goes into unwritten extents, which are its place
  absl::InlinedVector<LayoutItem, 1>
      items;  // needs new extents; LayoutItem::source is an index into `sources`
  absl::InlinedVector<std::pair<const ChangeSet*, const FrozenRange*>, 1> sources;
};
DataToPlace FindDataToPlace(const Plan& plan);
// Appends the piece, in parts that an entry of the log can name.
void AddPiece(CowPiece piece, CowPieces* pieces);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_PLANNER_H_
