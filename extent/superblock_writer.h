// Makes a new superblock the durable one.
#ifndef UNTORN_EXTENT_SUPERBLOCK_WRITER_H_
#define UNTORN_EXTENT_SUPERBLOCK_WRITER_H_

#include "absl/status/status.h"
#include "base/lock.h"
#include "device/io_pump.h"
#include "extent/volume_state.h"

namespace untorn {

class SuperblockWriter {
 public:
  // `slot` held the superblock in use when the slots were read. The other slot is written first.
  SuperblockWriter(IoPump& pump, VolumeState& state, int slot) : pump_(pump), state_(state), slot_(slot) {}

  // Makes one slot durable, and then the other. After that `next` is the durable superblock, and
  // settles all records up to its durable LSN. All that `next` refers to must be flushed before the call.
  // After an error the volume must not be written any more.
  absl::Status Write(Lock& lock, const Superblock& next) REQUIRES_STORE_LOCK;

 private:
  IoPump& pump_;
  VolumeState& state_ GUARDED_BY_STORE_LOCK;
  const int slot_;
};

}  // namespace untorn

#endif  // UNTORN_EXTENT_SUPERBLOCK_WRITER_H_
