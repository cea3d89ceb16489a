// Holds the rules of the protocol for the log, the superblocks and the reuse of space, as code
// (docs/design.md has the table). Each rule is a pure predicate, and its comment says what breaks without the
// rule.
//
// The rules are a library of their own. So tests can link a store with one rule broken, and see that the
// broken rule is caught (tests/canaries).
#ifndef UNTORN_EXTENT_RULES_H_
#define UNTORN_EXTENT_RULES_H_

#include <cstddef>
#include <cstdint>

#include "extent/checksums.h"
#include "extent/log_format.h"
#include "extent/superblock.h"
#include "extent/types.h"

namespace untorn {

// ---- Reuse of space ----

// Says whether an extent that durable records have displaced may be allocated again. Two records must claim the
// record that mapped the extent, a record must claim the one that displaced the extent, and no read of the extent
// may be outstanding. Without the first condition recovery would compare the mapping record's hash with the data
// of the next owner. Recovery would drop that record and everything after it, although all of it was
// acknowledged. One claim is too little, because its block may be damaged. Without the second condition, damage
// to the displacing record would bring the extent back with another object's data. Without the third condition a
// slow reader would get the data of another object.
bool MayReuse(Lsn mapped_by, Lsn displaced_by, const Settled& settled, bool read_outstanding);

// Says whether a displaced block may be allocated again that a leased checkpoint may use. Without the rule another process
// that reads gets the data of another object, and its checksums take that for damage.
bool MayReuseLeased(bool used_by_lease);

// Says whether a leased block may be overwritten in place. Without the rule another process that reads gets data of a
// later state.
bool MayOverwriteLeased(bool used_by_lease);

// Says whether a reader believes what it has read under a lease. Without the rule it believes what the next owner of the
// blocks has written.
bool MayBelieveRead(bool lease_holds);

// Says whether a block that the checkpoint uses stays in use when the log is replayed. Records may have mapped and
// displaced the block while the checkpoint was made. The checkpoint may then have taken it for a node. Without the rule
// replay frees the block, and the next write overwrites the tree.
bool BaseOutlastsReplay();

// Says where the search for free space goes on after an extent was freed: where it was. So space is used
// again in the order in which it was written. No correctness depends on this rule.
BlockNumber CursorAfterFree(BlockNumber cursor, Extent freed);

// Says whether blocks are flushed when they have been prepared, before any record says so. Without the rule a cut could
// leave a file that is shorter than its records say.
bool PreparingFlushes();

// Says whether a file is cut only when both slots hold the superblock that ends the store there. Without the rule a power
// cut leaves a superblock or a record that names blocks behind the end of the file.
bool ShorteningIsLast();

// Says whether the content of a block may be written to another place, with a checksum of its own. It must match the
// checksum that it has, or be excused (MayExcuseMismatch). Without the rule rot gets a checksum that makes it valid.
bool MayMove(bool matches, bool excused);

// ---- The log's end ----

// Says whether a commit's first record may count as durable now, because no record before it is missing.
// Without the rule a claim would cover a gap. Recovery would stop at the gap, and never see the claim.
bool MayBecomeDurable(Lsn first, Lsn durable_lsn);

// Says whether the log has room for `more` blocks besides the `used` ones since the last durable checkpoint.
// Without the rule the log that recovery needs would be overwritten.
bool LogHasRoom(BlockCount used, BlockCount more, BlockCount log);

// ---- Lanes ----

// Returns how many lanes are used in turn. With one lane, a torn commit would take the commit before it along. With two,
// a block that rots beside a power cut would cost all commits since the last record of the ring.
size_t LanesInUse();

// Says whether the lane record of a commit may be overwritten. A durable record must claim a newer commit. Then the
// commit is in two newer records, one of which was durable before the other was made. What breaks without the rule is
// the same.
bool MayOverwriteLaneRecord(Lsn lsn, Lsn settled_once);

// Says whether a lane record may go to an extent. The last durable write to the ring must name the extent, and the one
// before that too. Without the rule, damage to the last record of the ring would hide the lane records behind it.
bool MayUseLaneExtent(bool named_by_last, bool named_by_one_before);

// ---- Opening ----

// Says whether opening flushes before it reads. Without the flush recovery would build on what a dead owner
// left in the disk's cache. A power cut would take that content away.
bool OpenFlushesFirst(bool read_only);

// Returns the log epoch that begins with an opening. If the log epoch stayed the same, a record that
// recovery has dropped would count again. The dropped record would follow new records of the same bytes.
LogEpoch NextEpoch(LogEpoch epoch);

// ---- Which records count ----

// Says whether a record of the ring follows where the log is known up to `end_lsn`. A fold may repeat only what is known:
// a checkpoint was made between its commits and the superblock. Then it adds nothing, and the records behind it count.
bool FollowsInRing(const LogRecord& record, Lsn end_lsn);

// Says whether a lane record counts. A lane record of an earlier log epoch may be one that a recovery has dropped, and
// that comes back. Each opening brings what it keeps into the ring.
bool LaneRecordCounts(const LogRecord& record, const Superblock& superblock);

// Says whether the log ends before this record. Beyond the superblock's durable LSN, a record of another log
// epoch is an old one that comes back. Up to that LSN, records of earlier log epochs count. If they did not
// count, acknowledged records would be lost.
bool EndsLog(const LogRecord& record, const Superblock& superblock);

// Says whether the record was written under a newer superblock than the one in use. Both copies of the newer
// superblock are then lost. Without the rule lost superblock writes would go unnoticed.
bool NamesNewerSuperblock(const LogRecord& record, const Superblock& superblock);

// Says whether a record that was found behind the end of the log vouches for what is missing at the end.
// What is unreadable is then damage, and not the end of the log. Without the rule acknowledged records would
// vanish silently.
bool VouchesFor(Lsn lsn, Lsn claim, Lsn end_lsn);

// Says whether the data that a record names is there. Without the rule recovery would take the record's word
// for data that a power cut has kept from the disk.
bool DataMatches(const DataChecksums& found, const DataChecksums& recorded);

// Says whether a block that does not match the checksum of its mapping may be taken at the device's word. `opened` is
// the log epoch in which the mapping was opened, or 0. `session` is the log epoch of this opening of the store, or 0 if
// nothing is written. The store knows the checksums of all that it has overwritten in place itself. An earlier owner
// may have crashed between an overwrite and the record of the checksum. Without the rule that overwrite is a false
// alarm, or damage passes.
bool MayExcuseMismatch(LogEpoch opened, LogEpoch session);

// Says whether an open mapping may be closed. Without the rule an overwrite that is on its way leaves new data under a
// checksum that counts.
bool MayClose(bool overwrite_in_flight);

// Says whether the log may end after a record. The argument is true for the last record of a chain. Without
// the rule half of a transaction would count.
bool LogMayEndAfter(bool last_of_chain);

// Says whether blocks count as not written after so many failures to read them. Without the rule a device
// that fails once, or for good, would make an acknowledged record look like the end of the log.
bool CountsAsUnwritten(int failures, bool reads_elsewhere);

// Says whether a checkpoint may count a node of the tree as lost after so many failures to read it. The new
// tree then gives up what the node holds beside new mappings. Without the rule a device that fails once, or for
// good, would make the loss final.
bool MayCountAsLost(int failures, bool reads_elsewhere);

// ---- Superblocks ----

// Returns how many slots are written before one of them is durable. If both slots were written at once, a power
// cut could leave no superblock, and one damaged slot would lose acknowledged writes.
size_t SuperblocksAtOnce();

}  // namespace untorn

#endif  // UNTORN_EXTENT_RULES_H_
