// The rules of extent/rules.h, each of which a canary breaks. It is linked in place of the product's rules.cc: what no
// canary breaks is as it is there.
#include <algorithm>

#include "extent/lane_extents.h"
#include "extent/rules.h"
#include "tests/canaries/canary.h"

namespace untorn {

namespace {

bool frees_under_read = false;  // what MayReuse() was asked last

// With these canaries, what is freed too early is the first to be used again: so a few writes show what is wrong.
bool ReusesAtOnce() {
  return Broken(Canary::kReuseUnsettled) || Broken(Canary::kReuseLeased) ||
         Broken(Canary::kBelieveAfterLease);
}

}  // namespace

bool MayReuse(Lsn mapped_by, Lsn displaced_by, const Settled& settled, bool read_outstanding) {
  frees_under_read = read_outstanding;
  return ((mapped_by <= settled.twice && displaced_by <= settled.once) || Broken(Canary::kReuseUnsettled)) &&
         (!read_outstanding || Broken(Canary::kReuseUnderRead));
}

bool BaseOutlastsReplay() { return !Broken(Canary::kReplayFreesBase); }

BlockNumber CursorAfterFree(BlockNumber cursor, Extent freed) {
  if (Broken(Canary::kReuseUnderRead)) return frees_under_read ? freed.start : cursor;
  return ReusesAtOnce() ? std::min(cursor, freed.start) : cursor;
}

bool ShorteningIsLast() { return !Broken(Canary::kShortenFirst); }

bool MayReuseLeased(bool used_by_lease) { return !used_by_lease || Broken(Canary::kReuseLeased); }

bool MayOverwriteLeased(bool used_by_lease) { return !used_by_lease || Broken(Canary::kOverwriteLeased); }

bool MayBelieveRead(bool lease_holds) { return lease_holds || Broken(Canary::kBelieveAfterLease); }

bool MayMove(bool matches, bool excused) { return matches || excused || Broken(Canary::kMoveUnchecked); }

bool PreparingFlushes() { return !Broken(Canary::kPrepareWithoutFlush); }

bool MayBecomeDurable(Lsn first, Lsn durable_lsn) {
  return first == durable_lsn + 1 || Broken(Canary::kClaimPastGap);
}

bool LogHasRoom(BlockCount used, BlockCount more, BlockCount log) {
  return used <= log && more <= log - used;
}

// Without lanes, what is freed is used again at once.
size_t LanesInUse() {
  if (ReusesAtOnce() || Broken(Canary::kReuseUnderRead)) return 0;
  return Broken(Canary::kOneLane) ? 1 : kLanes;
}

bool MayOverwriteLaneRecord(Lsn lsn, Lsn settled_once) {
  return lsn < settled_once || Broken(Canary::kOneLane);
}

bool MayUseLaneExtent(bool named_by_last, bool named_by_one_before) {
  return named_by_last && named_by_one_before;
}

bool OpenFlushesFirst(bool read_only) { return !read_only && !Broken(Canary::kOpenWithoutFlush); }

LogEpoch NextEpoch(LogEpoch epoch) { return Broken(Canary::kOpenWithoutEpoch) ? epoch : epoch + 1; }

bool FollowsInRing(const LogRecord& record, Lsn end_lsn) { return record.first_lsn <= end_lsn + 1; }

bool LaneRecordCounts(const LogRecord& record, const Superblock& superblock) {
  return record.epoch == superblock.epoch;
}

bool EndsLog(const LogRecord& record, const Superblock& superblock) {
  return record.lsn > superblock.durable_lsn && record.epoch != superblock.epoch;
}

bool NamesNewerSuperblock(const LogRecord& record, const Superblock& superblock) {
  return record.superblock_generation > superblock.generation || record.epoch > superblock.epoch;
}

bool VouchesFor(Lsn lsn, Lsn claim, Lsn end_lsn) { return lsn > end_lsn && claim > end_lsn; }

bool DataMatches(const DataChecksums& found, const DataChecksums& recorded) {
  return found == recorded || Broken(Canary::kNoDataHash);
}

bool MayExcuseMismatch(LogEpoch opened, LogEpoch session) {
  return opened > 0 && opened != session && !Broken(Canary::kExcuseNothing);
}

bool MayClose(bool overwrite_in_flight) { return !overwrite_in_flight || Broken(Canary::kCloseUnderWrite); }

bool LogMayEndAfter(bool last_of_chain) { return last_of_chain; }

bool CountsAsUnwritten(int failures, bool reads_elsewhere) { return failures >= 2 && reads_elsewhere; }

bool MayCountAsLost(int failures, bool reads_elsewhere) { return failures >= 2 && reads_elsewhere; }

size_t SuperblocksAtOnce() { return Broken(Canary::kSuperblocksTogether) ? 2 : 1; }

}  // namespace untorn
