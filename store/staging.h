// Staging changes of names and whole objects, with everything there that they need (Admission). What one metadata
// operation stages, a transaction stages too.
//
// Threading: called with the lock held.
#ifndef UNTORN_STORE_STAGING_H_
#define UNTORN_STORE_STAGING_H_

#include <cstdint>
#include <memory>
#include <string>

#include "base/lock.h"
#include "cow/cow_fork.h"
#include "extent/tree_merge.h"

namespace untorn::internal {

// What changes of metadata cost in tree entries, as SpaceCost counts them.
inline constexpr uint64_t kEntriesOfCreate =
    kTreeEntriesOfName + 1;  // a new name, and a record of its object
inline constexpr uint64_t kEntriesOfRename = kTreeEntriesOfName + 2;
inline constexpr uint64_t kEntriesOfRemove = 3;  // a name and a record that go, and a hole
// The hole, what is left of a mapping behind it, and two edges; or one edge and the size.
inline constexpr uint64_t kEntriesOfHole = 4;
// Writes, by the blocks that are new to their change set. Of an atomic one each block may have a mapping of its own, and
// together they may split another one and bring a new size. A plain one is that for each block by itself. Where nothing
// is new the change set has it all already.
constexpr uint64_t EntriesOfAtomic(BlockCount new_blocks) {
  return new_blocks == 0 ? 0 : new_blocks.value() + 2;
}
constexpr uint64_t EntriesOfPlain(BlockCount new_blocks) { return 3 * new_blocks.value(); }

// They return the change set that holds the change: `set`, or one that it was joined with.
ChangeSetRef StageCreate(CowFork& fork, ChangeSetRef set,
                         const std::shared_ptr<ObjectState>& object) REQUIRES_STORE_LOCK;
ChangeSetRef StageRemove(CowFork& fork, ChangeSetRef set,
                         const std::shared_ptr<ObjectState>& object) REQUIRES_STORE_LOCK;
ChangeSetRef StageRename(CowFork& fork, ChangeSetRef set, const std::shared_ptr<ObjectState>& object,
                         const std::string& to) REQUIRES_STORE_LOCK;

}  // namespace untorn::internal

#endif  // UNTORN_STORE_STAGING_H_
