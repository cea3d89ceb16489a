// The engine of one open store: cache, writeback, group commit, checkpoint, and the threads that do them in
// the background.
//
// One write's way: request → COW fork (claims space) → pending unit → Freeze → plan (in place or COW, with
// its reason) → submissions → completions → flush → records durable → acknowledgement → old extents freed.
//
// Invariants
//  1. One thread at a time sends a commit (the dispatcher), so records enter the log in the order in which
//     their units were frozen.
//  2. A commit is flushed by a flush submitted after all its writes completed, and acknowledged in LSN order.
//  3. A unit is not sent while anything is committing that it overlaps, that is ordered before it by metadata
//     of the same object, or that went in place in an earlier epoch (CowFork::MustWait, InPlaceBefore).
//  4. After the first failure of a write or flush nothing is sent any more; every waiter gets the failure.
//
// Threading: one mutex, released during I/O, hashing and copying. Methods that take a Lock are called with it
// held.
#ifndef UNTORN_WRITEBACK_ENGINE_H_
#define UNTORN_WRITEBACK_ENGINE_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cow/cow_fork.h"
#include "device/device.h"
#include "device/io_pump.h"
#include "extent/volume.h"
#include "untorn/options.h"
#include "writeback/decision.h"

namespace untorn {

using Lock = std::unique_lock<std::mutex>;

// What reads and writes of a scattered user buffer need.
struct IoVector {
  std::span<const iovec> pieces;
  uint64_t bytes = 0;
  // Copies between position `at` of the buffer and contiguous memory. Call in any order.
  void CopyOut(uint64_t at, std::byte* to, uint64_t n) const { Copy(at, to, n, true); }
  void CopyIn(uint64_t at, const std::byte* from, uint64_t n) const {
    Copy(at, const_cast<std::byte*>(from), n, false);
  }
  void Zero(uint64_t at, uint64_t n) const;
  // Adds the parts of memory behind [at, at + n). Whether a device takes them all as they are.
  bool Aligned(uint64_t at, uint64_t n, absl::InlinedVector<iovec, 2>* parts) const;

 private:
  void Copy(uint64_t at, std::byte* other, uint64_t n, bool out) const;
  // Calls part(memory, length) for the memory behind [at, at + n), in order.
  template <typename Fn>
  void ForEachPart(uint64_t at, uint64_t n, Fn part) const;
};

class Engine {
 public:
  static absl::StatusOr<std::unique_ptr<Engine>> Open(std::unique_ptr<Device> device,
                                                      const OpenOptions& options, bool background);
  ~Engine();
  // Makes everything durable, writes a checkpoint, stops the threads. Later calls find the store closed.
  absl::Status Close();

  Lock Acquire() { return Lock(mu_); }
  Volume& volume() { return *volume_; }
  CowFork& fork() { return fork_; }
  IoPump& pump() { return *pump_; }
  const OpenOptions& options() const { return options_; }
  const DeviceInfo& device_info() const { return device_info_; }
  Stats& stats() { return stats_; }
  Stats CollectStats(Lock& lock);

  // Called first by every call, without the lock: the process is not a fork()ed child of the one that opened
  // the store.
  absl::Status CheckProcess() const;
  absl::Status CheckOpen() const;          // not closed
  bool closed() const { return closed_; }  // by Close(), which nothing runs beside
  absl::Status CheckWritable() const;      // nor failed, nor read-only
  // The first failure wins; the store refuses further changes.
  void Fail(const absl::Status& cause);

  // ---- Limits ----
  uint64_t dirty_limit_blocks() const { return page_limit_bytes_ / 2 / kBlockBytes; }
  // The largest unit that joining may make, and the largest write that is staged in the cache.
  uint64_t unit_limit_blocks() const { return unit_limit_blocks_; }
  uint64_t page_limit_bytes() const { return page_limit_bytes_; }

