// The model run's operations on the data of objects.
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "tests/untorn/model_run.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

constexpr uint64_t kBlock = ObjectData::kBlock;
constexpr uint64_t kFar = uint64_t{1} << 45;

// Cuts a buffer into up to four pieces.
std::vector<iovec> Pieces(std::span<std::byte> buffer, std::mt19937_64& rng) {
  std::vector<iovec> pieces;
  while (!buffer.empty()) {
    const size_t length = pieces.size() == 3 ? buffer.size() : 1 + rng() % buffer.size();
    pieces.push_back({buffer.data(), length});
    buffer = buffer.subspan(length);
  }
  return pieces;
}

// True for a range of whole blocks that no device could overwrite atomically; nullopt where the answer is the
// store's.
std::optional<bool> NeverInPlace(const AtomicLimits& limits, uint64_t offset, uint64_t length) {
  if (!limits.usable()) return true;
  if (offset % kBlock != 0 || length % kBlock != 0) return std::nullopt;
  const bool power_of_two = (length & (length - 1)) == 0;
  return !power_of_two || length < limits.unit_min_bytes || length > limits.unit_max_bytes;
}

}  // namespace

uint64_t ModelRun::PickObject() {
  const auto& names = model_.names();
  if (names.empty()) return 0;
  return std::next(names.begin(), Random(names.size()))->second;
}

ModelRun::Range ModelRun::PickRange(uint64_t object) {
  const uint64_t size = model_.data(object).size();
  const uint64_t span = OneIn(8) ? 2 * span_bytes_ : OneIn(2) ? span_bytes_ / 4 : span_bytes_;
  const uint64_t kind = Random(1000);
  if (kind < 450) {  // a page
    const uint64_t page = kBlock << Random(5);
    return {Random(span / page + 1) * page, page};
  }
  if (kind < 650) return {Random(span), 1 + Random(20000)};
  if (kind < 700) return {Random(span), 1 + Random(100)};
  if (kind < 850) return {Random(span / kBlock) * kBlock, (1 + Random(20)) * kBlock};
  if (kind < 920) return {size <= 4 * span_bytes_ ? size : Random(span), 1 + Random(30000)};
  if (kind < 992) return {Random(span), (100 << 10) + Random(250 << 10)};
  if (kind < 996)
    return {Random(span), (1 << 20) + 1 + Random(400 << 10)};  // more than a quarter of the cache
  if (kind < 998 && model_.name(object) == name_pool_[0])
    return {kFar / 2 + Random(kFar / 2), 1 + Random(9000)};
  return {Random(span), (700 << 10) + Random(300 << 10)};
}

ModelRun::Range ModelRun::PickReadRange(uint64_t object) {
  Range range = PickRange(object);
  const auto& blocks = model_.data(object).blocks();
  if (!blocks.empty() && OneIn(2)) {  // somewhere near what there is
    range.offset = std::next(blocks.begin(), Random(std::min<size_t>(blocks.size(), 64)))->first * kBlock;
  }
  return range;
}

