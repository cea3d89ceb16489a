#include "store/transaction_impl.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/probes.h"
#include "base/status_macros.h"

namespace untorn::internal {

TransactionImpl::TransactionImpl(std::shared_ptr<StoreImpl> store)
    : store_(std::move(store)), front_(store_->front()), spill_(front_) {}

absl::Status TransactionImpl::CheckUnfinished() const {
  if (finished_) return absl::FailedPreconditionError("the transaction is finished");
  if (!incomplete_.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("abandon the transaction, and begin it again: an earlier change of it failed half way: ",
                     incomplete_.message()));
  }
  return store_->CheckProcess();
}

absl::Status TransactionImpl::CheckUsable() const {
  // First, because a fork()ed child must not take the lock.
  RETURN_IF_ERROR(CheckUnfinished());
  const Lock lock(front_.mu);
  RETURN_IF_ERROR(front_.parts.health.CheckOpen());
  return front_.parts.CheckMemory();
}

absl::Status TransactionImpl::Absorb(TransactionImpl& other) {
  RETURN_IF_ERROR(CheckUsable());
  RETURN_IF_ERROR(other.CheckUsable());
  if (&other == this || other.store_ != store_) {
    return absl::InvalidArgumentError("the transactions are the same one, or of two stores");
  }
  // All checks come before the first change, so an error leaves both transactions unchanged.
  for (const auto& [id, draft] : other.drafts_) {
    if (drafts_.contains(id)) {
      return absl::InvalidArgumentError(absl::StrCat("both transactions use object '", draft.name, "'"));
    }
  }
  for (const auto& [name, id] : other.expected_) {
    if (expected_.contains(name)) {
      return absl::InvalidArgumentError(absl::StrCat("both transactions change the name '", name, "'"));
    }
  }
  drafts_.merge(other.drafts_);
  names_.merge(other.names_);
  expected_.merge(other.expected_);
  blocks_in_memory_ += std::exchange(other.blocks_in_memory_, BlockCount());
  extents_cut_ += other.extents_cut_;
  const Lock lock(front_.mu);
  spill_.space().Add(std::move(other.spill_.space()));
  // Finish() would free the spilled extents, which belong to this transaction now.
  other.finished_ = true;
  return absl::OkStatus();
}

void TransactionImpl::Finish() {
  finished_ = true;
  for (auto& [id, draft] : drafts_) spill_.Cut(draft, {0, kObjectBlocksMax});
  drafts_.clear();
  buffers_.clear();
  buffers_taken_ = 0;
  blocks_in_memory_ = 0;
  const Lock lock(front_.mu);
  spill_.space().Release();
}

void TransactionImpl::Abandon() {
  // A fork()ed child must not touch the store, so the child gives nothing back.
  if (finished_ || !store_->CheckProcess().ok()) return;
  Finish();
}

absl::StatusOr<ObjectDraft*> TransactionImpl::Touch(const ObjectHandle& object) {
  if (object.store != store_) return absl::InvalidArgumentError("the object belongs to another store");
  auto it = drafts_.find(object.id);
  if (it == drafts_.end()) {
    // A handle without a state is of an object that some transaction has created and not committed.
    if (!object.state) return absl::FailedPreconditionError("the object was created in another transaction");
    const Lock lock(front_.mu);
    if (object.state->removed) return RemovedError(*object.state);
    ObjectDraft& draft = drafts_[object.id];
    draft.state = object.state;
    draft.id = object.id;
    draft.name = object.state->name;
    return &draft;
  }
  if (it->second.removed) {
    return absl::NotFoundError(
        absl::StrCat("object '", it->second.name, "' was removed in this transaction"));
  }
  return &it->second;
}

uint64_t TransactionImpl::SizeOf(const ObjectDraft& draft) {
  if (draft.set_size) return draft.size;
  const Lock lock(front_.mu);
  return std::max(draft.state->size_bytes, draft.grow_to);
}

// ---- Names ----

absl::StatusOr<ObjectId> TransactionImpl::Resolve(const std::string& name) {
  if (auto it = names_.find(name); it != names_.end()) return it->second;
  absl::StatusOr<std::shared_ptr<ObjectState>> found = store_->names().Find(name);
  if (absl::IsNotFound(found.status())) return ObjectId::kNone;
  RETURN_IF_ERROR(found.status());
  return (*found)->id;
}

