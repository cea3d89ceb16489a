// The rules of the protocol that concern the log, the superblocks and the reuse of space, as code (docs/design.md has the
// table). Each is a pure predicate that is called in one place, and says what breaks without it.
//
// They are a library of their own, so that tests can link a store with one of them broken, and see that it is caught
// (tests/canaries).
#ifndef UNTORN_EXTENT_RULES_H_
#define UNTORN_EXTENT_RULES_H_

#include <cstddef>
#include <cstdint>

#include "base/hash.h"
#include "extent/log_format.h"
#include "extent/superblock.h"
#include "extent/types.h"

namespace untorn {

// ---- Reuse of space ----

// Whether an extent that durable records have displaced may be allocated again. Without the first part recovery would
// compare the mapping record's hash with the next owner's data, and drop that record with everything after it, though
// acknowledged. Without the second a slow reader would get another object's data.
bool MayReuse(Lsn mapped_by, Lsn settled_lsn, bool read_outstanding);

// Where the search for free space goes on after an extent was freed: where it was. No correctness depends on it. So space
// is used again in the order in which it was written.
BlockNumber CursorAfterFree(BlockNumber cursor, Extent freed);

// ---- The log's end ----

// Whether a commit's first record may count as durable now: nothing before it is missing. Without it a claim would cover
// a gap: recovery stops at the gap, and never sees the claim.
bool MayBecomeDurable(Lsn first, Lsn durable_lsn);

// Whether the log has room for so many blocks more beyond those that have been used since the last durable checkpoint. Without
// it the log that recovery needs would be overwritten.
bool LogHasRoom(BlockCount used, BlockCount more, BlockCount log);

// ---- Opening ----

// Whether opening flushes before it reads. Without it recovery would build on what only the disk's cache holds, from a
// dead owner, and a power cut would take that away.
bool OpenFlushesFirst(bool read_only);

// The epoch of the log from an opening on. If it stayed the same, a record that recovery has dropped would chain on again
// behind new records of the same bytes.
LogEpoch NextEpoch(LogEpoch epoch);

// ---- Which records count ----

// Whether the chain ends before this record. Beyond the superblock's durable LSN a record of another epoch is an old one
// that comes back. Up to it, records of earlier epochs count: without them acknowledged ones would be lost.
bool EndsLog(const LogRecord& record, const Superblock& superblock);

// Whether the record was written under a newer superblock than the one in use: so both copies of that one are lost.
// Without it lost superblock writes would go unnoticed.
bool NamesNewerSuperblock(const LogRecord& record, const Superblock& superblock);

// Whether the record, found behind the chain's end, vouches for what is missing there. Without it acknowledged records
// would vanish silently: what is unreadable is damage, and not the log's end.
bool VouchesFor(const LogRecord& record, const Superblock& superblock, Lsn end_lsn);

// Whether the data that a record names is there. Without it recovery would take the record's word for data that a power
// cut has kept from the disk.
bool DataMatches(const Hash128& found, const Hash128& recorded);

// Whether the log may end after a record. Without it half a transaction would count.
bool LogMayEndAfter(bool last_of_transaction);

// Whether what could not be read so many times counts as not written. Without it a device that fails once, or for good,
// would make an acknowledged record look like the log's end.
bool CountsAsUnwritten(int failures, bool reads_elsewhere);

// ---- Superblocks ----

// How many slots are written before a flush. With both at once a power cut would leave no superblock; and one damaged
// slot would lose acknowledged writes.
size_t SuperblocksBeforeFlush();

}  // namespace untorn

#endif  // UNTORN_EXTENT_RULES_H_
