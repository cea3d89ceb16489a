#include <utility>

#include "absl/strings/str_cat.h"
#include "extent/tree_merge.h"
#include "untorn/store_impl.h"

namespace untorn::internal {

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

namespace {
absl::Status NoSuchObject(const std::string& name) {
  return absl::NotFoundError(absl::StrCat("there is no object '", name, "'"));
}
absl::Status NameTaken(const std::string& name) {
  return absl::AlreadyExistsError(absl::StrCat("there is an object '", name, "' already"));
}
// Claims, as Volume::TryClaim counts them: a new name, with a record of its object; one that goes; a hole.
constexpr uint64_t kEntriesOfCreate = kTreeEntriesOfName + 1;
constexpr uint64_t kEntriesOfRename = kTreeEntriesOfName + 2;
constexpr uint64_t kEntriesOfRemove = 3;
}  // namespace

absl::StatusOr<bool> StoreImpl::AwaitNames(Lock& lock) {
  if (!names_exclusive_) return true;
  engine_->pump().Wait(lock, [&] { return !names_exclusive_ || !engine_->CheckWritable().ok(); });
  if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
  return false;
}

absl::StatusOr<bool> StoreImpl::TryObject(Lock& lock, ObjectId id, std::shared_ptr<ObjectState>* out) {
  CowFork& fork = engine_->fork();
  *out = fork.FindObject(id);
  if (*out) return true;
  std::optional<Inode> inode;
  absl::StatusOr<bool> found = engine_->volume().TryFindInode(id, &inode);
  if (!found.ok()) return found.status();
  if (!*found) {
    absl::Status s = engine_->LoadMissing(lock);
    return s.ok() ? absl::StatusOr<bool>(false) : absl::StatusOr<bool>(s);
  }
  if (!inode)
    return absl::DataLossError(absl::StrCat("object ", Value(id), " has a name but no record of its own"));
  *out = fork.AddObject(*inode);
  return true;
}

absl::StatusOr<bool> StoreImpl::TryFind(Lock& lock, const std::string& name,
                                        std::shared_ptr<ObjectState>* out) {
  if (const CowFork::PendingName* pending = engine_->fork().FindName(name)) {
    *out = pending->object;
    return true;
  }
  out->reset();
  std::optional<ObjectId> id;
  absl::StatusOr<bool> found = engine_->volume().TryFindName(name, &id);
  if (!found.ok()) return found.status();
  if (!*found) {
    absl::Status s = engine_->LoadMissing(lock);
    return s.ok() ? absl::StatusOr<bool>(false) : absl::StatusOr<bool>(s);
  }
  if (!id) return true;
  return TryObject(lock, *id, out);
}

absl::StatusOr<bool> StoreImpl::AwaitRecord(Lock& lock, const std::string& name, ObjectId id) {
  return AwaitTree(lock, name, [id](Volume& volume) {
    std::optional<Inode> record;
    return volume.TryFindInode(id, &record);
  });
}

absl::StatusOr<bool> StoreImpl::AwaitNamedUnits(Lock& lock, ObjectState* object,
                                                const std::vector<std::string>& names) {
  CowFork& fork = engine_->fork();
  CowFork::UnitSet units;
  for (const std::string& name : names) fork.AddUnitOfName(name, &units);
  if (object != nullptr) {
    absl::StatusOr<bool> ok = engine_->AwaitObject(lock, *object);
    if (!ok.ok() || !*ok) return ok;
    fork.AddUnitsOfObject(*object, &units);
  }
  return engine_->AwaitJoin(lock, units);
}

// The object's own record must agree with the name it was found by: what follows changes that name.
absl::Status StoreImpl::CheckNamed(const ObjectState& object, const std::string& name) {
  if (object.name == name) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the name '", name, "' leads to object ", Value(object.id),
                                          ", whose own record has the name '", object.name, "'"));
}

