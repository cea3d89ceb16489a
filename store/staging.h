// These functions stage changes of names and whole objects. Metadata operations and transactions both use
// them. The caller has made sure that everything is there that the change needs (store/admission.h).
//
// Threading: the caller holds the lock.
#ifndef UNTORN_STORE_STAGING_H_
#define UNTORN_STORE_STAGING_H_

#include <cstdint>
#include <memory>
#include <string>

#include "base/lock.h"
#include "cow/cow_fork.h"
#include "extent/tree_merge.h"

namespace untorn::internal {

// These numbers say what metadata changes cost in tree entries, as SpaceCost counts them.
inline constexpr uint64_t kEntriesOfCreate =
    kTreeEntriesOfName + 1;  // a new name, and a record of its object
inline constexpr uint64_t kEntriesOfRename = kTreeEntriesOfName + 2;
inline constexpr uint64_t kEntriesOfRemove = 3;  // a name and a record that go, and a hole
// A hole costs an entry of its own, one for what is left of a mapping behind the hole, and two for the edges.
// A truncate has one edge and the size instead of two edges.
inline constexpr uint64_t kEntriesOfHole = 4;
// The cost of a write depends on the blocks that are new to its change set. Each new block of an atomic write
// may get a mapping of its own. The write may also split one other mapping, and may bring a new size. A plain
// write costs as much as an atomic write of each block by itself. A write without new blocks costs nothing,
// because the change set has reserved all of it already.
constexpr uint64_t EntriesOfAtomic(BlockCount new_blocks) {
  return new_blocks == 0 ? 0 : new_blocks.value() + 2;
}
constexpr uint64_t EntriesOfPlain(BlockCount new_blocks) { return 3 * new_blocks.value(); }

// These functions return the change set that holds the change: `set`, or the set that `set` was joined with.
ChangeSetRef StageCreate(CowFork& fork, ChangeSetRef set,
                         const std::shared_ptr<ObjectState>& object) REQUIRES_STORE_LOCK;
ChangeSetRef StageRemove(CowFork& fork, ChangeSetRef set,
                         const std::shared_ptr<ObjectState>& object) REQUIRES_STORE_LOCK;
ChangeSetRef StageRename(CowFork& fork, ChangeSetRef set, const std::shared_ptr<ObjectState>& object,
                         const std::string& to) REQUIRES_STORE_LOCK;

}  // namespace untorn::internal

#endif  // UNTORN_STORE_STAGING_H_
