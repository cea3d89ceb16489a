// One call on a store, as data: so that workloads can be enumerated, drawn by a seed, printed, read back and
// shrunk.
#ifndef UNTORN_TESTS_EXPLORE_STEP_H_
#define UNTORN_TESTS_EXPLORE_STEP_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace untorn {

struct Step {
  enum Kind {
    kWrite,       // atomic, of [offset, offset + length)
    kPlainWrite,  // block by block
    kAsyncWrite,  // atomic, told of later
    kTruncate,    // to `length`
    kPunch,
    kPreallocate,
    kSync,  // everything
    kSyncObject,
    kSyncRange,
    kBarrier,
    kCheckpoint,
    kResize,  // the store may take `length` bytes
    kTrim,
    kFull,  // the file system below has no space, even to overwrite
    kRoom,  // it has again, and everything is synced
    kCreate,
    kRemove,
    kRename,          // to `to`
    kTransaction,     // of `changes`
    kHoldRead,        // a read by a thread of its own, which the device holds back
    kHoldCheckpoint,  // a checkpoint by a thread of its own, of which the device holds back the first read
    kHoldWrite,       // the device holds back the next write in place
    kHoldData,        // the device holds back the next write that is not
    kRead,            // from the device, and of whatever comes in meanwhile
    kRelease,         // what is held back
    kReader,          // another process reads a state that has all that is durable
    kReaderAgain,     // it reads the same state again
  };
  Kind kind = kWrite;
  std::string object = "a";
  uint64_t offset = 0, length = 0;
  std::string to;
  bool sync = false;
  uint64_t stamp = 0;  // of the data written; 0: one of its own
  std::vector<Step> changes;

  bool operator==(const Step&) const = default;
};

// "write a 0 16384 sync; tx { write a 0 4096; remove b } sync; write b 0 4096 as 7; barrier"
std::string ToString(std::span<const Step> steps);
absl::StatusOr<std::vector<Step>> ParseSteps(std::string_view text);
// The same for text that is known to be right.
std::vector<Step> Steps(std::string_view text);

}  // namespace untorn

#endif  // UNTORN_TESTS_EXPLORE_STEP_H_
