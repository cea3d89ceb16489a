// Writes a store anew from what was salvaged of it: the second half of fsck --repair.
#ifndef UNTORN_REBUILD_H_
#define UNTORN_REBUILD_H_

#include "absl/status/status.h"
#include "device/device.h"
#include "extent/superblock.h"
#include "untorn/fsck_report.h"
#include "untorn/salvage.h"

namespace untorn::internal {

// Writes tree and free-space map to places that the store does not use, flushes, and then puts the superblock that
// refers to them into both slots, `current` last. Like a checkpoint it takes the log's records with it.
//
// Crash states: until the first slot is written the store is as it was, and a repair may begin again: nothing that it
// may refer to was overwritten, its map in use neither. While that slot is written it is old, new or torn, and the
// other old. From then on the store is the repaired one. A damaged log is wiped after that; interrupted there, the next
// repair finds an empty log that may look damaged, and loses nothing.
//  kFailedPrecondition: the log has numbers that nothing can follow.
//  kResourceExhausted: there is not enough space for the tree beside the old one. The store is as it was.
absl::Status Rebuild(Device& device, const Superblock& superblock, int current, uint64_t generation_min,
                     Salvage& salvage);

}  // namespace untorn::internal

#endif  // UNTORN_REBUILD_H_