absl::StatusOr<std::shared_ptr<ObjectHandle>> TransactionImpl::Create(std::string_view name_view) {
  RETURN_IF_ERROR(CheckUsable());
  RETURN_IF_ERROR(CheckName(name_view));
  {
    const Lock lock(front_.mu);
    RETURN_IF_ERROR(front_.parts.CheckChangeable());
  }
  const std::string name(name_view);
  ASSIGN_OR_RETURN(const ObjectId existing, Resolve(name));
  if (existing != ObjectId::kNone) return NameTaken(name);
  // insert() keeps an older entry: what the name referred to when the transaction first changed it.
  expected_.insert({name, ObjectId::kNone});
  auto handle = std::make_shared<ObjectHandle>();
  handle->store = store_;
  {
    const Lock lock(front_.mu);
    handle->id = front_.parts.volume.NewObjectId();
  }
  names_[name] = handle->id;
  ObjectDraft& draft = drafts_[handle->id];
  draft.handle = handle;
  draft.id = handle->id;
  draft.name = name;
  draft.set_size = true;
  return handle;
}

absl::StatusOr<std::shared_ptr<ObjectHandle>> TransactionImpl::Find(std::string_view name_view,
                                                                    FindFor purpose) {
  RETURN_IF_ERROR(CheckUsable());
  RETURN_IF_ERROR(CheckName(name_view));
  const std::string name(name_view);
  if (auto it = names_.find(name); it != names_.end()) {
    if (it->second == ObjectId::kNone) return NoSuchObject(name);
    ObjectDraft& draft = drafts_[it->second];
    if (draft.created()) return draft.handle;
    return std::make_shared<ObjectHandle>(ObjectHandle{store_, draft.id, draft.state});
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<ObjectState> found, store_->names().Find(name, purpose));
  // The transaction has given the object another name.
  if (auto it = drafts_.find(found->id); it != drafts_.end() && it->second.renamed) return NoSuchObject(name);
  return std::make_shared<ObjectHandle>(ObjectHandle{store_, found->id, found});
}

absl::Status TransactionImpl::Rename(std::string_view from_view, std::string_view to_view) {
  RETURN_IF_ERROR(CheckName(to_view));
  ASSIGN_OR_RETURN(const std::shared_ptr<ObjectHandle> handle, Find(from_view, FindFor::kChange));
  const std::string from(from_view), to(to_view);
  ASSIGN_OR_RETURN(const ObjectId existing, Resolve(to));
  if (existing != ObjectId::kNone) return NameTaken(to);
  ASSIGN_OR_RETURN(ObjectDraft * draft, Touch(*handle));
  expected_.insert({from, draft->id});
  expected_.insert({to, ObjectId::kNone});
  names_[from] = ObjectId::kNone;
  names_[to] = draft->id;
  draft->name = to;
  draft->renamed = true;
  return absl::OkStatus();
}

absl::Status TransactionImpl::Remove(std::string_view name_view) {
  ASSIGN_OR_RETURN(const std::shared_ptr<ObjectHandle> handle, Find(name_view, FindFor::kChange));
  ASSIGN_OR_RETURN(ObjectDraft * draft, Touch(*handle));
  const std::string name(name_view);
  expected_.insert({name, draft->id});
  names_[name] = ObjectId::kNone;
  // The data of a removed object is not needed any more, in memory or spilled.
  ForgetBlocks(*draft, {0, kObjectBlocksMax});
  spill_.Cut(*draft, {0, kObjectBlocksMax});
  draft->removed = true;
  return absl::OkStatus();
}

// ---- Data ----

void TransactionImpl::ForgetBlocks(ObjectDraft& draft, BlockRange range) {
  const auto first = draft.blocks.lower_bound(range.start), last = draft.blocks.lower_bound(range.end());
  blocks_in_memory_ -= BlockCount(static_cast<uint64_t>(std::distance(first, last)));
  draft.blocks.erase(first, last);
}

absl::Status TransactionImpl::WriteBlocks(ObjectDraft& draft, uint64_t offset, IoVector data) {
  const absl::Status written = CopyToBlocks(draft, offset, data);
  // The draft may hold a part of the data now, and a commit would make the part durable.
  if (!written.ok()) incomplete_ = written;
  return written;
}

absl::StatusOr<BufferRef> TransactionImpl::TakeBuffer(BlockCount rest) {
  // Buffers come in groups, because each group takes the pool's lock. A group has at most half as many buffers as the
  // transaction has blocks, or the rest of the write.
  constexpr BlockCount kTakenTogether{64};
  if (buffers_taken_ == buffers_.size()) {
    std::vector<BufferRef> taken(std::min(kTakenTogether, std::max(rest, blocks_in_memory_ / 2)).value());
    RETURN_IF_ERROR(TakeBuffers(front_, taken));
    buffers_ = std::move(taken);
    buffers_taken_ = 0;
  }
  return std::move(buffers_[buffers_taken_++]);
}

