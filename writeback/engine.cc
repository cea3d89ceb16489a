#include "writeback/engine.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "writeback/commit.h"

namespace untorn {
namespace {

constexpr int64_t kWritebackAgeMs = 1000;  // how long accepted data may stay in memory only
constexpr int kBackgroundWakeMs = 500;
// A checkpoint is due when the delta has so many entries, or maps so many blocks: most displace as many others, which
// the checkpoint gives back. So a store that is overwritten does not grow as far as its log would let it; but where there
// is plenty of free space that can wait.
constexpr size_t kDeltaEntriesMax = 64 * 1024;
constexpr uint64_t kDeltaBlocksMin = (64 << 20) / kBlockBytes;
constexpr uint64_t kDeltaShareOfPrepared = 8, kDeltaShareOfFree = 2;
// So many times what it holds a store may grow, within its size, where that gives longer runs. At 4, random overwrites of
// single pages leave about 5 % of them in place by the time their neighbourhood is used again.
constexpr uint64_t kGrowthForRuns = 4;
// It does so at a step for every so many steps' worth of other writes, so that these keep most of the bandwidth.
constexpr uint64_t kWritesPerGrowth = 4;
constexpr uint64_t kPrepareAheadBlocks = (32 << 20) / kBlockBytes;
constexpr uint64_t kPrepareStepBlocks = (4 << 20) / kBlockBytes;
constexpr int kAsyncThreads = 4;

// Counts fork()s in this process and its ancestors: a child has another number than its parent had at open.
std::atomic<uint64_t> fork_generation{0};
void CountForks() {
  static const int once = pthread_atfork(nullptr, nullptr, [] { fork_generation.fetch_add(1); });
  (void)once;
}

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Engine::Engine(std::unique_ptr<Device> device, const OpenOptions& options)
    : options_(options),
      device_(std::move(device)),
      device_info_(device_->info()),
      pump_(std::make_unique<IoPump>(*device_, mu_)) {
  CountForks();
  fork_generation_ = fork_generation.load();
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Open(std::unique_ptr<Device> device,
                                                     const OpenOptions& options, bool background) {
  constexpr uint64_t kCacheMin = 4 << 20;
  if (options.cache_bytes < kCacheMin) {
    return absl::InvalidArgumentError(
        absl::StrCat("a cache of ", options.cache_bytes, " bytes: at least ", kCacheMin));
  }
  std::unique_ptr<Engine> engine(new Engine(std::move(device), options));
  const uint64_t node_bytes = options.cache_bytes / 8;
  engine->page_limit_bytes_ = options.cache_bytes - node_bytes;
  absl::StatusOr<std::unique_ptr<Volume>> volume =
      Volume::Open(*engine->pump_, options.read_only, node_bytes / sizeof(TreeNode));
  if (!volume.ok()) return volume.status();
  engine->volume_ = *std::move(volume);
  engine->LogOpen();
  // A unit has a bounded share of the cache, and of the log even where every block of it is an entry of its
  // own.
  engine->unit_limit_blocks_ =
      std::min(engine->page_limit_bytes_ / 4 / kBlockBytes,
               engine->volume_->geometry().log_blocks * kBlockBytes / 4 / kMapEntryBytes);
  engine->background_ = background && !options.read_only;
  if (engine->background_) {
    engine->writeback_thread_ = std::thread([e = engine.get()] { e->WritebackLoop(); });
    engine->maintenance_thread_ = std::thread([e = engine.get()] { e->MaintenanceLoop(); });
  }
  return engine;
}

void Engine::LogOpen() {
  if (!options_.log) return;
  if (!device_info_.engine_reason.empty()) {
    options_.log(LogLevel::kInfo, absl::StrCat(device_info_.path, ": I/O by ", device_info_.engine, ": ",
                                               device_info_.engine_reason));
  }
  for (const std::string& note : volume_->open_warnings()) {
    options_.log(LogLevel::kWarning, absl::StrCat(device_info_.path, ": ", note));
  }
  const VolumeCounters& v = volume_->counters();
  if (v.recovered_records + v.dropped_records > 0) {
    options_.log(LogLevel::kInfo, absl::StrCat(device_info_.path, ": recovered: ", v.recovered_records,
                                               " log records replayed, ", v.dropped_records,
                                               " incomplete ones at the log's end dropped"));
  }
}

Engine::~Engine() {
  {
    Lock lock = Acquire();
    stop_ = true;
    WakeBackground();
  }
  JoinThreads();
  Lock lock = Acquire();
  pump_->Wait(lock, [&] { return pump_->in_flight() == 0; });
}

void Engine::JoinThreads() {
  for (std::thread* t : {&writeback_thread_, &maintenance_thread_}) {
    if (t->joinable()) t->join();
  }
  for (std::thread& t : async_threads_) t.join();
  async_threads_.clear();
}

absl::Status Engine::Close() {
  Lock lock = Acquire();
  if (closed_) return absl::FailedPreconditionError("the store is closed");
  pump_->Wait(lock, [&] { return async_work_.empty() && async_busy_ == 0; });
  absl::Status status = failed_;
  if (status.ok() && !options_.read_only) {
    status = SyncAll(lock);
    if (status.ok() && volume_->log_blocks_used() > 0) status = Checkpoint(lock);
  }
  closed_ = true;
  stop_ = true;
  ++progress_;
  WakeBackground();
  lock.unlock();
  JoinThreads();
  lock.lock();
  pump_->Wait(lock, [&] { return pump_->in_flight() == 0; });
  RunCalls(lock);
  device_.reset();  // and the lock on the file with it
  return status;
}

void Engine::Log(LogLevel level, std::string message) {
  if (!options_.log) return;
  CallLater([this, level, message = std::move(message)] { options_.log(level, message); });
}

absl::Status Engine::CheckProcess() const {
  if (fork_generation.load(std::memory_order_relaxed) == fork_generation_) return absl::OkStatus();
  return absl::FailedPreconditionError("the store was opened by a process that this one was forked from");
}

absl::Status Engine::CheckOpen() const {
  return closed_ ? absl::FailedPreconditionError("the store is closed") : absl::OkStatus();
}

absl::Status Engine::CheckWritable() const {
  if (closed_) return CheckOpen();
  if (options_.read_only) return absl::FailedPreconditionError("the store is open read-only");
  return failed_;
}

Stats Engine::CollectStats(Lock&) {
  Stats s = stats_;
  const IoCounts& io = pump_->counts();
  s.flushes = io.flushes;
  s.device_writes = io.writes;
  s.device_reads = io.reads;
  s.device_bytes_written = io.bytes_written;
  s.device_bytes_read = io.bytes_read;
  const VolumeCounters& v = volume_->counters();
  s.log_records = v.log_records;
  s.log_bytes = v.log_bytes;
  s.checkpoints = v.checkpoints;
  s.recovered_records = v.recovered_records;
  s.dropped_records = v.dropped_records;
  s.space_total = volume_->geometry().total_blocks * kBlockBytes;
  s.space_free = volume_->ClaimableBlocks() * kBlockBytes;
  s.space_prepared = volume_->prepared_blocks() * kBlockBytes;
  s.space_claimed = volume_->claimed_blocks() * kBlockBytes;
  s.space_pending = volume_->pending_blocks() * kBlockBytes;
  s.cache_limit = options_.cache_bytes;
  s.cache_used = fork_.page_memory_bytes() + volume_->node_cache().size() * sizeof(TreeNode);
  s.cache_dirty = fork_.dirty_blocks() * kBlockBytes;
  s.lsn_last = volume_->last_lsn();
  s.lsn_durable = volume_->durable_lsn();
  s.lsn_settled = volume_->settled_lsn();
  s.epoch = volume_->superblock().epoch;
  return s;
}

// ---- For staging ----

absl::StatusOr<bool> Engine::Throttle(Lock& lock) {
  if (fork_.dirty_blocks() <= dirty_limit_blocks()) return true;
  while (failed_.ok() && fork_.dirty_blocks() > dirty_limit_blocks()) {
    const uint64_t seen = progress_;  // before Dispatch, which may release the lock
    if (CanDispatch() && Dispatch(lock, Take::kOldest)) continue;
    pump_->Wait(lock, [&] { return progress_ != seen || !failed_.ok(); });
  }
  pump_->Attend();
  if (!failed_.ok()) return failed_;
  return false;
}

absl::StatusOr<bool> Engine::AwaitObject(Lock& lock, ObjectState& object) {
  if (object.removed) return absl::NotFoundError(absl::StrCat("object '", object.name, "' was removed"));
  if (!object.exclusive) return true;
  pump_->Wait(lock, [&] { return !object.exclusive || !failed_.ok(); });
  if (!failed_.ok()) return failed_;
  return false;
}

absl::StatusOr<bool> Engine::Claim(Lock& lock, uint64_t blocks, uint64_t entries, bool reserve) {
  if (volume_->TryClaim(blocks, entries, reserve)) return true;
  // The checkpoint may be about to give space back; others may have taken what was prepared; the blocks that
  // dirty data will displace come back once it is durable and checkpointed, twice where their own mapping is
  // young.
  absl::StatusOr<bool> more = volume_->PrepareMore(lock, std::max(kPrepareStepBlocks, blocks));
  std::string below_full;
  if (absl::IsResourceExhausted(more.status())) {
    below_full = absl::StrCat("; more cannot be prepared: ", std::string(more.status().message()));
    more = false;
  }
  if (!more.ok()) {
    // The failed flush may have been the one that would have told of accepted data.
    Fail(more.status());
    return failed_;
  }
  for (int round = 0; !*more && round < 2; ++round) {
    if (absl::Status s = SyncAll(lock); !s.ok()) return s;
    if (absl::Status s = Checkpoint(lock); !s.ok()) return s;
    if (volume_->TryClaim(blocks, entries, reserve)) {
      volume_->Unclaim(blocks, entries);
      return false;
    }
  }
  if (*more) return false;
  return absl::ResourceExhaustedError(
      absl::StrCat("no space: ", volume_->BlocksOfClaim(blocks, entries) * kBlockBytes,
                   " bytes are needed, metadata included, and ", volume_->ClaimableBlocks() * kBlockBytes,
                   " are free in a store of ", volume_->geometry().total_blocks * kBlockBytes, below_full));
}

absl::StatusOr<bool> Engine::EnsureCached(Lock& lock, ObjectState& object, uint64_t block) {
  Page* page = fork_.FindPage(object, block);
  if (page != nullptr && page->buffer) return true;
  if (block * kBlockBytes >= object.size_bytes || fork_.InPendingHole(object, block)) return true;
  std::vector<Mapping> mappings;
  absl::StatusOr<bool> found = volume_->TryLookup(object.id, {block, 1}, &mappings);
  if (!found.ok()) return found.status();
  if (!*found) {
    if (absl::Status s = LoadMissing(lock); !s.ok()) return s;
    return false;
  }
  if (mappings.front().state != MappingState::kWritten) return true;
  const uint64_t token = next_read_token_++;
  if (page != nullptr) page->read_token = token;  // ours replaces a read under way
  if (page == nullptr) fork_.AddReading(object, block, token);
  BufferRef buffer = fork_.pool().New();
  IoRequest request;
  request.op = IoOp::kRead;
  request.offset_bytes = mappings.front().physical * kBlockBytes;
  request.iov = {{buffer.data(), kBlockBytes}};
  const Volume::ReadPin pin = volume_->PinRead(mappings.front().extent());
  absl::Status read = pump_->Run(lock, &request);
  volume_->UnpinRead(pin);
  fork_.FillRead(object, block, token, read.ok() ? std::move(buffer) : BufferRef());
  if (!read.ok()) return read;
  return false;
}

BufferRef Engine::CopyOfBlock(ObjectState& object, uint64_t block) {
  BufferRef copy = fork_.pool().New();
  const Page* page = fork_.FindPage(object, block);
  if (page != nullptr && page->buffer) {
    std::memcpy(copy.data(), page->buffer.data(), kBlockBytes);
  } else {
    std::memset(copy.data(), 0, kBlockBytes);
  }
  return copy;
}

// ---- Committing ----

std::vector<std::shared_ptr<Unit>> Engine::UnitsWhere(const std::function<bool(const Unit&)>& filter) const {
  std::vector<std::shared_ptr<Unit>> units;
  for (const auto& [order, unit] : fork_.pending()) {
    if (filter(*unit)) units.push_back(unit);
  }
  const auto add = [&](const std::vector<std::shared_ptr<Unit>>& some) {
    std::copy_if(some.begin(), some.end(), std::back_inserter(units),
                 [&](const auto& u) { return filter(*u); });
  };
  add(building_);
  for (const auto& commit : commits_) add(commit->units);
  return units;
}

absl::Status Engine::SyncUnits(Lock& lock, std::vector<std::shared_ptr<Unit>> units) {
  const auto all_done = [&] {
    for (; !units.empty(); units.pop_back()) {
      if (Resolve(units.back())->state != Unit::State::kDone) return false;
    }
    return true;
  };
  for (std::shared_ptr<Unit>& unit : units) {
    unit = Resolve(unit);
    unit->wanted = true;
    if (unit->state == Unit::State::kPending) wanted_.push_back(unit);
  }
  while (!all_done()) {
    if (!failed_.ok()) return failed_;
    if (CanDispatch() && Dispatch(lock, Take::kWanted)) continue;
    pump_->Wait(
        lock, [&] { return !failed_.ok() || all_done(); },
        [&] { return progress_ != nothing_to_send_at_ && !wanted_.empty() && CanDispatch(); });
  }
  pump_->Attend();
  return absl::OkStatus();
}

absl::Status Engine::SyncAll(Lock& lock) {
  return SyncUnits(lock, UnitsWhere([](const Unit&) { return true; }));
}

absl::Status Engine::Checkpoint(Lock& lock) {
  if (checkpointing_) {
    pump_->Wait(lock, [&] { return !checkpointing_ || !failed_.ok(); });
    if (!failed_.ok()) return failed_;
  }
  if (!failed_.ok()) return failed_;
  if (checkpointing_) return absl::OkStatus();
  checkpointing_ = true;
  absl::Status status = volume_->RunCheckpoint(lock);
  checkpointing_ = false;
  ++progress_;
  if (!status.ok()) Fail(status);
  pump_->Notify();
  return status.ok() ? absl::OkStatus() : failed_;
}

// ---- Background ----

bool Engine::WritebackDue() const {
  if (DirtyDue()) return true;
  return background_ && CanWriteBack() &&
         fork_.pending().begin()->second->born_ms + kWritebackAgeMs <= NowMs();
}

bool Engine::CheckpointDue() const {
  const uint64_t blocks_max = std::max({kDeltaBlocksMin, volume_->prepared_blocks() / kDeltaShareOfPrepared,
                                        volume_->free_blocks() / kDeltaShareOfFree});
  return !checkpointing_ &&
         (volume_->log_blocks_used() > volume_->geometry().log_blocks / 2 ||
          volume_->active().entries() > kDeltaEntriesMax || volume_->active().mapped_blocks() > blocks_max);
}

bool Engine::PrepareDue() const {
  const uint64_t prepared = volume_->prepared_blocks(), free = volume_->free_blocks();
  if (prepare_failed_ || prepared == volume_->geometry().total_blocks) return false;
  return free < volume_->claimed_blocks() + kPrepareAheadBlocks ||
         (volume_->fragmented() && prepared < kGrowthForRuns * (prepared - free) &&
          pump_->counts().bytes_written >= grow_at_bytes_written_);
}

bool Engine::WritebackStep(Lock& lock) {
  if (!failed_.ok() || closed_) return false;
  bool sent = !wanted_.empty() && CanDispatch() && Dispatch(lock, Take::kWanted);
  if (wanted_.empty()) async_wanted_ = false;
  if (!sent) sent = WritebackDue() && Dispatch(lock, Take::kOldest);
  pump_->Attend();
  return sent;
}

bool Engine::MaintenanceStep(Lock& lock) {
  if (!failed_.ok() || closed_) return false;
  if (CheckpointDue()) return Checkpoint(lock).ok();
  if (!PrepareDue()) return false;
  // Lack of space is told to the write that needs it.
  absl::StatusOr<bool> more = volume_->PrepareMore(lock, kPrepareStepBlocks);
  grow_at_bytes_written_ =
      pump_->counts().bytes_written + kWritesPerGrowth * kPrepareStepBlocks * kBlockBytes;
  if (!more.ok() && !absl::IsResourceExhausted(more.status())) Fail(more.status());
  prepare_failed_ = !more.ok();
  return more.ok() && *more;
}

void Engine::AfterChange(Lock& lock) {
  fork_.Evict(page_limit_bytes_);
  if (background_) {
    // What has become old its thread sees by itself.
    if (DirtyDue()) WakeBackground();
    if (CheckpointDue() || PrepareDue()) WakeMaintenance();
    pump_->Attend();
    return;
  }
  while (MaintenanceStep(lock) || WritebackStep(lock)) {
  }
  RunCalls(lock);
}

void Engine::WakeBackground() {
  WakeMaintenance();
  pump_->WakeStandby();
  if (stop_) async_cv_.notify_all();
  pump_->Notify();
}

void Engine::Want(const std::shared_ptr<Unit>& unit) {
  unit->wanted = true;
  wanted_.push_back(unit);
  async_wanted_ = true;
  WakeBackground();
}

int64_t Engine::NowMs() const { return background_ ? untorn::NowMs() : 0; }

void Engine::RunCalls(Lock& lock) {
  // A call may make another store call, whose own calls are then made here.
  if (running_calls_) return;
  running_calls_ = true;
  while (!calls_.empty()) {
    std::vector<std::function<void()>> calls = std::exchange(calls_, {});
    lock.unlock();
    for (auto& call : calls) call();
    calls.clear();
    lock.lock();
  }
  running_calls_ = false;
}

void Engine::WritebackLoop() {
  Lock lock = Acquire();
  while (!stop_) {
    RunCalls(lock);
    if (WritebackStep(lock)) continue;
    const uint64_t seen = progress_, wakes = background_wakes_;
    const auto due = [&] {
      return stop_ || !calls_.empty() || background_wakes_ != wakes ||
             (progress_ != seen && ((async_wanted_ && CanDispatch()) || WritebackDue()));
    };
    pump_->StandBy(lock, kBackgroundWakeMs, due);
  }
  RunCalls(lock);
}

void Engine::MaintenanceLoop() {
  Lock lock = Acquire();
  while (!stop_) {
    if (MaintenanceStep(lock)) continue;
    fork_.ForgetIdleObjects();
    const uint64_t wakes = background_wakes_;
    maintenance_cv_.wait_for(lock, std::chrono::milliseconds(kBackgroundWakeMs),
                             [&] { return stop_ || background_wakes_ != wakes; });
  }
}

void Engine::RunAsync(std::function<void()> work) {
  Lock lock = Acquire();
  if (!background_ || closed_) {
    lock.unlock();
    work();
    return;
  }
  async_work_.push_back(std::move(work));
  if (async_threads_.size() < kAsyncThreads && async_work_.size() > async_threads_.size() - async_busy_) {
    async_threads_.emplace_back([this] { AsyncLoop(); });
  }
  async_cv_.notify_one();
}

void Engine::AsyncLoop() {
  Lock lock = Acquire();
  while (true) {
    async_cv_.wait(lock, [&] { return stop_ || !async_work_.empty(); });
    if (async_work_.empty()) return;
    std::function<void()> work = std::move(async_work_.front());
    async_work_.pop_front();
    ++async_busy_;
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
    --async_busy_;
    pump_->Notify();
  }
}

}  // namespace untorn
