// The public API checks handles, and passes calls on to the parts of the store.
#include "untorn/store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "base/memory_reserve.h"
#include "base/status_macros.h"
#include "device/file_device.h"
#include "extent/format_store.h"
#include "extent/superblock.h"
#include "store/beside_owner.h"
#include "store/object_resize.h"
#include "store/on_device.h"
#include "store/preallocate.h"
#include "store/scrub.h"
#include "store/shrink.h"
#include "store/store_impl.h"
#include "store/transaction_impl.h"

namespace untorn {

using internal::ObjectHandle;
using internal::StoreImpl;
using internal::TransactionImpl;

namespace {

iovec PieceOf(std::span<const std::byte> data) { return {const_cast<std::byte*>(data.data()), data.size()}; }

absl::Status HasHandle(const std::shared_ptr<ObjectHandle>& handle) {
  return handle ? absl::OkStatus() : absl::FailedPreconditionError("the handle refers to no object");
}

// Fails unless the handle is of an object that the store has, and this process opened the store.
absl::Status Usable(const std::shared_ptr<ObjectHandle>& handle) {
  RETURN_IF_ERROR(HasHandle(handle));
  RETURN_IF_ERROR(handle->store->CheckProcess());
  if (!handle->state) {
    return absl::FailedPreconditionError("the object exists only in a transaction that has not committed");
  }
  return absl::OkStatus();
}

// Makes an atomic write that is too large to be staged in the cache, as a transaction of its own.
absl::Status WriteLarge(const ObjectHandle& handle, uint64_t offset, IoVector data) {
  TransactionImpl transaction(handle.store);
  RETURN_IF_ERROR(transaction.Write(handle, offset, data));
  absl::Status s = transaction.Commit(Durability::kSync);
  // kAborted says that the object was removed meanwhile. A write says kNotFound then.
  return absl::IsAborted(s) ? absl::NotFoundError(std::string(s.message())) : s;
}

absl::Status WriteObject(const ObjectHandle& handle, uint64_t offset, IoVector data,
                         const WriteOptions& options, internal::WhenDone done) {
  internal::ObjectWriter& writer = handle.store->writer();
  RETURN_IF_ERROR(writer.CheckWrite(*handle.state, {offset, data.bytes}, options));
  if (!writer.IsLarge({offset, data.bytes}, options)) {
    return writer.Write(handle.state, offset, data, options, std::move(done));
  }
  absl::Status written = WriteLarge(handle, offset, data);
  if (!done) return written;
  TellLater(handle.store->front(), std::move(done), std::move(written));
  return absl::OkStatus();
}

}  // namespace

// ---- Object ----

uint64_t Object::id() const { return handle_ ? Value(handle_->id) : 0; }

bool Object::HasNewer() const { return handle_->store->has_newer(); }

absl::StatusOr<Object> Object::InNewest() const {
  while (true) {
    const std::shared_ptr<internal::NewestState> newest = handle_->store->newest_state().lock();
    if (newest == nullptr) return absl::FailedPreconditionError("the store is closed");
    const std::shared_ptr<StoreImpl> store = newest->Get();
    absl::StatusOr<std::shared_ptr<ObjectState>> state = store->names().FindById(handle_->id);
    // Another refresh may have come meanwhile.
    if (absl::IsAborted(state.status()) && store->has_newer()) continue;
    RETURN_IF_ERROR(state.status());
    return Object(std::make_shared<ObjectHandle>(ObjectHandle{store, handle_->id, *std::move(state)}));
  }
}

absl::StatusOr<std::string> Object::Name() const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(Usable(handle_));
  if (HasNewer()) {
    ASSIGN_OR_RETURN(const Object newest, InNewest());
    return newest.Name();
  }
  return handle_->store->NameOf(*handle_->state);
}

absl::StatusOr<uint64_t> Object::Size() const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(Usable(handle_));
  if (HasNewer()) {
    ASSIGN_OR_RETURN(const Object newest, InNewest());
    return newest.Size();
  }
  return handle_->store->SizeOf(*handle_->state);
}

