// The rules of cow/rules.h and writeback/rules.h, each of which a canary breaks. They are linked in place of the
// product's.
#include "cow/rules.h"
#include "tests/canaries/canary.h"
#include "writeback/rules.h"

namespace untorn::rules {

bool MayPassOneThatWritesTheSameBlock() { return Broken(Canary::kReuseUnderWrite); }

bool MayOverwriteClosed() { return Broken(Canary::kOverwriteClosed); }

// One bad block beside a power cut shows what it is for: tests/protocol.
bool MayOverwriteInPlace(Lsn opened_by, Lsn settled_once) { return opened_by <= settled_once; }

bool FlushCoversWhatCompletesDuringIt() { return Broken(Canary::kFlushTooEarly); }

bool DurableWriteCoversOthers() { return Broken(Canary::kDurableCoversOthers); }

bool RecordMayBeAcknowledged(bool flushed, bool earlier_record_not_durable) {
  return flushed && (!earlier_record_not_durable || Broken(Canary::kClaimPastGap));
}

bool TransactionIsOneChangeSet() { return !Broken(Canary::kPathByRange); }

}  // namespace untorn::rules
