// These functions inspect and repair a store. The store need not be fit to be opened. Fsck and DumpJson open
// the store read-only, take a shared lock, and change nothing; both replay the log in memory. If another process has the
// store open for writing, they read a state of it under a lease, as Store::Open does. Repair changes the store.
#ifndef UNTORN_INSPECT_H_
#define UNTORN_INSPECT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace untorn {

// A finding code says what fsck found. The numbers are stable, and new codes are added at the end.
// docs/fsck.md says what each code means, and what to do about the finding.
enum class FindingCode : uint16_t {
  kSuperblockUnreadable = 1,  // one slot is damaged or stale; the other is in use
  kNoSuperblock = 2,          // no slot is usable: nothing else can be checked
  kLogDamaged = 3,            // a record that something later vouches for is unreadable
  kTreeNodeDamaged = 4,       // a node is damaged: the mappings, objects or names it held are unknown
  // 5 was for entries that make no sense; a node with such an entry is damaged
  kMappingOutOfBounds = 6,  // a mapping leads outside the data area
  kMappingOverlap = 7,      // two mappings share blocks
  kMappingOfNoObject = 8,   // mappings of an object that does not exist
  kFreeMapDamaged = 9,      // a table or bitmap block is damaged
  kUsedMarkedFree = 10,     // blocks are in use, but the free-space map says they are free
  kLeak = 11,               // the free-space map says that blocks are in use, but nothing uses them
  kNameWithoutObject = 12,
  kObjectWithoutName = 13,
  kNameMismatch = 14,       // the object's own record has another name
  kMappingBeyondSize = 15,  // a mapping reaches beyond the end of its object
  kCountMismatch = 16,      // a total in the superblock is wrong
  kStoreCutShort = 17,      // the device is smaller than the store
  kDataDamaged = 18,        // data cannot be read, or does not match its checksum
};
const char* FindingCodeName(FindingCode code);

struct Finding {
  FindingCode code;
  std::string what;  // names the object, block or range, and the cause, in words an operator can act on
};

struct FsckResult {
  std::vector<Finding> findings;  // the first 1000; findings_total counts all
  uint64_t findings_total = 0;
  uint64_t objects = 0, mappings = 0, mapped_blocks = 0, unwritten_blocks = 0, tree_nodes = 0, names = 0;
  uint64_t blocks_total = 0, blocks_used = 0;
  uint64_t generation = 0, log_epoch = 0;
  // Another process has the store open for writing. What was checked is a state that has all that was durable: its tree,
  // objects, names, mappings, and data if asked for. The log, the free-space map and leaks were not looked at.
  bool beside_owner = false;
  uint64_t log_records = 0;          // the records that count, which fsck replayed
  uint64_t log_records_dropped = 0;  // incomplete records at the end: normal after a crash, and no finding
  uint64_t lsn_checkpoint = 0, lsn_recovered = 0;
  // If the data was checked: the blocks that were read. Those excused did not match, and were open for writes in place
  // when the owner of the store crashed. Their content is taken at the device's word.
  bool data_checked = false;
  uint64_t data_blocks_checked = 0, data_blocks_excused = 0;
};

struct FsckOptions {
  bool data = false;  // reads all data too, and compares it with its checksums
  // Is called with (done, total) blocks.
  std::function<void(uint64_t, uint64_t)> progress = nullptr;
};

// Checks all metadata: superblocks, log, tree, every mapping against the free-space map, overlaps, leaks and names.
// Checks the contents of objects only if told to. Fails only if the device cannot be opened or read. All that is wrong
// with the store is a finding.
absl::StatusOr<FsckResult> Fsck(const std::string& path, const FsckOptions& options = {});

struct RepairResult {
  FsckResult found;                  // what fsck found before the repair
  std::vector<std::string> actions;  // the first 1000 actions, in words; actions_total counts all
  uint64_t actions_total = 0;        // 0: there was nothing to do
  uint64_t quarantined = 0;          // objects that were put in quarantine, or stay there
  bool repaired = false;
  FsckResult after;  // what fsck found after the repair: nothing
};

struct RepairOptions {
  bool dry_run = false;  // only says what a repair would do, and opens the store read-only
  // Repair calls `planned` with `found` and `actions` before it writes anything, unless there is nothing to
  // do.
  std::function<void(const RepairResult&)> planned;
  // Repair calls `progress` with (done, total), in no particular unit.
  std::function<void(uint64_t, uint64_t)> progress;
};

// Repairs what fsck finds, as docs/fsck.md describes. Repair restores a superblock from its twin, or writes
// the mapping tree and the free-space map anew from all that can be read. What the log says is kept. An
// object of which something is lost or doubtful is kept as "quarantine/NUMBER/NAME", and its lost parts read
// as zeros.
//
// Repair takes the exclusive lock. A crash, a power cut or a kill may interrupt Repair at any moment. Until
// its last step the store is as it was, and after that step the store is repaired. docs/fsck.md has one
// exception. Repair needs the memory that fsck needs, and some 200 bytes for every object and name.
//  kFailedPrecondition  nothing can be repaired. No superblock is usable, the device is smaller than the
//                       store, or a number in the store leaves no room for the next one.
//  kResourceExhausted   there is no room for the new tree beside the old one
//  kInternal            the device fails, or findings are left, which is a bug
absl::StatusOr<RepairResult> Repair(const std::string& path, const RepairOptions& options);

// Returns a store's metadata as JSON text: superblock slots, log records, tree nodes, objects with their
// mappings, and the free-space map. A damaged part has an "error" member, and the dump goes on with the rest.
struct DumpOptions {
  bool log = true, tree = true, objects = true, free_map = true;
  std::string object;  // if set, only the mappings of this object are shown
};
absl::StatusOr<std::string> DumpJson(const std::string& path, const DumpOptions& options);

}  // namespace untorn

#endif  // UNTORN_INSPECT_H_
