// A transaction draft holds what an open transaction has changed so far, object by object.
//
// Invariants
//  1. Blocks in memory take precedence over spilled extents. Both take precedence over holes, and all three
//     over the committed content.
//  2. A block in memory knows which of its bytes the transaction wrote. The commit takes the other bytes from
//     the committed content. So transactions that write different bytes of one block do not undo each other.
//
// Threading: one thread at a time, as for the transaction.
#ifndef UNTORN_STORE_TRANSACTION_DRAFT_H_
#define UNTORN_STORE_TRANSACTION_DRAFT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "cow/buffer_pool.h"
#include "cow/object_state.h"
#include "cow/range_set.h"
#include "extent/types.h"

namespace untorn::internal {

struct ObjectHandle;

// One block in memory. `written` has the byte ranges [first, second) that the transaction wrote, sorted and
// not touching. `written` is empty if all bytes are the transaction's.
struct DraftBlock {
  BufferRef buffer;
  std::vector<std::pair<uint32_t, uint32_t>> written;
  bool whole() const { return written.empty(); }
  // Notes that the transaction wrote bytes [from, to) of the block.
  void Note(uint32_t from, uint32_t to);
  // Copies the bytes in `written` to the same places in `to`, which has a whole block. A block that is whole
  // has an empty `written`, so nothing is copied.
  void CopyWritten(std::byte* to) const;
};

// Blocks that the transaction wrote to the device before its commit. Nothing on the device refers to the
// blocks yet.
struct SpilledExtent {
  BlockCount count;
  BlockNumber physical;
  std::vector<Hash128> hashes;  // of the blocks
};

struct ObjectDraft {
  std::shared_ptr<ObjectState> state;    // nullptr if created here
  std::shared_ptr<ObjectHandle> handle;  // if created here
  ObjectId id = ObjectId::kNone;
  std::string name;
  bool removed = false;
  bool renamed = false;
  bool wrote = false;     // wrote data, not only zeros at the edges of holes
  uint64_t size = 0;      // in bytes, as the transaction sees it; counts only if set_size
  bool set_size = false;  // by truncate, or because created here
  uint64_t grow_to = 0;   // least size in bytes that the writes since the last truncate need
  bool zeroed = false;    // zeroed edges of holes, which may lie beyond the durable size of the object
  RangeSet holes;
  std::map<ObjectBlock, DraftBlock> blocks;
  std::map<ObjectBlock, SpilledExtent> spilled;  // by first block

  bool created() const { return handle != nullptr; }
  // True if the draft relies on the size that pending changes give the object. The commit must then join
  // these changes, so that they are durable together with the draft.
  bool needs_size() const { return removed || renamed || set_size || zeroed || !holes.empty(); }
  // False if the transaction only read the object.
  bool changed() const {
    return created() || removed || renamed || set_size || grow_to > 0 || !holes.empty() || !blocks.empty() ||
           !spilled.empty();
  }
  // Returns the blocks with new content, in memory and spilled.
  RangeSet Data() const;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_TRANSACTION_DRAFT_H_
