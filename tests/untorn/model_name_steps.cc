// The model run's operations on names, and what it asks the store about itself.
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/untorn/model_run.h"
#include "tests/untorn/test_util.h"

namespace untorn {

std::string ModelRun::PickName() { return name_pool_[Random(name_pool_.size())]; }

void ModelRun::CreateStep() {
  const std::string name = PickName();
  const Durability durability = PickDurability();
  Note(absl::StrCat("create ", name.substr(0, 10), durability == Durability::kSync ? " sync" : ""));
  auto object = (*store_)->CreateObject(name, durability);
  if (model_.names().contains(name)) {
    if (object.status().code() != absl::StatusCode::kAlreadyExists && !store_->device().cut() &&
        !fault_planned_) {
      Fail("CreateObject of an existing name: " + object.status().ToString());
    }
    if (object.status().code() != absl::StatusCode::kAlreadyExists)
      Judge(object.status(), kMustWork, "CreateObject");
    return;
  }
  const Fate fate = Judge(object.status(), kSpace, "CreateObject");
  if (fate == Fate::kRefused) return;
  const uint64_t id = object.ok() ? object->id() : Model::kAnyObject;
  if (object.ok() && model_.knows(id)) return Fail("CreateObject gives the id of another object");
  Apply(fate, durability == Durability::kSync, id, absl::StrCat("create ", id),
        [&] { model_.Create(name, id); });
  if (object.ok()) handles_[id] = *object;
}

void ModelRun::RemoveStep() {
  const std::string name = PickName();
  const Durability durability = PickDurability();
  Note(absl::StrCat("remove ", name.substr(0, 10), durability == Durability::kSync ? " sync" : ""));
  absl::Status status = (*store_)->Remove(name, durability);
  if (!model_.names().contains(name)) {
    if (status.code() != absl::StatusCode::kNotFound) Judge(status, kMustWork, "Remove of no object");
    if (status.ok()) Fail("Remove of a name that is not there");
    return;
  }
  const uint64_t id = model_.names().at(name);
  const Fate fate = Judge(status, kMustWork, "Remove");  // promise 7: on a full store too
  if (failed_) return;
  Apply(fate, durability == Durability::kSync, id, absl::StrCat("remove ", id), [&] { model_.Remove(name); });
  stale_.push_back(handles_.at(id));
  handles_.erase(id);
  if (stale_.size() > 4) stale_.erase(stale_.begin());
}

void ModelRun::RenameStep() {
  const std::string from = PickName(), to = PickName();
  const Durability durability = PickDurability();
  Note(absl::StrCat("rename ", from.substr(0, 10), " to ", to.substr(0, 10),
                    durability == Durability::kSync ? " sync" : ""));
  absl::Status status = (*store_)->Rename(from, to, durability);
  const bool there = model_.names().contains(from), taken = model_.names().contains(to);
  if (!there || taken) {
    const bool as_told = (!there && status.code() == absl::StatusCode::kNotFound) ||
                         (taken && status.code() == absl::StatusCode::kAlreadyExists) ||
                         (from == to && status.ok());
    if (!as_told)
      Judge(status.ok() ? absl::UnknownError("accepted") : status, kMustWork, "Rename that cannot be");
    return;
  }
  const uint64_t id = model_.names().at(from);
  const Fate fate = Judge(status, kSpace, "Rename");
  if (fate == Fate::kRefused) return;
  Apply(fate, durability == Durability::kSync, id, absl::StrCat("rename ", id),
        [&] { model_.Rename(from, to); });
}

void ModelRun::OpenStep() {
  const std::string name = PickName();
  Note("open " + name.substr(0, 10));
  auto object = (*store_)->OpenObject(name);
  auto it = model_.names().find(name);
  if (it == model_.names().end()) {
    if (object.status().code() != absl::StatusCode::kNotFound)
      Judge(object.status(), kMustWork, "OpenObject");
    if (object.ok()) Fail("OpenObject finds a name that is not there");
  } else if (Judge(object.status(), kMustWork, "OpenObject") == Fate::kDone) {
    if (object->id() != it->second) return Fail("OpenObject finds another object");
    auto found = object->Name();
    if (Judge(found.status(), kMustWork, "Name") == Fate::kDone && *found != name) Fail("Name differs");
    auto size = object->Size();
    if (Judge(size.status(), kMustWork, "Size") == Fate::kDone && *size != model_.data(it->second).size()) {
      Fail(absl::StrCat("Size is ", *size, " instead of ", model_.data(it->second).size()));
    }
  }
  if (stale_.empty() || fault_planned_) return;
  const Object& removed = stale_[Random(stale_.size())];
  const absl::Status status = OneIn(2)   ? removed.PunchHole(0, 10)
                              : OneIn(2) ? removed.Sync()
                                         : removed.Truncate(0);
  if (status.code() != absl::StatusCode::kNotFound)
    Fail("a handle of a removed object: " + status.ToString());
}

void ModelRun::ListStep() {
  const std::string after = OneIn(2) ? "" : PickName();
  const size_t max = 1 + Random(12);
  Note("list");
  auto list = (*store_)->List(after, max);
  if (Judge(list.status(), kMustWork, "List") != Fate::kDone) return;
  auto it = after.empty() ? model_.names().begin() : model_.names().upper_bound(after);
  size_t n = 0;
  for (; it != model_.names().end() && n < max; ++it, ++n) {
    if (n >= list->size()) break;
    const ObjectInfo& info = (*list)[n];
    if (info.name != it->first || info.id != it->second ||
        info.size_bytes != model_.data(it->second).size()) {
      return Fail("List differs at " + info.name);
    }
  }
  if (n != list->size() || (n < max && it != model_.names().end())) Fail("List has another length");
}

void ModelRun::StatsStep() {
  const Stats stats = (*store_)->stats();
  if (stats.cache_limit != options_.open.cache_bytes) Fail("cache limit");
  if (stats.cache_dirty > stats.cache_used) Fail("more dirty than used cache");
  if (stats.space_free > stats.space_total) Fail("more free than all space");
  if (stats.lsn_settled > stats.lsn_durable || stats.lsn_durable > stats.lsn_last) Fail("LSNs out of order");
  const StoreInfo info = (*store_)->info();
  if (info.atomic_write_bytes_max < (64u << 20)) Fail("atomic writes of 64 MiB are not offered");
  if (info.read_only || info.block_bytes != ObjectData::kBlock || info.size_bytes != options_.size_bytes)
    Fail("info");
}

}  // namespace untorn
