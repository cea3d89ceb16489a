// A walk over the free-space map that survives any damage.
//
// Invariants
//  1. The walk believes nothing that it reads before it has verified it.
//  2. The walk ends: the map has a fixed shape, and every node may lie in its own two slots only.
//  3. The walk hands damage to the visitor, with the groups that it covers, and goes on with the rest.
#ifndef UNTORN_INSPECT_WALK_FREE_MAP_H_
#define UNTORN_INSPECT_WALK_FREE_MAP_H_

#include <cstdint>

#include "absl/status/status.h"
#include "device/device.h"
#include "extent/superblock.h"
#include "extent/types.h"
#include "inspect/block_set.h"

namespace untorn::internal {

// A node of the free-space map, and the groups [first_group, last_group) that it describes.
struct FreeMapNode {
  int level = 0;  // 0: a bitmap
  uint64_t index = 0;
  BlockPointer pointer;
  uint64_t first_group = 0, last_group = 0;
};

class FreeMapVisitor {
 public:
  virtual ~FreeMapVisitor() = default;
  virtual void Table(const FreeMapNode& node, BlockCount used) = 0;
  virtual void Bitmap(const FreeMapNode& node, const BlockSet::Words& bits, BlockCount used) = 0;
  // The node is not on disk: of its groups only the fixed areas are in use.
  virtual void Null(const FreeMapNode& node) = 0;
  virtual void Damaged(const FreeMapNode& node, const absl::Status& why) = 0;
  // The table above the node says that `said` blocks are in use below it. The node itself says `used`.
  virtual void WrongCount(const FreeMapNode& node, BlockCount said, BlockCount used) = 0;
};

// Visits every node, a table before its children. The function fails only if the device fails. A block that
// cannot be read while others can is damage.
absl::Status WalkFreeMap(Device& device, const Superblock& superblock, FreeMapVisitor& visitor);

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_WALK_FREE_MAP_H_
