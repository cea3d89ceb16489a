#include "store/namespace.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/readiness.h"
#include "base/status_macros.h"
#include "store/staging.h"

namespace untorn::internal {
namespace {

// The inode of a new object will be the last one in the tree. The new inode goes into the leaf where the
// inode with this number would be.
constexpr ObjectId kAnyNewObject{UINT64_MAX};

}  // namespace

absl::Status CheckName(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("the name is empty");
  if (name.size() > kNameBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the name has ", name.size(), " bytes: at most ", kNameBytesMax));
  }
  if (name.find('\0') != std::string_view::npos)
    return absl::InvalidArgumentError("the name holds a NUL byte");
  return absl::OkStatus();
}

absl::Status CheckNamed(const ObjectState& object, const std::string& name) {
  if (object.name == name) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the name '", name, "' leads to object ", Value(object.id),
                                          ", whose own record has the name '", object.name,
                                          "'; run untorn fsck"));
}

absl::Status NoSuchObject(const std::string& name) {
  return absl::NotFoundError(absl::StrCat("there is no object '", name, "'"));
}

absl::Status NameTaken(const std::string& name) {
  return absl::AlreadyExistsError(absl::StrCat("there is an object '", name, "' already"));
}

Readiness Namespace::AwaitObjectOf(Lock& lock, ObjectId id, std::shared_ptr<ObjectState>* out) {
  ObjectTable& objects = front_.parts.fork.objects();
  // An object in memory has everything that is accepted. The tree has only what is durable.
  *out = objects.Find(id);
  if (*out) return Readiness::Ready();
  MappingReader& reader = front_.parts.volume.mappings();
  std::optional<Inode> inode;
  MissingNodes missing;
  RETURN_IF_ERROR(reader.FindInode(id, &inode, &missing));
  RETURN_UNLESS_READY(reader.AwaitNodes(lock, missing));
  if (inode) *out = objects.Add(*inode);
  return Readiness::Ready();
}

Readiness Namespace::AwaitFound(Lock& lock, const std::string& name, std::shared_ptr<ObjectState>* out) {
  // A pending change of a name hides what is durable. The entry of a removed name has no object.
  if (const PendingNames::Entry* pending = front_.parts.fork.names().Find(name)) {
    *out = pending->object;
    return Readiness::Ready();
  }
  out->reset();
  MappingReader& reader = front_.parts.volume.mappings();
  std::optional<ObjectId> id;
  MissingNodes missing;
  RETURN_IF_ERROR(reader.FindName(name, &id, &missing));
  RETURN_UNLESS_READY(reader.AwaitNodes(lock, missing));
  if (!id) return Readiness::Ready();
  RETURN_UNLESS_READY(AwaitObjectOf(lock, *id, out));
  if (*out) return Readiness::Ready();
  return absl::DataLossError(
      absl::StrCat("object ", Value(*id), " has a name but no record of its own; run untorn fsck"));
}

Readiness Namespace::AwaitJoinOfNames(Lock& lock, const ObjectState* object,
                                      const std::vector<std::string>& names) {
  CowFork& fork = front_.parts.fork;
  ChangeSetsFound sets;
  for (const std::string& name : names) {
    if (const ChangeSetRef set = fork.names().PendingSet(name, fork.epoch())) sets.insert(set.get());
  }
  if (object != nullptr) {
    RETURN_UNLESS_READY(front_.admission.AwaitObject(lock, *object));
    AddSetsOfObject(*object, fork.epoch(), &sets);
  }
  return front_.admission.AwaitJoin(lock, sets);
}

absl::StatusOr<std::shared_ptr<ObjectState>> Namespace::Create(std::string_view name_view,
                                                               Durability durability) {
  const DurableCall call(durability);
  RETURN_IF_ERROR(CheckName(name_view));
  const std::string name(name_view);
  bool looked = false;
  Lock lock(front_.mu);
  Reservation space;
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front_.parts.CheckChangeable());
    RETURN_UNLESS_READY(front_.admission.AwaitNames(lock));
    std::shared_ptr<ObjectState> existing;
    RETURN_UNLESS_READY(AwaitFound(lock, name, &existing));
    if (existing) return NameTaken(name);
    if (!std::exchange(looked, true))
      RETURN_UNLESS_READY(front_.admission.AwaitRecord(lock, name, kAnyNewObject));
    RETURN_UNLESS_READY(AwaitJoinOfNames(lock, nullptr, {name}));
    return front_.admission.AwaitSpace(lock, {0, kEntriesOfCreate}, SpaceFor::kGrowth, &space);
  }));
  CowFork& fork = front_.parts.fork;
  // The object gets its number only now, so a create that is refused uses up no number.
  std::shared_ptr<ObjectState> object = fork.objects().Add({front_.parts.volume.NewObjectId(), 0, name});
  const ChangeSetRef set = StageCreate(fork, fork.NewChangeSet(), object);
  PayWith(front_, *set, std::move(space));
  RETURN_IF_ERROR(FinishChange(front_, lock, {set}, call));
  return object;
}

absl::StatusOr<std::shared_ptr<ObjectState>> Namespace::Find(std::string_view name_view, FindFor purpose) {
  RETURN_IF_ERROR(CheckName(name_view));
  const std::string name(name_view);
  std::shared_ptr<ObjectState> object;
  Lock lock(front_.mu);
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front_.parts.health.CheckOpen());
    return AwaitFound(lock, name, &object);
  }));
  if (!object) return NoSuchObject(name);
  if (purpose == FindFor::kChange) RETURN_IF_ERROR(CheckNamed(*object, name));
  return object;
}

