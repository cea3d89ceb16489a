// The superblock of a store that has nothing in use but its fixed areas.
#ifndef UNTORN_TESTS_EXTENT_EMPTY_STORE_H_
#define UNTORN_TESTS_EXTENT_EMPTY_STORE_H_

#include "extent/superblock.h"
#include "tests/extent/memory_tree.h"

namespace untorn {

inline Superblock EmptyStore(BlockCount total_blocks) {
  Superblock s;
  s.uuid = kTestUuid;
  s.generation = 1;
  s.geometry = Geometry::ForSize(total_blocks);
  s.prepared_blocks = total_blocks;
  s.used_blocks = s.geometry.FixedBlocks(s.prepared_blocks);
  return s;
}

}  // namespace untorn

#endif  // UNTORN_TESTS_EXTENT_EMPTY_STORE_H_