  // ---- For staging. Each returns false if it released the lock: then look at everything again. ----
  // Waits while too much is dirty.
  absl::StatusOr<bool> Throttle(Lock& lock);
  // Waits while a large commit changes the object. kNotFound if it was removed.
  absl::StatusOr<bool> AwaitObject(Lock& lock, ObjectState& object);
  // For a change that makes one unit of these, which are pending: sends the largest first where together they
  // would take too much of the log.
  absl::StatusOr<bool> AwaitJoin(Lock& lock, const CowFork::UnitSet& units);
  // Claims space, or makes some. kResourceExhausted: there is none.
  absl::StatusOr<bool> Claim(Lock& lock, uint64_t blocks, uint64_t entries, bool reserve);
  // Makes sure that the block's content is in the cache, if it has any besides zeros.
  absl::StatusOr<bool> EnsureCached(Lock& lock, ObjectState& object, uint64_t block);
  // The content of a block that EnsureCached found: a new buffer of the caller's own.
  BufferRef CopyOfBlock(ObjectState& object, uint64_t block);
  // Loads what the last Try… of the volume missed.
  absl::Status LoadMissing(Lock& lock) { return volume_->LoadMissing(lock); }

  // ---- Reading ----
  // Reads at most `out.bytes` from `offset`; returns how many there were.
  absl::StatusOr<size_t> Read(const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector out,
                              const ReadOptions& options);

  // ---- Committing ----
  // Waits until all these units are durable.
  absl::Status SyncUnits(Lock& lock, std::vector<std::shared_ptr<Unit>> units);
  // All units, pending, being sent and committing, that `filter` accepts.
  std::vector<std::shared_ptr<Unit>> UnitsWhere(const std::function<bool(const Unit&)>& filter) const;
  absl::Status SyncAll(Lock& lock);
  // Commits entries whose data extents are written (not necessarily flushed) as one transaction. `durable`
  // runs with the lock held at the moment it is durable and its mappings are in place.
  absl::Status CommitEntries(Lock& lock, std::vector<LogEntry> entries, std::function<void()> durable);
  absl::Status Checkpoint(Lock& lock);
  // The largest number of log blocks one commit may take.
  uint64_t commit_log_blocks_max() const { return volume_->geometry().log_blocks / 2; }

  // ---- Background ----
  // At the end of every call that changed something: does what is due, where there is no thread for it.
  void AfterChange(Lock& lock);
  // Calls `call` later, without the lock.
  void CallLater(std::function<void()> call) {
    calls_.push_back(std::move(call));
    ServeBackground();
  }
  void RunCalls(Lock& lock);
  void WakeBackground();
  void WakeMaintenance() {
    ++background_wakes_;
    maintenance_cv_.notify_one();
  }
  // Asks for a pending unit to be sent soon, without waiting for it.
  void Want(const std::shared_ptr<Unit>& unit);
  // Milliseconds of a steady clock; 0 where there is no background thread to look at it.
  int64_t NowMs() const;
  // Wakes threads that wait for something that is not I/O.
  void NotifyProgress() {
    ++progress_;
    pump_->Notify();
    pump_->Attend();
  }
  uint64_t NewReadToken() { return next_read_token_++; }
  // Runs `work` on a thread of the store's, or at once where there is none.
  void RunAsync(std::function<void()> work);

 private:
  struct Commit;
  struct Plan;

  Engine(std::unique_ptr<Device> device, const OpenOptions& options);
  void Log(LogLevel level, std::string message);
  void LogOpen();
  void JoinThreads();

  // Sending (commit.cc).
  enum class Take { kWanted, kOldest };
  bool CanDispatch() const {
    return !dispatching_ && commits_.size() < (batch_was_full_ ? kFullCommitsInFlight : kCommitsInFlight);
  }
  bool Dispatch(Lock& lock, Take take);
  absl::Status SelectAndPlan(Lock& lock, Take take, Plan* plan);
  bool DispatchSelected(Lock& lock, Take take);
  std::vector<std::shared_ptr<Unit>> Select(Take take);
  bool InPlaceBefore(uint64_t epoch) const;
  static uint64_t LogBytesBound(const Unit& unit);
  static uint64_t LogBlocksBound(uint64_t bytes);
  absl::StatusOr<bool> PlanUnits(Lock& lock, const std::vector<std::shared_ptr<Unit>>& units, Plan* plan);
  absl::Status PlaceCow(Lock& lock, Plan& plan);
  static void BuildWrites(Plan& plan, Commit& commit);
  static void HashPieces(Plan& plan);
  void QueueWrites(Commit& commit);
  std::vector<LogEntry> BuildEntries(Plan& plan);
  absl::StatusOr<bool> EnsureLogRoom(Lock& lock, uint64_t blocks);
  absl::Status AwaitLogRoom(Lock& lock, uint64_t blocks);
  absl::Status Settle(Lock& lock);
  // A commit that is not sent because the store has failed: its units stay frozen.
  void Keep(std::unique_ptr<Commit> commit);
  void TellFailure(Unit& unit);
  void Send(std::unique_ptr<Commit> commit, std::vector<LogEntry> entries, bool record);