absl::StatusOr<size_t> Object::Read(uint64_t offset, std::span<std::byte> out, ReadOptions options) const {
  const MemoryReserve::Use reserve;
  const iovec piece = PieceOf(out);
  return ReadV(offset, {&piece, 1}, options);
}

absl::StatusOr<size_t> Object::ReadV(uint64_t offset, std::span<const iovec> out, ReadOptions options) const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(Usable(handle_));
  const uint64_t bytes = TotalBytes(out);
  if (bytes > UINT64_MAX - offset) return absl::InvalidArgumentError("offset and length overflow");
  if (!HasNewer()) {
    absl::StatusOr<size_t> read =
        handle_->store->reader().Read(*handle_->state, offset, {out, bytes}, options);
    // A refresh ends the lease of the state.
    if (read.ok() || !absl::IsAborted(read.status()) || !HasNewer()) return read;
  }
  ASSIGN_OR_RETURN(const Object newest, InNewest());
  return newest.ReadV(offset, out, options);
}

absl::Status Object::Write(uint64_t offset, std::span<const std::byte> data, WriteOptions options) const {
  const MemoryReserve::Use reserve;
  const iovec piece = PieceOf(data);
  return WriteV(offset, {&piece, 1}, options);
}

absl::Status Object::WriteV(uint64_t offset, std::span<const iovec> data, WriteOptions options) const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(Usable(handle_));
  return WriteObject(*handle_, offset, {data, TotalBytes(data)}, options, nullptr);
}

void Object::WriteAsync(uint64_t offset, std::span<const std::byte> data, WriteOptions options,
                        std::function<void(absl::Status)> done) const {
  const MemoryReserve::Use reserve;
  absl::Status status = Usable(handle_);
  if (status.ok()) {
    const iovec piece = PieceOf(data);
    status = WriteObject(*handle_, offset, {{&piece, 1}, data.size()}, options, done);
  }
  if (!status.ok()) done(status);
}

void Object::ReadAsync(uint64_t offset, std::span<std::byte> out, ReadOptions options,
                       std::function<void(absl::StatusOr<size_t>)> done) const {
  const MemoryReserve::Use reserve;
  if (absl::Status s = Usable(handle_); !s.ok()) {
    done(s);
    return;
  }
  // The copy of the handle keeps the store in memory until the read is done.
  handle_->store->front().background.Run([object = *this, offset, out, options, done = std::move(done)] {
    done(object.Read(offset, out, options));
  });
}

absl::Status Object::Truncate(uint64_t size, Durability durability) const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(Usable(handle_));
  return internal::Truncate(handle_->store->front(), handle_->state, size, durability);
}

absl::Status Object::PunchHole(uint64_t offset, uint64_t length, Durability durability) const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(Usable(handle_));
  return internal::PunchHole(handle_->store->front(), handle_->state, {offset, length}, durability);
}

absl::Status Object::Preallocate(uint64_t offset, uint64_t length) const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(Usable(handle_));
  return internal::Preallocate(handle_->store->front(), handle_->state, {offset, length});
}

absl::Status Object::Sync() const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(Usable(handle_));
  return handle_->store->writer().SyncObject(*handle_->state);
}

absl::Status Object::SyncRange(uint64_t offset, uint64_t length) const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(Usable(handle_));
  return handle_->store->writer().SyncRange(*handle_->state, {offset, length});
}

// ---- Transaction ----

Transaction::Transaction(std::unique_ptr<TransactionImpl> impl) : impl_(std::move(impl)) {}
Transaction::~Transaction() {
  const MemoryReserve::Use reserve;
  impl_.reset();
}
Transaction::Transaction(Transaction&&) noexcept = default;
Transaction& Transaction::operator=(Transaction&&) noexcept = default;

absl::StatusOr<Object> Transaction::CreateObject(std::string_view name) {
  const MemoryReserve::Use reserve;
  absl::StatusOr<std::shared_ptr<ObjectHandle>> handle = impl_->Create(name);
  if (!handle.ok()) return handle.status();
  return Object(*std::move(handle));
}

absl::StatusOr<Object> Transaction::OpenObject(std::string_view name) const {
  const MemoryReserve::Use reserve;
  absl::StatusOr<std::shared_ptr<ObjectHandle>> handle = impl_->Find(name);
  if (!handle.ok()) return handle.status();
  return Object(*std::move(handle));
}

