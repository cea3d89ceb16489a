// Open mappings are those whose blocks may be overwritten in place. A crash may leave new data in them under old
// checksums. The log says which blocks are opened. The running store knows the newest checksums:
//
//     opened      a record opens blocks → active delta
//     overwritten the write is durable: the newest checksums → active delta
//     carried     a checkpoint writes the checksums of the frozen delta to the tree; the mapping stays open
//     closed      the next checkpoint closes the mapping, if nothing of this happened to it since and there is room;
//                 a clean close of the store closes it too
//
// Invariant: the open mappings of the tree that this session has opened are here, unless a delta says something
// newer of their blocks. Their checksums are those of the tree.
//
// Threading: the volume's mutex guards the object.
#ifndef UNTORN_EXTENT_OPEN_MAPPINGS_H_
#define UNTORN_EXTENT_OPEN_MAPPINGS_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "extent/delta.h"
#include "extent/types.h"

namespace untorn {

class OpenMappings {
 public:
  // Notes an overwrite in place that is on its way, and that the overwrite is durable, or was refused.
  void Begin(Extent extent) { in_flight_.push_back(extent); }
  void End(Extent extent);
  bool overwriting() const { return !in_flight_.empty(); }

  bool empty() const { return mappings_.empty(); }

  // Must be called before `active` is frozen, whether mappings are closed or not. Forgets what `active` says something
  // newer of.
  void Forget(const Delta& active);
  // Adds to `active` that the mappings are closed, but for those with an overwrite in flight and those for which
  // `has_room` returns false. The argument is how many changes of the tree a mapping takes. Must follow Forget(), with
  // no delta frozen: these mappings are then the tree's.
  void CloseQuiet(absl::FunctionRef<bool(uint64_t tree_entries)> has_room, Delta* active);
  // Closes the mappings of `active` that `session` has opened, but for those with an overwrite in flight.
  void CloseNewest(LogEpoch session, Delta* active) const;
  // Must be called when the tree holds `frozen`.
  void Carried(LogEpoch session, const Delta& frozen);

 private:
  struct Open {
    Open(ObjectId id, const Mapping& m)
        : object(id), without_checksums(m), checksums(m.checksums.Copy(m.logical.count)) {}
    Mapping mapping() const {
      Mapping m = without_checksums;
      m.checksums = ChecksumsRef(checksums);
      return m;
    }
    ObjectId object;
    Mapping without_checksums;
    BlockChecksums checksums;
  };
  bool InFlight(Extent extent) const;
  static void Close(const Open& mapping, Delta* active);

  std::vector<Open> mappings_;
  std::vector<Extent> in_flight_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_OPEN_MAPPINGS_H_
