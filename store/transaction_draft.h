// What a transaction has changed of one object, before its commit.
//
// Invariants
//  1. Blocks in memory take precedence over spilled extents; both over holes; all over the committed content.
//  2. A block in memory knows which of its bytes the transaction wrote. The others are taken from the committed
//     content at commit, so transactions that write different bytes of one block do not undo each other.
//
// Threading: that of the transaction.
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

// A block in memory. `written`: the bytes that are the transaction's, sorted, apart; empty if all are.
struct DraftBlock {
  BufferRef buffer;
  std::vector<std::pair<uint32_t, uint32_t>> written;
  bool whole() const { return written.empty(); }
  // The transaction wrote bytes [from, to).
  void Note(uint32_t from, uint32_t to);
  // Puts the transaction's bytes into `to`, a block's memory.
  void CopyWritten(std::byte* to) const;
};

// Blocks that were written to the device before the commit. Nothing refers to them yet.
struct SpilledExtent {
  BlockCount count;
  BlockNumber physical;
  std::optional<Hash128> hash;  // none: part of a longer one, to be hashed again
};

struct ObjectDraft {
  std::shared_ptr<ObjectState> state;    // nullptr if created here
  std::shared_ptr<ObjectHandle> handle;  // if created here
  ObjectId id = ObjectId::kNone;
  std::string name;
  bool removed = false;
  bool renamed = false;
  bool wrote = false;     // data, besides zeros at the edges of holes
  uint64_t size = 0;      // as the transaction sees it
  bool set_size = false;  // by truncate, or created here
  uint64_t grow_to = 0;   // at least this
  bool zeroed = false;    // the edges of holes, which may lie beyond what is durable of the object
  RangeSet holes;
  std::map<ObjectBlock, DraftBlock> blocks;
  std::map<ObjectBlock, SpilledExtent> spilled;  // by first block
  Mappings mapped;  // at commit: what its blocks are mapped to, while the lock is held

  bool created() const { return handle != nullptr; }
  // What is durable of its changes must bring all pending ones of the object: it relies on the size they give it.
  bool needs_size() const { return removed || renamed || set_size || zeroed || !holes.empty(); }
  // Anything besides reads.
  bool changed() const {
    return created() || removed || renamed || set_size || grow_to > 0 || !holes.empty() || !blocks.empty() ||
           !spilled.empty();
  }
  // Blocks with new content, in memory and spilled.
  RangeSet Data() const;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_TRANSACTION_DRAFT_H_
