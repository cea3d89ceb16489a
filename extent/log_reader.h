// Reads the log when a store is opened. Says which records count, and where the log ends.
//
// The rules (docs/design.md has the argument)
//  1. From the checkpoint on, each record has the next LSN and names the checksum of the record before. A fold
//     that repeats only what the checkpoint has follows too.
//  2. Beyond the superblock's durable LSN, a record of another log epoch ends the log. Up to that LSN,
//     records of earlier log epochs count and must be there.
//  3. The highest claim of the records found, or the superblock's durable LSN, vouches for every record up
//     to that LSN. A later record counts only if the checksums of every data extent that the record names are
//     right.
//  4. The records of a chain count only with the last of them.
//  5. An unreadable record that the superblock or a later record of this log epoch vouches for is kDataLoss,
//     and not the end of the log. A record anywhere in the ring, or in a lane, is kDataLoss too, if the record names a
//     newer superblock or log epoch than the one in use. Records name only superblocks that are durable, so
//     the newer superblock is lost.
//  6. A record that repeats counts from the first commit on that is not known yet. The log may end in the middle of
//     such a record.
//  7. The log goes on in the lanes that the last record of the ring names, or the superblock if that is of an earlier
//     log epoch, and in those that readable records behind the end of the ring name. A lane record counts only in the
//     superblock's log epoch. It vouches for all before its own commit.
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

// Reads what a power cut or a bad medium may have left unreadable. The check of a superblock slot after each
// failure keeps some failures in a row from passing for kDataLoss.
//  kDataLoss  the extent could not be read twice, and after each failure a superblock slot could be read
//  kInternal  no superblock slot can be read any more, so nothing is known of what the device holds
absl::Status ReadOrMissing(Device& device, Extent extent, std::byte* buffer);

struct LogTail {
  // One commit's record. A record that repeats has several.
  struct Summary {
    LogPosition position;    // of the record that has the commit
    BlockNumber lane_block;  // or its block in a lane; else 0
    BlockCount blocks;
    Lsn lsn;
    Lsn chain_lsn;  // of the last record of its chain
    bool last = true;
  };
  std::vector<Summary> kept;
  uint64_t dropped = 0;        // readable records behind the last one kept
  Lsn claimed;                 // of the kept records behind this one, recovery compares the data
  Lsn lsn;                     // of the last kept record, or of the checkpoint
  Lsn ring_lsn;                // of the last record in the ring of which all is kept, or of the checkpoint
  LogPosition position;        // behind that record
  uint64_t checksum = 0;       // of that record
  BlockCount prepared_blocks;  // the most that the superblock or a kept record names
  Generation superblock_generation;  // the newest that a kept record names
  std::vector<Extent> lanes;         // where lane records were looked for
  absl::Status damage;               // by rule 5; `kept` is then all that can be read
  bool superblock_lost = false;      // `damage` is that a record names a newer superblock
};

// Reads the tail of the log. Returns an error if the device cannot be read, or if a record has another
// format version. Damage that rule 5 finds is in `damage` and is not an error of the call.
absl::StatusOr<LogTail> ReadLogTail(Device& device, const Superblock& superblock);

// Holds the highest log epoch and superblock generation that any record in the ring or in a lane names. A repair has to
// go beyond both.
struct LogNewest {
  LogEpoch epoch;
  Generation superblock_generation;
};
absl::StatusOr<LogNewest> NewestInLog(Device& device, const Superblock& superblock);

// Says by the checksums whether the data that an entry maps is there. Returns true if the entry maps no data.
// Enlarges `scratch` as needed.
absl::StatusOr<bool> DataIsThere(Device& device, const LogEntry& entry, uint64_t data_key,
                                 AlignedBuffer* scratch);

// Calls `fn` for each kept record, in order, with the LSN of the last record of its chain.
absl::Status ForEachRecord(Device& device, const Superblock& superblock, const LogTail& tail,
                           absl::FunctionRef<void(const LogRecord&, Lsn chain_lsn)> fn);

}  // namespace untorn

#endif  // UNTORN_EXTENT_LOG_READER_H_
