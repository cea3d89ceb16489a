#include "cow/page_cache.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/check.h"

namespace untorn {

Chunk* PageCache::FindChunk(const ObjectState& object, ObjectBlock block) const {
  const uint64_t index = Chunk::IndexOf(block);
  if (found_ != nullptr && found_->object == &object && found_->index == index) return found_;
  const auto it = object.chunks.find(index);
  if (it == object.chunks.end()) return nullptr;
  return found_ = it->second.get();
}

Page* PageCache::Find(const ObjectState& object, ObjectBlock block) const {
  Chunk* chunk = FindChunk(object, block);
  return chunk ? &chunk->page(block) : nullptr;
}

Page& PageCache::Get(ObjectState& object, ObjectBlock block) {
  if (Page* page = Find(object, block)) return *page;
  std::unique_ptr<Chunk>& chunk = object.chunks[Chunk::IndexOf(block)];
  if (!chunk) {
    chunk = std::make_unique<Chunk>();
    chunk->object = &object;
    chunk->index = Chunk::IndexOf(block);
    // The place just behind the hand is the one that the hand comes to last.
    chunk->place = chunks_.insert(hand_, chunk.get());
    ++chunk_count_;
  }
  return chunk->page(block);
}

std::vector<ObjectBlock> PageCache::BlocksWithPages(const ObjectState& object, BlockRange range) const {
  UNTORN_CHECK(range.count > 0, "pages are looked for in no blocks");
  std::vector<ObjectBlock> blocks;
  const auto add = [&](const Chunk& chunk) {
    ObjectBlock block = chunk.first_block();
    for (const Page& page : chunk.pages) {
      if (block >= range.start && block < range.end() && !page.unused()) blocks.push_back(block);
      ++block;
    }
  };
  const uint64_t first = Chunk::IndexOf(range.start), last = Chunk::IndexOf(range.end() - 1);
  // A range may reach to the largest block that exists. The object then has fewer chunks than the range.
  if (last - first < object.chunks.size()) {
    for (uint64_t index = first; index <= last; ++index) {
      if (auto it = object.chunks.find(index); it != object.chunks.end()) add(*it->second);
    }
  } else {
    for (const auto& [index, chunk] : object.chunks) add(*chunk);
    std::sort(blocks.begin(), blocks.end());
  }
  return blocks;
}

void PageCache::EraseChunkIfUnused(Chunk* chunk) {
  for (const Page& page : chunk->pages) {
    if (!page.unused()) return;
  }
  UNTORN_CHECK(chunk_count_ == chunks_.size(), "the cache counts other chunks than it has");
  // The hand and the last chunk found must not point to the chunk that goes.
  if (hand_ == chunk->place) ++hand_;
  if (found_ == chunk) found_ = nullptr;
  chunks_.erase(chunk->place);
  --chunk_count_;
  const size_t erased = chunk->object->chunks.erase(chunk->index);
  UNTORN_CHECK(erased == 1, "a chunk goes that its object does not have");
}

void PageCache::EraseIfUnused(ObjectState& object, ObjectBlock block) {
  if (Chunk* chunk = FindChunk(object, block); chunk != nullptr) EraseChunkIfUnused(chunk);
}

void PageCache::Drop(ObjectState& object, ObjectBlock block) {
  Chunk* chunk = FindChunk(object, block);
  if (chunk == nullptr) return;
  Page& page = chunk->page(block);
  // The mark of a committing set survives: MustWait() must see that a version of the block is on its way.
  ChangeSet* committing = page.committing;
  page = Page();
  page.committing = committing;
  EraseChunkIfUnused(chunk);
}

void PageCache::DropClean(ObjectState& object, BlockRange range) {
  for (ObjectBlock block : BlocksWithPages(object, range)) {
    if (!Find(object, block)->dirty()) Drop(object, block);
  }
}

Page* PageCache::AddReading(ObjectState& object, ObjectBlock block, uint64_t token) {
  UNTORN_CHECK(token != 0, "a page waits for a read that has no token");
  Page& page = Get(object, block);
  if (!page.unused()) return nullptr;
  page.read_token = token;
  return &page;
}

void PageCache::FillRead(ObjectState& object, ObjectBlock block, uint64_t token, BufferRef buffer) {
  // Token 0 would fill a page that waits for no read.
  UNTORN_CHECK(token != 0, "a read has no token");
  Page* page = Find(object, block);
  // A write came meanwhile, or the page was dropped. The content that was read is old then.
  if (page == nullptr || page->read_token != token) return;
  UNTORN_CHECK(!page->buffer, "a page that has content waits for a read");
  UNTORN_CHECK(page->pending == nullptr, "a page with a pending block waits for a read");
  page->read_token = 0;
  page->buffer = std::move(buffer);
  page->referenced = true;
  // After a failed read the page is unused (invariant 2).
  if (!page->buffer) EraseIfUnused(object, block);
}

void PageCache::Evict(uint64_t limit_bytes) {
  // The hand goes round twice, because the first round may only clear the marks of recent use.
  for (size_t steps = 2 * chunks_.size(); steps > 0 && memory_bytes() > limit_bytes && !chunks_.empty();
       --steps) {
    if (hand_ == chunks_.end()) hand_ = chunks_.begin();
    Chunk* chunk = *hand_;
    UNTORN_CHECK(chunk->place == hand_, "a chunk is at another place of the eviction order than it knows");
    // The hand moves on before the chunk may be erased below.
    ++hand_;
    for (Page& page : chunk->pages) {
      if (!page.buffer || page.dirty()) continue;  // invariant 1
      if (page.referenced) {
        page.referenced = false;
      } else {
        page = Page();
      }
    }
    EraseChunkIfUnused(chunk);
  }
}

void PageCache::CheckInvariants(const ObjectState& object) const {
  for (const auto& [index, chunk] : object.chunks) {
    UNTORN_CHECK(chunk->object == &object && chunk->index == index, "a chunk belongs to another object");
    bool used = false;
    for (const Page& page : chunk->pages) {
      used |= !page.unused();
      UNTORN_CHECK(page.pending == nullptr || page.buffer,
                   "invariant 1: a pending block has lost its content");
    }
    UNTORN_CHECK(used, "invariant 2: a chunk with no page in use is kept");
  }
}

}  // namespace untorn
