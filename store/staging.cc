#include "store/staging.h"

#include "base/check.h"

namespace untorn::internal {
namespace {

// Joins `set` with the pending change set of this barrier epoch that changes the name, if there is one.
ChangeSetRef JoinName(CowFork& fork, ChangeSetRef set, const std::string& name) {
  const ChangeSetRef other = fork.names().PendingSet(name, fork.epoch());
  return other ? fork.Join(std::move(set), other) : set;
}

}  // namespace

ChangeSetRef StageCreate(CowFork& fork, ChangeSetRef set, const std::shared_ptr<ObjectState>& object) {
  UNTORN_CHECK(object->pending.empty() && object->committing == 0,
               "an object is created that has changes already");
  const PendingNames::Entry* taken = fork.names().Find(object->name);
  UNTORN_CHECK(taken == nullptr || !taken->object, "an object is created with the name of another");
  set = fork.Join(std::move(set), fork.SetForObject(object));
  set = JoinName(fork, std::move(set), object->name);
  fork.Change(*set, object).name = object->name;
  fork.names().Stage(*set, object->name, object);
  return set;
}

ChangeSetRef StageRemove(CowFork& fork, ChangeSetRef set, const std::shared_ptr<ObjectState>& object) {
  set = fork.Join(std::move(set), fork.SetForObject(object));
  set = JoinName(fork, std::move(set), object->name);
  fork.StageHole(set, object, {0, kObjectBlocksMax});
  fork.Change(*set, object).removed = true;
  fork.names().Stage(*set, object->name, nullptr);
  object->removed = true;
  return set;
}

ChangeSetRef StageRename(CowFork& fork, ChangeSetRef set, const std::shared_ptr<ObjectState>& object,
                         const std::string& to) {
  set = fork.Join(std::move(set), fork.SetForObject(object));
  set = JoinName(fork, std::move(set), object->name);
  set = JoinName(fork, std::move(set), to);
  // Both names are in one change set, so a crash leaves the object with one of them.
  fork.names().Stage(*set, object->name, nullptr);
  fork.names().Stage(*set, to, object);
  fork.Change(*set, object).name = to;
  object->name = to;
  return set;
}

}  // namespace untorn::internal
