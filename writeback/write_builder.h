// The write builder makes the write requests of a commit from frozen buffers and their places.
#ifndef UNTORN_WRITEBACK_WRITE_BUILDER_H_
#define UNTORN_WRITEBACK_WRITE_BUILDER_H_

#include <cstddef>
#include <span>

#include "base/aligned_buffer.h"
#include "device/device.h"
#include "writeback/commit.h"
#include "writeback/plan.h"

namespace untorn {

// Fills commit->data_writes with the writes of the pieces, and with the plan's writes in place. The writes of
// the pieces are as few and as long as their places allow. Needs no lock, because all that is read is frozen.
// Fails with kDataLoss if two pieces have a block of the device in common. The tree of a damaged store may map
// two preallocated ranges to one place.
absl::Status BuildWrites(const Plan& plan, std::span<const CowPiece> pieces, Commit* commit);

// Copies the data of a write to one piece of memory, if the write has kGatherParts parts or more. For a disk that takes few
// long pieces faster than many short ones, the copy costs less than it saves. The write must not be queued yet. `memory` is
// made when it is first needed. The memory must stay as it is until the write is over.
inline constexpr size_t kGatherParts = 8;
inline constexpr size_t kGatherBytes = kHugePageBytes;
void GatherData(IoRequest* write, AlignedBuffer* memory);

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_WRITE_BUILDER_H_
