// Names that accepted changes give to objects, or take from them, and that are not durable yet.
//
// Threading: guarded by the store's mutex.
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
    std::shared_ptr<ObjectState> object;  // nullptr: the name is gone
    ChangeSet* set = nullptr;             // the newest change set that says so
  };

  // nullptr: nothing is pending for this name.
  const Entry* Find(const std::string& name) const {
    auto it = names_.find(name);
    return it == names_.end() ? nullptr : &it->second;
  }
  // The pending change set of this barrier epoch that a change of this name belongs to; nullptr: there is none yet.
  ChangeSetRef PendingSet(const std::string& name, BarrierEpoch epoch) const {
    const Entry* entry = Find(name);
    if (entry == nullptr || entry->set->state != ChangeSet::State::kPending || entry->set->epoch != epoch) {
      return nullptr;
    }
    return entry->set->shared_from_this();
  }
  // In byte order.
  const absl::btree_map<std::string, Entry>& all() const { return names_; }

  // `set` makes the name refer to `object` (null: to nothing).
  void Stage(ChangeSet& set, const std::string& name, const std::shared_ptr<ObjectState>& object) {
    set.names[name] = object ? std::optional<ObjectId>(object->id) : std::nullopt;
    names_[name] = {object, &set};
  }
  // What `from` says of names is said by `into` now.
  void Join(ChangeSet& into, ChangeSet& from) {
    for (auto& [name, target] : from.names) {
      into.names[name] = target;
      auto it = names_.find(name);
      if (it != names_.end() && it->second.set == &from) it->second.set = &into;
    }
    from.names.clear();
  }
  // `set` is durable.
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
