// What a store tells of itself.
#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "store/store_impl.h"

namespace untorn::internal {
namespace {

std::string DurableRoad(const DeviceInfo& device, const std::string& engine) {
  const bool by_ring = engine == "io_uring";
  std::string road = absl::StrCat("one write of data and record with RWF_DSYNC, by ",
                                  by_ring ? "pwritev2 or io_uring, whichever was faster lately" : "pwritev2");
  if (!device.durable_note.empty()) absl::StrAppend(&road, "; ", device.durable_note);
  return absl::StrCat(road, "; commits that come together share a flush");
}

}  // namespace

StoreInfo StoreImpl::info() const {
  const DeviceInfo& device = storage_->info;
  Superblock sb;
  StoreInfo info;
  std::string engine_lost;
  // A fork()ed child must not take the lock. The child gets only what belongs to the device.
  if (CheckProcess().ok()) {
    const Lock lock(storage_->mu);
    sb = storage_->volume->superblock();
    info.overwrite_reserve_bytes = Bytes(storage_->volume->space().OverwritableBlocks());
    // Close() releases the device.
    if (storage_->device != nullptr) engine_lost = storage_->device->engine_lost();
  }
  info.path = device.path;
  info.uuid = UuidString(sb.uuid);
  info.format_version = kFormatVersion;
  info.size_bytes = Bytes(sb.geometry.total_blocks);
  info.block_bytes = kBlockBytes;
  info.log_bytes = Bytes(sb.geometry.log.count);
  info.engine = engine_lost.empty() ? device.engine : "system calls";
  info.engine_reason = engine_lost.empty() ? device.engine_reason : engine_lost;
  info.durable_road = DurableRoad(device, info.engine);
  info.direct_io = device.direct_io;
  info.direct_io_note = device.direct_io_note;
  info.atomic_source = AtomicSourceName(device.atomic.source);
  info.atomic_note = device.atomic_note;
  if (device.atomic.usable()) {
    // The store writes whole blocks, so no smaller atomic write occurs.
    info.atomic_unit_min_bytes = std::max<uint64_t>(device.atomic.unit_min_bytes, kBlockBytes);
    info.atomic_unit_max_bytes = device.atomic.unit_max_bytes;
    info.atomic_boundary_bytes = device.atomic.boundary_bytes;
  }
  info.atomic_write_bytes_max = kAtomicBytesMax;
  info.read_only = device.read_only || options_.read_only;
  info.beside_owner = device.beside_owner;
  return info;
}

Stats StoreImpl::stats() const {
  if (!CheckProcess().ok()) return {};
  const Lock lock(storage_->mu);
  Stats s = front_.parts.stats;
  const IoCounts& io = storage_->pump.counts();
  s.flushes = io.flushes;
  s.durable_writes = io.durable_writes;
  s.requests_executed = io.executed;
  s.device_writes = io.writes;
  s.device_reads = io.reads;
  s.device_bytes_written = io.bytes_written;
  s.device_bytes_read = io.bytes_read;
  Volume& volume = *storage_->volume;
  const VolumeCounters& v = volume.counters();
  s.log_records = v.log_records;
  s.log_bytes = v.log_bytes;
  s.checkpoints = v.checkpoints;
  s.recovered_records = v.recovered_records;
  s.dropped_records = v.dropped_records;
  s.space_total = Bytes(volume.geometry().total_blocks);
  s.space_free = Bytes(volume.space().ReservableBlocks() + volume.lanes().blocks());
  s.space_prepared = Bytes(volume.space().prepared_blocks());
  s.space_reserved = Bytes(volume.space().reserved().blocks);
  s.space_pending = Bytes(volume.space().pending_blocks());
  s.space_leased = Bytes(volume.space().leased_blocks());
  s.cache_limit = cache_limit_.page_bytes() + cache_limit_.node_bytes();
  s.cache_used =
      front_.parts.fork.pages().memory_bytes() + volume.mappings().node_cache().size() * sizeof(TreeNode);
  s.cache_dirty = Bytes(front_.parts.fork.dirty_blocks());
  s.lsn_last = volume.log().last_lsn().value();
  s.lsn_durable = volume.log().durable_lsn().value();
  s.lsn_settled = volume.log().settled().once.value();
  s.log_epoch = volume.superblock().epoch.value();
  s.log_used = Bytes(volume.log().blocks_used());
  s.leases = writeback_.readers().leases();
  s.open_ns = NowNs() - storage_->opened_ns;
  return s;
}

}  // namespace untorn::internal