absl::Status TransactionImpl::CopyToBlocks(ObjectDraft& draft, uint64_t offset, IoVector data) {
  auto it = draft.blocks.lower_bound(ObjectBlockAt(offset));
  for (uint64_t at = 0; at < data.bytes;) {
    const ObjectBlock number = ObjectBlockAt(offset + at);
    const uint32_t from = static_cast<uint32_t>((offset + at) % kBlockBytes);
    const uint32_t n = static_cast<uint32_t>(std::min<uint64_t>(kBlockBytes - from, data.bytes - at));
    bool fresh = it == draft.blocks.end() || it->first != number;
    if (fresh && n < kBlockBytes) {
      // If the block was spilled, its spilled content is the rest of the block.
      ASSIGN_OR_RETURN(const bool loaded, spill_.Load(draft, number));
      fresh = !loaded;
      if (loaded) {
        ++blocks_in_memory_;
        it = draft.blocks.find(number);
      }
    }
    if (fresh) {
      ASSIGN_OR_RETURN(BufferRef buffer, TakeBuffer(BlocksFor(from + data.bytes - at)));
      it = draft.blocks.emplace_hint(it, number, DraftBlock());
      ++blocks_in_memory_;
      DraftBlock& block = it->second;
      block.buffer = std::move(buffer);
      if (n < kBlockBytes) {
        std::memset(block.buffer.data(), 0, kBlockBytes);
        // In a new object or in a hole the rest of the block is zeros, so the whole block is known. Elsewhere
        // only the bytes that are written here are known.
        if (!draft.created() && !draft.holes.Contains(number)) block.written = {{from, from + n}};
      }
    }
    data.CopyOut(at, it->second.buffer.data() + from, n);
    it->second.Note(from, from + n);
    at += n;
    ++it;
    if (blocks_in_memory_ < SpillLimit()) continue;
    RETURN_IF_ERROR(SpillDrafts());
    // The spilled blocks are not in the draft any more.
    it = draft.blocks.lower_bound(number + 1);
  }
  return absl::OkStatus();
}

absl::Status TransactionImpl::Write(const ObjectHandle& object, uint64_t offset, IoVector data) {
  RETURN_IF_ERROR(CheckRange({offset, data.bytes}));
  RETURN_IF_ERROR(CheckUnfinished());
  ASSIGN_OR_RETURN(ObjectDraft * draft, Touch(object));
  {
    const Lock lock(front_.mu);
    RETURN_IF_ERROR(front_.parts.CheckChangeable());
    ++front_.parts.stats.writes;
    front_.parts.stats.bytes_written += data.bytes;
  }
  probes::Submit(Value(object.id), offset, data.bytes);
  RETURN_IF_ERROR(WriteBlocks(*draft, offset, data));
  draft->size = std::max(draft->size, offset + data.bytes);
  draft->wrote = true;
  draft->grow_to = std::max(draft->grow_to, offset + data.bytes);
  return absl::OkStatus();
}

absl::Status TransactionImpl::ZeroBytes(ObjectDraft& draft, uint64_t from, uint64_t to) {
  if (from >= to) return absl::OkStatus();
  UNTORN_CHECK(to - from <= kBlockBytes, "the edge of a hole is larger than a block");
  draft.zeroed = true;
  static const std::byte zeros[kBlockBytes] = {};
  const iovec piece{const_cast<std::byte*>(zeros), to - from};
  return WriteBlocks(draft, from, {{&piece, 1}, to - from});
}

void TransactionImpl::MakeHole(ObjectDraft& draft, BlockRange range) {
  ForgetBlocks(draft, range);
  if (spill_.Cut(draft, range)) ++extents_cut_;
  draft.holes.Add(range);
}

absl::Status TransactionImpl::Truncate(const ObjectHandle& object, uint64_t size) {
  RETURN_IF_ERROR(CheckSize(size));
  RETURN_IF_ERROR(CheckUsable());
  ASSIGN_OR_RETURN(ObjectDraft * draft, Touch(object));
  // The bytes behind the size get zeros even if the object is not larger now. Others may make the object
  // larger before the commit.
  const ObjectBlock first = ObjectEnd(size);
  RETURN_IF_ERROR(ZeroBytes(*draft, size, ByteOffset(first)));
  if (first < kObjectEnd) MakeHole(*draft, {first, kObjectEnd - first});
  draft->size = size;
  draft->set_size = true;
  draft->grow_to = 0;
  return absl::OkStatus();
}

