#include "untorn/store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "device/file_device.h"
#include "extent/superblock.h"
#include "untorn/store_impl.h"
#include "untorn/transaction_impl.h"

namespace untorn {

using internal::ObjectHandle;
using internal::StoreImpl;
using internal::TransactionImpl;

namespace {

FileDeviceOptions DeviceOptions(const OpenOptions& options) {
  FileDeviceOptions d;
  d.read_only = options.read_only;
  d.stated_unit_bytes = options.stated_atomic_unit_bytes;
  d.use_io_uring = options.use_io_uring;
  return d;
}

iovec PieceOf(std::span<const std::byte> data) { return {const_cast<std::byte*>(data.data()), data.size()}; }

// What every call on an object needs: an open store, and the object itself.
absl::Status Usable(const std::shared_ptr<ObjectHandle>& handle) {
  if (!handle) return absl::FailedPreconditionError("the handle refers to no object");
  if (absl::Status s = handle->store->engine().CheckProcess(); !s.ok()) return s;
  if (!handle->state) {
    return absl::FailedPreconditionError("the object exists only in a transaction that has not committed");
  }
  return absl::OkStatus();
}

}  // namespace

// ---- Object ----

uint64_t Object::id() const { return handle_ ? Value(handle_->id) : 0; }

absl::StatusOr<std::string> Object::Name() const {
  if (absl::Status s = Usable(handle_); !s.ok()) return s;
  Lock lock = handle_->store->engine().Acquire();
  if (absl::Status s = handle_->store->engine().CheckOpen(); !s.ok()) return s;
  if (handle_->state->removed) return absl::NotFoundError("the object was removed");
  return handle_->state->name;
}

absl::StatusOr<uint64_t> Object::Size() const {
  if (absl::Status s = Usable(handle_); !s.ok()) return s;
  Lock lock = handle_->store->engine().Acquire();
  if (absl::Status s = handle_->store->engine().CheckOpen(); !s.ok()) return s;
  if (handle_->state->removed) return absl::NotFoundError("the object was removed");
  return handle_->state->size_bytes;
}

absl::StatusOr<size_t> Object::Read(uint64_t offset, std::span<std::byte> out, ReadOptions options) const {
  const iovec piece = PieceOf(out);
  return ReadV(offset, {&piece, 1}, options);
}

absl::StatusOr<size_t> Object::ReadV(uint64_t offset, std::span<const iovec> out, ReadOptions options) const {
  if (absl::Status s = Usable(handle_); !s.ok()) return s;
  const uint64_t bytes = internal::TotalBytes(out);
  if (bytes > UINT64_MAX - offset) return absl::InvalidArgumentError("offset and length overflow");
  return handle_->store->engine().Read(handle_->state, offset, {out, bytes}, options);
}

absl::Status Object::Write(uint64_t offset, std::span<const std::byte> data, WriteOptions options) const {
  const iovec piece = PieceOf(data);
  return WriteV(offset, {&piece, 1}, options);
}

absl::Status Object::WriteV(uint64_t offset, std::span<const iovec> data, WriteOptions options) const {
  if (absl::Status s = Usable(handle_); !s.ok()) return s;
  return handle_->store->Write(handle_->state, offset, {data, internal::TotalBytes(data)}, options, nullptr);
}

void Object::WriteAsync(uint64_t offset, std::span<const std::byte> data, WriteOptions options,
                        std::function<void(absl::Status)> done) const {
  absl::Status status = Usable(handle_);
  if (status.ok()) {
    const iovec piece = PieceOf(data);
    status = handle_->store->Write(handle_->state, offset, {{&piece, 1}, data.size()}, options, done);
  }
  if (!status.ok()) done(status);
}

void Object::ReadAsync(uint64_t offset, std::span<std::byte> out, ReadOptions options,
                       std::function<void(absl::StatusOr<size_t>)> done) const {
  if (absl::Status s = Usable(handle_); !s.ok()) {
    done(s);
    return;
  }
  handle_->store->engine().RunAsync([object = *this, offset, out, options, done = std::move(done)] {
    done(object.Read(offset, out, options));
  });
}

absl::Status Object::Truncate(uint64_t size, Durability durability) const {
  if (absl::Status s = Usable(handle_); !s.ok()) return s;
  return handle_->store->Truncate(handle_->state, size, durability);
}

absl::Status Object::PunchHole(uint64_t offset, uint64_t length, Durability durability) const {
  if (absl::Status s = Usable(handle_); !s.ok()) return s;
  return handle_->store->PunchHole(handle_->state, offset, length, durability);
}

absl::Status Object::Preallocate(uint64_t offset, uint64_t length) const {
  if (absl::Status s = Usable(handle_); !s.ok()) return s;
  return handle_->store->Preallocate(handle_->state, offset, length);
}

absl::Status Object::Sync() const {
  if (absl::Status s = Usable(handle_); !s.ok()) return s;
  return handle_->store->SyncObject(handle_->state);
}

absl::Status Object::SyncRange(uint64_t offset, uint64_t length) const {
  if (absl::Status s = Usable(handle_); !s.ok()) return s;
  return handle_->store->SyncRange(handle_->state, offset, length);
}

// ---- Transaction ----

Transaction::Transaction(std::unique_ptr<TransactionImpl> impl) : impl_(std::move(impl)) {}
Transaction::~Transaction() = default;
Transaction::Transaction(Transaction&&) noexcept = default;
Transaction& Transaction::operator=(Transaction&&) noexcept = default;

absl::StatusOr<Object> Transaction::CreateObject(std::string_view name) {
  absl::StatusOr<std::shared_ptr<ObjectHandle>> handle = impl_->Create(name);
  if (!handle.ok()) return handle.status();
  return Object(*std::move(handle));
}

absl::StatusOr<Object> Transaction::OpenObject(std::string_view name) const {
  absl::StatusOr<std::shared_ptr<ObjectHandle>> handle = impl_->Find(name);
  if (!handle.ok()) return handle.status();
  return Object(*std::move(handle));
}

absl::Status Transaction::Rename(std::string_view from, std::string_view to) {
  return impl_->Rename(from, to);
}
absl::Status Transaction::Remove(std::string_view name) { return impl_->Remove(name); }

namespace {
absl::Status HasHandle(const std::shared_ptr<ObjectHandle>& handle) {
  return handle ? absl::OkStatus() : absl::FailedPreconditionError("the handle refers to no object");
}
}  // namespace

absl::Status Transaction::Write(const Object& object, uint64_t offset, std::span<const std::byte> data) {
  if (absl::Status s = HasHandle(object.handle_); !s.ok()) return s;
  const iovec piece = PieceOf(data);
  return impl_->Write(*object.handle_, offset, {{&piece, 1}, data.size()});
}

absl::StatusOr<size_t> Transaction::Read(const Object& object, uint64_t offset,
                                         std::span<std::byte> out) const {
  if (absl::Status s = HasHandle(object.handle_); !s.ok()) return s;
  const iovec piece = PieceOf(out);
  return impl_->Read(*object.handle_, offset, {{&piece, 1}, out.size()});
}

absl::Status Transaction::Truncate(const Object& object, uint64_t size) {
  if (absl::Status s = HasHandle(object.handle_); !s.ok()) return s;
  return impl_->Truncate(*object.handle_, size);
}

absl::Status Transaction::PunchHole(const Object& object, uint64_t offset, uint64_t length) {
  if (absl::Status s = HasHandle(object.handle_); !s.ok()) return s;
  return impl_->PunchHole(*object.handle_, offset, length);
}

absl::StatusOr<uint64_t> Transaction::Size(const Object& object) const {
  if (absl::Status s = HasHandle(object.handle_); !s.ok()) return s;
  return impl_->Size(*object.handle_);
}

absl::Status Transaction::Absorb(Transaction&& other) { return impl_->Absorb(*other.impl_); }
absl::Status Transaction::Commit(Durability durability) { return impl_->Commit(durability); }
void Transaction::Abandon() { impl_->Abandon(); }

// ---- Store ----

namespace {

absl::Status CreateInFile(const std::string& path, const CreateOptions& options) {
  if (absl::Status s = CreateStoreFile(path, options.size_bytes / kBlockBytes * kBlockBytes); !s.ok())
    return s;
  absl::StatusOr<std::unique_ptr<Device>> device = OpenFileDevice(path, {});
  absl::Status status = device.ok() ? Store::CreateOnDevice(**device, options) : device.status();
  if (!status.ok()) unlink(path.c_str());
  return status;
}

// The new store is made beside the old one and takes its place when it is complete.
absl::Status ReplaceFile(const std::string& path, const CreateOptions& options) {
  // Held until the end: a store in use is not taken away from its owner.
  absl::StatusOr<std::unique_ptr<Device>> old = OpenFileDevice(path, {});
  if (!old.ok()) return old.status();
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), std::free);
  if (real == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot be replaced"));
  const std::string fresh = absl::StrCat(real.get(), ".new-", getpid());
  unlink(fresh.c_str());  // what an earlier process of this number left when it was killed
  if (absl::Status s = CreateInFile(fresh, options); !s.ok()) return s;
  absl::Status replaced = ReplaceStoreFile(fresh, real.get());
  if (!replaced.ok()) unlink(fresh.c_str());
  return replaced;
}

absl::Status CreateOnBlockDevice(const std::string& path, const CreateOptions& options) {
  const auto holds = [&](const std::string& what) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, ": in use already (", what, "); it is overwritten only with force (--force)"));
  };
  if (!options.force) {
    absl::StatusOr<std::string> found = ProbeForeignContent(path);
    if (!found.ok()) return found.status();
    if (!found->empty()) return holds(*found);
  }
  absl::StatusOr<std::unique_ptr<Device>> device = OpenFileDevice(path, {});
  if (!device.ok()) return device.status();
  if (!options.force) {
    // Also one that this version cannot open.
    for (const auto& slot : ReadSuperblocks(**device).slots) {
      if (!absl::IsNotFound(slot.status()) && !absl::IsOutOfRange(slot.status()))
        return holds("untorn store");
    }
  }
  return Store::CreateOnDevice(**device, options);
}

}  // namespace

