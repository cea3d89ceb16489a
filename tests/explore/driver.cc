#include "tests/explore/driver.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/untorn/store_test_peer.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

constexpr uint64_t kBlock = ObjectData::kBlock;

constexpr uint64_t kReadWholeMax = 1 << 20;
constexpr uint64_t kReadOfEnds = 64 << 10;

std::string Sentence(const Step& step) { return ToString(std::span(&step, 1)); }

// Whether lack of space may refuse it: promise 7.
bool NeedsSpace(const Step& step) {
  switch (step.kind) {
    case Step::kWrite:
    case Step::kPlainWrite:
    case Step::kAsyncWrite:
    case Step::kPreallocate:
    case Step::kCreate:
    case Step::kRename:
      return true;
    case Step::kTransaction:
      return std::any_of(step.changes.begin(), step.changes.end(), NeedsSpace);
    default:
      return false;
  }
}

}  // namespace

absl::StatusOr<Observed> ObserveStore(Store& store) {
  Observed observed;
  absl::StatusOr<std::vector<ObjectInfo>> list = store.List();
  if (!list.ok()) return list.status();
  std::vector<std::byte> bytes;
  for (const ObjectInfo& info : *list) {
    absl::StatusOr<Object> object = store.OpenObject(info.name);
    if (!object.ok()) return object.status();
    Observed::Object& seen = observed.objects[info.name];
    seen.id = info.id;
    seen.data.Grow(info.size_bytes);
    // Of a large object only both ends.
    std::vector<Step> ranges = {{.offset = 0, .length = info.size_bytes}};
    if (info.size_bytes > kReadWholeMax) {
      const uint64_t tail = (info.size_bytes - kReadOfEnds) / kBlock * kBlock;
      ranges = {{.offset = 0, .length = kReadOfEnds}, {.offset = tail, .length = info.size_bytes - tail}};
      seen.complete = false;
    }
    for (const Step& range : ranges) {
      bytes.resize(range.length);
      absl::StatusOr<size_t> read = object->Read(range.offset, bytes);
      if (!read.ok()) return read.status();
      if (*read != range.length) {
        return absl::InternalError(absl::StrCat("object '", info.name, "' of ", info.size_bytes,
                                                " bytes reads as ", *read, " from ", range.offset));
      }
      for (uint64_t at = 0; at < bytes.size(); at += kBlock) {
        const auto block = std::span(bytes).subspan(at, std::min(kBlock, bytes.size() - at));
        static constexpr std::byte kZeros[kBlock] = {};
        if (std::memcmp(block.data(), kZeros, block.size()) != 0) seen.data.Write(range.offset + at, block);
        if (!seen.complete) seen.seen.insert((range.offset + at) / kBlock);
      }
    }
  }
  return observed;
}

uint64_t HashOfAll(const Observed& observed) {
  std::vector<uint64_t> all;
  for (const auto& [name, object] : observed.objects) {
    all.insert(all.end(), {XXH3_64bits(name.data(), name.size()), object.id, object.data.size(),
                           object.complete, object.seen.size()});
    all.insert(all.end(), object.seen.begin(), object.seen.end());
    for (const auto& [number, block] : object.data.blocks()) all.insert(all.end(), {number, HashOf(*block)});
  }
  return XXH3_64bits(all.data(), all.size() * sizeof(all[0]));
}

Driver::Driver(Store& store, SimulatedDevice& device, Model model, uint64_t first_stamp, bool may_refuse)
    : store_(store),
      device_(device),
      model_(std::move(model)),
      next_stamp_(first_stamp),
      may_refuse_(may_refuse) {}

Driver::~Driver() {
  device_.Release();
  if (held_read_) held_read_->thread.join();
  if (held_checkpoint_) held_checkpoint_->thread.join();
}

const Object* Driver::Find(const std::string& name) {
  if (!model_.names().contains(name)) return nullptr;
  auto it = handles_.find(name);
  if (it == handles_.end() || it->second.id() != IdOf(name)) {
    absl::StatusOr<Object> object = store_.OpenObject(name);
    if (!object.ok()) return nullptr;
    it = handles_.insert_or_assign(name, *object).first;
  }
  return &it->second;
}

