// Closing, dying and coming back: what the model run does around an open.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/on_device.h"
#include "tests/untorn/model_run.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

constexpr uint64_t kBlock = ObjectData::kBlock;
constexpr uint64_t kReadWholeMax = 16 << 20;

// "" if both hold the same.
std::string Difference(const Observed& a, const Observed& b) {
  if (a.objects.size() != b.objects.size()) return "number of objects";
  for (auto i = a.objects.begin(), j = b.objects.begin(); i != a.objects.end(); ++i, ++j) {
    if (i->first != j->first || i->second.id != j->second.id) return "names";
    if (i->second.data.size() != j->second.data.size()) return "size of " + i->first;
    for (const auto& [block, data] : i->second.data.blocks()) {
      if (*data != j->second.data.block(block)) return absl::StrCat("block ", block, " of ", i->first);
    }
  }
  return "";
}

}  // namespace

// Reads everything there is, through the API.
bool ModelRun::Observe(Store& store, Observed* observed) {
  std::vector<ObjectInfo> all;
  const size_t page = OneIn(2) ? 1000 : 1 + Random(3);
  while (true) {
    auto some = store.List(all.empty() ? "" : all.back().name, page);
    if (!some.ok()) return Fail("List: " + some.status().ToString()), false;
    all.insert(all.end(), some->begin(), some->end());
    if (some->size() < page) break;
  }
  for (const ObjectInfo& info : all) {
    auto object = store.OpenObject(info.name);
    if (!object.ok()) return Fail("OpenObject: " + object.status().ToString()), false;
    auto size = object->Size();
    if (!size.ok() || *size != info.size_bytes || object->id() != info.id) {
      return Fail("List and Size or id differ for " + info.name), false;
    }
    Observed::Object& seen = observed->objects[info.name];
    seen.id = info.id;
    seen.data.Grow(*size);
    std::set<uint64_t> blocks;
    uint64_t step = 64;  // blocks
    if (*size <= kReadWholeMax) {
      for (uint64_t b = 0; b * kBlock < *size; b += step) blocks.insert(b);
    } else {
      step = 1;
      seen.complete = false;
      blocks = model_.BlocksOf(info.id);
      for (int i = 0; i < 8; ++i) blocks.insert(Random(*size / kBlock));
      std::erase_if(blocks, [&](uint64_t b) { return b * kBlock >= *size; });
      seen.seen = blocks;
    }
    for (uint64_t b : blocks) {
      buffer_.resize(step * kBlock);
      auto read = object->Read(b * kBlock, buffer_, {.bypass_cache = OneIn(2)});
      const uint64_t expected = std::min<uint64_t>(buffer_.size(), *size - b * kBlock);
      if (!read.ok() || *read != expected) {
        return Fail(absl::StrCat("Read of ", info.name, " at block ", b, ": ", read.status().ToString(), ", ",
                                 read.value_or(0), " bytes")),
               false;
      }
      for (uint64_t at = 0; at < expected; at += kBlock) {
        const auto block = std::span(buffer_).subspan(at, std::min(kBlock, expected - at));
        const bool zeros =
            std::all_of(block.begin(), block.end(), [](std::byte x) { return x == std::byte{0}; });
        if (!zeros) seen.data.Write(b * kBlock + at, block);
      }
    }
    handles_[info.id] = *object;
  }
  return true;
}

void ModelRun::Recover(bool power_cut) {
  const int keep = OneIn(4) ? 0 : OneIn(4) ? 1000 : Random(1001);
  Note(power_cut ? absl::StrCat("power cut, keeping ", keep, " per mille") : "kill");
  const Stats before = (*store_)->stats();
  counts_.change_sets_in_place += before.change_sets_in_place();
  counts_.change_sets_by_cow += before.change_sets_by_cow();
  counts_.checkpoints += before.checkpoints;
  handles_.clear();
  stale_.clear();
  if (power_cut) {
    ++counts_.crashes;
    store_->Crash(keep);
  } else {
    ++counts_.kills;
    store_->Kill();
  }
  for (const auto& write : async_) {
    if (write->completions != 1)
      Fail(absl::StrCat("an asynchronous write completed ", write->completions, " times"));
  }
  async_.clear();
  fault_planned_ = store_failed_ = false;
  uncertain_.clear();
  if (!failed_) OpenAfterCrash();
}

