#include "store/page_reader.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "base/aligned_buffer.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/status_macros.h"
#include "cow/change_set.h"
#include "store/admission.h"

namespace untorn::internal {
namespace {

constexpr BlockCount kReadBlocks = 256;  // one device read
constexpr size_t kReadsAtOnce = 64;
constexpr BlockCount kBlocksAtOnce = 2048;
// To read so many blocks that nobody wants takes less time than another request.
constexpr BlockCount kGapBlocksMax = 4;
constexpr uint64_t kPrefetchBytes = 512;    // behind these bytes the processor prefetches by itself
constexpr BlockCount kKeepBlocksMax = 256;  // larger reads from the device do not displace the cache

// The part of a byte range that lies in some blocks. Says where the part is in the buffer of the range, and
// where the part is in the blocks.
struct Overlap {
  ByteRange in_buffer;
  uint64_t in_blocks_bytes;
};
Overlap OverlapOf(BlockRange blocks, ByteRange range) {
  const uint64_t start = std::max(ByteOffset(blocks.start), range.offset_bytes);
  const uint64_t end = std::min(ByteOffset(blocks.end()), range.end_bytes());
  return {{start - range.offset_bytes, end - start}, start - ByteOffset(blocks.start)};
}

// Copies `part` to `out`. `blocks` is the memory of the blocks.
void CopyTo(const IoVector& out, const Overlap& part, const std::byte* blocks) {
  out.CopyIn(part.in_buffer.offset_bytes, blocks + part.in_blocks_bytes, part.in_buffer.length_bytes);
}

}  // namespace

// Blocks that follow one another in the object and on the device.
struct PageReader::Piece {
  BlockRange blocks;
  BlockNumber physical;
  BlockChecksums checksums;
  bool excused = false;  // the device's word counts more than the checksums
  // Blocks that did not match.
  std::vector<ObjectBlock> wrong;
  // The device reads to `kept`, to `bytes`, or straight to the caller's memory. The cache keeps the buffers
  // in `kept`, which have one block each.
  std::vector<BufferRef> kept;
  AlignedBuffer bytes;
  IoRequest request;  // reads this piece only

