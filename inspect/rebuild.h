// The second half of fsck --repair: writes a store's metadata anew from what was salvaged.
#ifndef UNTORN_INSPECT_REBUILD_H_
#define UNTORN_INSPECT_REBUILD_H_

#include "absl/status/status.h"
#include "device/device.h"
#include "extent/superblock.h"
#include "inspect/salvage.h"

namespace untorn::internal {

// Writes the mapping tree and the free-space map to blocks that the store does not use, and flushes. Then it
// writes the superblock that refers to them into both slots, slot `current` last. Like a checkpoint, the new
// superblock includes the log's records.
//
// Crash states
//  1. Before the first slot is written, the store is as it was, and a repair may begin again. The repair has
//     overwritten nothing that the old superblock refers to.
//  2. While the first slot is written, that slot is old, new or torn, and the other slot is old.
//  3. After the first slot is written, the store is the repaired one.
//  4. Last, the repair wipes a damaged log. A crash in the wiping leaves an empty log that may look damaged.
//     The next repair loses nothing by it.
//
//  kFailedPrecondition  a number in the store is so high that no later number can follow
//  kResourceExhausted   there is no room for the new tree beside the old one; the store is as it was
absl::Status Rebuild(Device& device, const Superblock& superblock, int current, Generation generation_min,
                     Salvage& salvage);

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_REBUILD_H_