void ModelRun::OpenAfterCrash() {
  if (OneIn(4)) {
    if (std::string found = store_->Fsck(); !found.empty()) return Fail("fsck: " + found);
  }
  // Recovery may be cut short too, any number of times.
  while (true) {
    const uint64_t cut_after = OneIn(6) ? 1 + Random(60) : 0;
    absl::Status status = store_->Open(options_.open, cut_after);
    if (status.ok() && !store_->device().cut()) break;
    if (cut_after == 0) return Fail("Open: " + status.ToString());
    ++counts_.cut_while_opening;
    const bool power = OneIn(2);
    Note(absl::StrCat(power ? "power cut" : "kill", " while opening"));
    if (power) {
      store_->Crash(Random(1001));
    } else {
      store_->Kill();
    }
  }
  store_->device().CutAfter(0);
  counts_.dropped_records += (*store_)->stats().dropped_records;
  const std::shared_ptr<SimulatedDisk> disk = OneIn(16) ? store_->disk()->Clone() : nullptr;
  Observed observed;
  if (!Observe(**store_, &observed)) return;
  if (std::string wrong = model_.CheckCrash(observed); !wrong.empty())
    return Fail("after recovery: " + wrong);
  model_.Adopt(observed);
  ++base_;
  if (disk == nullptr) return;

  // Promise 10: a read-only open shows the same and changes nothing.
  auto device = store_->NewDevice(disk);
  CutDevice* raw = device.get();
  OpenOptions read_only = options_.open;
  read_only.read_only = true;
  auto store = internal::OpenOnDevice(std::move(device), read_only, false);
  if (!store.ok()) return Fail("read-only open: " + store.status().ToString());
  Observed again;
  std::map<uint64_t, Object> handles = std::move(handles_);
  if (!Observe(**store, &again)) return;
  handles_ = std::move(handles);
  if (std::string what = Difference(observed, again); !what.empty())
    Fail("read-only open shows another " + what);
  const DeviceCounts& counts = raw->simulated().counts();
  if (counts.writes + counts.atomic_writes > 0) Fail("a read-only open wrote");
}

void ModelRun::CheckFailedStore() {
  ++counts_.device_failures;
  Store& store = **store_;
  // Promise 8: the store refuses changes, and goes on serving reads.
  for (auto& [id, object] : handles_) {
    if (!model_.exists(id)) continue;
    if (object.Write(0, Stamped(next_stamp_++, kBlock)).code() != absl::StatusCode::kFailedPrecondition) {
      return Fail("a failed store accepts a write");
    }
    if (uncertain_.contains(id)) continue;
    const ObjectData& data = model_.data(id);
    CheckRead(object, data, {0, std::min<uint64_t>(data.size(), 1 << 20)});
  }
  if (store.Sync().ok()) return Fail("a failed store says that everything is durable");
  if (OneIn(2)) {
    if (store.Close().ok()) Fail("a failed store closes as if nothing had happened");
  }
}

void ModelRun::Reopen() {
  Note("reopen");
  const Stats before = (*store_)->stats();
  counts_.change_sets_in_place += before.change_sets_in_place();
  counts_.change_sets_by_cow += before.change_sets_by_cow();
  counts_.checkpoints += before.checkpoints;
  const bool keep_handles = OneIn(2);
  if (!keep_handles) handles_.clear();
  absl::Status status = store_->Close();
  if (!status.ok()) return Fail("Close: " + status.ToString());
  for (const auto& write : async_) {
    if (write->completions != 1) return Fail("Close left an asynchronous write without completion");
  }
  async_.clear();
  for (auto& [id, object] : handles_) {
    if (object.Size().status().code() != absl::StatusCode::kFailedPrecondition) {
      return Fail("a handle of a closed store works");
    }
  }
  handles_.clear();
  stale_.clear();
  if (testing::Test::HasFailure()) return Fail("fsck after a clean close");
  ++counts_.reopened;
  NewBase();
  status = store_->Open();
  if (!status.ok()) return Fail("Open: " + status.ToString());
  Observed observed;
  if (!Observe(**store_, &observed)) return;
  if (std::string wrong = model_.CheckCrash(observed); !wrong.empty()) Fail("after a clean close: " + wrong);
}

// Promise 7: with everything removed, the space is there again.
void ModelRun::CheckSpaceComesBack() {
  Store& store = **store_;
  store_->device().CutAfter(0);
  handles_.clear();
  for (const auto& [name, id] : std::map(model_.names())) {
    Note("remove " + name);
    if (absl::Status status = store.Remove(name); !status.ok()) {
      if (fault_planned_) return Recover(true);
      return Fail("Remove: " + status.ToString());
    }
    model_.Begin("remove");
    model_.Remove(name);
    model_.End();
  }
  // What the first checkpoint frees, the second one may reuse.
  for (auto step : {&Store::Sync, &Store::Checkpoint, &Store::Checkpoint}) {
    absl::Status status = (store.*step)();
    if (!status.ok() && fault_planned_) return Recover(true);
    if (!status.ok()) return Fail("Sync or Checkpoint: " + status.ToString());
  }
  constexpr uint64_t kSlack = 256 << 10;
  const Stats stats = store.stats();
  if (stats.space_free + kSlack < space_free_at_first_) {
    Fail(absl::StrCat("of ", space_free_at_first_, " bytes only ", stats.space_free,
                      " are free again with everything removed; claimed ", stats.space_reserved, ", pending ",
                      stats.space_pending));
  }
}

}  // namespace untorn