void ModelRun::WriteStep() {
  const uint64_t id = PickObject();
  if (id == 0) return CreateStep();
  const Range range = PickRange(id);
  const Durability durability = PickDurability();
  const bool atomic = !OneIn(6);
  const WriteOptions options = {.atomic = atomic, .durability = durability, .bypass_cache = OneIn(5)};
  std::vector<std::byte> data = Stamped(next_stamp_++, range.length);
  if (OneIn(50)) std::fill(data.begin(), data.end(), std::byte{0});
  const Object& object = handles_.at(id);
  const uint64_t how = Random(6);
  std::string what =
      absl::StrCat(atomic ? "write " : "plain write ", range.offset, "+", range.length, " of ", id,
                   durability == Durability::kSync ? " sync" : "", options.bypass_cache ? " bypass" : "",
                   how == 0   ? " vectored"
                   : how == 1 ? " async"
                              : "");
  Note(what);

  absl::Status status;
  std::shared_ptr<AsyncWrite> async;
  if (how == 0) {
    const std::vector<iovec> pieces = Pieces(data, rng_);
    status = object.WriteV(range.offset, pieces, options);
  } else if (how == 1) {
    async = std::make_shared<AsyncWrite>();
    std::vector<std::byte> copy = data;
    object.WriteAsync(range.offset, copy, options, [async](absl::Status s) {
      ++async->completions;
      async->status = std::move(s);
    });
    std::fill(copy.begin(), copy.end(), std::byte{0xee});  // it has its own copy
    if (async->completions > 0) status = async->status;
  } else {
    status = object.Write(range.offset, data, options);
  }
  const bool by_policy = atomic && options_.open.policy == WritePolicy::kHardwareOnly;
  const Fate fate = Judge(status, kSpace | (by_policy ? kPolicy : 0), what);
  if (by_policy && fate != Fate::kUnknown && !failed_) {
    const std::optional<bool> never = NeverInPlace(options_.atomic, range.offset, range.length);
    const bool refused = fate == Fate::kRefused && status.code() == absl::StatusCode::kFailedPrecondition;
    if (never.has_value() && fate == Fate::kDone && *never)
      return Fail("accepted though hardware-only forbids it");
    if (never.has_value() && refused && !*never)
      return Fail("refused though it can qualify: " + status.ToString());
  }
  if (failed_) return;
  if (fate == Fate::kRefused) return CheckRead(object, model_.data(id), range);

  std::vector<Model::OpId> ops;
  for (uint64_t at = 0; at < range.length;) {  // promise 1: a plain write is an atomic write of each block
    const uint64_t part =
        atomic ? range.length : std::min(range.length - at, kBlock - (range.offset + at) % kBlock);
    model_.Begin(absl::StrCat(counts_.ops, ": ", what));
    model_.Write(id, range.offset + at, std::span(data).subspan(at, part));
    ops.push_back(model_.End());
    at += part;
  }
  const bool durable =
      durability == Durability::kSync || (atomic && range.length > options_.open.cache_bytes / 4);
  if (fate == Fate::kUnknown) {
    uncertain_.insert(id);
  } else if (async != nullptr) {
    async->brings_durability = durable;
    async->base = base_;
    async->ops = std::move(ops);
    async_.push_back(std::move(async));
  } else if (durable) {
    for (Model::OpId op : ops) model_.SetDurable(op);
  }
}