std::shared_ptr<Unit> StoreImpl::StageCreate(std::shared_ptr<Unit> unit,
                                             const std::shared_ptr<ObjectState>& object) {
  CowFork& fork = engine_->fork();
  unit = fork.Join(unit, fork.UnitForObject(object));
  if (std::shared_ptr<Unit> other = fork.UnitOfName(object->name)) unit = fork.Join(unit, other);
  fork.Change(*unit, object).name = object->name;
  fork.StageName(unit, object->name, object);
  return unit;
}

std::shared_ptr<Unit> StoreImpl::StageRemove(std::shared_ptr<Unit> unit,
                                             const std::shared_ptr<ObjectState>& object) {
  CowFork& fork = engine_->fork();
  unit = fork.Join(unit, fork.UnitForObject(object));
  if (std::shared_ptr<Unit> other = fork.UnitOfName(object->name)) unit = fork.Join(unit, other);
  StageHoles(unit, object, {0, kObjectBlocksMax});
  fork.Change(*unit, object).removed = true;
  fork.StageName(unit, object->name, nullptr);
  object->removed = true;
  return unit;
}

std::shared_ptr<Unit> StoreImpl::StageRename(std::shared_ptr<Unit> unit,
                                             const std::shared_ptr<ObjectState>& object,
                                             const std::string& to) {
  CowFork& fork = engine_->fork();
  unit = fork.Join(unit, fork.UnitForObject(object));
  for (const std::string& name : {object->name, to}) {
    if (std::shared_ptr<Unit> other = fork.UnitOfName(name)) unit = fork.Join(unit, other);
  }
  fork.StageName(unit, object->name, nullptr);
  fork.StageName(unit, to, object);
  fork.Change(*unit, object).name = to;
  object->name = to;
  return unit;
}

