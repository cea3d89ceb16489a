#include "extent/rules.h"

#include "extent/lane_extents.h"

namespace untorn {

bool MayReuse(Lsn mapped_by, Lsn displaced_by, const Settled& settled, bool read_outstanding) {
  return mapped_by <= settled.twice && displaced_by <= settled.once && !read_outstanding;
}

bool BaseOutlastsReplay() { return true; }

BlockNumber CursorAfterFree(BlockNumber cursor, Extent) { return cursor; }

bool PreparingFlushes() { return true; }

bool ShorteningIsLast() { return true; }

bool MayReuseLeased(bool used_by_lease) { return !used_by_lease; }

bool MayOverwriteLeased(bool used_by_lease) { return !used_by_lease; }

bool MayBelieveRead(bool lease_holds) { return lease_holds; }

bool MayMove(bool matches, bool excused) { return matches || excused; }

bool MayBecomeDurable(Lsn first, Lsn durable_lsn) { return first == durable_lsn + 1; }

bool LogHasRoom(BlockCount used, BlockCount more, BlockCount log) {
  return used <= log && more <= log - used;
}

size_t LanesInUse() { return kLanes; }

bool MayOverwriteLaneRecord(Lsn lsn, Lsn settled_once) { return lsn < settled_once; }

bool MayUseLaneExtent(bool named_by_last, bool named_by_one_before) {
  return named_by_last && named_by_one_before;
}

bool OpenFlushesFirst(bool read_only) { return !read_only; }

LogEpoch NextEpoch(LogEpoch epoch) { return epoch + 1; }

bool FollowsInRing(const LogRecord& record, Lsn end_lsn) { return record.first_lsn <= end_lsn + 1; }

bool LaneRecordCounts(const LogRecord& record, const Superblock& superblock) {
  return record.epoch == superblock.epoch;
}

bool EndsLog(const LogRecord& record, const Superblock& superblock) {
  return record.lsn > superblock.durable_lsn && record.epoch != superblock.epoch;
}

bool NamesNewerSuperblock(const LogRecord& record, const Superblock& superblock) {
  // A newer log epoch counts as well: otherwise the next opening would begin the log epoch of records that
  // do not count.
  return record.superblock_generation > superblock.generation || record.epoch > superblock.epoch;
}

bool VouchesFor(Lsn lsn, Lsn claim, Lsn end_lsn) { return lsn > end_lsn && claim > end_lsn; }

bool DataMatches(const DataChecksums& found, const DataChecksums& recorded) { return found == recorded; }

bool MayExcuseMismatch(LogEpoch opened, LogEpoch session) { return opened > 0 && opened != session; }

bool MayClose(bool overwrite_in_flight) { return !overwrite_in_flight; }

bool LogMayEndAfter(bool last_of_chain) { return last_of_chain; }

bool CountsAsUnwritten(int failures, bool reads_elsewhere) { return failures >= 2 && reads_elsewhere; }

bool MayCountAsLost(int failures, bool reads_elsewhere) { return failures >= 2 && reads_elsewhere; }

size_t SuperblocksAtOnce() { return 1; }

}  // namespace untorn