absl::Status Store::Create(const std::string& path, const CreateOptions& options) {
  struct stat st;
  const bool exists = stat(path.c_str(), &st) == 0;
  if (exists && S_ISBLK(st.st_mode)) return CreateOnBlockDevice(path, options);
  if (exists && !options.force) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, ": the file exists; it is overwritten only with force (--force)"));
  }
  const uint64_t blocks = options.size_bytes / kBlockBytes;
  if (blocks < kStoreBlocksMin || blocks > kStoreBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a store has ", kStoreBlocksMin * kBlockBytes,
                                                   " to ", kStoreBlocksMax * kBlockBytes, " bytes, not ",
                                                   options.size_bytes));
  }
  return exists ? ReplaceFile(path, options) : CreateInFile(path, options);
}

absl::Status Store::CreateOnDevice(Device& device, const CreateOptions& options) {
  return Volume::Format(device, options.size_bytes, options.prepare, options.progress);
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& path, const OpenOptions& options) {
  absl::StatusOr<std::unique_ptr<Device>> device = OpenFileDevice(path, DeviceOptions(options));
  if (!device.ok()) return device.status();
  return OpenOnDevice(*std::move(device), options);
}

absl::StatusOr<std::unique_ptr<Store>> Store::OpenOnDevice(std::unique_ptr<Device> device,
                                                           const OpenOptions& options, bool background) {
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Open(std::move(device), options, background);
  if (!engine.ok()) return engine.status();
  return std::unique_ptr<Store>(new Store(std::make_shared<StoreImpl>(*std::move(engine))));
}