absl::StatusOr<std::shared_ptr<ObjectState>> StoreImpl::Create(std::string_view name_view,
                                                               Durability durability) {
  if (absl::Status s = CheckName(name_view); !s.ok()) return s;
  const std::string name(name_view);
  Lock lock = engine_->Acquire();
  bool reached = false;
  while (true) {
    if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
    absl::StatusOr<bool> ok = AwaitNames(lock);
    std::shared_ptr<ObjectState> existing;
    if (ok.ok() && *ok) ok = TryFind(lock, name, &existing);
    if (ok.ok() && *ok && existing) return NameTaken(name);
    if (ok.ok() && *ok && !std::exchange(reached, true)) ok = AwaitRecord(lock, name, kAnyNewObject);
    if (ok.ok() && *ok) ok = AwaitNamedUnits(lock, nullptr, {name});
    if (ok.ok() && *ok) ok = engine_->Claim(lock, 0, kEntriesOfCreate, false);
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  CowFork& fork = engine_->fork();
  std::shared_ptr<ObjectState> object = fork.AddObject({engine_->volume().NewObjectId(), 0, name});
  std::shared_ptr<Unit> unit = StageCreate(fork.NewUnit(), object);
  NoteClaim(*unit, 0, kEntriesOfCreate);
  if (absl::Status s = Finish(lock, {unit}, durability); !s.ok()) return s;
  return object;
}

absl::StatusOr<std::shared_ptr<ObjectState>> StoreImpl::Find(std::string_view name_view) {
  if (absl::Status s = CheckName(name_view); !s.ok()) return s;
  const std::string name(name_view);
  Lock lock = engine_->Acquire();
  while (true) {
    if (absl::Status s = engine_->CheckOpen(); !s.ok()) return s;
    std::shared_ptr<ObjectState> object;
    absl::StatusOr<bool> ok = TryFind(lock, name, &object);
    if (!ok.ok()) return ok.status();
    if (!*ok) continue;
    if (!object) return NoSuchObject(name);
    return object;
  }
}

absl::Status StoreImpl::Rename(std::string_view from_view, std::string_view to_view, Durability durability) {
  for (std::string_view name : {from_view, to_view}) {
    if (absl::Status s = CheckName(name); !s.ok()) return s;
  }
  const std::string from(from_view), to(to_view);
  Lock lock = engine_->Acquire();
  std::shared_ptr<ObjectState> object;
  bool reached = false;
  while (true) {
    if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
    absl::StatusOr<bool> ok = AwaitNames(lock);
    std::shared_ptr<ObjectState> existing;
    if (ok.ok() && *ok) ok = TryFind(lock, from, &object);
    if (ok.ok() && *ok && !object) return NoSuchObject(from);
    if (ok.ok() && *ok) {
      if (absl::Status s = CheckNamed(*object, from); !s.ok()) return s;
    }
    if (ok.ok() && *ok) ok = TryFind(lock, to, &existing);
    if (ok.ok() && *ok && existing) return NameTaken(to);
    if (ok.ok() && *ok && !std::exchange(reached, true)) ok = AwaitRecord(lock, from, object->id);
    if (ok.ok() && *ok) ok = AwaitNamedUnits(lock, object.get(), {from, to});
    if (ok.ok() && *ok) ok = engine_->Claim(lock, 0, kEntriesOfRename, false);
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  std::shared_ptr<Unit> unit = StageRename(engine_->fork().NewUnit(), object, to);
  NoteClaim(*unit, 0, kEntriesOfRename);
  return Finish(lock, {unit}, durability);
}

absl::Status StoreImpl::Remove(std::string_view name_view, Durability durability) {
  if (absl::Status s = CheckName(name_view); !s.ok()) return s;
  const std::string name(name_view);
  Lock lock = engine_->Acquire();
  std::shared_ptr<ObjectState> object;
  ObjectId reached = ObjectId::kNone;
  while (true) {
    if (absl::Status s = engine_->CheckWritable(); !s.ok()) return s;
    absl::StatusOr<bool> ok = AwaitNames(lock);
    if (ok.ok() && *ok) ok = TryFind(lock, name, &object);
    if (ok.ok() && *ok && !object) return NoSuchObject(name);
    if (ok.ok() && *ok && std::exchange(reached, object->id) != object->id)
      ok = AwaitHole(lock, *object, {0, kObjectBlocksMax}, false);
    if (ok.ok() && *ok) {
      if (absl::Status s = CheckNamed(*object, name); !s.ok()) return s;
      ok = AwaitNamedUnits(lock, object.get(), {name});
    }
    if (ok.ok() && *ok) ok = engine_->Claim(lock, 0, kEntriesOfRemove, true);
    if (!ok.ok()) return ok.status();
    if (*ok) break;
  }
  std::shared_ptr<Unit> unit = StageRemove(engine_->fork().NewUnit(), object);
  NoteClaim(*unit, 0, kEntriesOfRemove);
  return Finish(lock, {unit}, durability);
}

absl::StatusOr<std::vector<ObjectInfo>> StoreImpl::List(std::string_view after, size_t max) {
  std::vector<ObjectInfo> objects;
  std::string at(after);
  Lock lock = engine_->Acquire();
  while (objects.size() < max) {
    if (absl::Status s = engine_->CheckOpen(); !s.ok()) return s;
    std::optional<std::pair<std::string, ObjectId>> durable;
    absl::StatusOr<bool> ok = engine_->volume().TryNextName(at, &durable);
    if (!ok.ok()) return ok.status();
    if (!*ok) {
      if (absl::Status s = engine_->LoadMissing(lock); !s.ok()) return s;
      continue;
    }
    const auto& pending = engine_->fork().names();
    auto it = pending.upper_bound(at);
    std::shared_ptr<ObjectState> object;
    if (it != pending.end() && (!durable || it->first <= durable->first)) {
      at = it->first;
      object = it->second.object;
      if (!object) continue;
    } else if (durable) {
      ok = TryObject(lock, durable->second, &object);
      if (!ok.ok()) return ok.status();
      if (!*ok) continue;
      at = durable->first;
    } else {
      break;
    }
    objects.push_back({object->name, Value(object->id), object->size_bytes});
  }
  engine_->fork().ForgetIdleObjects();
  return objects;
}

}  // namespace untorn::internal
