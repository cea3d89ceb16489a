#include "store/spill.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "base/check.h"
#include "base/readiness.h"
#include "base/status_macros.h"
#include "extent/log_format.h"
#include "extent/tree_merge.h"

namespace untorn::internal {
namespace {

constexpr BlockCount kExtentBlocksMax = kMapEntryBlocksMax;  // one log entry

}  // namespace

bool Spill::Cut(ObjectDraft& draft, BlockRange range) {
  if (draft.spilled.empty()) return false;
  bool in_two = false;
  auto it = draft.spilled.upper_bound(range.start);
  if (it != draft.spilled.begin()) --it;
  const Lock lock(front_.mu);
  while (it != draft.spilled.end() && it->first < range.end()) {
    const ObjectBlock start = it->first;
    const SpilledExtent e = it->second;
    const ObjectBlock end = start + e.count;
    const ObjectBlock cut_start = std::max(start, range.start), cut_end = std::min(end, range.end());
    if (cut_start >= cut_end) {
      ++it;
      continue;
    }
    // The parts of the extent outside of the range return to the draft below.
    it = draft.spilled.erase(it);
    UNTORN_CHECK(it == draft.spilled.end() || it->first >= end, "two spilled extents have one block");
    const absl::Status returned =
        front_.parts.volume.space().ReturnUnused({e.physical + (cut_start - start), cut_end - cut_start});
    if (!returned.ok()) front_.parts.health.Fail(returned);
    const auto hashes_at = [&](ObjectBlock block) { return e.hashes.begin() + (block - start).value(); };
    if (start < cut_start) {
      draft.spilled[start] = {cut_start - start, e.physical, {e.hashes.begin(), hashes_at(cut_start)}};
    }
    if (cut_end < end) {
      draft.spilled[cut_end] = {
          end - cut_end, e.physical + (cut_end - start), {hashes_at(cut_end), e.hashes.end()}};
    }
    in_two |= start < cut_start && cut_end < end;
  }
  return in_two;
}

absl::Status Spill::Read(const SpilledExtent& extent, BlockCount from, BlockCount count, std::byte* out) {
  UNTORN_CHECK(from + count <= extent.count, "a spilled extent is read beyond its end");
  const BlockNumber start = extent.physical + from;
  AlignedBuffer buffer(Bytes(count));
  IoRequest request;
  request.op = IoOp::kRead;
  request.offset_bytes = ByteOffset(start);
  request.iov = {{buffer.data(), buffer.size()}};
  {
    Lock lock(front_.mu);
    RETURN_IF_ERROR(front_.parts.health.CheckOpen());
    RETURN_IF_ERROR(front_.parts.pump.Run(lock, &request));
  }
  const iovec piece{buffer.data(), buffer.size()};
  BlockCount block = from;
  absl::Status status;
  ForEachBlockHash({&piece, 1}, front_.parts.data_key, [&](Hash128 hash) {
    if (hash != extent.hashes[block.value()] && status.ok()) {
      status = absl::DataLossError(absl::StrCat("block ", (extent.physical + block).value(), " of ",
                                                front_.parts.pump.device().info().path,
                                                ": not what the transaction has written there"));
    }
    ++block;
  });
  RETURN_IF_ERROR(status);
  std::memcpy(out, buffer.data(), buffer.size());
  return absl::OkStatus();
}

absl::StatusOr<bool> Spill::Load(ObjectDraft& draft, ObjectBlock block) {
  auto it = draft.spilled.upper_bound(block);
  if (it == draft.spilled.begin()) return false;
  --it;
  if (block >= it->first + it->second.count) return false;
  UNTORN_CHECK(!draft.blocks.contains(block), "a block in memory is read over by what was spilled before it");
  DraftBlock loaded;
  loaded.buffer = front_.parts.buffers.New();
  RETURN_IF_ERROR(Read(it->second, block - it->first, 1, loaded.buffer.data()));
  // The spilled block keeps its place until the block is spilled again: blocks in memory take precedence.
  draft.blocks[block] = std::move(loaded);
  return true;
}

absl::Status Spill::WriteBlocks(ObjectDraft& draft) {
  auto it = draft.blocks.begin();
  while (it != draft.blocks.end()) {
    // A block of which only parts are known stays in memory until the commit.
    if (!it->second.whole()) {
      ++it;
      continue;
    }
    BlockRange range{it->first, 0};
    std::vector<BufferRef> buffers;
    const auto first = it;
    while (it != draft.blocks.end() && it->first == range.end() && it->second.whole() &&
           range.count < kExtentBlocksMax) {
      buffers.push_back(it->second.buffer);
      ++range.count;
      ++it;
    }
    // Older spilled versions of these blocks go first, so that their space can be used again.
    Cut(draft, range);
    RETURN_IF_ERROR(WriteRange(draft, range, buffers));
    draft.blocks.erase(first, it);
  }
  return absl::OkStatus();
}

// Hashes and writes the buffers of one extent, with the lock released meanwhile.
absl::Status Spill::WriteExtent(Lock& lock, Extent extent, const BufferRef* buffers,
                                std::vector<Hash128>* hashes) {
  UNTORN_CHECK(extent.count <= kExtentBlocksMax, "a spilled extent is longer than an entry can name");
  static_assert(kExtentBlocksMax <= BlockCount(1024), "IOV_MAX: one request has an iovec for each block");
  IoRequest request;
  request.op = IoOp::kWrite;
  request.optional = true;
  request.offset_bytes = ByteOffset(extent.start);
  for (size_t i = 0; i < extent.count.value(); ++i) request.iov.push_back({buffers[i].data(), kBlockBytes});
  {
    // Hashing takes long and needs no lock, because the buffers belong to the transaction.
    const Unlocked unlocked(lock);
    ForEachBlockHash(request.iov, front_.parts.data_key, [&](Hash128 hash) { hashes->push_back(hash); });
  }
  const absl::Status written = front_.parts.pump.Run(lock, &request);
  // Nothing refers to the extent yet. The transaction can only be abandoned then.
  if (written.ok() || absl::IsResourceExhausted(written)) return written;
  // After a failed write nobody knows what is on the medium, so the store fails.
  front_.parts.health.Fail(written);
  return front_.parts.health.CheckWritable();
}

absl::Status Spill::WriteRange(ObjectDraft& draft, BlockRange range, const std::vector<BufferRef>& buffers) {
  Volume& volume = front_.parts.volume;
  // At worst every block becomes an extent of its own. One more entry is for an older extent that Cut() has
  // split here.
  const uint64_t entries_max = range.count.value() + 1;
  std::optional<SpaceFor> use;
  if (draft.created()) use = SpaceFor::kGrowth;
  Lock lock(front_.mu);
  Reservation reserved;
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front_.parts.CheckChangeable());
    return front_.admission.AwaitDataSpace(lock, {range.count, entries_max}, &use, draft.state.get(), range,
                                           &reserved);
  }));
  // The reserved entries stay until the commit, whatever happens here.
  std::optional<Reservation> entries = reserved.TrySplit({0, entries_max});
  UNTORN_CHECK(entries.has_value(), "less was reserved than was asked for");
  space_.Add(*std::move(entries));
  uint64_t entries_needed = 1;  // for the split
  for (BlockCount at; at < range.count;) {
    ASSIGN_OR_RETURN(const Extent extent, volume.space().AllocateNextOf(lock, range.count - at));
    reserved.ReleaseBlocks(extent.count);
    std::vector<Hash128> hashes;
    if (absl::Status written = WriteExtent(lock, extent, buffers.data() + at.value(), &hashes);
        !written.ok()) {
      RETURN_IF_ERROR(volume.space().ReturnUnused(extent));
      return written;
    }
    front_.parts.stats.cow_bytes += Bytes(extent.count);
    draft.spilled[range.start + at] = {extent.count, extent.start, std::move(hashes)};
    entries_needed += TreeEntriesOfBlocks(extent.count);
    at += extent.count;
  }
  UNTORN_CHECK(reserved.empty(), "spilled extents take other space than was reserved");
  space_.ReleaseEntries(entries_max - entries_needed);
  return absl::OkStatus();
}

}  // namespace untorn::internal