Store::~Store() {
  Engine& engine = impl_->engine();
  if (!engine.CheckProcess().ok() || engine.closed()) return;
  absl::Status status = engine.Close();
  if (!status.ok() && engine.options().log)
    engine.options().log(LogLevel::kError, std::string(status.message()));
}

absl::Status Store::Close() { return impl_->Close(); }

absl::StatusOr<Object> Store::CreateObject(std::string_view name, Durability durability) {
  if (absl::Status s = impl_->engine().CheckProcess(); !s.ok()) return s;
  absl::StatusOr<std::shared_ptr<ObjectState>> state = impl_->Create(name, durability);
  if (!state.ok()) return state.status();
  return Object(std::make_shared<ObjectHandle>(ObjectHandle{impl_, (*state)->id, *state}));
}

absl::StatusOr<Object> Store::OpenObject(std::string_view name) {
  if (absl::Status s = impl_->engine().CheckProcess(); !s.ok()) return s;
  absl::StatusOr<std::shared_ptr<ObjectState>> state = impl_->Find(name);
  if (!state.ok()) return state.status();
  return Object(std::make_shared<ObjectHandle>(ObjectHandle{impl_, (*state)->id, *state}));
}

absl::Status Store::Rename(std::string_view from, std::string_view to, Durability durability) {
  if (absl::Status s = impl_->engine().CheckProcess(); !s.ok()) return s;
  return impl_->Rename(from, to, durability);
}