std::string Driver::Judge(const absl::Status& status, const Step& step, bool* done) {
  *done = status.ok();
  // The disk is full, or one of its faults says so.
  const bool may_be_full = full_ || device_.faults_seen() > 0;
  accepted_only_ = may_be_full && absl::IsUnavailable(status);
  if (accepted_only_) *done = true;
  if (accepted_only_ || (may_be_full && absl::IsResourceExhausted(status))) return "";
  if (status.ok() || (may_refuse_ && NeedsSpace(step) && absl::IsResourceExhausted(status))) return "";
  if (device_.faults_seen() > 0) {
    *done = stopped_ = told_of_failure_ = true;
    uncertain_.insert({step.object, step.to});
    for (const Step& change : step.changes) uncertain_.insert({change.object, change.to});
    return "";
  }
  return absl::StrCat(Sentence(step), ": ", status.ToString());
}

void Driver::Tell(const Step& step, const std::function<void()>& change) {
  model_.Begin(Sentence(step));
  change();
  const Model::OpId op = model_.End();
  if (!stopped_ && !accepted_only_ && (step.sync || step.kind == Step::kPreallocate))
    acknowledge_.push_back([this, op] { model_.SetDurable(op); });
}

std::vector<std::byte> Driver::Content(const std::string& name, uint64_t offset, uint64_t length) const {
  std::vector<std::byte> bytes(length);
  bytes.resize(model_.data(IdOf(name)).Read(offset, bytes));
  return bytes;
}

std::string Driver::Write(const Step& step) {
  const Object* object = Find(step.object);
  if (object == nullptr) return "";
  const uint64_t id = IdOf(step.object);
  const std::vector<std::byte> data = Stamped(step.stamp != 0 ? step.stamp : next_stamp_++, step.length);
  const WriteOptions options = {.atomic = step.kind != Step::kPlainWrite,
                                .durability = step.sync ? Durability::kSync : Durability::kBuffered};
  bool done = false;
  if (step.kind == Step::kAsyncWrite) {
    auto async = std::make_shared<AsyncWrite>();
    async->sync = step.sync;
    object->WriteAsync(step.offset, data, options, [async](absl::Status s) {
      ++async->completions;
      async->status = std::move(s);
    });
    if (async->completions > 0 && !async->status.ok()) {  // refused, if it has failed without a fault
      async->acknowledged = true;
      std::string wrong = Judge(async->status, step, &done);
      if (!done) return wrong;
    }
    model_.Begin(Sentence(step));
    model_.Write(id, step.offset, data);
    async->op = model_.End();
    async_.push_back(std::move(async));
    return "";
  }
  std::string wrong = Judge(object->Write(step.offset, data, options), step, &done);
  for (uint64_t at = 0; done && at < data.size();) {  // promise 1: a plain write is one write for each block
    const uint64_t part =
        options.atomic ? data.size() : std::min(data.size() - at, kBlock - (step.offset + at) % kBlock);
    Tell(step, [&] { model_.Write(id, step.offset + at, std::span(data).subspan(at, part)); });
    at += part;
  }
  return wrong;
}

