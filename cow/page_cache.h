// The page cache holds the content of blocks, clean and dirty.
//
// Invariants
//  1. A page with a pending or committing change set is never evicted. So a block that is being overwritten
//     in place is always read from memory.
//  2. The cache keeps no chunk without a page in use.
//
// The cache does no I/O. A reader announces a read (AddReading), reads without the lock, and hands the
// content in (FillRead).
//
// Threading: the store's mutex guards the cache.
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

  // Returns nullptr if no chunk holds the block. The page that is returned may be unused.
  Page* Find(const ObjectState& object, ObjectBlock block) const;
  // Says whether a version of the block is on its way to the device.
  bool Committing(const ObjectState& object, ObjectBlock block) const {
    const Page* page = Find(object, block);
    return page != nullptr && page->committing != nullptr;
  }
  // Makes a page if there is none.
  Page& Get(ObjectState& object, ObjectBlock block);
  // Returns the blocks of the range that have a page in use, in order.
  std::vector<ObjectBlock> BlocksWithPages(const ObjectState& object, BlockRange range) const;

  // Returns a token that names one device read. The read may fill several pages.
  uint64_t NewReadToken() { return next_read_token_++; }
  // Returns a page for content that is being read, or nullptr if the block has a page in use already.
  Page* AddReading(ObjectState& object, ObjectBlock block, uint64_t token);
  // Gives the page its content, if the page still waits for this read. An empty `buffer` means a failed read.
  void FillRead(ObjectState& object, ObjectBlock block, uint64_t token, BufferRef buffer);

  // Forgets the content of a block. The page keeps its committing change set.
  void Drop(ObjectState& object, ObjectBlock block);
  // Forgets the clean content of blocks whose mapping was changed behind the cache.
  void DropClean(ObjectState& object, BlockRange range);
  // Must be called after a change that may have left the page unused (invariant 2).
  void EraseIfUnused(ObjectState& object, ObjectBlock block);

  uint64_t memory_bytes() const { return pool_.bytes_in_use() + chunk_count_ * sizeof(Chunk); }
  // Evicts clean pages, longest unused first, until memory_bytes() is at most `limit_bytes` or no clean page
  // is left.
  void Evict(uint64_t limit_bytes);

  // Stops the process if the cached pages of `object` break an invariant.
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
