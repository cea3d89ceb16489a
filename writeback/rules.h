// The rules of the commit protocol that writeback keeps, one predicate each. docs/design.md has the argument.
//
// The predicates live in a library of their own, so that tests/canaries can link broken ones in their place.
#ifndef UNTORN_WRITEBACK_RULES_H_
#define UNTORN_WRITEBACK_RULES_H_

#include "extent/types.h"

namespace untorn::rules {

// A mapping may be overwritten in place once the record that made it is settled.
// Without it: after a power cut recovery hashes the new data against that record, and drops a version that was
// acknowledged.
bool MayOverwriteInPlace(Lsn mapped_by, Lsn settled);

// A flush covers a write that completed while the flush was under way: never.
// Without it: an acknowledged record is not on the medium.
bool FlushCoversWhatCompletesDuringIt();

// A commit with a record counts as durable once it is flushed, and all records before it are durable.
// Without it: recovery stops at the gap, and drops a record that was acknowledged.
bool RecordMayBeAcknowledged(bool flushed, bool earlier_record_not_durable);

// All that a transaction changes is one change set, which goes in place only as one range.
// Without it: a power cut leaves half a transaction.
bool TransactionIsOneChangeSet();

}  // namespace untorn::rules

#endif  // UNTORN_WRITEBACK_RULES_H_