std::string Driver::Transact(const Step& step) {
  Transaction transaction = store_.Begin();
  std::map<std::string, Object> objects;
  for (const auto& [name, id] : model_.names()) {
    const Object* object = Find(name);
    if (object == nullptr && device_.faults_seen() > 0) {
      stopped_ = told_of_failure_ = true;
      return "";
    }
    if (object == nullptr) return "an object cannot be opened: " + name;
    objects[name] = *object;
  }
  struct Change {
    Step step;
    uint64_t id = 0;
    std::vector<std::byte> data;
  };
  std::vector<Change> changes;
  for (const Step& c : step.changes) {
    auto it = objects.find(c.object);
    const bool there = it != objects.end();
    if (there == (c.kind == Step::kCreate)) continue;
    Change change{.step = c};
    absl::Status status;
    switch (c.kind) {
      case Step::kCreate: {
        absl::StatusOr<Object> object = transaction.CreateObject(c.object);
        status = object.status();
        if (object.ok()) objects[c.object] = *object;
        break;
      }
      case Step::kRemove:
        status = transaction.Remove(c.object);
        change.id = it->second.id();
        objects.erase(it);
        break;
      case Step::kRename:
        if (objects.contains(c.to)) continue;
        status = transaction.Rename(c.object, c.to);
        objects[c.to] = it->second;
        objects.erase(c.object);
        break;
      case Step::kTruncate:
        status = transaction.Truncate(it->second, c.length);
        break;
      case Step::kPunch:
        status = transaction.PunchHole(it->second, c.offset, c.length);
        break;
      default:
        change.data = Stamped(c.stamp != 0 ? c.stamp : next_stamp_++, c.length);
        status = transaction.Write(it->second, c.offset, change.data);
        break;
    }
    bool done = false;
    if (std::string wrong = Judge(status, step, &done); !done || stopped_) return wrong;
    if (change.id == 0) change.id = objects.at(c.kind == Step::kRename ? c.to : c.object).id();
    changes.push_back(std::move(change));
  }
  bool done = false;
  std::string wrong =
      Judge(transaction.Commit(step.sync ? Durability::kSync : Durability::kBuffered), step, &done);
  if (!done) return wrong;
  Tell(step, [&] {
    for (const Change& c : changes) {
      switch (c.step.kind) {
        case Step::kCreate:
          model_.Create(c.step.object, c.id);
          break;
        case Step::kRemove:
          model_.Remove(c.step.object);
          break;
        case Step::kRename:
          model_.Rename(c.step.object, c.step.to);
          break;
        case Step::kTruncate:
          model_.Truncate(c.id, c.step.length);
          break;
        case Step::kPunch:
          model_.Punch(c.id, c.step.offset, c.step.length);
          break;
        default:
          model_.Write(c.id, c.step.offset, c.data);
          break;
      }
    }
  });
  return "";
}

// The thread is blocked in the device when this returns, unless what it reads is in the cache.
void Driver::HoldAtFirstRead(Held& held, std::function<void()> run) {
  device_.Hold(IoOp::kRead, 1, SimulatedDevice::HoldUntil::kForever);
  held.thread = std::thread([&held, run = std::move(run)] {
    run();
    held.done = true;
  });
  while (device_.held() == 0 && !held.done) std::this_thread::yield();
  if (held.done) device_.Release();  // all was in the cache
}

void Driver::HoldRead(const Step& step) {
  const Object* object = Find(step.object);
  if (object == nullptr || held_read_) return;
  held_read_ = std::make_unique<HeldRead>();
  HeldRead& held = *held_read_;
  held.object = step.object;
  held.offset = step.offset;
  held.got.resize(step.length);
  held.may_see.push_back(Content(step.object, step.offset, step.length));
  HoldAtFirstRead(
      held, [&held, o = *object] { held.read = o.Read(held.offset, held.got, {.bypass_cache = true}); });
}

void Driver::HoldCheckpoint() {
  if (held_checkpoint_) return;
  held_checkpoint_ = std::make_unique<HeldCheckpoint>();
  HeldCheckpoint& held = *held_checkpoint_;
  HoldAtFirstRead(held, [this, &held] { held.status = store_.Checkpoint(); });
}

std::string Driver::Release() {
  device_.Release();
  if (const std::unique_ptr<HeldCheckpoint> held = std::move(held_checkpoint_)) {
    held->thread.join();
    if (!held->status.ok() && device_.faults_seen() == 0)
      return "a checkpoint that the device held back: " + held->status.ToString();
  }
  if (!held_read_) return "";
  const std::unique_ptr<HeldRead> held = std::move(held_read_);
  held->thread.join();
  if (!held->read.ok()) {
    // The object may have been removed meanwhile.
    if (absl::IsNotFound(held->read.status()) || device_.faults_seen() > 0) return "";
    return "a read that the device held back: " + held->read.status().ToString();
  }
  held->got.resize(*held->read);
  if (std::find(held->may_see.begin(), held->may_see.end(), held->got) != held->may_see.end()) return "";
  return absl::StrCat("a read of '", held->object, "' at ", held->offset,
                      " that the device held back returned what the range never held");
}

std::string Driver::ReadElsewhere() {
  if (other_reader_ == nullptr) other_reader_ = std::make_unique<OtherReader>(store_, device_.shared_disk());
  const absl::StatusOr<std::optional<Observed>> seen = other_reader_->Refresh();
  if (device_.faults_seen() > 0) return "";
  if (!seen.ok()) return "another process reads: " + seen.status().ToString();
  // The state is one that a crash may leave.
  const std::string wrong = *seen ? model_.CheckCrash(**seen) : "";
  return wrong.empty() ? "" : "another process reads: " + wrong;
}

