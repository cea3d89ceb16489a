// What is accepted and not yet durable: objects, their cached blocks, and the units that commit whole.
//
// A unit is a set of changes that a crash leaves whole or not at all: one atomic write, one transaction, one
// metadata operation, or several of them joined. It is
//     pending     changes may be joined to it
//     committing  frozen: its blocks are on their way to the device; a new write to them gets new buffers
//     done        durable, or failed
// and is named by its epoch (how many barriers came before it) and its sequence number.
//
// Threading: guarded by the store's mutex.
#ifndef UNTORN_COW_UNIT_H_
#define UNTORN_COW_UNIT_H_

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "cow/buffer_pool.h"
#include "cow/range_set.h"
#include "extent/types.h"

namespace untorn {

struct Unit;
struct ObjectState;

// One cached block.
struct Page {
  BufferRef buffer;            // the newest content; none while it is being read
  Unit* pending = nullptr;     // the pending unit that holds this content
  Unit* committing = nullptr;  // the unit that has a version of this block on its way to the device
  uint64_t read_token = 0;     // of the read that will fill it, if nobody writes it first
  bool referenced = false;     // since the eviction hand last came by
  bool drop_when_clean = false;

  bool unused() const { return !buffer && !pending && !committing && read_token == 0; }
};

// 16 adjacent blocks: one look-up serves 64 KiB.
struct Chunk {
  static constexpr uint64_t kBlocks = 16;
  ObjectState* object = nullptr;
  uint64_t index = 0;  // first block / kBlocks
  std::array<Page, kBlocks> pages;
  std::list<Chunk*>::iterator place;  // in the eviction order
};

// An object in memory, as everything accepted so far makes it.
struct ObjectState {
  ObjectId id = ObjectId::kNone;
  std::string name;
  uint64_t size_bytes = 0;
  bool removed = false;

  // As the records say that have been sent, and those that are durable.
  uint64_t sent_size_bytes = 0;
  std::string sent_name;
  uint64_t durable_size_bytes = 0;

  absl::flat_hash_map<uint64_t, std::unique_ptr<Chunk>> chunks;  // by index
  absl::flat_hash_set<Unit*> pending;
  Unit* metadata_unit = nullptr;  // the newest pending unit with metadata changes of it
  std::vector<Unit*> hole_units;  // pending and committing units that punch holes in it, oldest first
  int committing = 0;             // units
  int committing_metadata = 0;    // those that change metadata of it
  bool exclusive = false;         // a large commit is changing it: new changes wait
};

// What a unit changes of one object. Applied in this order: holes, unwritten, data, inode.
struct ObjectChange {
  std::shared_ptr<ObjectState> object;
  RangeSet holes;
  std::vector<Mapping> unwritten;               // preallocated extents
  RangeSet data;                                // blocks with new content
  std::optional<uint64_t> set_size_bytes;       // truncate, with later growth; otherwise
  uint64_t grow_to_bytes = 0;                   // the size becomes at least this
  std::optional<uint64_t> recorded_size_bytes;  // what its record says, once it is sent
  std::optional<std::string> name;              // create, rename
  bool removed = false;

  // Something besides data and growth, which orders it against all other changes of the object.
  bool metadata() const { return !holes.empty() || !unwritten.empty() || set_size_bytes || name || removed; }
};

struct FrozenRange {
  ObjectState* object = nullptr;
  BlockRange blocks;
  std::vector<BufferRef> buffers;  // one a block
};

struct Unit {
  enum class State { kPending, kCommitting, kDone };

  uint64_t sequence = 0;
  uint64_t epoch = 0;
  State state = State::kPending;
  std::shared_ptr<Unit> joined_to;  // this unit is now part of that one

  absl::btree_map<ObjectId, ObjectChange> changes;
  absl::btree_map<std::string, std::optional<ObjectId>> names;
  // Blocks of this unit whose page holds a newer version already, of a later epoch.
  absl::flat_hash_map<std::pair<ObjectId, uint64_t>, BufferRef> detached;
  uint64_t data_blocks = 0;
  uint64_t claimed_blocks = 0, claimed_entries = 0;
  bool transaction = false;
  bool bypass_cache = false;
  bool wanted = false;          // somebody waits for it
  bool device_refused = false;  // the device refused to write it atomically in place
  int64_t born_ms = 0;

  std::vector<FrozenRange> frozen;  // while committing
  std::vector<std::function<void(absl::Status)>> when_done;

  bool metadata() const {
    if (!names.empty()) return true;
    for (const auto& [id, change] : changes) {
      if (change.metadata()) return true;
    }
    return false;
  }
};

// The unit that `unit` has become part of, or itself.
inline std::shared_ptr<Unit> Resolve(std::shared_ptr<Unit> unit) {
  while (unit->joined_to) unit = unit->joined_to;
  return unit;
}

}  // namespace untorn

#endif  // UNTORN_COW_UNIT_H_
