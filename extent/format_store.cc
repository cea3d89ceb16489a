#include "extent/format_store.h"

#include <sys/random.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "extent/superblock.h"

namespace untorn {
namespace {

constexpr BlockCount kInitiallyPreparedBlocks = BlocksFor(32 << 20);

}  // namespace

absl::Status FormatStore(Device& device, uint64_t size_bytes, bool prepare_all,
                         const std::function<void(uint64_t, uint64_t)>& progress) {
  if (size_bytes == 0) size_bytes = device.info().size_bytes;
  const BlockCount total = WholeBlocks(size_bytes);
  if (total < kStoreBlocksMin || total > kStoreBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(device.info().path, ": a store has ",
                                                   Bytes(kStoreBlocksMin), " to ", Bytes(kStoreBlocksMax),
                                                   " bytes, not ", size_bytes));
  }
  if (Bytes(total) > device.info().size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(device.info().path, ": has ", device.info().size_bytes,
                                                   " bytes, fewer than the ", size_bytes, " asked for"));
  }
  Superblock sb;
  if (getrandom(sb.uuid.data(), sb.uuid.size(), 0) != static_cast<ssize_t>(sb.uuid.size()) ||
      getrandom(&sb.data_key, sizeof(sb.data_key), 0) != static_cast<ssize_t>(sizeof(sb.data_key))) {
    return absl::InternalError("no random numbers for the store's UUID and key");
  }
  sb.geometry = Geometry::ForSize(total);
  const Geometry& g = sb.geometry;
  const BlockCount fixed_areas = BlocksBefore(g.data_start);
  sb.prepared_blocks = device.info().needs_preparing && !prepare_all
                           ? std::min(total, fixed_areas + kInitiallyPreparedBlocks)
                           : total;
  sb.used_blocks = fixed_areas;
  sb.epoch = 1;

  // A device that needs no preparing gets no zeros in its data area.
  const bool zero_data = device.info().needs_preparing;
  const Extent data{g.data_start, zero_data ? sb.prepared_blocks - fixed_areas : 0};
  // The map blocks of a file are written when they are needed, unless the whole file is prepared now.
  const BlockNumber fixed_end = data.count > 0 && prepare_all ? g.data_start : g.map_start;
  const Extent head{0, BlocksBefore(g.log_start)};
  const Extent fixed{g.log_start, fixed_end - g.log_start};
  const uint64_t all_bytes = Bytes(head.count + fixed.count + data.count);
  uint64_t before_bytes = 0;
  const auto zero = [&](Extent extent) {
    const ByteRange range{ByteOffset(extent.start), Bytes(extent.count)};
    const absl::Status written = WriteZerosBlocking(device, range, [&](uint64_t bytes) {
      if (progress) progress(before_bytes + bytes, all_bytes);
    });
    before_bytes += range.length_bytes;
    return written;
  };
  // Old superblocks are erased and flushed first. A power cut after that leaves no store, rather than half
  // of two.
  RETURN_IF_ERROR(zero(head));
  RETURN_IF_ERROR(FlushBlocking(device));
  RETURN_IF_ERROR(zero(fixed));
  RETURN_IF_ERROR(zero(data));
  RETURN_IF_ERROR(FlushBlocking(device));
  // The store exists from the first slot on, so everything else is flushed already.
  sb.generation = 1;
  for (int slot : {0, 1}) {
    RETURN_IF_ERROR(WriteSuperblockSlot(device, sb, slot));
  }
  return absl::OkStatus();
}

}  // namespace untorn