absl::Status Store::Remove(std::string_view name, Durability durability) {
  if (absl::Status s = impl_->engine().CheckProcess(); !s.ok()) return s;
  return impl_->Remove(name, durability);
}

absl::StatusOr<std::vector<ObjectInfo>> Store::List(std::string_view after, size_t max) {
  if (absl::Status s = impl_->engine().CheckProcess(); !s.ok()) return s;
  return impl_->List(after, max);
}

absl::Status Store::Barrier() {
  Engine& engine = impl_->engine();
  if (absl::Status s = engine.CheckProcess(); !s.ok()) return s;
  Lock lock = engine.Acquire();
  if (absl::Status s = engine.CheckWritable(); !s.ok()) return s;
  engine.fork().Barrier();
  return absl::OkStatus();
}

absl::Status Store::Sync() {
  Engine& engine = impl_->engine();
  if (absl::Status s = engine.CheckProcess(); !s.ok()) return s;
  Lock lock = engine.Acquire();
  if (absl::Status s = engine.CheckWritable(); !s.ok()) return s;
  absl::Status status = engine.SyncAll(lock);
  engine.AfterChange(lock);
  return status;
}

absl::Status Store::Checkpoint() {
  Engine& engine = impl_->engine();
  if (absl::Status s = engine.CheckProcess(); !s.ok()) return s;
  Lock lock = engine.Acquire();
  if (absl::Status s = engine.CheckWritable(); !s.ok()) return s;
  return engine.Checkpoint(lock);
}

Transaction Store::Begin() { return Transaction(std::make_unique<TransactionImpl>(impl_)); }

StoreInfo Store::info() const {
  Engine& engine = impl_->engine();
  const DeviceInfo& device = engine.device_info();
  Superblock sb;
  if (engine.CheckProcess().ok()) {
    Lock lock = engine.Acquire();
    sb = engine.volume().superblock();
  }
  StoreInfo info;
  info.path = device.path;
  info.uuid = UuidString(sb.uuid);
  info.format_version = kFormatVersion;
  info.size_bytes = sb.geometry.total_blocks * kBlockBytes;
  info.block_bytes = kBlockBytes;
  info.log_bytes = sb.geometry.log_blocks * kBlockBytes;
  info.engine = device.engine;
  info.engine_reason = device.engine_reason;
  info.direct_io = device.direct_io;
  info.atomic_source = AtomicSourceName(device.atomic.source);
  info.atomic_note = device.atomic_note;
  if (device.atomic.usable()) {
    info.atomic_unit_min_bytes = std::max<uint64_t>(device.atomic.unit_min_bytes, kBlockBytes);
    info.atomic_unit_max_bytes = device.atomic.unit_max_bytes;
    info.atomic_boundary_bytes = device.atomic.boundary_bytes;
  }
  info.atomic_write_bytes_max = internal::kAtomicBytesMax;
  info.read_only = device.read_only || engine.options().read_only;
  return info;
}

Stats Store::stats() const {
  if (!impl_->engine().CheckProcess().ok()) return {};
  Lock lock = impl_->engine().Acquire();
  return impl_->engine().CollectStats(lock);
}

namespace internal {

StoreImpl::~StoreImpl() {
  // In a child of fork() the engine's threads are not here, its lock may be held for ever, and a condition
  // variable waits for waiters that are gone: it is left alone.
  if (!engine_->CheckProcess().ok()) (void)engine_.release();
}

absl::Status StoreImpl::Close() {
  if (absl::Status s = engine_->CheckProcess(); !s.ok()) return s;
  return engine_->Close();
}

}  // namespace internal

}  // namespace untorn
