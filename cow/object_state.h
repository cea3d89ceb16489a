// An ObjectState is an object in memory, as everything accepted so far makes it, and as the log has it.
//
// An object has three sizes: accepted (size_bytes), recorded in the log (sent_size_bytes), and durable
// (durable_size_bytes). RecordInode() changes the recorded size. CowFork changes the other two.
//
// Threading: the store's mutex guards the object.
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
  bool preallocated = false;  // a record, which may not be durable yet, says so of the object

  // Sent records give the object the sent size and name. Durable records give the durable size.
  uint64_t sent_size_bytes = 0;
  std::string sent_name;
  uint64_t durable_size_bytes = 0;

  absl::flat_hash_map<uint64_t, std::unique_ptr<Chunk>> chunks;  // by index
  std::vector<ChangeSet*> pending;    // pending change sets that change the object, in any order
  ChangeSet* metadata_set = nullptr;  // the newest pending change set with metadata changes of the object
  std::vector<ChangeSet*> hole_sets;  // pending and committing sets that make holes in the object
  int committing = 0;                 // number of committing change sets that change the object
  int committing_metadata = 0;        // how many of those change metadata of the object
  bool exclusive = false;             // a large commit is changing the object: new changes wait
};

}  // namespace untorn

#endif  // UNTORN_COW_OBJECT_STATE_H_
