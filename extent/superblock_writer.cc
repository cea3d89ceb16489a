#include "extent/superblock_writer.h"

#include <algorithm>
#include <iterator>

#include "base/aligned_buffer.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "extent/rules.h"

namespace untorn {

absl::Status SuperblockWriter::Write(Lock& lock, const Superblock& next) {
  UNTORN_CHECK(next.generation == state_.superblock.generation + 1, "a superblock's generation is left out");
  // The slot that held the superblock in use goes last.
  const int slots[] = {1 - slot_, slot_};
  AlignedBuffer blocks[2] = {AlignedBuffer(kBlockBytes), AlignedBuffer(kBlockBytes)};
  IoRequest writes[2];
  IoRequest* requests[2];
  for (size_t i = 0; i < std::size(slots); ++i) {
    EncodeSuperblock(next, slots[i], blocks[i].span());
    // A superblock that no opening would accept must not take the place of a good one.
    RETURN_IF_ERROR(DecodeSuperblock(blocks[i].span(), slots[i]).status());
    writes[i].op = IoOp::kWrite;
    writes[i].durable = true;
    writes[i].offset_bytes = ByteOffset(kSuperblockSlots[slots[i]]);
    writes[i].iov = {{blocks[i].data(), kBlockBytes}};
    requests[i] = &writes[i];
  }
  // One slot is durable before the next is sent, so one slot is whole at any moment.
  const size_t at_once = SuperblocksAtOnce();
  for (size_t first = 0; first < std::size(slots); first += at_once) {
    RETURN_IF_ERROR(pump_.RunAll(lock, absl::MakeConstSpan(requests + first, at_once)));
  }
  // The store relies on `next` only from here on, when both slots are durable.
  state_.superblock = next;
  // Two slots are two claims.
  for (size_t i = 0; i < std::size(slots); ++i) state_.settled.Claim(next.durable_lsn);
  return absl::OkStatus();
}

}  // namespace untorn
