// A scrub reads all data of a store that is in use, and compares the data with its checksums.
//
// The scrub goes object by object, in the order of names, and piece by piece. It reads past the page cache, so it finds
// what rots below. Blocks of which a version is on its way to the device are left out: their content is in memory. Blocks
// that were open when the last owner of the store crashed are adopted: their content gets a checksum, and the next
// checkpoints close them.
//
// Threading: any number of scrubs and other calls may go on at the same time. The caller must not hold the lock.
#ifndef UNTORN_STORE_SCRUB_H_
#define UNTORN_STORE_SCRUB_H_

#include "absl/status/statusor.h"
#include "store/store_impl.h"
#include "untorn/options.h"

namespace untorn::internal {

// Fails if the store was closed, is told to stop, or has a device that reads nothing. Damage is in the result.
absl::StatusOr<ScrubResult> Scrub(StoreImpl& store, const ScrubOptions& options) EXCLUDES_STORE_LOCK;

}  // namespace untorn::internal

#endif  // UNTORN_STORE_SCRUB_H_
