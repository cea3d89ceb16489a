// One commit on its way to the device: the change sets it carries, their data, and their log record.
#ifndef UNTORN_WRITEBACK_COMMIT_H_
#define UNTORN_WRITEBACK_COMMIT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "base/aligned_buffer.h"
#include "cow/change_set.h"
#include "device/device.h"
#include "extent/log_writer.h"

namespace untorn {

class CommitQueue;

struct Commit {
  // kWriting: some write is not complete. kWritten: all are, and no flush sent since covers them. kFlushing: such a
  // flush is under way. kFlushed: it is complete.
  enum class State { kWriting, kWritten, kFlushing, kFlushed };
  struct Write {
    IoRequest request;
    Commit* commit = nullptr;
    // Those that this write overwrites in place.
    std::vector<ChangeSet*> in_place;
  };

  State state = State::kWriting;
  CommitQueue* queue = nullptr;
  ChangeSetRefs sets;
  BarrierEpoch epoch_min;
  bool has_record = false;
  bool in_place = false;  // some of it
  LogAppend log;
  // Neither vector changes once its writes are queued.
  absl::InlinedVector<Write, 1> data_writes;
  absl::InlinedVector<Write, 1> log_writes;
  std::vector<AlignedBuffer> bounces;
  size_t outstanding = 0;  // writes that are queued; and one more until all are
  // Those that the device refused to write whole in place, and the last refusal.
  std::vector<ChangeSet*> refused;
  absl::Status refusal;

  // Makes it as new, but for the memory that it has. False: it has so much that it had better go.
  bool Recycle() {
    constexpr size_t kEntriesMax = 256;
    if (log.entries.capacity() > kEntriesMax) return false;
    state = State::kWriting;
    sets.clear();
    has_record = in_place = false;
    log.entries.clear();
    log.requests.clear();
    log.bytes = AlignedBuffer();  // the log writer has a block of its own for the next one
    data_writes.clear();
    log_writes.clear();
    bounces.clear();
    refused.clear();
    return true;
  }
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_COMMIT_H_