std::string Driver::Call(const Step& step) {
  const bool there = model_.names().contains(step.object);
  const Durability durability = step.sync ? Durability::kSync : Durability::kBuffered;
  bool done = false;
  std::string wrong;
  if (there && Find(step.object) == nullptr) {
    if (device_.faults_seen() == 0) return Sentence(step) + ": the object cannot be opened";
    stopped_ = told_of_failure_ = true;
    return "";
  }
  switch (step.kind) {
    case Step::kWrite:
    case Step::kPlainWrite:
    case Step::kAsyncWrite:
      wrong = Write(step);
      break;
    case Step::kTruncate:
      if (!there) break;
      wrong = Judge(Find(step.object)->Truncate(step.length, durability), step, &done);
      if (done) Tell(step, [&] { model_.Truncate(IdOf(step.object), step.length); });
      break;
    case Step::kPunch:
      if (!there || step.offset >= model_.data(IdOf(step.object)).size()) break;
      wrong = Judge(Find(step.object)->PunchHole(step.offset, step.length, durability), step, &done);
      if (done) Tell(step, [&] { model_.Punch(IdOf(step.object), step.offset, step.length); });
      break;
    case Step::kPreallocate:
      if (!there) break;
      wrong = Judge(Find(step.object)->Preallocate(step.offset, step.length), step, &done);
      if (done && step.offset + step.length > model_.data(IdOf(step.object)).size()) {
        Tell(step, [&] { model_.Grow(IdOf(step.object), step.offset + step.length); });
      }
      break;
    case Step::kSync:
      wrong = Judge(store_.Sync(), step, &done);
      if (done && !stopped_) acknowledge_.push_back([this] { model_.SetAllDurable(); });
      break;
    case Step::kSyncObject:
      if (!there) break;
      wrong = Judge(Find(step.object)->Sync(), step, &done);
      if (done && !stopped_)
        acknowledge_.push_back([this, id = IdOf(step.object)] { model_.SetObjectDurable(id); });
      break;
    case Step::kSyncRange:
      if (!there) break;
      wrong = Judge(Find(step.object)->SyncRange(step.offset, step.length), step, &done);
      if (done && !stopped_) {
        acknowledge_.push_back(
            [this, id = IdOf(step.object), step] { model_.SetRangeDurable(id, step.offset, step.length); });
      }
      break;
    case Step::kBarrier:
      wrong = Judge(store_.Barrier(), step, &done);
      model_.Barrier();
      break;
    case Step::kResize:
      wrong = Judge(store_.Resize(step.length), step, &done);
      break;
    case Step::kFull:
      device_.disk().SetFull(full_ = true);
      break;
    case Step::kRoom:
      device_.disk().SetFull(full_ = false);
      return Call({.kind = Step::kSync});
    case Step::kTrim:
      wrong = Judge(store_.Trim().status(), step, &done);
      break;
    case Step::kCheckpoint:
      wrong = Judge(store_.Checkpoint(), step, &done);
      break;
    case Step::kCreate: {
      if (there) break;
      absl::StatusOr<Object> object = store_.CreateObject(step.object, durability);
      wrong = Judge(object.status(), step, &done);
      if (accepted_only_) object = store_.OpenObject(step.object);
      if (done)
        Tell(step, [&] { model_.Create(step.object, object.ok() ? object->id() : Model::kAnyObject); });
      break;
    }
    case Step::kRemove:
      if (!there) break;
      wrong = Judge(store_.Remove(step.object, durability), step, &done);
      if (done) Tell(step, [&] { model_.Remove(step.object); });
      break;
    case Step::kRename:
      if (!there || model_.names().contains(step.to)) break;
      wrong = Judge(store_.Rename(step.object, step.to, durability), step, &done);
      if (done) Tell(step, [&] { model_.Rename(step.object, step.to); });
      break;
    case Step::kTransaction:
      wrong = Transact(step);
      break;
    case Step::kHoldRead:
      HoldRead(step);
      break;
    case Step::kHoldCheckpoint:
      HoldCheckpoint();
      break;
    case Step::kHoldWrite:
      device_.Hold(IoOp::kAtomicWrite, 1, SimulatedDevice::HoldUntil::kNothingElse);
      break;
    case Step::kHoldData:
      device_.Hold(IoOp::kWrite, 1, SimulatedDevice::HoldUntil::kNothingElse);
      break;
    case Step::kRead: {
      if (!there) break;
      std::vector<std::byte> got(step.length);
      absl::StatusOr<size_t> read = Find(step.object)->Read(step.offset, got, {.bypass_cache = true});
      wrong = Judge(read.status(), step, &done);
      if (!done || stopped_) break;
      got.resize(*read);
      if (got != Content(step.object, step.offset, step.length))
        wrong = Sentence(step) + ": reads something else";
      break;
    }
    case Step::kRelease:
      wrong = Release();
      break;
    case Step::kReader:
      wrong = ReadElsewhere();
      break;
    case Step::kReaderAgain:
      if (other_reader_ != nullptr) wrong = other_reader_->ReadAgain();
      if (device_.faults_seen() > 0) wrong.clear();
      break;
  }
  if (held_read_ && model_.names().contains(held_read_->object)) {
    held_read_->may_see.push_back(Content(held_read_->object, held_read_->offset, held_read_->got.size()));
  }
  internal::StoreTestPeer::CheckInvariants(store_);
  return wrong;
}

