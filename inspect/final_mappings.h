// The mappings of the tree with those of the log laid over them.
#ifndef UNTORN_INSPECT_FINAL_MAPPINGS_H_
#define UNTORN_INSPECT_FINAL_MAPPINGS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "extent/delta.h"
#include "extent/tree_keys.h"
#include "extent/types.h"

namespace untorn::internal {

// Hands on the mappings that hold after replay, in the order of object and logical block. Holes are left out.
class FinalMappings {
 public:
  using Fn = absl::FunctionRef<void(ObjectId, const Mapping&, bool from_log)>;

  // `delta` must outlive this object and must not change.
  explicit FinalMappings(const Delta& delta);

  // Takes the tree's next mapping and hands on all that is known with it. nullptr says that the tree has no
  // more.
  void Tree(const MappingEntry* entry, Fn fn);

 private:
  // Hands on the mappings of the log that come before (object, logical), or all of them.
  void LogBefore(ObjectId object, ObjectBlock logical, bool all, Fn fn);

  const Delta& delta_;
  std::vector<MappingEntry> log_;  // the delta's mappings, without holes
  size_t next_ = 0;                // the first mapping of log_ that was not handed on
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_FINAL_MAPPINGS_H_
