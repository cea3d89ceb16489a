// Makes a store smaller while it is in use. What is in the way is moved:
//
//     withdraw the end → move the log → move the data → checkpoint: move the nodes → end the store there → cut the file
//
// A move of data is a change of its object like any other. It holds the object exclusively, reads the data and compares it
// with its checksums, writes it elsewhere, and commits where it is. So a crash leaves each block in the old place or in the
// new one. Only the last checkpoint says that the store is smaller, and only then the file is cut.
//
// Threading: thread-safe, but one thread at a time may shrink a store (StoreImpl::ResizeTurn). The caller must not hold the
// lock.
#ifndef UNTORN_STORE_SHRINK_H_
#define UNTORN_STORE_SHRINK_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "extent/types.h"
#include "store/store_impl.h"
#include "untorn/options.h"

namespace untorn::internal {

// Ends the store after so many blocks, fewer than are prepared, and makes this its limit. After an error that is not the
// store's failure, the store is as large as before.
//  kResourceExhausted   what is in use has no room there, or others have needed the space meanwhile
//  kDataLoss            data or metadata that is in the way is damaged; the message names it
//  kFailedPrecondition  an open transaction uses blocks that are in the way
//  kCancelled           options.progress has returned false
absl::Status ShrinkTo(StoreImpl& store, BlockCount total_blocks,
                      const ShrinkOptions& options) EXCLUDES_STORE_LOCK;

// Gives back to the file system what the store can do without for now. The limit stays. The errors are those of ShrinkTo().
absl::StatusOr<TrimResult> Trim(StoreImpl& store, const ShrinkOptions& options) EXCLUDES_STORE_LOCK;

}  // namespace untorn::internal

#endif  // UNTORN_STORE_SHRINK_H_