absl::Status Transaction::Rename(std::string_view from, std::string_view to) {
  const MemoryReserve::Use reserve;
  return impl_->Rename(from, to);
}
absl::Status Transaction::Remove(std::string_view name) {
  const MemoryReserve::Use reserve;
  return impl_->Remove(name);
}

absl::Status Transaction::Write(const Object& object, uint64_t offset, std::span<const std::byte> data) {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(HasHandle(object.handle_));
  const iovec piece = PieceOf(data);
  return impl_->Write(*object.handle_, offset, {{&piece, 1}, data.size()});
}

absl::StatusOr<size_t> Transaction::Read(const Object& object, uint64_t offset,
                                         std::span<std::byte> out) const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(HasHandle(object.handle_));
  if (impl_->store() != object.handle_->store.get() && object.HasNewer()) {
    ASSIGN_OR_RETURN(const Object newest, object.InNewest());
    return Read(newest, offset, out);
  }
  const iovec piece = PieceOf(out);
  return impl_->Read(*object.handle_, offset, {{&piece, 1}, out.size()});
}

absl::Status Transaction::Truncate(const Object& object, uint64_t size) {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(HasHandle(object.handle_));
  return impl_->Truncate(*object.handle_, size);
}

absl::Status Transaction::PunchHole(const Object& object, uint64_t offset, uint64_t length) {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(HasHandle(object.handle_));
  return impl_->PunchHole(*object.handle_, {offset, length});
}

absl::StatusOr<uint64_t> Transaction::Size(const Object& object) const {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(HasHandle(object.handle_));
  if (impl_->store() != object.handle_->store.get() && object.HasNewer()) {
    ASSIGN_OR_RETURN(const Object newest, object.InNewest());
    return Size(newest);
  }
  return impl_->Size(*object.handle_);
}

absl::Status Transaction::Absorb(Transaction&& other) {
  const MemoryReserve::Use reserve;
  return impl_->Absorb(*other.impl_);
}
absl::Status Transaction::Commit(Durability durability) {
  const MemoryReserve::Use reserve;
  return impl_->Commit(durability);
}
void Transaction::Abandon() {
  const MemoryReserve::Use reserve;
  impl_->Abandon();
}

// ---- Store ----

namespace internal {

struct StoreMaker {
  static std::unique_ptr<Store> Make(std::shared_ptr<StoreImpl> impl) {
    return std::unique_ptr<Store>(new Store(std::move(impl), nullptr));
  }
  static std::unique_ptr<Store> Make(std::shared_ptr<NewestState> newest) {
    return std::unique_ptr<Store>(new Store(nullptr, std::move(newest)));
  }
};

absl::Status CreateOnDevice(Device& device, const CreateOptions& options) {
  return FormatStore(device, options.size_bytes, options.prepare, options.progress);
}

absl::StatusOr<std::unique_ptr<Store>> OpenOnDevice(std::unique_ptr<Device> device,
                                                    const OpenOptions& options, bool background) {
  ASSIGN_OR_RETURN(std::shared_ptr<StoreImpl> impl, StoreImpl::Open(std::move(device), options, background));
  return StoreMaker::Make(std::move(impl));
}

absl::StatusOr<std::unique_ptr<Store>> OpenLeasedOnDevice(ReadDevice leased, const OpenOptions& options) {
  ASSIGN_OR_RETURN(std::shared_ptr<StoreImpl> impl, OpenLeased(std::move(leased), options));
  return StoreMaker::Make(std::move(impl));
}

}  // namespace internal