  BlockNumber physical_end() const { return physical + blocks.count; }
};

// Pieces that one request reads, in the order of the device. The gaps between them go to memory that nobody looks at. Each
// block has memory of its own: layers that check what they read would take two blocks in one place for damage.
struct PageReader::DeviceRead {
  absl::Span<Piece* const> pieces;
  std::vector<BufferRef> gaps;
  IoRequest of_several;
  IoRequest* request() { return pieces.size() == 1 ? &pieces.front()->request : &of_several; }
};

struct PageReader::Plan {
  struct CachedBlock {
    ObjectBlock block;
    BufferRef buffer;
  };
  IoVector out;
  ByteRange range;  // the bytes of the read that the object has
  absl::InlinedVector<CachedBlock, 4> cached;
  std::vector<Mapping> missed;  // of what is not cached, holes too
  BlockCount missed_blocks;
  bool keep = false;  // the cache keeps what is read
  uint64_t token = 0;
  std::vector<ReadPin> pins;
  std::vector<Piece> pieces;
};

Readiness PageReader::MakePlan(Lock& lock, ObjectState& object, Plan* plan) {
  RETURN_IF_ERROR(parts_.health.CheckOpen());
  if (object.removed) return RemovedError(object);
  plan->cached.clear();
  plan->missed.clear();
  plan->missed_blocks = 0;
  const uint64_t offset = plan->range.offset_bytes;
  // The size and the blocks are found under the lock without a break, so the plan is a snapshot.
  plan->range.length_bytes =
      offset < object.size_bytes ? std::min(plan->out.bytes, object.size_bytes - offset) : 0;
  if (plan->range.empty()) return Readiness::Ready();
  const PageCache& pages = parts_.fork.pages();
  const auto content = [&](ObjectBlock block) {
    Page* page = pages.Find(object, block);
    return page != nullptr && page->buffer ? page : nullptr;
  };
  const ObjectBlock end = ObjectEnd(plan->range.end_bytes());
  for (ObjectBlock b = ObjectBlockAt(offset); b < end;) {
    if (Page* page = content(b)) {
      // The prefetch begins before the reference count is raised, because raising the count waits for memory.
      const std::byte* data = page->buffer.data();
      for (uint64_t at = 0; at < kPrefetchBytes; at += 64) __builtin_prefetch(data + at);
      page->referenced = true;
      plan->cached.push_back({b, page->buffer});
      ++b;
      continue;
    }
    // The mappings still show what was there before a pending hole.
    if (InPendingHole(object, b)) {
      plan->missed.push_back({{b, 1}, MappingState::kHole});
      ++b;
      continue;
    }
    // One lookup serves a whole run of blocks that are not cached.
    BlockRange run{b, 1};
    while (run.end() < end && content(run.end()) == nullptr && !InPendingHole(object, run.end())) ++run.count;
    Mappings mappings;
    MissingNodes missing;
    RETURN_IF_ERROR(parts_.volume.mappings().Lookup(object.id, run, &mappings, &missing));
    if (!missing.empty()) plan->cached.clear();  // a reader keeps no pages while it waits
    RETURN_UNLESS_READY(parts_.volume.mappings().AwaitNodes(lock, missing));
    UNTORN_CHECK(!mappings.empty() && mappings.front().logical.start == run.start &&
                     mappings.back().logical.end() == run.end(),
                 "a lookup found the mappings of other blocks");
    plan->missed.insert(plan->missed.end(), mappings.begin(), mappings.end());
    plan->missed_blocks += run.count;
    b = run.end();
  }
  return Readiness::Ready();
}

// Cuts what has to be read from the device into pieces. Pins the extents, so that no block of them is reused
// meanwhile.
void PageReader::PinPieces(ObjectState& object, Plan* plan) {
  UNTORN_CHECK(plan->pins.empty() && plan->pieces.empty(), "the extents of a read are pinned twice");
  PageCache& pages = parts_.fork.pages();
  plan->token = pages.NewReadToken();
  for (const Mapping& m : plan->missed) {
    if (m.state != MappingState::kWritten) continue;
    plan->pins.push_back(parts_.volume.space().PinRead(m.extent()));
    const bool excused = parts_.volume.ExcusesMismatch(m);
    for (ObjectBlock at = m.logical.start; at < m.logical.end();) {
      Piece* piece = plan->pieces.empty() ? nullptr : &plan->pieces.back();
      const Mapping rest = m.From(at);
      // Mappings that follow one another on the device are read as one.
      const bool follows = piece != nullptr && piece->blocks.end() == at &&
                           piece->physical + piece->blocks.count == rest.physical &&
                           piece->excused == excused && piece->blocks.count < kReadBlocks;
      if (!follows) {
        piece = &plan->pieces.emplace_back();
        piece->blocks = {at, 0};
        piece->physical = rest.physical;
        piece->excused = excused;
      }
      const BlockCount n = std::min(kReadBlocks - piece->blocks.count, rest.logical.count);
      const BlockChecksums checksums = rest.checksums.Copy(n);
      piece->checksums.insert(piece->checksums.end(), checksums.begin(), checksums.end());
      piece->blocks.count += n;
      at += n;
    }
    for (ObjectBlock b = m.logical.start; plan->keep && b < m.logical.end(); ++b) {
      pages.AddReading(object, b, plan->token);
    }
  }
}

void PageReader::FillFromMemory(Plan& plan) {
  for (const Plan::CachedBlock& c : plan.cached) {
    const Overlap o = OverlapOf({c.block, 1}, plan.range);
    CopyTo(plan.out, o, c.buffer.data());
  }
  // A buffer that a reader refers to cannot be overwritten, so the references go early.
  plan.cached.clear();
  for (const Mapping& m : plan.missed) {
    if (m.state == MappingState::kWritten) continue;
    plan.out.Zero(OverlapOf(m.logical, plan.range).in_buffer);
  }
}

void PageReader::PrepareFetch(const Plan& plan, Piece* piece) {
  piece->request.op = IoOp::kRead;
  piece->request.offset_bytes = ByteOffset(piece->physical);
  const ByteRange in_buffer = OverlapOf(piece->blocks, plan.range).in_buffer;
  if (plan.keep) {
    // The cache needs buffers of its own, because the caller may change the caller's memory.
    piece->kept.resize(piece->blocks.count.value());
    parts_.buffers.New(piece->kept);
    for (const BufferRef& b : piece->kept) piece->request.iov.push_back({b.data(), kBlockBytes});
    return;
  }
  // Whole blocks go straight to aligned memory, and need no copy.
  const bool whole = in_buffer.length_bytes == Bytes(piece->blocks.count);
  if (whole && plan.out.Aligned(in_buffer, &piece->request.iov)) {
    UNTORN_CHECK(piece->request.length_bytes() == Bytes(piece->blocks.count),
                 "a device read has another length than its blocks");
    return;
  }
  piece->bytes = AlignedBuffer(Bytes(piece->blocks.count));
  piece->request.iov = {{piece->bytes.data(), piece->bytes.size()}};
}

void PageReader::Verify(Piece& piece) const {
  ForEachWrongBlock(piece.request.iov, ChecksumsRef(piece.checksums), parts_.data_key,
                    [&](BlockCount block) { piece.wrong.push_back(piece.blocks.start + block); });
}

absl::Status PageReader::TellWrong(const ObjectState& object, const Piece& piece) {
  if (piece.wrong.empty()) return absl::OkStatus();
  Stats& stats = parts_.stats;
  (piece.excused ? stats.blocks_excused : stats.blocks_damaged) += piece.wrong.size();
  if (piece.excused) return absl::OkStatus();
  return DamagedBlockError(parts_, object, piece.wrong.front(),
                           piece.physical + (piece.wrong.front() - piece.blocks.start));
}

void PageReader::FillFromPiece(const Plan& plan, const Piece& piece) {
  if (piece.bytes.size() > 0) CopyTo(plan.out, OverlapOf(piece.blocks, plan.range), piece.bytes.data());
  ObjectBlock block = piece.blocks.start;
  for (const BufferRef& kept : piece.kept) {
    CopyTo(plan.out, OverlapOf({block, 1}, plan.range), kept.data());
    ++block;
  }
}

// Returns the end of the pieces that one request reads from order[first] on.
size_t PageReader::EndOfRead(absl::Span<Piece* const> order, size_t first) {
  size_t end = first + 1;
  for (; end < order.size(); ++end) {
    const BlockNumber gap_start = order[end - 1]->physical_end();
    // In a damaged store two pieces may overlap.
    if (order[end]->physical < gap_start || order[end]->physical - gap_start > kGapBlocksMax) break;
    if (order[end]->physical_end() - order[first]->physical > kReadBlocks) break;
  }
  return end;
}

PageReader::DeviceRead PageReader::MakeRead(absl::Span<Piece* const> pieces) const {
  DeviceRead read;
  read.pieces = pieces;
  if (pieces.size() == 1) return read;
  BlockCount gap_blocks = pieces.back()->physical_end() - pieces.front()->physical;
  for (const Piece* piece : pieces) gap_blocks -= piece->blocks.count;
  read.gaps.resize(gap_blocks.value());
  if (gap_blocks > 0) parts_.buffers.New(read.gaps);
  auto gap = read.gaps.begin();
  read.of_several.op = IoOp::kRead;
  read.of_several.offset_bytes = ByteOffset(pieces.front()->physical);
  auto& iov = read.of_several.iov;
  BlockNumber at = pieces.front()->physical;
  for (const Piece* piece : pieces) {
    for (; at < piece->physical; ++at) iov.push_back({(gap++)->data(), kBlockBytes});
    iov.insert(iov.end(), piece->request.iov.begin(), piece->request.iov.end());
    at = piece->physical_end();
  }
  return read;
}

// Reads the pieces from the device. Begins and ends with the lock.
absl::Status PageReader::RunReads(Lock& lock, std::vector<DeviceRead>& reads) {
  std::vector<IoRequest*> requests;
  for (DeviceRead& read : reads) requests.push_back(read.request());
  if (parts_.pump.RunAll(lock, requests).ok()) return absl::OkStatus();
  // A read of several pieces may have failed for a gap, so each of its pieces is read alone.
  requests.clear();
  absl::Status status;
  for (DeviceRead& read : reads) {
    if (read.request()->status.ok()) continue;
    if (read.pieces.size() == 1) {
      status.Update(read.request()->status);
    } else {
      for (Piece* piece : read.pieces) requests.push_back(&piece->request);
    }
  }
  if (status.ok()) status = parts_.pump.RunAll(lock, requests);
  return status;
}

// Reads the pieces, group by group, and fills the caller's memory. Begins and ends without the lock.
absl::Status PageReader::Fetch(Lock& lock, ObjectState& object, Plan& plan) {
  std::vector<Piece*> order;
  for (Piece& piece : plan.pieces) order.push_back(&piece);
  std::sort(order.begin(), order.end(),
            [](const Piece* a, const Piece* b) { return a->physical < b->physical; });
  absl::Status status;
  for (size_t from = 0, to = 0; from < order.size(); from = to) {
    std::vector<DeviceRead> reads;
    // A group is bounded, so that a large read does not take memory for all its blocks at once.
    for (BlockCount blocks; to < order.size() && reads.size() < kReadsAtOnce;) {
      const size_t end = EndOfRead(order, to);
      const BlockCount count = order[end - 1]->physical_end() - order[to]->physical;
      if (blocks > 0 && blocks + count > kBlocksAtOnce) break;
      blocks += count;
      for (size_t i = to; i < end; ++i) PrepareFetch(plan, order[i]);
      reads.push_back(MakeRead(absl::MakeSpan(order).subspan(to, end - to)));
      to = end;
    }
    const absl::Span<Piece* const> group = absl::MakeSpan(order).subspan(from, to - from);
    lock.lock();
    // After an error nothing more is read, but the pages of the other groups must still go.
    if (status.ok()) status = RunReads(lock, reads);
    lock.unlock();
    for (Piece* piece : group) {
      if (!status.ok()) break;
      Verify(*piece);
      FillFromPiece(plan, *piece);
    }
    lock.lock();
    for (const Piece* piece : group) {
      absl::Status told = TellWrong(object, *piece);
      if (status.ok()) status = std::move(told);
    }
    for (Piece* piece : group) {
      // After a failed read the pages of all pieces go.
      ObjectBlock block = piece->blocks.start;
      for (BufferRef& kept : piece->kept) {
        parts_.fork.pages().FillRead(object, block, plan.token, status.ok() ? std::move(kept) : BufferRef());
        ++block;
      }
      piece->kept.clear();
      piece->bytes = AlignedBuffer();
    }
    lock.unlock();
  }
  return status;
}

absl::StatusOr<size_t> PageReader::Read(ObjectState& object, uint64_t offset, IoVector out,
                                        const ReadOptions& options) {
  Plan plan;
  plan.out = out;
  plan.range.offset_bytes = offset;
  Lock lock(mu_);
  {
    std::optional<NodeCache::Hold> hold;
    RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK {
      Readiness readiness = MakePlan(lock, object, &plan);
      // The plan needs all nodes at once, so none of them may be evicted before the next turn.
      if (readiness.retry() && !hold) hold.emplace(parts_.volume.mappings().node_cache());
      return readiness;
    }));
  }
  if (plan.range.empty()) return 0;
  if (plan.missed_blocks > 0) RETURN_IF_ERROR(parts_.CheckMemory());
  Stats& stats = parts_.stats;
  ++stats.reads;
  stats.bytes_read += plan.range.length_bytes;
  stats.page_hits += plan.cached.size();
  stats.page_misses += plan.missed_blocks.value();
  plan.keep = !options.bypass_cache && plan.missed_blocks <= kKeepBlocksMax;
  // The pins must exist before the lock is released.
  if (plan.missed_blocks > 0) PinPieces(object, &plan);
  lock.unlock();

  FillFromMemory(plan);
  if (plan.pieces.empty()) return plan.range.length_bytes;
  // A read from the cache takes too little time to look at a clock.
  const uint64_t begun_ns = NowNs();
  absl::Status status = Fetch(lock, object, plan);
  const bool fit = limit_.DueAfterRead(Bytes(plan.missed_blocks));
  if (fit) limit_.Update(parts_.buffers.bytes_in_use());
  lock.lock();
  if (status.ok()) stats.device_read_latency.Add(NowNs() - begun_ns);
  plan.pins.clear();
  // Displaced extents may have waited for the pins of this read.
  if (parts_.volume.space().pending_blocks() > 0) {
    absl::Status released = parts_.volume.space().ReleasePending();
    if (status.ok()) status = std::move(released);
  }
  limit_.Apply(parts_);
  lock.unlock();
  if (fit) parts_.buffers.ReleaseBeyond(limit_.page_bytes());
  RETURN_IF_ERROR(status);
  return plan.range.length_bytes;
}

}  // namespace untorn::internal
