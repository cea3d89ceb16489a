// Offline inspection of a store that need not be openable: fsck and dump. Both open read-only, take a shared
// lock, change nothing and replay the log in memory. And its repair.
#ifndef UNTORN_INSPECT_H_
#define UNTORN_INSPECT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace untorn {

class Device;

// What fsck can find. Append-only: numbers are stable, and listed with their meaning in docs/fsck.md.
enum class FindingCode : uint16_t {
  kSuperblockUnreadable = 1,  // one slot is damaged or stale; the other is in use
  kNoSuperblock = 2,          // no slot is usable: nothing else can be checked
  kLogDamaged = 3,            // a record that something later vouches for is unreadable
  kTreeNodeDamaged = 4,       // a node is damaged: the mappings, objects or names it held are unknown
  kEntryIllFormed = 5,        // an entry of a sound node makes no sense
  kMappingOutOfBounds = 6,    // points outside the data area
  kMappingOverlap = 7,        // two mappings share blocks
  kMappingOfNoObject = 8,     // mappings of an object that does not exist
  kFreeMapDamaged = 9,        // a table or bitmap block is damaged
  kUsedMarkedFree = 10,       // blocks in use that the free-space map says are free
  kLeak = 11,                 // blocks marked in use that nothing uses
  kNameWithoutObject = 12,
  kObjectWithoutName = 13,
  kNameMismatch = 14,       // the object's own record has another name
  kMappingBeyondSize = 15,  // a mapping reaches beyond the end of its object
  kCountMismatch = 16,      // a total in the superblock is wrong
  kStoreCutShort = 17,      // the device is smaller than the store
};
const char* FindingCodeName(FindingCode code);

struct Finding {
  FindingCode code;
  std::string what;  // the object, block or range, and the cause, in words an operator can act on
};

struct FsckResult {
  std::vector<Finding> findings;  // at most 1000 in full; the rest are counted
  uint64_t findings_total = 0;
  uint64_t objects = 0, mappings = 0, mapped_blocks = 0, unwritten_blocks = 0, tree_nodes = 0, names = 0;
  uint64_t blocks_total = 0, blocks_used = 0;
  uint64_t generation = 0, epoch = 0;
  uint64_t log_records = 0;          // live ones, replayed
  uint64_t log_records_dropped = 0;  // incomplete ones at the end: normal after a crash, not a finding
  uint64_t lsn_checkpoint = 0, lsn_recovered = 0;
};

// Checks everything: superblocks, log, tree, every mapping against the free-space map, overlaps, leaks,
// names. `progress` is called with (done, total) blocks of metadata.
//  An error only where the device cannot be opened or read as such; whatever is wrong with the store is a
//  finding.
absl::StatusOr<FsckResult> Fsck(const std::string& path,
                                std::function<void(uint64_t, uint64_t)> progress = {});
absl::StatusOr<FsckResult> FsckDevice(Device& device, std::function<void(uint64_t, uint64_t)> progress = {});

struct RepairResult {
  FsckResult found;  // before
  std::vector<std::string>
      actions;                 // what is done about it, in words; at most 1000 in full, the rest are counted
  uint64_t actions_total = 0;  // 0: there was nothing to do
  uint64_t quarantined = 0;    // objects
  bool repaired = false;
  FsckResult after;  // where repaired: without findings
};

struct RepairOptions {
  bool dry_run = false;  // only tells what would be done; opens read-only
  // Called with `found` and `actions` before anything is written; not where there is nothing to do.
  std::function<void(const RepairResult&)> planned;
  std::function<void(uint64_t, uint64_t)> progress;  // (done, total), in no unit
};

// Does what can be done about the findings of fsck (docs/fsck.md says what): restores a superblock from its twin, or
// writes tree and free-space map anew from all that can be read. What the log holds is kept. An object of which
// something is lost or doubtful is kept too, as "quarantine/NUMBER/NAME"; what is lost of it reads as zeros.
//  Takes the exclusive lock. Safe to interrupt at any moment, by a crash or power cut as well: until its last step the
// store is as it was, and after that repaired. Memory: as for fsck, and all objects and names.
//  kFailedPrecondition  nothing here can be repaired: no superblock, or a device smaller than the store
//  kResourceExhausted   no room for the new tree beside the old one
//  kInternal            the device fails; or findings are left, which is a bug
absl::StatusOr<RepairResult> Repair(const std::string& path, const RepairOptions& options);
absl::StatusOr<RepairResult> RepairDevice(Device& device, const RepairOptions& options);

// Everything a person needs to see of a store's metadata, as JSON text: superblock slots, log records, tree
// nodes, objects with their mappings (physical, state, from checkpoint or log), free-space map. Damaged parts
// appear with an "error" member and the rest goes on.
struct DumpOptions {
  bool log = true, tree = true, objects = true, free_map = true;
  std::string object;  // only this one's mappings
};
absl::StatusOr<std::string> DumpJson(const std::string& path, const DumpOptions& options);
absl::StatusOr<std::string> DumpJsonDevice(Device& device, const DumpOptions& options);

}  // namespace untorn

#endif  // UNTORN_INSPECT_H_