absl::StatusOr<std::shared_ptr<ObjectState>> Namespace::FindById(ObjectId id) {
  std::shared_ptr<ObjectState> object;
  Lock lock(front_.mu);
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front_.parts.health.CheckOpen());
    return AwaitObjectOf(lock, id, &object);
  }));
  if (!object) return absl::NotFoundError(absl::StrCat("object ", Value(id), " was removed"));
  return object;
}

absl::Status Namespace::Rename(std::string_view from_view, std::string_view to_view, Durability durability) {
  const DurableCall call(durability);
  for (std::string_view name : {from_view, to_view}) RETURN_IF_ERROR(CheckName(name));
  const std::string from(from_view), to(to_view);
  std::shared_ptr<ObjectState> object;
  bool looked = false;
  Lock lock(front_.mu);
  Reservation space;
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front_.parts.CheckChangeable());
    RETURN_UNLESS_READY(front_.admission.AwaitNames(lock));
    RETURN_UNLESS_READY(AwaitFound(lock, from, &object));
    if (!object) return NoSuchObject(from);
    RETURN_IF_ERROR(CheckNamed(*object, from));
    std::shared_ptr<ObjectState> existing;
    RETURN_UNLESS_READY(AwaitFound(lock, to, &existing));
    if (existing) return NameTaken(to);
    // The rename changes the inode, so the leaf of the inode must be readable.
    if (!std::exchange(looked, true))
      RETURN_UNLESS_READY(front_.admission.AwaitRecord(lock, from, object->id));
    RETURN_UNLESS_READY(AwaitJoinOfNames(lock, object.get(), {from, to}));
    return front_.admission.AwaitSpace(lock, {0, kEntriesOfRename}, SpaceFor::kGrowth, &space);
  }));
  const ChangeSetRef set = StageRename(front_.parts.fork, front_.parts.fork.NewChangeSet(), object, to);
  PayWith(front_, *set, std::move(space));
  return FinishChange(front_, lock, {set}, call);
}

absl::Status Namespace::Remove(std::string_view name_view, Durability durability) {
  const DurableCall call(durability);
  RETURN_IF_ERROR(CheckName(name_view));
  const std::string name(name_view);
  std::shared_ptr<ObjectState> object;
  ObjectId looked = ObjectId::kNone;
  Lock lock(front_.mu);
  Reservation space;
  RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
    RETURN_IF_ERROR(front_.parts.CheckChangeable());
    RETURN_UNLESS_READY(front_.admission.AwaitNames(lock));
    RETURN_UNLESS_READY(AwaitFound(lock, name, &object));
    if (!object) return NoSuchObject(name);
    // The tree is checked again if the name leads to another object by now.
    if (std::exchange(looked, object->id) != object->id) {
      RETURN_UNLESS_READY(front_.admission.AwaitHole(lock, *object, {0, kObjectBlocksMax}, false));
    }
    RETURN_IF_ERROR(CheckNamed(*object, name));
    RETURN_UNLESS_READY(AwaitJoinOfNames(lock, object.get(), {name}));
    // So a remove works on a full store (promise 7).
    return front_.admission.AwaitSpace(lock, {0, kEntriesOfRemove}, SpaceFor::kRelease, &space);
  }));
  const ChangeSetRef set = StageRemove(front_.parts.fork, front_.parts.fork.NewChangeSet(), object);
  PayWith(front_, *set, std::move(space));
  return FinishChange(front_, lock, {set}, call);
}

absl::StatusOr<std::vector<ObjectInfo>> Namespace::List(std::string_view after, size_t max) {
  std::vector<ObjectInfo> listed;
  std::string at(after);
  Lock lock(front_.mu);
  const auto& pending = front_.parts.fork.names().all();
  MappingReader& reader = front_.parts.volume.mappings();
  while (listed.size() < max) {
    std::shared_ptr<ObjectState> object;
    bool at_end = false;
    // The next name is the smaller one of the next pending name and the next durable name.
    RETURN_IF_ERROR(UntilReady([&]() REQUIRES_STORE_LOCK -> Readiness {
      RETURN_IF_ERROR(front_.parts.health.CheckOpen());
      std::optional<std::pair<std::string, ObjectId>> durable;
      MissingNodes missing;
      RETURN_IF_ERROR(reader.NextName(at, &durable, &missing));
      RETURN_UNLESS_READY(reader.AwaitNodes(lock, missing));
      const auto it = pending.upper_bound(at);
      // A pending name also hides the same durable name.
      if (it != pending.end() && (!durable || it->first <= durable->first)) {
        object = it->second.object;  // nullptr if the name is going away
        at = it->first;
        return Readiness::Ready();
      }
      at_end = !durable;
      if (at_end) return Readiness::Ready();
      RETURN_UNLESS_READY(AwaitObjectOf(lock, durable->second, &object));
      at = durable->first;
      return Readiness::Ready();
    }));
    if (at_end) break;
    // The record of a damaged object may have another name.
    if (object) listed.push_back({at, Value(object->id), object->size_bytes});
  }
  // The listing has made objects in memory that nothing refers to.
  front_.parts.fork.objects().ForgetIdle();
  return listed;
}

}  // namespace untorn::internal
