// A commit is one batch on its way to the device: the change sets, their data, and their log records.
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
  enum class State {
    kWriting,   // some write is not complete
    kWritten,   // all writes are complete, and no flush that was sent since then covers them
    kFlushing,  // a flush that covers all the writes is under way
    kFlushed    // that flush is complete, or the only write was durable by itself
  };
  // Holds what an overwrite in place changes of a mapping: the checksums of its blocks.
  struct Overwrite {
    const ChangeSet* set = nullptr;
    ObjectId object = ObjectId::kNone;
    BlockRange blocks;
    BlockNumber physical;
    BlockChecksums checksums;
    Extent extent() const { return {physical, blocks.count}; }
  };
  struct Write {
    IoRequest request;
    Commit* commit = nullptr;
    // Holds the change sets that this atomic write puts in place.
    std::vector<ChangeSet*> in_place;
  };

  State state = State::kWriting;
  CommitQueue* queue = nullptr;
  ChangeSetRefs sets;
  BarrierEpoch epoch_min;
  uint64_t begun_ns = 0;
  BlockCount data_blocks;  // of the change sets, when they were frozen
  bool has_record = false;
  bool in_place = false;  // at least one change set goes in place
  // The commit is one write that is durable when it completes (IoRequest::durable).
  bool durable_write = false;
  LogAppend log;
  // Neither vector may change once its writes are queued, because the pump and the device point into both.
  absl::InlinedVector<Write, 1> data_writes;
  absl::InlinedVector<Write, 1> log_writes;
  std::vector<Overwrite> overwrites;   // of the change sets that go in place
  std::vector<AlignedBuffer> bounces;  // copies of scattered data for atomic writes
  size_t outstanding = 0;              // writes that are queued; and one more until all are
  // The device refused to write these change sets whole in place. `refusal` has the last refusal.
  std::vector<ChangeSet*> refused;
  absl::Status refusal;

  // Makes the commit as new, but keeps its memory. Returns false if the commit holds too much memory.
  bool Recycle() {
    constexpr size_t kEntriesMax = 256;
    if (log.entries.capacity() > kEntriesMax) return false;
    state = State::kWriting;
    sets.clear();
    has_record = in_place = durable_write = false;
    log.entries.clear();
    log.requests.clear();
    log.lane_block = BlockNumber();
    log.bytes = AlignedBuffer();  // the log writer keeps a block of its own for the next commit
    data_writes.clear();
    log_writes.clear();
    overwrites.clear();
    bounces.clear();
    refused.clear();
    return true;
  }
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_COMMIT_H_
