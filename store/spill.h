// A transaction that is larger than its share of the cache spills: it writes blocks to extents that nothing
// refers to. The commit of the transaction names all spilled extents in one chain.
//
// Crash: the chain counts only as a whole and with all its data. If the chain does not count, the spilled
// extents are free after recovery.
//
// Threading: one thread at a time, as for the transaction. The caller does not hold the lock, except for
// methods with a Lock argument and for space().
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

  // Writes the whole blocks that the draft has in memory, and drops them from memory. Blocks of which only parts
  // are known stay in memory. After an error some blocks may be dropped, and these are spilled.
  absl::Status WriteBlocks(ObjectDraft& draft) EXCLUDES_STORE_LOCK;
  // Cuts a range out of the spilled extents of the draft, and frees the space of the range at once. Returns true if
  // an extent was cut in two.
  bool Cut(ObjectDraft& draft, BlockRange range) EXCLUDES_STORE_LOCK;
  // Reads a spilled block back into memory, so that a part of it can be changed. Returns false if the block
  // is not spilled.
  absl::StatusOr<bool> Load(ObjectDraft& draft, ObjectBlock block) EXCLUDES_STORE_LOCK;
  // Reads `count` blocks of a spilled extent, from its block `from` on. Fails with kDataLoss if the device gives
  // back something else than was written.
  absl::Status Read(const SpilledExtent& extent, BlockCount from, BlockCount count,
                    std::byte* out) EXCLUDES_STORE_LOCK;

  // The reservation of tree entries for the spilled extents. The commit takes the reservation over.
  Reservation& space() REQUIRES_STORE_LOCK { return space_; }

 private:
  absl::Status WriteRange(ObjectDraft& draft, BlockRange range,
                          const std::vector<BufferRef>& buffers) EXCLUDES_STORE_LOCK;
  absl::Status WriteExtent(Lock& lock, Extent extent, const BufferRef* buffers,
                           std::vector<Hash128>* hashes) REQUIRES_STORE_LOCK;

  const Front front_;
  Reservation space_ GUARDED_BY_STORE_LOCK;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_SPILL_H_
