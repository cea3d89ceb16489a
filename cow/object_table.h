// The object table holds the objects that are in memory, by number.
//
// Threading: the store's mutex guards the table.
#ifndef UNTORN_COW_OBJECT_TABLE_H_
#define UNTORN_COW_OBJECT_TABLE_H_

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "cow/object_state.h"
#include "extent/types.h"

namespace untorn {

class ObjectTable {
 public:
  // Returns nullptr if the object is not in memory.
  std::shared_ptr<ObjectState> Find(ObjectId id) const {
    auto it = objects_.find(id);
    return it == objects_.end() ? nullptr : it->second;
  }
  // Adds an object as the inode describes it. The inode is durable, or is about to be.
  std::shared_ptr<ObjectState> Add(const Inode& inode) {
    auto object = std::make_shared<ObjectState>();
    object->id = inode.id;
    object->name = object->sent_name = inode.name;
    object->size_bytes = object->sent_size_bytes = object->durable_size_bytes = inode.size_bytes;
    object->preallocated = inode.preallocated;
    objects_[inode.id] = object;
    return object;
  }
  // Forgets objects that nothing refers to any more.
  void ForgetIdle() {
    absl::erase_if(objects_, [](const auto& v) {
      const ObjectState& o = *v.second;
      return v.second.use_count() == 1 && o.chunks.empty() && o.pending.empty() && o.committing == 0;
    });
  }
  template <typename Fn>
  void ForEach(Fn fn) const {
    for (const auto& [id, object] : objects_) fn(*object);
  }

 private:
  absl::flat_hash_map<ObjectId, std::shared_ptr<ObjectState>> objects_;
};

}  // namespace untorn

#endif  // UNTORN_COW_OBJECT_TABLE_H_
