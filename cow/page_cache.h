// The cache of block contents, clean and dirty.
//
// Invariants
//  1. A page with a pending or committing change set is never evicted. So a block that is being overwritten in
//     place is always read from memory.
//  2. A chunk with no page in use is not kept.
//
// Does no I/O: a reader announces a read (AddReading), does it without the lock, and hands the content in
// (FillRead).
//
// Threading: guarded by the store's mutex.
#ifndef UNTORN_COW_PAGE_CACHE_H_
#define UNTORN_COW_PAGE_CACHE_H_

#include <cstdint>
#include <list>
#include <vector>

#include "cow/buffer_pool.h"
#include "cow/object_state.h"
#include "cow/page.h"
#include "extent/types.h"

namespace untorn {

class PageCache {
 public:
  BufferPool& pool() { return pool_; }

  // nullptr: there is no page of this block.
  Page* Find(const ObjectState& object, ObjectBlock block) const;
  // Makes a page if there is none.
  Page& Get(ObjectState& object, ObjectBlock block);
  // The blocks of the range that have a page in use, in order.
  std::vector<ObjectBlock> BlocksWithPages(const ObjectState& object, BlockRange range) const;

  // Names one device read that fills pages.
  uint64_t NewReadToken() { return next_read_token_++; }
  // A page for content that is being read; nullptr if it has one already.
  Page* AddReading(ObjectState& object, ObjectBlock block, uint64_t token);
  // Gives the page its content, if it still waits for this read. Without a buffer the read has failed.
  void FillRead(ObjectState& object, ObjectBlock block, uint64_t token, BufferRef buffer);

  // Forgets the content of a block. What is on its way to the device stays known as such.
  void Drop(ObjectState& object, ObjectBlock block);
  // Forgets clean content of blocks whose mapping was changed behind the cache.
  void DropClean(ObjectState& object, BlockRange range);
  // Call after a change that may have left the page unused (invariant 2).
  void EraseIfUnused(ObjectState& object, ObjectBlock block);

  uint64_t memory_bytes() const { return pool_.bytes_in_use() + chunk_count_ * sizeof(Chunk); }
  // Evicts clean pages, longest unused first, until memory is at most `limit_bytes` or none is left.
  void Evict(uint64_t limit_bytes);

  // Stops the process if an invariant does not hold of what `object` has in the cache.
  void CheckInvariants(const ObjectState& object) const;

 private:
  Chunk* FindChunk(const ObjectState& object, ObjectBlock block) const;
  void EraseChunkIfUnused(Chunk* chunk);

  BufferPool pool_;
  uint64_t next_read_token_ = 1;
  uint64_t chunk_count_ = 0;
  std::list<Chunk*> chunks_;  // eviction order
  std::list<Chunk*>::iterator hand_ = chunks_.end();
  mutable Chunk* found_ = nullptr;  // the last one found: one change looks for its pages many times
};

}  // namespace untorn

#endif  // UNTORN_COW_PAGE_CACHE_H_
