// Answers lookups: what the blocks of an object are mapped to, and which objects and names there are.
//
//     lookup:   active delta  → where it says nothing →  frozen delta  → where it says nothing →  tree
//
// A lookup never does I/O. If a lookup needs a tree node that is not cached, it appends the node to
// `missing`, and what it has found is not complete. The caller loads the nodes with LoadNodes(), which
// releases the lock. The caller then looks again.
//
// Threading: the volume's mutex guards the reader.
#ifndef UNTORN_EXTENT_MAPPING_READER_H_
#define UNTORN_EXTENT_MAPPING_READER_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/lock.h"
#include "base/readiness.h"
#include "device/io_pump.h"
#include "extent/space_ledger.h"
#include "extent/tree.h"
#include "extent/volume_state.h"

namespace untorn {

// Names the tree nodes that a lookup needed and that are not cached.
using MissingNodes = absl::InlinedVector<BlockPointer, 4>;

class MappingReader {
 public:
  // `state`, `space` and `pump` must outlive the reader.
  MappingReader(IoPump& pump, const VolumeState& state, SpaceLedger& space, size_t node_cache_nodes)
      : pump_(pump), state_(state), space_(space), nodes_(node_cache_nodes) {}

  // Replaces *out by the mappings of `range`, in order and without gaps. Holes are kHole. The checksums of the
  // mappings are valid until the lock is released.
  absl::Status Lookup(ObjectId object, BlockRange range, Mappings* out,
                      MissingNodes* missing) REQUIRES_STORE_LOCK;
  absl::Status FindInode(ObjectId object, std::optional<Inode>* out,
                         MissingNodes* missing) REQUIRES_STORE_LOCK;
  absl::Status FindName(const std::string& name, std::optional<ObjectId>* out,
                        MissingNodes* missing) REQUIRES_STORE_LOCK;
  // Finds the first name after `after` in byte order.
  absl::Status NextName(const std::string& after, std::optional<std::pair<std::string, ObjectId>>* out,
                        MissingNodes* missing) REQUIRES_STORE_LOCK;
  // Checks that the leaves in which the range begins and ends can be read. A checkpoint that makes a hole of
  // the range takes those two leaves apart. A lookup of the range checks all of its leaves.
  absl::Status ReachEdges(ObjectId object, BlockRange range, MissingNodes* missing) REQUIRES_STORE_LOCK;

  // Is ready if no node is missing. Otherwise reads the nodes into the cache, with the lock released. The
  // caller then repeats the lookup.
  Readiness AwaitNodes(Lock& lock, const MissingNodes& missing) REQUIRES_STORE_LOCK {
    return missing.empty() ? Readiness::Ready() : Readiness::RetryIfOk(LoadNodes(lock, missing));
  }
  absl::Status LoadNodes(Lock& lock, const MissingNodes& missing) REQUIRES_STORE_LOCK;
  // Returns one node, from the cache if the node is there. Releases the lock to read the node.
  absl::StatusOr<std::shared_ptr<const TreeNode>> ReadNode(Lock& lock,
                                                           BlockPointer pointer) REQUIRES_STORE_LOCK;
  NodeCache& node_cache() { return nodes_; }
  const NodeCache& node_cache() const { return nodes_; }

 private:
  struct NodeRead;

  // Waits for the reads, and replaces those that fail by reads of single nodes.
  void RunReads(Lock& lock, std::vector<NodeRead>* reads) REQUIRES_STORE_LOCK;
  // Appends what the tree says of `gap` to *out.
  absl::Status LookupInTree(ObjectId object, BlockRange gap, Mappings* out,
                            MissingNodes* missing) REQUIRES_STORE_LOCK;

  IoPump& pump_;
  const VolumeState& state_ GUARDED_BY_STORE_LOCK;
  SpaceLedger& space_ GUARDED_BY_STORE_LOCK;
  NodeCache nodes_ GUARDED_BY_STORE_LOCK;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_MAPPING_READER_H_
