// Transactions of the model run (promise 6).
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/untorn/model_run.h"
#include "tests/untorn/test_util.h"

namespace untorn {

// What the transaction's owner must read: the object as it is now, with the transaction's changes over it.
ObjectData ModelRun::WithChanges(uint64_t object, const std::vector<Change>& changes) const {
  ObjectData data;
  if (model_.exists(object)) data = model_.data(object);
  for (const Change& change : changes) {
    if (change.object != object) continue;
    if (change.kind == Change::kWrite) data.Write(change.range.offset, change.data);
    if (change.kind == Change::kTruncate) data.Truncate(change.range.length);
    if (change.kind == Change::kPunch) data.Punch(change.range.offset, change.range.length);
  }
  return data;
}

uint64_t ModelRun::TotalSize() const {
  uint64_t bytes = 0;
  for (const auto& [name, id] : model_.names()) bytes += model_.data(id).size();
  return bytes;
}

void ModelRun::ApplyToModel(const std::vector<Change>& changes) {
  for (const Change& change : changes) {
    switch (change.kind) {
      case Change::kCreate:
        model_.Create(change.name, change.object);
        break;
      case Change::kRemove:
        model_.Remove(change.name);
        break;
      case Change::kRename:
        model_.Rename(change.name, change.to);
        break;
      case Change::kWrite:
        model_.Write(change.object, change.range.offset, change.data);
        break;
      case Change::kTruncate:
        model_.Truncate(change.object, change.range.length);
        break;
      case Change::kPunch:
        model_.Punch(change.object, change.range.offset, change.range.length);
        break;
    }
  }
}

// Makes one random change, and tells the caller's books of it. False: the transaction cannot go on.
bool ModelRun::ChangeInTransaction(Transaction& transaction, std::vector<Change>& changes,
                                   std::map<std::string, uint64_t>& names,
                                   std::map<uint64_t, Object>& handles) {
  Change change;
  const uint64_t kind = Random(20);
  std::string what;
  absl::Status status;
  absl::StatusCode expected = absl::StatusCode::kOk;
  if (names.empty() || kind == 0) {
    change.kind = Change::kCreate;
    change.name = PickName();
    if (names.contains(change.name)) expected = absl::StatusCode::kAlreadyExists;
    what = "create " + change.name.substr(0, 10);
    auto object = transaction.CreateObject(change.name);
    status = object.status();
    if (object.ok()) {
      change.object = object->id();
      handles[change.object] = *object;
    }
  } else if (kind <= 2) {
    change.kind = kind == 1 ? Change::kRemove : Change::kRename;
    change.name = PickName();
    change.to = PickName();
    auto it = names.find(change.name);
    change.object = it == names.end() ? 0 : it->second;
    what = absl::StrCat(kind == 1 ? "remove " : "rename ", change.name.substr(0, 10), " ",
                        change.to.substr(0, 10));
    if (kind == 2 && names.contains(change.to)) {
      if (it == names.end() || change.name == change.to) return true;  // either error would do
      expected = absl::StatusCode::kAlreadyExists;
    }
    if (it == names.end()) expected = absl::StatusCode::kNotFound;
    status = kind == 1 ? transaction.Remove(change.name) : transaction.Rename(change.name, change.to);
  } else {
    change.object = std::next(names.begin(), Random(names.size()))->second;
    const Object& object = handles.at(change.object);
    const ObjectData now = WithChanges(change.object, changes);
    if (kind == 3) {
      change.kind = Change::kTruncate;
      change.range.length = Random(OneIn(4) ? 2 * span_bytes_ : std::min(now.size(), 4 * span_bytes_) + 1);
      what = absl::StrCat("truncate ", change.object, " to ", change.range.length);
      status = transaction.Truncate(object, change.range.length);
    } else if (kind == 4) {
      change.kind = Change::kPunch;
      change.range = {Random(span_bytes_), 1 + Random(50000)};
      what = absl::StrCat("punch ", change.range.offset, "+", change.range.length, " of ", change.object);
      status = transaction.PunchHole(object, change.range.offset, change.range.length);
    } else {
      change.kind = Change::kWrite;
      change.range =
          model_.exists(change.object) ? PickRange(change.object) : Range{Random(5000), 1 + Random(50000)};
      change.data = Stamped(next_stamp_++, change.range.length);
      what = absl::StrCat("write ", change.range.offset, "+", change.range.length, " of ", change.object);
      status = transaction.Write(object, change.range.offset, change.data);
    }
  }
  Note("  in transaction: " + what);
  if (status.code() != expected) {
    if (status.ok()) {
      Fail(what + " in a transaction is accepted");
    } else if (Judge(status, kSpace, what + " in a transaction") == Fate::kUnknown) {
      uncertain_.insert(change.object);
    }
    return false;
  }
  if (!status.ok()) return true;
  if (change.kind == Change::kCreate) names[change.name] = change.object;
  if (change.kind == Change::kRemove || change.kind == Change::kRename) names.erase(change.name);
  if (change.kind == Change::kRename) names[change.to] = change.object;
  changes.push_back(std::move(change));
  return true;
}

void ModelRun::TransactionStep() {
  ++counts_.transactions;
  Note("transaction");
  std::vector<Change> changes;
  std::map<std::string, uint64_t> names = model_.names();
  std::map<uint64_t, Object> handles = handles_;
  Transaction transaction = (*store_)->Begin();
  const bool is_large = OneIn(150);  // more than the cache
  const uint64_t n = is_large ? 60 : OneIn(8) ? 30 : 1 + Random(8);
  uint64_t bytes = 0;
  bool writes_only = true, grown_by_others = false;
  for (uint64_t i = 0; i < n && !failed_; ++i) {
    if (is_large && !names.empty() && OneIn(2)) {  // large pieces
      Change change{.kind = Change::kWrite, .object = std::next(names.begin(), Random(names.size()))->second};
      change.range = {Random(span_bytes_), 150 << 10};
      change.data = Stamped(next_stamp_++, change.range.length);
      const auto status = transaction.Write(handles.at(change.object), change.range.offset, change.data);
      Note(absl::StrCat("  in transaction: write ", change.range.offset, "+", change.range.length));
      if (Judge(status, kSpace, "write in a transaction") != Fate::kDone) return;
      changes.push_back(std::move(change));
    } else if (!ChangeInTransaction(transaction, changes, names, handles)) {
      return;
    }
    if (!changes.empty()) {
      const Change& last = changes.back();
      bytes += last.data.size();
      writes_only = writes_only && last.kind == Change::kWrite;
    }
    if (names.empty() || failed_ || store_->device().cut()) continue;
    if (!grown_by_others && OneIn(3)) {  // its own reads
      const uint64_t id = std::next(names.begin(), Random(names.size()))->second;
      const ObjectData expected = WithChanges(id, changes);
      const Range range = {Random(span_bytes_), 1 + Random(60000)};
      std::vector<std::byte> got(range.length), wanted(range.length);
      auto read = transaction.Read(handles.at(id), range.offset, got);
      if (Judge(read.status(), kMustWork, "read in a transaction") != Fate::kDone) return;
      if (*read != expected.Read(range.offset, wanted) ||
          std::memcmp(got.data(), wanted.data(), *read) != 0) {
        return Fail(absl::StrCat("a transaction does not read its own ", range.offset, "+", range.length,
                                 " of ", id));
      }
      auto size = transaction.Size(handles.at(id));
      if (Judge(size.status(), kMustWork, "size in a transaction") != Fate::kDone) return;
      if (*size != expected.size())
        return Fail(absl::StrCat("a transaction does not see its own size: ", *size, " instead of ",
                                 expected.size()));
    }
    if (OneIn(6)) {  // others see nothing of it
      const uint64_t id = PickObject();
      if (id != 0) CheckRead(handles_.at(id), model_.data(id), {Random(span_bytes_), 1 + Random(60000)});
    }
    if (writes_only && OneIn(8)) {
      Note("  outside:");
      const uint64_t before = TotalSize();
      WriteStep();
      // Whether it sees others' growth of an object it has touched is not promised.
      grown_by_others |= TotalSize() != before;
      if (store_failed_ || store_->device().cut()) return;
    }
  }
  if (failed_) return;
  if (OneIn(6)) {
    Note("abandon");
    if (OneIn(2)) transaction.Abandon();
    return;
  }
  const Durability durability = PickDurability();
  Note(durability == Durability::kSync ? "commit sync" : "commit");
  const bool has_data =
      std::any_of(changes.begin(), changes.end(), [](const Change& c) { return c.kind == Change::kWrite; });
  const bool by_policy = has_data && options_.open.policy == WritePolicy::kHardwareOnly;
  const Fate fate = Judge(transaction.Commit(durability), kSpace | (by_policy ? kPolicy : 0), "Commit");
  if (fate == Fate::kRefused) return;
  model_.Begin(absl::StrCat(counts_.ops, ": transaction"));
  ApplyToModel(changes);
  const Model::OpId op = model_.End();
  for (const Change& change : changes) {
    if (fate == Fate::kUnknown) uncertain_.insert(change.object);
  }
  if (fate == Fate::kDone && (durability == Durability::kSync || bytes > options_.open.cache_bytes)) {
    model_.SetDurable(op);
  }
  for (auto& [id, handle] : handles_) {
    if (!model_.exists(id)) stale_.push_back(handle);
  }
  std::erase_if(handles_, [this](const auto& entry) { return !model_.exists(entry.first); });
  for (const auto& [name, id] : model_.names()) handles_.try_emplace(id, handles.at(id));
}

}  // namespace untorn
