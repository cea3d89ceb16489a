#include "extent/format_store.h"

#include <sys/random.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "extent/superblock.h"

namespace untorn {
namespace {

constexpr uint64_t kInitiallyPreparedBlocks = (32 << 20) / kBlockBytes;

}  // namespace

absl::Status FormatStore(Device& device, uint64_t size_bytes, bool prepare_all,
                         const std::function<void(uint64_t, uint64_t)>& progress) {
  if (size_bytes == 0) size_bytes = device.info().size_bytes;
  const uint64_t total = size_bytes / kBlockBytes;
  if (total < kStoreBlocksMin || total > kStoreBlocksMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(device.info().path, ": a store has ", kStoreBlocksMin * kBlockBytes, " to ",
                     kStoreBlocksMax * kBlockBytes, " bytes, not ", size_bytes));
  }
  if (total * kBlockBytes > device.info().size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(device.info().path, ": has ", device.info().size_bytes,
                                                   " bytes, fewer than the ", size_bytes, " asked for"));
  }
  Superblock sb;
  if (getrandom(sb.uuid.data(), sb.uuid.size(), 0) != static_cast<ssize_t>(sb.uuid.size())) {
    return absl::InternalError("no random numbers for the store's UUID");
  }
  sb.geometry = Geometry::ForSize(total);
  const Geometry& g = sb.geometry;
  sb.prepared_blocks = device.info().needs_preparing && !prepare_all
                           ? std::min(total, g.data_start + kInitiallyPreparedBlocks)
                           : total;
  sb.used_blocks = g.data_start;
  sb.epoch = 1;

  // Old superblocks go first and are flushed: a cut from here on leaves no store rather than half of two.
  const uint64_t data_blocks = device.info().needs_preparing ? sb.prepared_blocks - g.data_start : 0;
  // A file's map blocks are written when they are needed, unless all of it is prepared now.
  const uint64_t fixed_blocks = data_blocks > 0 && prepare_all ? g.data_start : g.map_start;
  const uint64_t all = (fixed_blocks + data_blocks) * kBlockBytes;
  const auto zero = [&](uint64_t start, uint64_t end, uint64_t before) {
    return WriteZerosBlocking(device, start * kBlockBytes, (end - start) * kBlockBytes, [&](uint64_t bytes) {
      if (progress) progress(before * kBlockBytes + bytes, all);
    });
  };
  RETURN_IF_ERROR(zero(0, g.log_start, 0));
  RETURN_IF_ERROR(FlushBlocking(device));
  RETURN_IF_ERROR(zero(g.log_start, fixed_blocks, g.log_start));
  if (data_blocks > 0) {
    RETURN_IF_ERROR(zero(g.data_start, sb.prepared_blocks, fixed_blocks));
  }
  RETURN_IF_ERROR(FlushBlocking(device));
  sb.generation = 1;
  for (int slot : {0, 1}) {
    RETURN_IF_ERROR(WriteSuperblockSlot(device, sb, slot));
  }
  return absl::OkStatus();
}

}  // namespace untorn
