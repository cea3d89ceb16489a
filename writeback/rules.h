// Writeback keeps these rules of the commit protocol, one predicate each. docs/design.md has the argument.
//
// The predicates live in a library of their own, so that tests/canaries can link broken ones in their place.
#ifndef UNTORN_WRITEBACK_RULES_H_
#define UNTORN_WRITEBACK_RULES_H_

#include "extent/types.h"

namespace untorn::rules {

// A mapping may be overwritten in place once two claims cover the record that made the mapping. Without this
// rule, recovery after a power cut compares the new data with the hash in that record. Recovery then drops a
// version that was acknowledged. One claim is too little, because its block may be damaged.
bool MayOverwriteInPlace(Lsn mapped_by, Lsn settled_twice);

// A flush never covers a write that completed while the flush was under way. Without this rule an
// acknowledged record is not on the medium.
bool FlushCoversWhatCompletesDuringIt();

// A write that is durable by itself makes no other write durable. Some devices flush for such a write, and others
// send it past their cache (forced unit access). Without this rule an acknowledged record is not on the medium.
bool DurableWriteCoversOthers();

// A commit with a record counts as durable once the commit is flushed, and all records before its own are
// durable. Without this rule, recovery stops at the gap, and drops a record that was acknowledged.
bool RecordMayBeAcknowledged(bool flushed, bool earlier_record_not_durable);

// All that a transaction changes is one change set, which goes in place only as one range. Without this rule
// a power cut leaves half a transaction.
bool TransactionIsOneChangeSet();

}  // namespace untorn::rules

#endif  // UNTORN_WRITEBACK_RULES_H_
