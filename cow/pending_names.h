// Pending names are given to objects, or taken from objects, by accepted changes that are not durable yet.
//
// Threading: the store's mutex guards the names.
#ifndef UNTORN_COW_PENDING_NAMES_H_
#define UNTORN_COW_PENDING_NAMES_H_

#include <memory>
#include <string>

#include "absl/container/btree_map.h"
#include "cow/change_set.h"

namespace untorn {

class PendingNames {
 public:
  struct Entry {
    std::shared_ptr<ObjectState> object;  // null: the name is gone
    ChangeSet* set = nullptr;             // the newest change set that changes the name
  };

  // Returns nullptr if no change of this name is pending or committing.
  const Entry* Find(const std::string& name) const {
    auto it = names_.find(name);
    return it == names_.end() ? nullptr : &it->second;
  }
  // Returns the pending change set of this barrier epoch that a change of the name belongs to. Returns
  // nullptr if there is no such set yet.
  ChangeSetRef PendingSet(const std::string& name, BarrierEpoch epoch) const {
    const Entry* entry = Find(name);
    if (entry == nullptr || entry->set->state != ChangeSet::State::kPending || entry->set->epoch != epoch) {
      return nullptr;
    }
    return entry->set->shared_from_this();
  }
  // Returns all entries, in byte order of their names.
  const absl::btree_map<std::string, Entry>& all() const { return names_; }

  // Makes the name refer to `object`, by the change set `set`. A null `object` takes the name away.
  void Stage(ChangeSet& set, const std::string& name, const std::shared_ptr<ObjectState>& object) {
    set.names[name] = object ? std::optional<ObjectId>(object->id) : std::nullopt;
    names_[name] = {object, &set};
  }
  // Moves the changes of names from `from` to `into`.
  void Join(ChangeSet& into, ChangeSet& from) {
    for (auto& [name, target] : from.names) {
      into.names[name] = target;
      auto it = names_.find(name);
      if (it != names_.end() && it->second.set == &from) it->second.set = &into;
    }
    from.names.clear();
  }
  // Must be called when `set` is durable. A name that a newer set changes stays pending.
  void Complete(const ChangeSet& set) {
    for (const auto& [name, target] : set.names) {
      auto it = names_.find(name);
      if (it != names_.end() && it->second.set == &set) names_.erase(it);
    }
  }

 private:
  absl::btree_map<std::string, Entry> names_;
};

}  // namespace untorn

#endif  // UNTORN_COW_PENDING_NAMES_H_
