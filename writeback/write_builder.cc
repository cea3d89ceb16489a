#include "writeback/write_builder.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace untorn {
namespace {

constexpr size_t kIovecsPerWrite = 1024;

// Copies the parts to `memory`, one behind the other.
iovec CopyTogether(std::span<const iovec> parts, std::byte* memory) {
  std::byte* to = memory;
  for (const iovec& part : parts)
    to = std::copy_n(static_cast<const std::byte*>(part.iov_base), part.iov_len, to);
  return {memory, static_cast<size_t>(to - memory)};
}

// Counts the pieces from the `first` on that lie behind one another on the device, up to kIovecsPerWrite.
size_t AdjacentPieces(std::span<const CowPiece* const> by_place, size_t first) {
  const size_t most = std::min(by_place.size(), first + kIovecsPerWrite);
  size_t end = first + 1;
  while (end < most &&
         by_place[end]->physical == by_place[end - 1]->physical + by_place[end - 1]->blocks.count) {
    ++end;
  }
  return end - first;
}

absl::Status AddPacked(std::span<const CowPiece> pieces, Commit* commit) {
  absl::InlinedVector<const CowPiece*, 8> by_place;
  by_place.reserve(pieces.size());
  for (const CowPiece& piece : pieces) by_place.push_back(&piece);
  // In the order of the device, pieces that are adjacent there share a write.
  const auto before = [](const CowPiece* a, const CowPiece* b) { return a->physical < b->physical; };
  if (!std::is_sorted(by_place.begin(), by_place.end(), before))
    std::sort(by_place.begin(), by_place.end(), before);
  uint64_t next = 0;  // where the last write ends
  for (size_t i = 0; i < by_place.size(); ++i) {
    const CowPiece* const piece = by_place[i];
    uint64_t offset = ByteOffset(piece->physical);
    if (offset < next) {
      return absl::DataLossError(absl::StrCat("two ranges of objects are mapped to block ",
                                              piece->physical.value(), "; run untorn fsck"));
    }
    ForEachPart(*piece->from, piece->blocks, [&](iovec part) {
      auto& writes = commit->data_writes;
      if (writes.empty() || offset != next || writes.back().request.iov.size() >= kIovecsPerWrite) {
        IoRequest& request = writes.emplace_back().request;
        request.op = IoOp::kWrite;
        request.offset_bytes = offset;
        request.iov.reserve(AdjacentPieces(by_place, i));
      }
      writes.back().request.iov.push_back(part);
      offset += part.iov_len;
      next = offset;
    });
  }
  return absl::OkStatus();
}

void AddInPlace(const Plan& plan, const InPlaceRun& run, Commit* commit) {
  Commit::Write& write = commit->data_writes.emplace_back();
  write.request.op = IoOp::kAtomicWrite;
  write.request.offset_bytes = ByteOffset(run.extent.start);
  UNTORN_CHECK(!run.candidates.empty(), "a write in place carries nothing");
  std::vector<iovec> parts;
  for (size_t i : run.candidates) {
    ChangeSet& set = *plan.sets[i].set;
    UNTORN_CHECK(set.frozen.size() == 1, "a change set of several ranges goes in place");
    UNTORN_CHECK(plan.sets[i].reason == PathReason::kInPlace, "a change set goes two ways");
    const FrozenRange& range = set.frozen.front();
    ForEachPart(range, range.blocks, [&](iovec part) { parts.push_back(part); });
    write.in_place.push_back(&set);
  }
  if (parts.size() > 1) {
    // RWF_ATOMIC takes one iovec, so the data has to be one piece of memory.
    AlignedBuffer& bounce = commit->bounces.emplace_back(Bytes(run.extent.count));
    parts = {CopyTogether(parts, bounce.data())};
  }
  write.request.iov.assign(parts.begin(), parts.end());
  UNTORN_CHECK(write.request.length_bytes() == Bytes(run.extent.count),
               "a write in place has another length");
}

}  // namespace

absl::Status BuildWrites(const Plan& plan, std::span<const CowPiece> pieces, Commit* commit) {
  UNTORN_CHECK(commit->data_writes.empty(), "the writes of a commit are built twice");
  RETURN_IF_ERROR(AddPacked(pieces, commit));
  for (const InPlaceRun& run : plan.in_place) AddInPlace(plan, run, commit);
  uint64_t bytes = 0, built = 0;
  for (const CowPiece& piece : pieces) bytes += Bytes(piece.blocks.count);
  for (const InPlaceRun& run : plan.in_place) bytes += Bytes(run.extent.count);
  for (const Commit::Write& write : commit->data_writes) built += write.request.length_bytes();
  UNTORN_CHECK(built == bytes, "the writes of a commit carry other bytes than its data");
  return absl::OkStatus();
}

void GatherData(IoRequest* write, AlignedBuffer* memory) {
  if (write->iov.size() < kGatherParts) return;
  UNTORN_CHECK(write->length_bytes() <= kGatherBytes, "more data is gathered than there is memory for");
  if (memory->size() == 0) *memory = AlignedBuffer::IfThereIsMemory(kGatherBytes, kHugePageBytes);
  // The pieces take longer, and do as well.
  if (memory->size() == 0) return;
  write->iov = {CopyTogether(write->iov, memory->data())};
}

}  // namespace untorn
