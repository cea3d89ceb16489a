// Reading: a snapshot taken under the lock — references to cached blocks, pinned extents for the rest — and
// copied without it. So a reader sees all of an atomic write or none of it (promise 2), however long it
// takes.
#include <algorithm>
#include <cstring>
#include <optional>

#include "absl/container/inlined_vector.h"
#include "base/aligned_buffer.h"
#include "writeback/engine.h"

namespace untorn {
namespace {

constexpr uint64_t kPieceBlocks = 256;  // one device read
constexpr size_t kPiecesAtOnce = 64;
constexpr uint64_t kBlocksAtOnce = 2048;
constexpr uint64_t kPrefetchBytes = 512;  // from there on the processor sees by itself what comes
constexpr uint64_t kKeepBlocksMax = 256;  // larger reads from the device do not displace the cache

struct CachedBlock {
  uint64_t block;
  BufferRef buffer;
};
struct DevicePiece {
  Mapping mapping;
  // Neither: it is read into the caller's memory.
  std::vector<BufferRef> kept;  // a block each
  AlignedBuffer bytes;
  IoRequest request;
};

// The part of [offset, offset + bytes) in these blocks: where in the blocks, where in the buffer, how much.
struct Overlap {
  uint64_t in_blocks, in_buffer, bytes;
};
Overlap OverlapOf(BlockRange blocks, uint64_t offset, uint64_t bytes) {
  const uint64_t start = std::max(blocks.start * kBlockBytes, offset);
  const uint64_t end = std::min(blocks.end() * kBlockBytes, offset + bytes);
  return {start - blocks.start * kBlockBytes, start - offset, end - start};
}

}  // namespace

template <typename Fn>
void IoVector::ForEachPart(uint64_t at, uint64_t n, Fn part) const {
  for (const iovec& piece : pieces) {
    if (n == 0) return;
    if (at >= piece.iov_len) {
      at -= piece.iov_len;
      continue;
    }
    const uint64_t length = std::min<uint64_t>(n, piece.iov_len - at);
    part(static_cast<std::byte*>(piece.iov_base) + at, length);
    n -= length;
    at = 0;
  }
}

void IoVector::Copy(uint64_t at, std::byte* other, uint64_t n, bool out) const {
  ForEachPart(at, n, [&](std::byte* user, uint64_t length) {
    if (out) {
      std::memcpy(other, user, length);
    } else {
      std::memcpy(user, other, length);
    }
    other += length;
  });
}

void IoVector::Zero(uint64_t at, uint64_t n) const {
  ForEachPart(at, n, [](std::byte* user, uint64_t length) { std::memset(user, 0, length); });
}

bool IoVector::Aligned(uint64_t at, uint64_t n, absl::InlinedVector<iovec, 2>* parts) const {
  bool aligned = true;
  ForEachPart(at, n, [&](std::byte* user, uint64_t length) {
    aligned &= reinterpret_cast<uintptr_t>(user) % kBlockBytes == 0 && length % kBlockBytes == 0;
    parts->push_back({user, length});
  });
  return aligned;
}

absl::StatusOr<size_t> Engine::Read(const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector out,
                                    const ReadOptions& options) {
  absl::InlinedVector<CachedBlock, 4> cached;
  std::vector<Mapping> mappings, missed;
  uint64_t bytes = 0;
  uint64_t missed_blocks = 0;
  Lock lock = Acquire();
  std::optional<NodeCache::Hold> hold(std::in_place, volume_->node_cache());
  while (true) {
    if (absl::Status s = CheckOpen(); !s.ok()) return s;
    if (object->removed) return absl::NotFoundError("object '" + object->name + "' was removed");
    if (offset >= object->size_bytes) return 0;
    bytes = std::min(out.bytes, object->size_bytes - offset);
    const uint64_t first = offset / kBlockBytes, end = BlocksFor(offset + bytes);
    cached.clear();
    missed.clear();
    missed_blocks = 0;
    bool complete = true;
    for (uint64_t b = first; b < end && complete;) {
      Page* page = fork_.FindPage(*object, b);
      if (page != nullptr && page->buffer) {
        // Before the count is raised, which waits for memory.
        const std::byte* data = page->buffer.data();
        for (uint64_t at = 0; at < kPrefetchBytes; at += 64) __builtin_prefetch(data + at);
        page->referenced = true;
        cached.push_back({b, page->buffer});
        ++b;
        continue;
      }
      if (fork_.InPendingHole(*object, b)) {
        missed.push_back({{b, 1}, MappingState::kHole, 0, 0, 0});
        ++b;
        continue;
      }
      BlockRange run{b, 1};
      while (run.end() < end) {
        const Page* next = fork_.FindPage(*object, run.end());
        if ((next != nullptr && next->buffer) || fork_.InPendingHole(*object, run.end())) break;
        ++run.count;
      }
      absl::StatusOr<bool> found = volume_->TryLookup(object->id, run, &mappings);
      if (!found.ok()) return found.status();
      complete = *found;
      missed.insert(missed.end(), mappings.begin(), mappings.end());
      missed_blocks += run.count;
      b = run.end();
    }
    if (complete) break;
    cached.clear();
    if (absl::Status s = LoadMissing(lock); !s.ok()) return s;
  }
  hold.reset();
  ++stats_.reads;
  stats_.bytes_read += bytes;
  stats_.page_hits += cached.size();
  stats_.page_misses += missed_blocks;

  const bool keep = !options.bypass_cache && missed_blocks <= kKeepBlocksMax;
  const uint64_t token = next_read_token_++;
  std::vector<DevicePiece> pieces;
  std::vector<Volume::ReadPin> pins;
  for (const Mapping& m : missed) {
    if (m.state != MappingState::kWritten) continue;
    pins.push_back(volume_->PinRead(m.extent()));
    for (uint64_t at = 0; at < m.logical.count; at += kPieceBlocks) {
      DevicePiece& piece = pieces.emplace_back();
      piece.mapping = m;
      piece.mapping.logical = {m.logical.start + at, std::min(kPieceBlocks, m.logical.count - at)};
      piece.mapping.physical += at;
    }
    for (uint64_t b = m.logical.start; keep && b < m.logical.end(); ++b) fork_.AddReading(*object, b, token);
  }
  lock.unlock();

  for (const CachedBlock& c : cached) {
    const Overlap o = OverlapOf({c.block, 1}, offset, bytes);
    out.CopyIn(o.in_buffer, c.buffer.data() + o.in_blocks, o.bytes);
  }
  cached.clear();
  for (const Mapping& m : missed) {
    if (m.state == MappingState::kWritten) continue;
    const Overlap o = OverlapOf(m.logical, offset, bytes);
    out.Zero(o.in_buffer, o.bytes);
  }
  if (pieces.empty()) return bytes;

  absl::Status status;
  for (size_t from = 0, to = 0; from < pieces.size(); from = to) {
    std::vector<IoRequest*> requests;
    for (uint64_t blocks = 0; to < pieces.size() && to - from < kPiecesAtOnce; ++to) {
      DevicePiece& p = pieces[to];
      const BlockRange range = p.mapping.logical;
      if (blocks > 0 && blocks + range.count > kBlocksAtOnce) break;
      blocks += range.count;
      p.request.op = IoOp::kRead;
      p.request.offset_bytes = p.mapping.physical * kBlockBytes;
      requests.push_back(&p.request);
      const Overlap o = OverlapOf(range, offset, bytes);
      if (keep) {
        // Not taken from the caller's memory.
        p.kept.resize(range.count);
        fork_.pool().New(p.kept);
        for (const BufferRef& b : p.kept) p.request.iov.push_back({b.data(), kBlockBytes});
      } else if (o.bytes < range.count * kBlockBytes || !out.Aligned(o.in_buffer, o.bytes, &p.request.iov)) {
        p.bytes = AlignedBuffer(range.count * kBlockBytes);
        p.request.iov = {{p.bytes.data(), p.bytes.size()}};
      }
    }
    lock.lock();
    if (status.ok()) status = pump_->RunAll(lock, requests);
    lock.unlock();
    for (size_t i = from; status.ok() && i < to; ++i) {
      const DevicePiece& p = pieces[i];
      const BlockRange range = p.mapping.logical;
      if (p.bytes.size() > 0) {
        const Overlap o = OverlapOf(range, offset, bytes);
        out.CopyIn(o.in_buffer, p.bytes.data() + o.in_blocks, o.bytes);
      }
      for (uint64_t b = 0; b < p.kept.size(); ++b) {
        const Overlap o = OverlapOf({range.start + b, 1}, offset, bytes);
        out.CopyIn(o.in_buffer, p.kept[b].data() + o.in_blocks, o.bytes);
      }
    }
    lock.lock();
    for (size_t i = from; i < to; ++i) {
      DevicePiece& p = pieces[i];
      for (uint64_t b = 0; b < p.kept.size(); ++b) {
        fork_.FillRead(*object, p.mapping.logical.start + b, token,
                       status.ok() ? std::move(p.kept[b]) : BufferRef());
      }
      p.kept.clear();
      p.bytes = AlignedBuffer();
    }
    lock.unlock();
  }
  lock.lock();
  for (const Volume::ReadPin& pin : pins) volume_->UnpinRead(pin);
  if (volume_->pending_blocks() > 0) {
    if (absl::Status s = volume_->ReleasePending(); !s.ok() && status.ok()) status = s;
  }
  fork_.Evict(page_limit_bytes_);
  if (!status.ok()) return status;
  return bytes;
}

}  // namespace untorn