namespace {

absl::Status CreateInFile(const std::string& path, const CreateOptions& options) {
  RETURN_IF_ERROR(CreateStoreFile(path));
  absl::StatusOr<std::unique_ptr<Device>> device = OpenFileDevice(path, {});
  absl::Status status = device.ok() ? internal::CreateOnDevice(**device, options) : device.status();
  // A file without a complete store must not stay behind.
  if (!status.ok()) unlink(path.c_str());
  return status;
}

// Makes the store under a name that nobody else uses, beside `path`, and calls `place` when the store is complete. So a crash
// leaves no part of a store at `path`, and others open no part of a store.
absl::Status CreateAndPlace(const std::string& path, const CreateOptions& options,
                            absl::Status (*place)(const std::string& from, const std::string& to)) {
  ASSIGN_OR_RETURN(const std::string fresh, FreshNameBeside(path));
  RETURN_IF_ERROR(CreateInFile(fresh, options));
  absl::Status placed = place(fresh, path);
  if (!placed.ok()) unlink(fresh.c_str());
  return placed;
}

// Makes the new store beside the old one. The new store takes the place of the old one when the new one is
// complete.
absl::Status ReplaceFile(const std::string& path, const CreateOptions& options) {
  // `old` holds the lock of the old store until the end, so a store in use is not taken away from its owner.
  absl::StatusOr<std::unique_ptr<Device>> old = OpenFileDevice(path, {});
  if (!old.ok()) return old.status();
  // A symbolic link stays; the file that the link leads to is replaced.
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), std::free);
  if (real == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot be replaced"));
  return CreateAndPlace(real.get(), options, ReplaceStoreFile);
}

absl::Status CreateOnBlockDevice(const std::string& path, const CreateOptions& options) {
  const auto holds = [&](const std::string& what) {
    return absl::AlreadyExistsError(absl::StrCat(path, ": in use already (", what, ")"));
  };
  if (!options.force) {
    absl::StatusOr<std::string> found = ProbeForeignContent(path);
    if (!found.ok()) return found.status();
    if (!found->empty()) return holds(*found);
  }
  absl::StatusOr<std::unique_ptr<Device>> device = OpenFileDevice(path, {});
  if (!device.ok()) return device.status();
  if (!options.force) {
    // A store that this version cannot open counts too.
    for (const auto& slot : ReadSuperblocks(**device).slots) {
      if (!absl::IsNotFound(slot.status())) return holds("untorn store");
    }
  }
  return internal::CreateOnDevice(**device, options);
}

absl::Status CreateAtPath(const std::string& path, const CreateOptions& options) {
  struct stat st;
  const bool exists = stat(path.c_str(), &st) == 0;
  if (exists && S_ISBLK(st.st_mode)) return CreateOnBlockDevice(path, options);
  if (exists && !options.force) {
    return absl::AlreadyExistsError(absl::StrCat(path, ": the file exists already"));
  }
  // The size of a file is checked before anything is created or replaced.
  CreateOptions of_file = options;
  if (options.size_bytes == 0) {
    ASSIGN_OR_RETURN(of_file.size_bytes, SizeOfFileSystem(path));
  }
  const BlockCount blocks = WholeBlocks(of_file.size_bytes);
  if (blocks < kStoreBlocksMin || blocks > kStoreBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a store has ", Bytes(kStoreBlocksMin), " to ",
                                                   Bytes(kStoreBlocksMax), " bytes, not ",
                                                   of_file.size_bytes));
  }
  return exists ? ReplaceFile(path, of_file) : CreateAndPlace(path, of_file, NameStoreFile);
}

absl::StatusOr<std::unique_ptr<Store>> OpenAtPath(const std::string& path, const OpenOptions& options) {
  const FileDeviceOptions device_options = internal::DeviceOptionsOf(options);
  if (!options.read_only) {
    ASSIGN_OR_RETURN(std::unique_ptr<Device> device, OpenFileDevice(path, device_options));
    return internal::OpenOnDevice(std::move(device), options);
  }
  ASSIGN_OR_RETURN(ReadDevice reading, OpenForReading(path, device_options));
  if (!reading.leased) return internal::OpenOnDevice(std::move(reading.device), options);
  ASSIGN_OR_RETURN(std::shared_ptr<internal::NewestState> newest,
                   internal::NewestState::Open(std::move(reading), options));
  return internal::StoreMaker::Make(std::move(newest));
}

}  // namespace

absl::Status Store::Create(const std::string& path, const CreateOptions& options) {
  return UnlessOutOfMemory([&] { return CreateAtPath(path, options); });
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& path, const OpenOptions& options) {
  RETURN_IF_ERROR(MemoryReserve::Prepare());
  // Recovery may need far more memory than the reserve has. As a crash does, giving up leaves a store that can be opened.
  return UnlessOutOfMemory([&] { return OpenAtPath(path, options); });
}

