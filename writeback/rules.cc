#include "writeback/rules.h"

namespace untorn::rules {

bool MayOverwriteClosed() { return false; }

bool MayOverwriteInPlace(Lsn opened_by, Lsn settled_once) { return opened_by <= settled_once; }

bool FlushCoversWhatCompletesDuringIt() { return false; }

bool DurableWriteCoversOthers() { return false; }

bool RecordMayBeAcknowledged(bool flushed, bool earlier_record_not_durable) {
  return flushed && !earlier_record_not_durable;
}

bool TransactionIsOneChangeSet() { return true; }

}  // namespace untorn::rules
