// Spilling: a transaction that is larger than its share of the cache writes blocks to extents that nothing refers to.
// Its commit names them all in one chain of records.
//
// Crash states. Until that chain counts, which it does only as a whole and with all its data, the extents are free.
//
// Threading: that of the transaction; called without the lock unless there is a Lock among the arguments.
#ifndef UNTORN_STORE_SPILL_H_
#define UNTORN_STORE_SPILL_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "store/object_write.h"
#include "store/transaction_draft.h"

namespace untorn::internal {

class Spill {
 public:
  explicit Spill(const Front& front) : front_(front) {}

  // Writes the whole blocks that the draft has in memory. Returns how many there were.
  absl::StatusOr<BlockCount> WriteBlocks(ObjectDraft& draft) EXCLUDES_STORE_LOCK;
  // Cuts a range out of what was spilled; its space goes back.
  void Cut(ObjectDraft& draft, BlockRange range) EXCLUDES_STORE_LOCK;
  // Brings a spilled block back into memory, to change part of it. Returns whether there is one.
  absl::StatusOr<bool> Load(ObjectDraft& draft, ObjectBlock block) EXCLUDES_STORE_LOCK;
  absl::Status Read(Extent extent, std::byte* out) EXCLUDES_STORE_LOCK;
  // Makes every hash known.
  absl::Status HashAll(ObjectDraft& draft) EXCLUDES_STORE_LOCK;

  // Tree entries that the spilled extents have reserved.
  Reservation& space() REQUIRES_STORE_LOCK { return space_; }

 private:
  absl::Status WriteRange(ObjectDraft& draft, BlockRange range,
                          const std::vector<BufferRef>& buffers) EXCLUDES_STORE_LOCK;
  absl::Status WriteExtent(Lock& lock, Extent extent, const BufferRef* buffers,
                           Hash128* hash) REQUIRES_STORE_LOCK;

  const Front front_;
  Reservation space_ GUARDED_BY_STORE_LOCK;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_SPILL_H_