absl::Status TransactionImpl::PunchHole(const ObjectHandle& object, ByteRange range) {
  RETURN_IF_ERROR(CheckRange(range));
  RETURN_IF_ERROR(CheckUsable());
  ASSIGN_OR_RETURN(ObjectDraft * draft, Touch(object));
  const uint64_t offset = range.offset_bytes, end = std::min(range.end_bytes(), SizeOf(*draft));
  if (end <= offset) return absl::OkStatus();
  const ObjectBlock first = ObjectEnd(offset), last = ObjectBlockAt(end);
  // The range lies within one block.
  if (first > last) return ZeroBytes(*draft, offset, end);
  RETURN_IF_ERROR(ZeroBytes(*draft, offset, ByteOffset(first)));
  RETURN_IF_ERROR(ZeroBytes(*draft, ByteOffset(last), end));
  if (first < last) MakeHole(*draft, {first, last - first});
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> TransactionImpl::Size(const ObjectHandle& object) {
  RETURN_IF_ERROR(CheckUsable());
  ASSIGN_OR_RETURN(ObjectDraft * draft, Touch(object));
  return SizeOf(*draft);
}

// Reads the parts of spilled extents that lie in bytes [offset, end), and puts these parts over the content
// of `out`.
absl::Status TransactionImpl::ReadSpilled(const ObjectDraft& draft, uint64_t offset, uint64_t end,
                                          IoVector out) {
  auto it = draft.spilled.upper_bound(ObjectBlockAt(offset));
  // The extent before may reach into the range.
  if (it != draft.spilled.begin()) --it;
  std::vector<std::byte> buffer;
  for (; it != draft.spilled.end() && ByteOffset(it->first) < end; ++it) {
    const uint64_t from = std::max(ByteOffset(it->first), offset);
    const uint64_t to = std::min(ByteOffset(it->first + it->second.count), end);
    if (from >= to) continue;
    const BlockRange blocks = BlocksOf({from, to - from});
    buffer.resize(Bytes(blocks.count));
    RETURN_IF_ERROR(spill_.Read(it->second, blocks.start - it->first, blocks.count, buffer.data()));
    out.CopyIn(from - offset, buffer.data() + (from - ByteOffset(blocks.start)), to - from);
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> TransactionImpl::Read(const ObjectHandle& object, uint64_t offset, IoVector out) {
  if (out.bytes > UINT64_MAX - offset) return absl::InvalidArgumentError("offset and length overflow");
  RETURN_IF_ERROR(CheckUsable());
  ASSIGN_OR_RETURN(ObjectDraft * draft, Touch(object));
  const uint64_t size = SizeOf(*draft);
  if (offset >= size) return 0;
  const uint64_t bytes = std::min(out.bytes, size - offset), end = offset + bytes;
  // Each layer covers the one before: committed content, holes, spilled extents, blocks in memory.
  uint64_t committed = 0;
  if (draft->state) {
    ASSIGN_OR_RETURN(committed, store_->reader().Read(*draft->state, offset, {out.pieces, bytes}, {}));
  }
  // What the transaction adds beyond the committed size is zeros where no layer covers it.
  out.Zero({committed, bytes - committed});
  const auto clip = [&](uint64_t from, uint64_t to) {
    return std::pair(std::max(from, offset), std::min(to, end));
  };
  draft->holes.ForEach([&](BlockRange r) {
    if (ByteOffset(r.start) >= end) return;
    const auto [from, to] = clip(ByteOffset(r.start), ByteOffset(r.end()));
    if (from < to) out.Zero({from - offset, to - from});
  });
  RETURN_IF_ERROR(ReadSpilled(*draft, offset, end, out));
  for (auto it = draft->blocks.lower_bound(ObjectBlockAt(offset));
       it != draft->blocks.end() && ByteOffset(it->first) < end; ++it) {
    const uint64_t start = ByteOffset(it->first);
    const auto copy = [&](uint32_t a, uint32_t b) {
      const auto [from, to] = clip(start + a, start + b);
      if (from < to) out.CopyIn(from - offset, it->second.buffer.data() + (from - start), to - from);
    };
    // A partly written block covers only the bytes that the transaction wrote.
    if (it->second.whole()) copy(0, kBlockBytes);
    for (const auto& [a, b] : it->second.written) copy(a, b);
  }
  return bytes;
}

// ---- Spilling ----

absl::Status TransactionImpl::SpillDraft(ObjectDraft& draft) {
  const size_t before = draft.blocks.size();
  const absl::Status written = spill_.WriteBlocks(draft);
  // After an error some blocks may be spilled too.
  blocks_in_memory_ -= BlockCount(before - draft.blocks.size());
  return written;
}

absl::Status TransactionImpl::SpillDrafts() {
  // Blocks of which only parts are known cannot be spilled. Such blocks may take half of the limit, so every
  // spill frees at least the other half.
  for (auto& [id, draft] : drafts_) RETURN_IF_ERROR(SpillDraft(draft));
  if (blocks_in_memory_ <= SpillLimit() / 2) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the transaction has parts of ", blocks_in_memory_.value(),
                   " blocks, which stay in memory until it commits: commit it in smaller steps, or open "
                   "the store with a larger cache"));
}

}  // namespace untorn::internal
