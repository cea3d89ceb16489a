#include "inspect/replay_log.h"

#include <utility>

#include "base/status_macros.h"

namespace untorn::internal {
namespace {

// Says whether an error of ReadLogTail() is damage to the log. A part of the device that cannot be read is
// damage. So is a record that no version of the program wrote in a store of this version. All else is a
// failure of the device.
bool IsDamage(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsUnimplemented(status);
}

// The tail of a log of which no record counts.
LogTail EmptyTail(const Superblock& superblock, absl::Status damage) {
  LogTail tail;
  tail.lsn = tail.ring_lsn = superblock.checkpoint_lsn;
  tail.position = superblock.checkpoint_position;
  tail.checksum = superblock.checkpoint_checksum;
  tail.prepared_blocks = superblock.prepared_blocks;
  tail.lanes.assign(superblock.lanes.begin(), superblock.lanes.end());
  tail.damage = std::move(damage);
  return tail;
}

}  // namespace

absl::StatusOr<LogTail> ReplayLog(Device& device, const Superblock& superblock, Delta* delta,
                                  absl::FunctionRef<void(const LogRecord&)> each) {
  absl::StatusOr<LogTail> tail = ReadLogTail(device, superblock);
  if (!tail.ok() && IsDamage(tail.status())) return EmptyTail(superblock, tail.status());
  RETURN_IF_ERROR(tail.status());
  absl::Status read = ForEachRecord(device, superblock, *tail, [&](const LogRecord& record, Lsn chain_lsn) {
    each(record);
    for (const LogEntry& e : record.entries) {
      // A record that contradicts an earlier one is damage. The replay goes on, and the first damage is kept.
      const absl::Status applied = delta->Apply(e, chain_lsn, [](Extent, Lsn) {});
      if (!applied.ok() && tail->damage.ok()) tail->damage = applied;
    }
  });
  if (!read.ok() && tail->damage.ok()) tail->damage = read;
  return tail;
}

}  // namespace untorn::internal
