// A page is the cached content of one block of an object. Chunks hold 16 adjacent pages each.
#ifndef UNTORN_COW_PAGE_H_
#define UNTORN_COW_PAGE_H_

#include <array>
#include <cstdint>
#include <list>

#include "base/block_size.h"
#include "cow/buffer_pool.h"

namespace untorn {

struct ChangeSet;
struct ObjectState;

struct Page {
  BufferRef buffer;                 // the newest content; none while the content is being read
  ChangeSet* pending = nullptr;     // the pending change set that holds this content
  ChangeSet* committing = nullptr;  // the change set that is sending a version of this block
  uint64_t read_token = 0;          // of the read that fills the page, unless a write comes first
  bool referenced = false;          // since the eviction hand last came by
  bool drop_when_clean = false;     // the content bypasses the cache

  bool unused() const { return !buffer && !pending && !committing && read_token == 0; }
  bool dirty() const { return pending != nullptr || committing != nullptr; }
};

// A chunk holds 16 adjacent blocks, so that one look-up serves 64 KiB.
struct Chunk {
  static constexpr size_t kPages = 16;
  static constexpr BlockCount kBlocks{kPages};
  ObjectState* object = nullptr;
  uint64_t index = 0;  // first block / kBlocks
  std::array<Page, kPages> pages;
  std::list<Chunk*>::iterator place;  // in the eviction order

  static uint64_t IndexOf(ObjectBlock block) { return block / kBlocks; }
  Page& page(ObjectBlock block) { return pages[(block % kBlocks).value()]; }
  ObjectBlock first_block() const { return ObjectBlock(0) + kBlocks * index; }
};

}  // namespace untorn

#endif  // UNTORN_COW_PAGE_H_
