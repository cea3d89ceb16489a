#include "writeback/rules.h"

namespace untorn::rules {

bool MayOverwriteInPlace(Lsn mapped_by, Lsn settled_twice) { return mapped_by <= settled_twice; }

bool FlushCoversWhatCompletesDuringIt() { return false; }

bool DurableWriteCoversOthers() { return false; }

bool RecordMayBeAcknowledged(bool flushed, bool earlier_record_not_durable) {
  return flushed && !earlier_record_not_durable;
}

bool TransactionIsOneChangeSet() { return true; }

}  // namespace untorn::rules
