#include "extent/format_store.h"

#include <sys/random.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "extent/superblock.h"

namespace untorn {
namespace {

// As much as an opening for writing would prepare ahead at once.
constexpr BlockCount kInitiallyPreparedBlocks = BlocksFor(16 << 20);

}  // namespace

absl::Status FormatStore(Device& device, uint64_t size_bytes, bool prepare_all,
                         const std::function<void(uint64_t, uint64_t)>& progress) {
  if (size_bytes == 0) size_bytes = device.size_bytes();
  const BlockCount asked = WholeBlocks(size_bytes);
  if (asked < kStoreBlocksMin || asked > kStoreBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(device.info().path, ": a store has ",
                                                   Bytes(kStoreBlocksMin), " to ", Bytes(kStoreBlocksMax),
                                                   " bytes, not ", size_bytes));
  }
  if (!device.info().needs_preparing && Bytes(asked) > device.size_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat(device.info().path, ": has ", device.size_bytes(),
                                                   " bytes, fewer than the ", size_bytes, " asked for"));
  }
  Superblock sb;
  if (getrandom(sb.uuid.data(), sb.uuid.size(), 0) != static_cast<ssize_t>(sb.uuid.size()) ||
      getrandom(&sb.data_key, sizeof(sb.data_key), 0) != static_cast<ssize_t>(sizeof(sb.data_key))) {
    return absl::InternalError("no random numbers for the store's UUID and key");
  }
  sb.geometry = Geometry::ForSize(asked);
  const Geometry& g = sb.geometry;
  const BlockCount total = g.total_blocks;
  const bool grows = device.info().needs_preparing && !prepare_all;
  if (grows) sb.geometry.log.count = Geometry::LogBlocksFor(total, kInitiallyPreparedBlocks);
  const BlockCount fixed_areas = BlocksBefore(g.log.end());
  sb.prepared_blocks = grows ? std::min(total, fixed_areas + kInitiallyPreparedBlocks) : total;
  sb.used_blocks = g.FixedBlocks(sb.prepared_blocks);
  sb.epoch = 1;

  RETURN_IF_ERROR(device.Extend(Bytes(sb.prepared_blocks)));

  // A device that needs no preparing gets no zeros in its data area.
  const bool zero_data = device.info().needs_preparing;
  const Extent data{g.log.end(), zero_data ? sb.prepared_blocks - fixed_areas : 0};
  const Extent before_log{0, BlocksBefore(g.log.start)};
  const uint64_t all_bytes = Bytes(before_log.count + g.log.count + data.count);
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
  RETURN_IF_ERROR(zero(before_log));
  RETURN_IF_ERROR(FlushBlocking(device));
  RETURN_IF_ERROR(zero(g.log));
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
