// An object in memory: as everything accepted so far makes it, and as the log has it.
//
// An object has three sizes: accepted (size_bytes), recorded in the log (sent_size_bytes), and durable
// (durable_size_bytes). Only CowFork changes them.
//
// Threading: guarded by the store's mutex.
#ifndef UNTORN_COW_OBJECT_STATE_H_
#define UNTORN_COW_OBJECT_STATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "cow/page.h"
#include "extent/types.h"

namespace untorn {

struct ChangeSet;

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
  std::vector<ChangeSet*> pending;    // change sets with changes of it, in any order
  ChangeSet* metadata_set = nullptr;  // the newest pending change set with metadata changes of it
  std::vector<ChangeSet*> hole_sets;  // pending and committing ones that punch holes in it, oldest first
  int committing = 0;                 // change sets
  int committing_metadata = 0;        // those that change metadata of it
  bool exclusive = false;             // a large commit is changing it: new changes wait
};

}  // namespace untorn

#endif  // UNTORN_COW_OBJECT_STATE_H_
