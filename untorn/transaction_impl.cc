// Collecting the changes of a transaction. transaction_commit.cc commits them.
#include "untorn/transaction_impl.h"

#include <algorithm>
#include <cstring>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"

namespace untorn::internal {
namespace {

constexpr uint64_t kAheadBlocksMax = kMapEntryBlocksMax;  // one write, one hash, one entry

}  // namespace

void TransactionImpl::Block::Note(uint32_t from, uint32_t to) {
  if (whole()) return;
  std::vector<std::pair<uint32_t, uint32_t>> merged;
  for (const auto& [a, b] : written) {
    if (b < from || a > to) {
      merged.push_back({a, b});
    } else {
      from = std::min(from, a);
      to = std::max(to, b);
    }
  }
  merged.push_back({from, to});
  std::sort(merged.begin(), merged.end());
  written = std::move(merged);
  if (from == 0 && to == kBlockBytes) written.clear();
}

absl::Status TransactionImpl::CheckUsable() const {
  if (finished_) return absl::FailedPreconditionError("the transaction is finished");
  return engine_.CheckProcess();
}

absl::Status TransactionImpl::Absorb(TransactionImpl& other) {
  if (absl::Status s = CheckUsable(); !s.ok()) return s;
  if (absl::Status s = other.CheckUsable(); !s.ok()) return s;
  if (&other == this || other.store_ != store_)
    return absl::InvalidArgumentError("the transactions are the same one, or of two stores");
  for (const auto& [id, t] : other.touched_) {
    if (touched_.contains(id))
      return absl::InvalidArgumentError(absl::StrCat("both transactions use object '", t.name, "'"));
  }
  for (const auto& [name, id] : other.expected_) {
    if (expected_.contains(name))
      return absl::InvalidArgumentError(absl::StrCat("both transactions change the name '", name, "'"));
  }
  touched_.merge(other.touched_);
  names_.merge(other.names_);
  expected_.merge(other.expected_);
  claimed_entries_ += std::exchange(other.claimed_entries_, 0);
  other.finished_ = true;
  return absl::OkStatus();
}

absl::StatusOr<TransactionImpl::Touched*> TransactionImpl::Touch(const ObjectHandle& object) {
  if (absl::Status s = CheckUsable(); !s.ok()) return s;
  if (object.store != store_) return absl::InvalidArgumentError("the object belongs to another store");
  auto it = touched_.find(object.id);
  if (it == touched_.end()) {
    if (!object.state) return absl::FailedPreconditionError("the object was created in another transaction");
    Lock lock = engine_.Acquire();
    if (object.state->removed)
      return absl::NotFoundError(absl::StrCat("object '", object.state->name, "' was removed"));
    Touched& t = touched_[object.id];
    t.state = object.state;
    t.id = object.id;
    t.name = object.state->name;
    return &t;
  }
  if (it->second.removed) {
    return absl::NotFoundError(
        absl::StrCat("object '", it->second.name, "' was removed in this transaction"));
  }
  return &it->second;
}

uint64_t TransactionImpl::SizeOf(const Touched& t) {
  if (t.set_size) return t.size;
  Lock lock = engine_.Acquire();
  return std::max(t.state->size_bytes, t.grow_to);
}

absl::StatusOr<ObjectId> TransactionImpl::Resolve(const std::string& name) {
  if (auto it = names_.find(name); it != names_.end()) return it->second;
  absl::StatusOr<std::shared_ptr<ObjectState>> found = store_->Find(name);
  if (absl::IsNotFound(found.status())) return ObjectId::kNone;
  if (!found.ok()) return found.status();
  return (*found)->id;
}

absl::StatusOr<std::shared_ptr<ObjectHandle>> TransactionImpl::Create(std::string_view name_view) {
  if (absl::Status s = CheckUsable(); !s.ok()) return s;
  if (absl::Status s = CheckName(name_view); !s.ok()) return s;
  {
    Lock lock = engine_.Acquire();
    if (absl::Status s = engine_.CheckWritable(); !s.ok()) return s;
  }
  const std::string name(name_view);
  absl::StatusOr<ObjectId> existing = Resolve(name);
  if (!existing.ok()) return existing.status();
  if (*existing != ObjectId::kNone) {
    return absl::AlreadyExistsError(absl::StrCat("there is an object '", name, "' already"));
  }
  expected_.insert({name, ObjectId::kNone});
  auto handle = std::make_shared<ObjectHandle>();
  handle->store = store_;
  {
    Lock lock = engine_.Acquire();
    handle->id = engine_.volume().NewObjectId();
  }
  names_[name] = handle->id;
  Touched& t = touched_[handle->id];
  t.handle = handle;
  t.id = handle->id;
  t.name = name;
  t.set_size = true;
  return handle;
}

absl::StatusOr<std::shared_ptr<ObjectHandle>> TransactionImpl::Find(std::string_view name_view) {
  if (absl::Status s = CheckUsable(); !s.ok()) return s;
  if (absl::Status s = CheckName(name_view); !s.ok()) return s;
  const std::string name(name_view);
  if (auto it = names_.find(name); it != names_.end()) {
    if (it->second == ObjectId::kNone)
      return absl::NotFoundError(absl::StrCat("there is no object '", name, "'"));
    Touched& t = touched_[it->second];
    if (t.created()) return t.handle;
    return std::make_shared<ObjectHandle>(ObjectHandle{store_, t.id, t.state});
  }
  absl::StatusOr<std::shared_ptr<ObjectState>> found = store_->Find(name);
  if (!found.ok()) return found.status();
  // Renamed away here.
  if (auto it = touched_.find((*found)->id); it != touched_.end() && it->second.renamed) {
    return absl::NotFoundError(absl::StrCat("there is no object '", name, "'"));
  }
  return std::make_shared<ObjectHandle>(ObjectHandle{store_, (*found)->id, *found});
}

absl::Status TransactionImpl::Rename(std::string_view from_view, std::string_view to_view) {
  if (absl::Status s = CheckName(to_view); !s.ok()) return s;
  absl::StatusOr<std::shared_ptr<ObjectHandle>> handle = Find(from_view);
  if (!handle.ok()) return handle.status();
  const std::string from(from_view), to(to_view);
  absl::StatusOr<ObjectId> existing = Resolve(to);
  if (!existing.ok()) return existing.status();
  if (*existing != ObjectId::kNone) {
    return absl::AlreadyExistsError(absl::StrCat("there is an object '", to, "' already"));
  }
  absl::StatusOr<Touched*> t = Touch(**handle);
  if (!t.ok()) return t.status();
  expected_.insert({from, (*t)->id});
  expected_.insert({to, ObjectId::kNone});
  names_[from] = ObjectId::kNone;
  names_[to] = (*t)->id;
  (*t)->name = to;
  (*t)->renamed = true;
  return absl::OkStatus();
}

absl::Status TransactionImpl::Remove(std::string_view name_view) {
  absl::StatusOr<std::shared_ptr<ObjectHandle>> handle = Find(name_view);
  if (!handle.ok()) return handle.status();
  absl::StatusOr<Touched*> touched = Touch(**handle);
  if (!touched.ok()) return touched.status();
  Touched& t = **touched;
  const std::string name(name_view);
  expected_.insert({name, t.id});
  names_[name] = ObjectId::kNone;
  t.blocks.clear();
  CutAhead(t, {0, kObjectBlocksMax});
  t.removed = true;
  return absl::OkStatus();
}

void TransactionImpl::CutAhead(Touched& t, BlockRange range) {
  if (t.ahead.empty()) return;
  auto it = t.ahead.upper_bound(range.start);
  if (it != t.ahead.begin()) --it;
  Lock lock = engine_.Acquire();
  while (it != t.ahead.end() && it->first < range.end()) {
    const uint64_t start = it->first;
    const Ahead a = it->second;
    const uint64_t end = start + a.count;
    const uint64_t cut_start = std::max(start, range.start), cut_end = std::min(end, range.end());
    if (cut_start >= cut_end) {
      ++it;
      continue;
    }
    it = t.ahead.erase(it);
    if (absl::Status s =
            engine_.volume().ReturnUnused({a.physical + (cut_start - start), cut_end - cut_start});
        !s.ok()) {
      engine_.Fail(s);
    }
    if (start < cut_start) t.ahead[start] = {cut_start - start, a.physical, std::nullopt};
    if (cut_end < end) t.ahead[cut_end] = {end - cut_end, a.physical + (cut_end - start), std::nullopt};
  }
}

absl::Status TransactionImpl::ReadAheadBytes(uint64_t physical, uint64_t blocks, std::byte* out) {
  AlignedBuffer buffer(blocks * kBlockBytes);
  IoRequest request;
  request.op = IoOp::kRead;
  request.offset_bytes = physical * kBlockBytes;
  request.iov = {{buffer.data(), buffer.size()}};
  Lock lock = engine_.Acquire();
  if (absl::Status s = engine_.CheckOpen(); !s.ok()) return s;
  if (absl::Status s = engine_.pump().Run(lock, &request); !s.ok()) return s;
  std::memcpy(out, buffer.data(), buffer.size());
  return absl::OkStatus();
}

// Brings a block that was written ahead back into memory, to change part of it.
absl::Status TransactionImpl::LoadAhead(Touched& t, uint64_t number) {
  auto it = t.ahead.upper_bound(number);
  if (it == t.ahead.begin()) return absl::OkStatus();
  --it;
  if (number >= it->first + it->second.count) return absl::OkStatus();
  Block block;
  block.buffer = engine_.fork().pool().New();
  absl::Status s = ReadAheadBytes(it->second.physical + (number - it->first), 1, block.buffer.data());
  if (s.ok()) t.blocks[number] = std::move(block);
  return s;
}

absl::Status TransactionImpl::WriteBlocks(Touched& t, uint64_t offset, IoVector data) {
  constexpr uint64_t kTakenTogether = 64;
  absl::InlinedVector<BufferRef, kTakenTogether> taken;
  size_t used = 0;
  for (uint64_t at = 0; at < data.bytes;) {
    const uint64_t number = (offset + at) / kBlockBytes;
    const uint32_t from = static_cast<uint32_t>((offset + at) % kBlockBytes);
    const uint32_t n = static_cast<uint32_t>(std::min<uint64_t>(kBlockBytes - from, data.bytes - at));
    if (n < kBlockBytes && !t.blocks.contains(number)) {
      if (absl::Status s = LoadAhead(t, number); !s.ok()) return s;
    }
    const bool fresh = !t.blocks.contains(number);
    Block& block = t.blocks[number];
    if (fresh) {
      if (used == taken.size()) {
        taken.resize(std::min(BlocksFor(from + data.bytes - at), kTakenTogether));
        engine_.fork().pool().New({taken.data(), taken.size()});
        used = 0;
      }
      block.buffer = std::move(taken[used++]);
      if (n < kBlockBytes) {
        std::memset(block.buffer.data(), 0, kBlockBytes);
        // Zeros below: the whole block is known. Elsewhere only what is written here is.
        if (!t.created() && !t.holes.Contains(number)) block.written = {{from, from + n}};
      }
    }
    data.CopyOut(at, block.buffer.data() + from, n);
    block.Note(from, from + n);
    at += n;
    if (absl::Status s = SpillIfLarge(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status TransactionImpl::Write(const ObjectHandle& object, uint64_t offset, IoVector data) {
  if (absl::Status s = CheckRange(offset, data.bytes); !s.ok()) return s;
  {
    Lock lock = engine_.Acquire();
    if (absl::Status s = engine_.CheckWritable(); !s.ok()) return s;
  }
  absl::StatusOr<Touched*> t = Touch(object);
  if (!t.ok()) return t.status();
  if (absl::Status s = WriteBlocks(**t, offset, data); !s.ok()) return s;
  (*t)->size = std::max((*t)->size, offset + data.bytes);
  (*t)->wrote = true;
  (*t)->grow_to = std::max((*t)->grow_to, offset + data.bytes);
  Lock lock = engine_.Acquire();
  ++engine_.stats().writes;
  engine_.stats().bytes_written += data.bytes;
  return absl::OkStatus();
}

absl::Status TransactionImpl::ZeroBytes(Touched& t, uint64_t from, uint64_t to) {
  if (from >= to) return absl::OkStatus();
  t.zeroed = true;
  static const std::byte zeros[kBlockBytes] = {};
  const iovec piece{const_cast<std::byte*>(zeros), to - from};
  return WriteBlocks(t, from, {{&piece, 1}, to - from});
}

void TransactionImpl::MakeHole(Touched& t, BlockRange range) {
  t.blocks.erase(t.blocks.lower_bound(range.start), t.blocks.lower_bound(range.end()));
  CutAhead(t, range);
  t.holes.Add(range);
}

absl::Status TransactionImpl::Truncate(const ObjectHandle& object, uint64_t size) {
  if (size > kObjectBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("size ", size, " is over the limit of ", kObjectBytesMax, " bytes"));
  }
  absl::StatusOr<Touched*> touched = Touch(object);
  if (!touched.ok()) return touched.status();
  Touched& t = **touched;
  // Even where the object is not larger: by the commit others may have made it so.
  const uint64_t first = BlocksFor(size);
  if (absl::Status s = ZeroBytes(t, size, first * kBlockBytes); !s.ok()) return s;
  if (first < kObjectBlocksMax) MakeHole(t, {first, kObjectBlocksMax - first});
  t.size = size;
  t.set_size = true;
  t.grow_to = 0;
  return absl::OkStatus();
}

absl::Status TransactionImpl::PunchHole(const ObjectHandle& object, uint64_t offset, uint64_t length) {
  if (absl::Status s = CheckRange(offset, length); !s.ok()) return s;
  absl::StatusOr<Touched*> touched = Touch(object);
  if (!touched.ok()) return touched.status();
  Touched& t = **touched;
  const uint64_t end = std::min(offset + length, SizeOf(t));
  if (end <= offset) return absl::OkStatus();
  const uint64_t first = BlocksFor(offset), last = end / kBlockBytes;
  if (first > last) return ZeroBytes(t, offset, end);
  if (absl::Status s = ZeroBytes(t, offset, first * kBlockBytes); !s.ok()) return s;
  if (absl::Status s = ZeroBytes(t, last * kBlockBytes, end); !s.ok()) return s;
  if (first < last) MakeHole(t, {first, last - first});
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> TransactionImpl::Size(const ObjectHandle& object) {
  if (absl::Status s = CheckUsable(); !s.ok()) return s;
  absl::StatusOr<Touched*> t = Touch(object);
  if (!t.ok()) return t.status();
  return SizeOf(**t);
}

absl::StatusOr<size_t> TransactionImpl::Read(const ObjectHandle& object, uint64_t offset, IoVector out) {
  if (out.bytes > UINT64_MAX - offset) return absl::InvalidArgumentError("offset and length overflow");
  absl::StatusOr<Touched*> touched = Touch(object);
  if (!touched.ok()) return touched.status();
  Touched& t = **touched;
  const uint64_t size = SizeOf(t);
  if (offset >= size) return 0;
  const uint64_t bytes = std::min(out.bytes, size - offset);
  uint64_t base = 0;
  if (t.state) {
    absl::StatusOr<size_t> read = engine_.Read(t.state, offset, {out.pieces, bytes}, {});
    if (!read.ok()) return read.status();
    base = *read;
  }
  out.Zero(base, bytes - base);
  const uint64_t end = offset + bytes;
  const auto clip = [&](uint64_t from, uint64_t to) {
    return std::pair(std::max(from, offset), std::min(to, end));
  };
  t.holes.ForEach([&](BlockRange r) {
    if (r.start * kBlockBytes >= end) return;
    const auto [from, to] = clip(r.start * kBlockBytes, r.end() * kBlockBytes);
    if (from < to) out.Zero(from - offset, to - from);
  });
  auto ahead = t.ahead.upper_bound(offset / kBlockBytes);
  if (ahead != t.ahead.begin()) --ahead;
  std::vector<std::byte> buffer;
  for (; ahead != t.ahead.end() && ahead->first * kBlockBytes < end; ++ahead) {
    const auto [from, to] =
        clip(ahead->first * kBlockBytes, (ahead->first + ahead->second.count) * kBlockBytes);
    if (from >= to) continue;
    const uint64_t first = from / kBlockBytes, count = BlocksFor(to) - first;
    buffer.resize(count * kBlockBytes);
    if (absl::Status s =
            ReadAheadBytes(ahead->second.physical + (first - ahead->first), count, buffer.data());
        !s.ok()) {
      return s;
    }
    out.CopyIn(from - offset, buffer.data() + (from - first * kBlockBytes), to - from);
  }
  for (auto it = t.blocks.lower_bound(offset / kBlockBytes);
       it != t.blocks.end() && it->first * kBlockBytes < end; ++it) {
    const uint64_t start = it->first * kBlockBytes;
    const auto copy = [&](uint32_t a, uint32_t b) {
      const auto [from, to] = clip(start + a, start + b);
      if (from < to) out.CopyIn(from - offset, it->second.buffer.data() + (from - start), to - from);
    };
    if (it->second.whole()) copy(0, kBlockBytes);
    for (const auto& [a, b] : it->second.written) copy(a, b);
  }
  return bytes;
}

// ---- Writing ahead ----

uint64_t TransactionImpl::BlocksInMemory() const {
  uint64_t n = 0;
  for (const auto& [id, t] : touched_) n += t.blocks.size();
  return n;
}

bool TransactionImpl::AnyAhead() const {
  return std::any_of(touched_.begin(), touched_.end(), [](const auto& v) { return !v.second.ahead.empty(); });
}

absl::Status TransactionImpl::SpillIfLarge() {
  const uint64_t limit = engine_.unit_limit_blocks() / 2;
  if (BlocksInMemory() < limit) return absl::OkStatus();
  for (auto& [id, t] : touched_) {
    if (absl::Status s = Spill(t); !s.ok()) return s;
  }
  if (BlocksInMemory() > limit / 2) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the transaction has parts of ", BlocksInMemory(),
                     " blocks, which stay in memory until it commits: commit it in smaller steps, or open "
                     "the store with a larger cache"));
  }
  return absl::OkStatus();
}

absl::Status TransactionImpl::Spill(Touched& t) {
  auto it = t.blocks.begin();
  while (it != t.blocks.end()) {
    if (!it->second.whole()) {
      ++it;
      continue;
    }
    BlockRange range{it->first, 0};
    std::vector<BufferRef> buffers;
    const auto first = it;
    while (it != t.blocks.end() && it->first == range.end() && it->second.whole() &&
           range.count < kAheadBlocksMax) {
      buffers.push_back(it->second.buffer);
      ++range.count;
      ++it;
    }
    CutAhead(t, range);
    if (absl::Status s = WriteAhead(t, range, buffers); !s.ok()) return s;
    t.blocks.erase(first, it);
  }
  return absl::OkStatus();
}

absl::Status TransactionImpl::WriteAhead(Touched& t, BlockRange range, std::vector<BufferRef>& buffers) {
  Volume& volume = engine_.volume();
  Lock lock = engine_.Acquire();
  // At worst every block is a piece of its own. One more entry, for the older piece that CutAhead has split here.
  const uint64_t entries_max = range.count + 1;
  while (true) {
    if (absl::Status s = engine_.CheckWritable(); !s.ok()) return s;
    absl::StatusOr<bool> claimed = engine_.Claim(lock, range.count, entries_max, false);
    if (!claimed.ok()) return claimed.status();
    if (*claimed) break;
  }
  claimed_entries_ += entries_max;
  uint64_t unplaced = range.count, pieces = 0;
  for (uint64_t at = 0; at < range.count;) {
    const uint64_t left = range.count - at;
    const uint64_t alignment = left >= 16 ? 16 : 1;
    absl::StatusOr<Extent> extent = volume.Allocate(lock, left, alignment, alignment);
    if (absl::IsResourceExhausted(extent.status())) extent = volume.Allocate(lock, left, 1, 1);
    if (!extent.ok()) {
      volume.Unclaim(unplaced, 0);
      return extent.status();
    }
    volume.Unclaim(extent->count, 0);
    unplaced -= extent->count;
    lock.unlock();
    std::vector<iovec> data;
    for (uint64_t i = 0; i < extent->count; ++i) data.push_back({buffers[at + i].data(), kBlockBytes});
    const Hash128 hash = HashData(data);
    std::vector<IoRequest> requests((data.size() + 1023) / 1024);
    std::vector<IoRequest*> pointers;
    for (size_t r = 0; r < requests.size(); ++r) {
      requests[r].op = IoOp::kWrite;
      requests[r].offset_bytes = (extent->start + r * 1024) * kBlockBytes;
      requests[r].iov.assign(data.begin() + r * 1024, data.begin() + std::min(data.size(), (r + 1) * 1024));
      pointers.push_back(&requests[r]);
    }
    lock.lock();
    if (absl::Status s = engine_.pump().RunAll(lock, pointers); !s.ok()) {
      volume.Unclaim(unplaced, 0);
      engine_.Fail(s);
      return engine_.CheckWritable();
    }
    engine_.stats().cow_bytes += extent->count * kBlockBytes;
    t.ahead[range.start + at] = {extent->count, extent->start, hash};
    at += extent->count;
    ++pieces;
  }
  volume.Unclaim(0, range.count - pieces);
  claimed_entries_ -= range.count - pieces;
  return absl::OkStatus();
}

}  // namespace untorn::internal
