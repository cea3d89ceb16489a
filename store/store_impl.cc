#include "store/store_impl.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/memory.h"
#include "base/status_macros.h"
#include "device/file_device.h"
#include "store/shrink.h"
#include "untorn/metrics.h"

namespace untorn::internal {
namespace {

constexpr uint64_t kCacheBytesMin = 4 << 20;
// Of a cache that fits the machine.
constexpr uint64_t kCacheBytesLeast = 64 << 20;

uint64_t CacheBytes(const OpenOptions& options) {
  return options.cache_bytes != 0 ? options.cache_bytes : kCacheBytesLeast;
}
// An eighth of the cache is for tree nodes. The rest is for pages.
uint64_t PageBytes(const OpenOptions& options) { return CacheBytes(options) - CacheBytes(options) / 8; }

CommitterOptions CommittingOptions(const Storage& storage, const OpenOptions& options, bool background) {
  return {.policy = options.policy,
          .limits = storage.info.atomic,
          .dirty_limit_blocks = WholeBlocks(PageBytes(options) / 2),
          .background = background && !options.read_only};
}

// Returns the largest change set that is staged: a quarter of the page cache, and of the log. A change set
// keeps within its share of the log even if each of its blocks takes an entry of its own.
BlockCount SetBlocksMax(const Geometry& geometry, const OpenOptions& options) {
  const uint64_t entries = Bytes(geometry.log.count) / 4 / kMapEntryBytes;
  return std::min(WholeBlocks(PageBytes(options) / 4), BlockCount(entries));
}

}  // namespace

FileDeviceOptions DeviceOptionsOf(const OpenOptions& options) {
  FileDeviceOptions d;
  d.read_only = options.read_only;
  d.stated_unit_bytes = options.stated_atomic_unit_bytes;
  d.use_io_uring = options.use_io_uring;
  return d;
}

StoreImpl::StoreImpl(std::unique_ptr<Storage> storage, const OpenOptions& options, bool background)
    : options_(options),
      storage_(std::move(storage)),
      writeback_(storage_->pump, *storage_->volume, options,
                 CommittingOptions(*storage_, options, background)),
      admission_(writeback_.parts(), writeback_.committer(), writeback_.checkpointer(), writeback_.readers(),
                 SetBlocksMax(storage_->volume->geometry(), options)),
      cache_limit_(CacheBytes(options), options.cache_bytes == 0, [] { return AvailableMemoryBytes(); }),
      publisher_(
          storage_->pump.device(), [this] { return PrometheusText(info(), stats()); },
          [this](const std::string& message) { Warn(message); }),
      background_(storage_->mu, writeback_.parts(), writeback_.committer(), writeback_.checkpointer(),
                  writeback_.readers(), cache_limit_, publisher_),
      front_{storage_->mu, writeback_.parts(), admission_, writeback_.committer(), background_},
      writer_(front_),
      names_(front_),
      reader_(storage_->mu, writeback_.parts(), cache_limit_) {}

absl::StatusOr<std::shared_ptr<StoreImpl>> StoreImpl::Open(std::unique_ptr<Device> device,
                                                           const OpenOptions& options, bool background,
                                                           const Superblock* leased) {
  if (options.cache_bytes != 0 && options.cache_bytes < kCacheBytesMin) {
    return absl::InvalidArgumentError(
        absl::StrCat("cache_bytes is ", options.cache_bytes, "; it must be 0, or at least ", kCacheBytesMin));
  }
  auto storage = std::make_unique<Storage>(std::move(device));
  const size_t nodes = CacheBytes(options) / 8 / sizeof(TreeNode);
  if (leased != nullptr) {
    storage->volume = Volume::OpenLeased(storage->pump, *leased, nodes);
  } else {
    ASSIGN_OR_RETURN(storage->volume, Volume::Open(storage->pump, options.read_only, nodes));
  }
  // A fork()ed child does not have the threads, and its copy of the lock may be held for ever. A condition
  // variable would wait for waiters that are gone. So the child leaves the store alone.
  const auto end = [](StoreImpl* s) {
    if (s->CheckProcess().ok()) delete s;
  };
  std::shared_ptr<StoreImpl> store(new StoreImpl(std::move(storage), options, background), end);
  store->LogOpen();
  store->KeepGoingWithoutSpace();
  const Lock lock(store->storage_->mu);
  store->cache_limit_.Apply(store->front_.parts);
  if (store->writeback_.committer().options().background) {
    const absl::Status announced = store->writeback_.readers().Announce();
    if (!announced.ok()) {
      store->front_.parts.callbacks.Log(
          LogLevel::kInfo,
          absl::StrCat("other processes cannot read the store meanwhile: ", announced.message()));
    }
    RETURN_IF_ERROR(store->background_.Start());
  }
  return store;
}

void StoreImpl::LogOpen() const {
  if (!options_.log) return;
  const DeviceInfo& info = storage_->info;
  if (!info.engine_reason.empty()) {
    options_.log(LogLevel::kInfo,
                 absl::StrCat(info.path, ": I/O by ", info.engine, ": ", info.engine_reason));
  }
  if (!info.warning.empty() && !info.beside_owner)
    options_.log(LogLevel::kWarning, absl::StrCat(info.path, ": ", info.warning));
  // The log callback must run without the lock, so the values are copied first.
  std::vector<std::string> warnings;
  VolumeCounters v;
  {
    const Lock lock(storage_->mu);
    warnings = storage_->volume->open_warnings();
    v = storage_->volume->counters();
  }
  for (const std::string& warning : warnings) {
    options_.log(LogLevel::kWarning, absl::StrCat(info.path, ": ", warning));
  }
  if (v.recovered_records + v.dropped_records == 0) return;
  options_.log(LogLevel::kInfo,
               absl::StrCat(info.path, ": recovered: ", v.recovered_records, " log records replayed, ",
                            v.dropped_records, " incomplete ones at the log's end dropped"));
}

void StoreImpl::Warn(const std::string& message) {
  const Lock lock(storage_->mu);
  front_.parts.callbacks.Log(LogLevel::kWarning, message);
  background_.Wake();
}

void StoreImpl::KeepGoingWithoutSpace() {
  if (options_.read_only) return;
  const Lock lock(storage_->mu);
  storage_->pump.KeepWritesWithoutSpace([this](const absl::Status& status) REQUIRES_STORE_LOCK {
    front_.parts.callbacks.Log(LogLevel::kWarning,
                               status.ok() ? absl::StrCat(storage_->info.path, ": there is space again")
                                           : std::string(status.message()));
  });
  front_.parts.health.OnFailure([this](const absl::Status&)
                                    REQUIRES_STORE_LOCK { storage_->pump.GiveUpKeptWrites(); });
}

StoreImpl::~StoreImpl() {
  {
    const Lock lock(storage_->mu);
    storage_->pump.GiveUpKeptWrites();
    background_.Stop();
  }
  background_.Join();
  publisher_.Stop();
  Lock lock(storage_->mu);
  // The device uses the requests and their buffers until the requests complete.
  if (storage_->device)
    storage_->pump.Wait(lock, [&]() REQUIRES_STORE_LOCK { return storage_->pump.in_flight() == 0; });
}

absl::Status StoreImpl::Close() {
  RETURN_IF_ERROR(CheckProcess());
  Health& health = front_.parts.health;
  IoPump& pump = storage_->pump;
  Lock lock(storage_->mu);
  RETURN_IF_ERROR(health.CheckOpen());
  // Asynchronous reads that were accepted end first, while the store is still open.
  background_.AwaitRun(lock);
  absl::Status status = health.failure();
  if (status.ok() && !options_.read_only) {
    status = front_.committer.SyncWithSpace(lock, front_.committer.AllSets());
    if (absl::IsResourceExhausted(status)) {
      health.Fail(status);
      status = health.failure();
    }
    // A checkpoint that finds no space fails. All that it holds is durable.
    pump.GiveUpKeptWrites();
    if (status.ok()) storage_->volume->CloseNewestMappings();
    // The last checkpoint may have everything already.
    if (status.ok() && storage_->volume->CheckpointNeeded()) {
      status = writeback_.checkpointer().Checkpoint(lock);
    }
  }
  health.Close();
  front_.parts.progress.Note();
  background_.Stop();
  // The threads need the lock to end.
  lock.unlock();
  background_.Join();
  // While the file is locked, no other owner can write statistics.
  publisher_.Stop();
  lock.lock();
  pump.Wait(lock, [&]() REQUIRES_STORE_LOCK { return pump.in_flight() == 0; });
  // The threads have ended, so the callbacks that are left run here.
  front_.parts.callbacks.Run(lock);
  storage_->device.reset();  // releases the lock on the file, too
  return status;
}

void StoreImpl::CloseIfOpen() {
  if (!CheckProcess().ok()) return;
  {
    const Lock lock(storage_->mu);
    if (front_.parts.health.closed()) return;
  }
  const absl::Status status = Close();
  if (!status.ok() && options_.log) options_.log(LogLevel::kError, std::string(status.message()));
}

absl::Status StoreImpl::CheckOpen() const {
  RETURN_IF_ERROR(CheckProcess());
  const Lock lock(storage_->mu);
  return front_.parts.health.CheckOpen();
}

void StoreImpl::GiveUpState() {
  has_newer_.store(true, std::memory_order_release);
  const Lock lock(storage_->mu);
  // What nobody reads any more needs no memory, and handles may live on.
  front_.parts.fork.pages().Evict(0);
  GiveUpLease(*storage_->device, storage_->volume->superblock().generation);
}

absl::StatusOr<std::string> StoreImpl::NameOf(const ObjectState& object) const {
  const Lock lock(storage_->mu);
  RETURN_IF_ERROR(front_.parts.health.CheckOpen());
  if (object.removed) return RemovedError(object);
  return object.name;
}

absl::StatusOr<uint64_t> StoreImpl::SizeOf(const ObjectState& object) const {
  const Lock lock(storage_->mu);
  RETURN_IF_ERROR(front_.parts.health.CheckOpen());
  if (object.removed) return RemovedError(object);
  return object.size_bytes;
}

absl::Status StoreImpl::Barrier() {
  RETURN_IF_ERROR(CheckProcess());
  const Lock lock(storage_->mu);
  RETURN_IF_ERROR(front_.parts.health.CheckWritable());
  front_.parts.fork.Barrier();
  return absl::OkStatus();
}

absl::Status StoreImpl::Sync() {
  const DurableCall call(Durability::kSync);
  RETURN_IF_ERROR(CheckProcess());
  Lock lock(storage_->mu);
  RETURN_IF_ERROR(front_.parts.health.CheckWritable());
  return FinishSync(front_, lock, front_.committer.AllSets(), call);
}

absl::Status StoreImpl::Checkpoint() {
  RETURN_IF_ERROR(CheckProcess());
  Lock lock(storage_->mu);
  RETURN_IF_ERROR(front_.parts.health.CheckWritable());
  RETURN_IF_ERROR(storage_->pump.TrySpaceBelow(lock));
  return writeback_.checkpointer().Checkpoint(lock);
}

absl::StatusOr<uint64_t> StoreImpl::LargestSize() const {
  const DeviceInfo& info = storage_->info;
  if (!info.block_device) return SizeOfFileSystem(info.path);
  const Lock lock(storage_->mu);
  RETURN_IF_ERROR(front_.parts.health.CheckOpen());
  RETURN_IF_ERROR(storage_->device->Extend(0));
  return storage_->device->size_bytes();
}

StoreImpl::ResizeTurn::ResizeTurn(StoreImpl& store) : store_(store) {
  Lock lock(store_.storage_->mu);
  store_.storage_->pump.Wait(lock, [&]() REQUIRES_STORE_LOCK { return !store_.resizing_; });
  store_.resizing_ = true;
  hold_.emplace(store_.readers());
}

StoreImpl::ResizeTurn::~ResizeTurn() {
  const Lock lock(store_.storage_->mu);
  store_.resizing_ = false;
  hold_.reset();
  store_.storage_->pump.Notify();
}

absl::Status StoreImpl::Resize(uint64_t size_bytes, const ShrinkOptions& options) {
  RETURN_IF_ERROR(CheckProcess());
  const std::string& path = storage_->info.path;
  if (size_bytes == 0) {
    ASSIGN_OR_RETURN(size_bytes, LargestSize());
  }
  // A head that would be cut short is left out.
  const BlockCount total = Geometry::ForSize(WholeBlocks(size_bytes)).total_blocks;
  if (total < kStoreBlocksMin || total > kStoreBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a store has ", Bytes(kStoreBlocksMin), " to ",
                                                   Bytes(kStoreBlocksMax), " bytes, not ", size_bytes));
  }
  const ResizeTurn turn(*this);
  Lock lock(storage_->mu);
  RETURN_IF_ERROR(front_.parts.health.CheckWritable());
  RETURN_IF_ERROR(storage_->pump.TrySpaceBelow(lock));
  Volume& volume = *storage_->volume;
  if (!storage_->info.needs_preparing) RETURN_IF_ERROR(storage_->device->Extend(Bytes(total)));
  // Loading releases the lock, so the rest is looked at after it.
  RETURN_IF_ERROR(volume.space().LoadRoot(lock));
  front_.parts.WaitUntil(lock, [&]() REQUIRES_STORE_LOCK {
    return !volume.resizing() && !volume.checkpoint_running() && !volume.space().preparing();
  });
  RETURN_IF_ERROR(front_.parts.health.CheckWritable());
  if (total == volume.geometry().total_blocks) return absl::OkStatus();
  if (total < volume.space().prepared_blocks()) {
    lock.unlock();
    return ShrinkTo(*this, total, options);
  }
  const bool shorter = total < volume.geometry().total_blocks && storage_->info.needs_preparing;
  volume.Resize(total);
  RETURN_IF_ERROR(writeback_.checkpointer().Checkpoint(lock));
  // The file is longer than what is prepared if a process ended while it prepared more.
  return shorter ? volume.CutFile(lock) : absl::OkStatus();
}

void StoreImpl::CheckInvariants() const {
  const Lock lock(storage_->mu);
  front_.parts.fork.CheckInvariants();
  front_.committer.CheckInvariants();
}

}  // namespace untorn::internal
