// Writeback keeps these rules of the commit protocol, one predicate each. docs/design.md has the argument.
//
// The predicates live in a library of their own, so that tests/canaries can link broken ones in their place.
#ifndef UNTORN_WRITEBACK_RULES_H_
#define UNTORN_WRITEBACK_RULES_H_

#include "extent/types.h"

namespace untorn::rules {

// Only an open mapping is overwritten in place. Without this rule a power cut leaves new data under the checksums of the
// old data. Reads then fail, and recovery may drop the record of the mapping, which was acknowledged.
bool MayOverwriteClosed();

// A mapping may be overwritten in place once a claim covers the record that opened the mapping. That record claims the
// one that made the mapping, and the claim of that record makes two. Without this rule, damage to the record that opens
// could pass for the end of the log. Recovery would then compare the new data with old checksums, and drop a version that
// was acknowledged.
bool MayOverwriteInPlace(Lsn opened_by, Lsn settled_once);

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