void ModelRun::CheckRead(const Object& object, const ObjectData& expected, Range range) {
  buffer_.assign(range.length, std::byte{0xdd});
  absl::StatusOr<size_t> read;
  const ReadOptions options = {.bypass_cache = OneIn(3)};
  if (OneIn(4)) {
    const std::vector<iovec> pieces = Pieces(buffer_, rng_);
    read = object.ReadV(range.offset, pieces, options);
  } else if (options.bypass_cache) {
    // Where whole blocks are as a device takes them.
    const uint64_t place = range.offset % kBlockBytes;
    AlignedBuffer aligned((place + range.length + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
    const std::span<std::byte> out = aligned.span().subspan(place, range.length);
    std::fill(out.begin(), out.end(), std::byte{0xdd});
    read = object.Read(range.offset, out, options);
    std::copy(out.begin(), out.end(), buffer_.begin());
  } else {
    read = object.Read(range.offset, buffer_, options);
  }
  if (!read.ok()) {
    if (!store_->device().cut()) Fail("Read: " + read.status().ToString());
    return;
  }
  std::vector<std::byte> wanted(range.length);
  const size_t length = expected.Read(range.offset, wanted);
  if (*read != length) return Fail(absl::StrCat("Read returns ", *read, " bytes instead of ", length));
  if (length == 0 || std::memcmp(buffer_.data(), wanted.data(), length) == 0) return;
  size_t at = 0;
  while (buffer_[at] == wanted[at]) ++at;
  Fail(absl::StrCat("Read of ", range.offset, "+", range.length, " of ", object.id(), " differs at byte ",
                    range.offset + at));
}

void ModelRun::ReadAsyncStep(const Object& object, const ObjectData& expected, Range range) {
  std::vector<std::byte> wanted(range.length);
  const size_t length = expected.Read(range.offset, wanted);
  struct Result {
    int completions = 0;
    absl::StatusOr<size_t> read;
  };
  auto result = std::make_shared<Result>();
  buffer_.assign(range.length, std::byte{0xdd});
  object.ReadAsync(range.offset, buffer_, {}, [result](absl::StatusOr<size_t> read) {
    ++result->completions;
    result->read = std::move(read);
  });
  if (result->completions == 0) {
    Note("sync, to have an asynchronous read done");
    if (Judge((*store_)->Sync(), kMustWork, "Sync") == Fate::kDone) NewBase();
  }
  if (result->completions != 1) return Fail("an asynchronous read did not complete once");
  if (!result->read.ok()) {
    if (!store_->device().cut() && !store_failed_) Fail("ReadAsync: " + result->read.status().ToString());
    return;
  }
  if (*result->read != length || std::memcmp(buffer_.data(), wanted.data(), length) != 0)
    Fail("ReadAsync differs");
}

void ModelRun::ReadStep() {
  const uint64_t id = PickObject();
  if (id == 0) return;
  const Range range = PickReadRange(id);
  Note(absl::StrCat("read ", range.offset, "+", range.length, " of ", id));
  if (OneIn(8)) return ReadAsyncStep(handles_.at(id), model_.data(id), range);
  CheckRead(handles_.at(id), model_.data(id), range);
}

// Tells the model of a change that is one op.
void ModelRun::Apply(Fate fate, bool durable, uint64_t object, const std::string& what,
                     absl::FunctionRef<void()> change) {
  model_.Begin(absl::StrCat(counts_.ops, ": ", what));
  change();
  const Model::OpId op = model_.End();
  if (fate == Fate::kUnknown) {
    uncertain_.insert(object);
  } else if (durable) {
    model_.SetDurable(op);
  }
}

void ModelRun::TruncateStep() {
  const uint64_t id = PickObject();
  if (id == 0) return;
  const uint64_t now = model_.data(id).size();
  const uint64_t size = OneIn(4)   ? Random(2 * span_bytes_)
                        : OneIn(4) ? Random(now + 1) / kBlock * kBlock
                        : OneIn(6) ? 0
                                   : Random(std::min(now, 4 * span_bytes_) + 1);
  const Durability durability = PickDurability();
  const std::string what = absl::StrCat("truncate ", id, " from ", now, " to ", size,
                                        durability == Durability::kSync ? " sync" : "");
  Note(what);
  // Promise 7: works on a full store, where it makes the object smaller.
  const Fate fate = Judge(handles_.at(id).Truncate(size, durability), size > now ? kSpace : kMustWork, what);
  if (fate == Fate::kRefused) return;
  Apply(fate, durability == Durability::kSync, id, what, [&] { model_.Truncate(id, size); });
}

void ModelRun::PunchStep() {
  const uint64_t id = PickObject();
  if (id == 0) return;
  const Range range = PickReadRange(id);
  const Durability durability = PickDurability();
  const std::string what = absl::StrCat("punch ", range.offset, "+", range.length, " of ", id,
                                        durability == Durability::kSync ? " sync" : "");
  Note(what);
  const Fate fate = Judge(handles_.at(id).PunchHole(range.offset, range.length, durability), kSpace, what);
  if (fate == Fate::kRefused) return CheckRead(handles_.at(id), model_.data(id), range);
  if (range.offset >= model_.data(id).size()) return;  // nothing to do
  Apply(fate, durability == Durability::kSync, id, what,
        [&] { model_.Punch(id, range.offset, range.length); });
}

void ModelRun::PreallocateStep() {
  const uint64_t id = PickObject();
  if (id == 0) return;
  const Range range = PickRange(id);
  const std::string what = absl::StrCat("preallocate ", range.offset, "+", range.length, " of ", id);
  Note(what);
  const Fate fate = Judge(handles_.at(id).Preallocate(range.offset, range.length), kSpace, what);
  if (fate == Fate::kRefused) return CheckRead(handles_.at(id), model_.data(id), range);
  if (range.end() <= model_.data(id).size()) return;  // reserves space, which shows nowhere
  Apply(fate, /*durable=*/true, id, what, [&] { model_.Grow(id, range.end()); });
}

void ModelRun::SyncStep() {
  const uint64_t id = PickObject();
  const uint64_t kind = Random(5);
  if (id == 0 || kind == 0) {
    Note("sync");
    if (Judge((*store_)->Sync(), kMustWork, "Sync") == Fate::kDone) NewBase();
  } else if (kind <= 2) {
    Note(absl::StrCat("sync ", id));
    if (Judge(handles_.at(id).Sync(), kMustWork, "Sync of an object") == Fate::kDone)
      model_.SetObjectDurable(id);
  } else {
    const Range range = PickReadRange(id);
    Note(absl::StrCat("sync ", range.offset, "+", range.length, " of ", id));
    if (Judge(handles_.at(id).SyncRange(range.offset, range.length), kMustWork, "SyncRange") == Fate::kDone) {
      model_.SetRangeDurable(id, range.offset, range.length);
    }
  }
}

}  // namespace untorn
