// The write builder makes the write requests of a commit from frozen buffers and their places.
#ifndef UNTORN_WRITEBACK_WRITE_BUILDER_H_
#define UNTORN_WRITEBACK_WRITE_BUILDER_H_

#include <span>

#include "writeback/commit.h"
#include "writeback/plan.h"

namespace untorn {

// Fills commit->data_writes with the writes of the pieces, and with the plan's writes in place. The writes of
// the pieces are as few and as long as their places allow. Needs no lock, because all that is read is frozen.
// Fails with kDataLoss if two pieces have a block of the device in common. The tree of a damaged store may map
// two preallocated ranges to one place.
absl::Status BuildWrites(const Plan& plan, std::span<const CowPiece> pieces, Commit* commit);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_WRITE_BUILDER_H_