std::string Driver::JudgeAsync(const AsyncWrite& write) {
  if (write.completions > 1)
    return absl::StrCat("an asynchronous write was told ", write.completions, " times");
  if (write.completions == 0 || write.status.ok()) return "";
  told_of_failure_ = true;
  if (device_.faults_seen() > 0) return "";
  return "an asynchronous write that was accepted: " + write.status.ToString();
}

std::string Driver::Acknowledge() {
  std::string wrong;
  // Of what asynchronous writes tell first: a sync makes a new base, in which their ops have no place.
  for (const std::shared_ptr<AsyncWrite>& write : async_) {
    if (wrong.empty()) wrong = JudgeAsync(*write);
    if (write->completions == 0 || std::exchange(write->acknowledged, true)) continue;
    if (write->status.ok() && write->sync) model_.SetDurable(write->op);
  }
  for (const auto& call : acknowledge_) call();
  acknowledge_.clear();
  return wrong;
}

std::string Driver::Finish() {
  std::string wrong = Release();
  bool done = false;
  if (wrong.empty()) wrong = Judge(store_.Sync(), {.kind = Step::kSync}, &done);
  for (const auto& write : async_) {
    if (wrong.empty()) wrong = JudgeAsync(*write);
    if (wrong.empty() && write->completions == 0) wrong = "an asynchronous write is not told of after a sync";
  }
  if (wrong.empty()) model_.SetAllDurable();
  return wrong.empty() ? CheckReads() : wrong;
}

std::string Driver::CheckFailedStore() {
  if (store_.Sync().ok()) return "";
  const std::vector<std::byte> data = Stamped(1, 100);
  for (const auto& [name, object] : handles_) {
    const absl::Status status = object.Write(0, data);
    if (!absl::IsFailedPrecondition(status) && !absl::IsNotFound(status))
      return "a failed store accepts a write: " + status.ToString();
  }
  if (store_.Sync().ok()) return "a failed store says that everything is durable";
  return "";
}

std::string Driver::CheckReads() {
  absl::StatusOr<Observed> observed = ObserveStore(store_);
  if (!observed.ok()) return "a read: " + observed.status().ToString();
  if (!stopped_ && observed->objects.size() != model_.names().size())
    return "the objects are others than those made";
  for (const auto& [name, id] : model_.names()) {
    if (uncertain_.contains(name)) continue;
    auto it = observed->objects.find(name);
    if (it == observed->objects.end() || it->second.id != id) return "object '" + name + "' is not there";
    const ObjectData& want = model_.data(id);
    const ObjectData& got = it->second.data;
    if (got.size() != want.size())
      return absl::StrCat("'", name, "' has size ", got.size(), ", not ", want.size());
    const Observed::Object& seen = it->second;
    for (uint64_t b = 0; b * kBlock < want.size(); ++b) {
      if (!seen.complete && !seen.seen.contains(b)) continue;
      if (got.block(b) != want.block(b))
        return absl::StrCat("block ", b, " of '", name, "' reads as something else");
    }
  }
  return "";
}

}  // namespace untorn
