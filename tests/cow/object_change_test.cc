// The changes of a change set, by object: what is changed of each is found again, in order.
#include "cow/object_change.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "cow/change_set.h"

namespace untorn {
namespace {

std::vector<uint64_t> Ids(const ObjectChanges& changes) {
  std::vector<uint64_t> ids;
  for (const auto& [id, change] : changes) ids.push_back(Value(id));
  return ids;
}

TEST(ObjectChangesTest, AreInOrderOfTheirObjectsHoweverTheyCame) {
  for (int seed = 1; seed <= 200; ++seed) {
    std::mt19937_64 random(seed);
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    ObjectChanges changes;
    std::map<uint64_t, uint64_t> model;
    for (uint64_t n = random() % 12; n > 0; --n) {
      const uint64_t id = 1 + random() % 10;
      changes[ObjectId{id}].grow_to_bytes = model[id] = random();
    }
    std::vector<uint64_t> ids;
    for (const auto& [id, bytes] : model) ids.push_back(id);
    ASSERT_EQ(Ids(changes), ids);
    ASSERT_EQ(changes.size(), model.size());
    for (uint64_t id = 1; id <= 10; ++id) {
      const auto it = changes.find(ObjectId{id});
      ASSERT_EQ(it != changes.end(), model.contains(id));
      ASSERT_EQ(changes.contains(ObjectId{id}), model.contains(id));
      if (model.contains(id)) {
        ASSERT_EQ(it->second.grow_to_bytes, model[id]);
      }
    }
    changes.clear();
    ASSERT_EQ(changes.size(), 0u);
    ASSERT_TRUE(changes.begin() == changes.end());
  }
}

TEST(ObjectChangesTest, ObjectKnowsItsPendingChangeSetsThroughAdditionsAndRemovals) {
  std::mt19937_64 random(1);
  const auto object = std::make_shared<ObjectState>();
  object->id = ObjectId{7};
  std::vector<std::unique_ptr<ChangeSet>> sets;
  for (int step = 0; step < 500; ++step) {
    if (sets.empty() || random() % 2 == 0) {
      ChangeSet& set = *sets.emplace_back(std::make_unique<ChangeSet>());
      ObjectChange& change = set.changes[object->id];
      change.object = object;
      AddPending(set, change);
    } else {
      const size_t at = random() % sets.size();
      RemovePending(sets[at]->changes[object->id]);
      sets.erase(sets.begin() + static_cast<ptrdiff_t>(at));
    }
    ASSERT_EQ(object->pending.size(), sets.size());
    for (const auto& set : sets) {
      ASSERT_EQ(object->pending[set->changes[object->id].pending_at], set.get());
    }
  }
}

}  // namespace
}  // namespace untorn
