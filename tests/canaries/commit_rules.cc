// The rules of cow/rules.h and writeback/rules.h, each of which a canary breaks. They are linked in place of the
// product's.
#include "cow/rules.h"
#include "tests/canaries/canary.h"
#include "writeback/rules.h"

namespace untorn::rules {

bool MayPassOneThatWritesTheSameBlock() { return Broken(Canary::kReuseUnderWrite); }

bool MayOverwriteInPlace(Lsn mapped_by, Lsn settled_twice) {
  return mapped_by <= settled_twice || Broken(Canary::kOverwriteUnsettled);
}

bool FlushCoversWhatCompletesDuringIt() { return Broken(Canary::kFlushTooEarly); }

bool DurableWriteCoversOthers() { return Broken(Canary::kDurableCoversOthers); }

bool RecordMayBeAcknowledged(bool flushed, bool earlier_record_not_durable) {
  return flushed && (!earlier_record_not_durable || Broken(Canary::kClaimPastGap));
}

bool TransactionIsOneChangeSet() { return !Broken(Canary::kPathByRange); }

}  // namespace untorn::rules