template <typename Fn>
auto Store::OnNewest(Fn fn) const {
  while (true) {
    const std::shared_ptr<StoreImpl> store = impl();
    auto result = fn(store);
    // A refresh ends the lease of the state before.
    if (!absl::IsAborted(result.status()) || !store->has_newer()) return result;
  }
}

std::shared_ptr<StoreImpl> Store::impl() const { return newest_ != nullptr ? newest_->Get() : impl_; }

Store::~Store() {
  const MemoryReserve::Use reserve;
  impl()->CloseIfOpen();
}

absl::Status Store::Close() {
  const MemoryReserve::Use reserve;
  return impl()->Close();
}

absl::Status Store::Refresh() {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(MemoryReserve::Check());
  if (newest_ == nullptr) return impl_->CheckOpen();
  RETURN_IF_ERROR(newest_->Get()->CheckProcess());
  return newest_->Refresh();
}

absl::StatusOr<Object> Store::CreateObject(std::string_view name, Durability durability) {
  const MemoryReserve::Use reserve;
  const std::shared_ptr<StoreImpl> store = impl();
  RETURN_IF_ERROR(store->CheckProcess());
  absl::StatusOr<std::shared_ptr<ObjectState>> state = store->names().Create(name, durability);
  if (!state.ok()) return state.status();
  return Object(std::make_shared<ObjectHandle>(ObjectHandle{store, (*state)->id, *state}));
}

absl::StatusOr<Object> Store::OpenObject(std::string_view name) {
  const MemoryReserve::Use reserve;
  return OnNewest([&](const std::shared_ptr<StoreImpl>& store) -> absl::StatusOr<Object> {
    RETURN_IF_ERROR(store->CheckProcess());
    absl::StatusOr<std::shared_ptr<ObjectState>> state = store->names().Find(name);
    if (!state.ok()) return state.status();
    return Object(std::make_shared<ObjectHandle>(ObjectHandle{store, (*state)->id, *state}));
  });
}

absl::Status Store::Rename(std::string_view from, std::string_view to, Durability durability) {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(impl()->CheckProcess());
  return impl()->names().Rename(from, to, durability);
}

absl::Status Store::Remove(std::string_view name, Durability durability) {
  const MemoryReserve::Use reserve;
  RETURN_IF_ERROR(impl()->CheckProcess());
  return impl()->names().Remove(name, durability);
}

absl::StatusOr<std::vector<ObjectInfo>> Store::List(std::string_view after, size_t max) {
  const MemoryReserve::Use reserve;
  return OnNewest([&](const std::shared_ptr<StoreImpl>& store) -> absl::StatusOr<std::vector<ObjectInfo>> {
    RETURN_IF_ERROR(store->CheckProcess());
    return store->names().List(after, max);
  });
}

absl::Status Store::Barrier() {
  const MemoryReserve::Use reserve;
  return impl()->Barrier();
}
absl::Status Store::Sync() {
  const MemoryReserve::Use reserve;
  return impl()->Sync();
}
absl::Status Store::Checkpoint() {
  const MemoryReserve::Use reserve;
  return impl()->Checkpoint();
}

absl::Status Store::Resize(uint64_t size_bytes, const ShrinkOptions& options) {
  const MemoryReserve::Use reserve;
  return impl()->Resize(size_bytes, options);
}

absl::StatusOr<TrimResult> Store::Trim(const ShrinkOptions& options) {
  const MemoryReserve::Use reserve;
  return internal::Trim(*impl(), options);
}

absl::StatusOr<ScrubResult> Store::Scrub(const ScrubOptions& options) {
  const MemoryReserve::Use reserve;
  return internal::Scrub(*impl(), options);
}

Transaction Store::Begin() {
  const MemoryReserve::Use reserve;
  return Transaction(std::make_unique<TransactionImpl>(impl()));
}

StoreInfo Store::info() const {
  const MemoryReserve::Use reserve;
  return impl()->info();
}
Stats Store::stats() const {
  const MemoryReserve::Use reserve;
  return impl()->stats();
}

}  // namespace untorn