  // Completing (commit_completion.cc).
  void Written(Commit& commit);
  void StartFlush();
  void Flushed(const absl::Status& status);
  void Advance();
  void Finish(Commit& commit);
  void FinishUnit(const std::shared_ptr<Unit>& unit);

  // Background. Two threads: one sends what nobody waits for and calls back, the other does what takes long.
  bool CanWriteBack() const { return !fork_.pending().empty() && CanDispatch(); }
  bool DirtyDue() const { return CanWriteBack() && fork_.dirty_blocks() > dirty_limit_blocks() / 2; }
  bool WritebackDue() const;
  bool CheckpointDue() const;
  bool PrepareDue() const;
  bool WritebackStep(Lock& lock);
  bool MaintenanceStep(Lock& lock);
  void WritebackLoop();
  void MaintenanceLoop();
  void AsyncLoop();
  // Wakes the first thread if it has something to do that it may have found itself unable to do before.
  void ServeBackground() {
    if (background_ && (!calls_.empty() || async_wanted_ || WritebackDue())) pump_->WakeStandby();
  }

  // Two, so that what comes meanwhile goes together. But where there is more than a commit takes, the device is to have
  // writes to do while it flushes the commits before: a disk may take as long for that as for all that is written
  // meanwhile.
  static constexpr size_t kCommitsInFlight = 2, kFullCommitsInFlight = 32;

  const OpenOptions options_;
  std::unique_ptr<Device> device_;  // none once closed
  const DeviceInfo device_info_;
  std::mutex mu_;
  std::unique_ptr<IoPump> pump_;
  std::unique_ptr<Volume> volume_;
  CowFork fork_;
  uint64_t page_limit_bytes_ = 0;
  uint64_t unit_limit_blocks_ = 0;
  uint64_t fork_generation_ = 0;
  absl::Status failed_;
  bool closed_ = false;
  Stats stats_;

  bool dispatching_ = false;
  bool batch_was_full_ = false;  // the last commit's: there was more
  bool checkpointing_ = false;
  uint64_t progress_ = 0;                     // changes whenever a waiter should look again
  uint64_t nothing_to_send_at_ = UINT64_MAX;  // `progress_` when of what is wanted nothing could be sent
  std::vector<std::shared_ptr<Unit>> wanted_;
  std::deque<std::unique_ptr<Commit>> commits_;  // in order of sending
  std::vector<std::shared_ptr<Unit>> building_;  // frozen, and not yet in a commit that is sent
  std::vector<std::unique_ptr<Commit>> failed_commits_;
  IoRequest flush_;
  bool flushing_ = false;
  uint64_t next_read_token_ = 1;

  std::vector<std::function<void()>> calls_;
  uint64_t grow_at_bytes_written_ = 0;
  bool prepare_failed_ = false;  // the file system below is full: not tried again in the background
  bool running_calls_ = false;
  bool async_wanted_ = false;  // something in wanted_ has nobody who waits
  bool refusal_told_ = false;  // that the device refuses atomic writes
  bool background_ = false, stop_ = false;
  uint64_t background_wakes_ = 0;
  std::condition_variable maintenance_cv_, async_cv_;
  std::thread writeback_thread_, maintenance_thread_;
  std::deque<std::function<void()>> async_work_;
  int async_busy_ = 0;
  std::vector<std::thread> async_threads_;
};

}  // namespace untorn

#endif  // UNTORN_WRITEBACK_ENGINE_H_
