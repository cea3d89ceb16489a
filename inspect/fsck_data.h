// Checks the data of a store: reads the blocks of all mappings, and compares them with their checksums.
#ifndef UNTORN_INSPECT_FSCK_DATA_H_
#define UNTORN_INSPECT_FSCK_DATA_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "base/aligned_buffer.h"
#include "device/device.h"
#include "extent/superblock.h"
#include "extent/types.h"
#include "inspect/progress.h"
#include "untorn/inspect.h"

namespace untorn::internal {

class DataCheck {
 public:
  // `session` is the log epoch of an owner that knows the checksums of all that it has overwritten in place, or 0.
  DataCheck(Device& device, const Superblock& superblock, LogEpoch session, FsckResult& result,
            Progress& progress)
      : device_(device), superblock_(superblock), session_(session), result_(result), progress_(progress) {}

  // Reads the blocks of one mapping. Mappings that are not written have none. A mapping outside the data area is a
  // finding of others.
  void Check(ObjectId object, const Mapping& mapping);

  struct Damage {
    ObjectId object = ObjectId::kNone;
    BlockRange blocks;
    BlockNumber physical;
    bool unreadable = false;
  };
  // The damaged runs that were found first, and the count of all.
  const std::vector<Damage>& damages() const { return damages_; }
  uint64_t damages_total() const { return damages_total_; }
  // The error of a device that fails as a whole. Nothing is checked behind it.
  const absl::Status& status() const { return status_; }

 private:
  void CheckPart(ObjectId object, const Mapping& part);
  void Add(ObjectId object, const Mapping& block, bool unreadable);

  Device& device_;
  const Superblock& superblock_;
  const LogEpoch session_;
  FsckResult& result_;
  Progress& progress_;
  AlignedBuffer buffer_;
  std::vector<Damage> damages_;
  Damage last_;  // the last run, also if damages_ does not have it
  uint64_t damages_total_ = 0;
  absl::Status status_;
};

}  // namespace untorn::internal

#endif  // UNTORN_INSPECT_FSCK_DATA_H_
