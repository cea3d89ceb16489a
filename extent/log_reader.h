// Reading the log at open: which records count, and where the log ends.
//
// The rules (docs/design.md has the argument)
//  1. Records chain by LSN and by the checksum of the record before, from the checkpoint on.
//  2. Beyond the superblock's durable LSN a record of another epoch ends the log; up to it, records of
//     earlier epochs count and must be there.
//  3. The highest claim of the chain (or the superblock's durable LSN) vouches for every record up to it.
//     Beyond it a record counts only if the hash of every data extent it names is right.
//  4. A transaction's records count only with its last.
//  5. An unreadable record that a later one of this epoch, or the superblock, vouches for is kDataLoss, not
//     the end of the log. So is any record, wherever in the ring, that names a newer superblock than the one in
//     use, or is of a newer epoch: records name only superblocks that are durable.
#ifndef UNTORN_EXTENT_LOG_READER_H_
#define UNTORN_EXTENT_LOG_READER_H_

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/aligned_buffer.h"
#include "device/device.h"
#include "extent/log_format.h"
#include "extent/superblock.h"

namespace untorn {

// Reads what a power cut or a bad medium may have left unreadable: kDataLoss, if it cannot be read twice, and the device
// reads elsewhere, namely a superblock as it did before, after each time. So some failures in a row do not pass for it.
// One that reads nowhere has failed, and nothing is known of what it holds (kInternal).
absl::Status ReadOrMissing(Device& device, Extent extent, std::byte* buffer);

struct LogTail {
  struct Summary {
    LogPosition position;
    BlockCount blocks;
    Lsn lsn;
    Lsn chain_lsn;  // of its transaction's last record
    bool last = true;
  };
  std::vector<Summary> kept;
  uint64_t dropped = 0;              // records after the last one kept that could be read
  Lsn lsn;                           // of the last record kept, or of the checkpoint
  LogPosition position;              // after it
  uint64_t checksum = 0;             // of it
  BlockCount prepared_blocks;        // the most that the superblock or a kept record names
  Generation superblock_generation;  // the newest that a kept record names
  absl::Status damage;               // rule 5; what is kept is then all that can be read
  bool superblock_lost = false;      // it is that a record names a newer superblock than the one in use
};

// Reads the log's tail. An error only where the device cannot be read.
absl::StatusOr<LogTail> ReadLogTail(Device& device, const Superblock& superblock);

// The highest epoch and superblock generation that any record in the ring names, wherever it stands: what a repair has
// to go beyond.
struct LogNewest {
  LogEpoch epoch;
  Generation superblock_generation;
};
absl::StatusOr<LogNewest> NewestInLog(Device& device, const Superblock& superblock);

// Whether the data that an entry names is there, by its hash; true of entries that name none. `scratch` is made as
// large as is needed.
absl::StatusOr<bool> DataIsThere(Device& device, const LogEntry& entry, AlignedBuffer* scratch);

// Calls `fn` for each kept record, in order, with the LSN of its transaction's last record.
absl::Status ForEachRecord(Device& device, const Superblock& superblock, const LogTail& tail,
                           absl::FunctionRef<void(const LogRecord&, Lsn chain_lsn)> fn);

}  // namespace untorn

#endif  // UNTORN_EXTENT_LOG_READER_H_
