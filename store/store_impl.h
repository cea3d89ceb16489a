// StoreImpl is one open store: it owns the parts of the store and wires them together.
//
// Threading: thread-safe.
#ifndef UNTORN_STORE_STORE_IMPL_H_
#define UNTORN_STORE_STORE_IMPL_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "device/device.h"
#include "device/file_device.h"
#include "device/io_pump.h"
#include "extent/volume.h"
#include "store/admission.h"
#include "store/background.h"
#include "store/fork_guard.h"
#include "store/namespace.h"
#include "store/object_write.h"
#include "store/page_reader.h"
#include "store/publisher.h"
#include "untorn/options.h"
#include "writeback/writeback.h"

namespace untorn::internal {

class NewestState;
class StoreImpl;

FileDeviceOptions DeviceOptionsOf(const OpenOptions& options);

struct ObjectHandle {
  std::shared_ptr<StoreImpl> store;
  ObjectId id = ObjectId::kNone;
  std::shared_ptr<ObjectState> state;  // nullptr if created in a transaction that has not committed
};

// The storage has the device of a store, the volume on the device, and the mutex of the store.
struct Storage {
  explicit Storage(std::unique_ptr<Device> d)
      : device(std::move(d)), info(device->info()), pump(*device, mu) {}
  std::unique_ptr<Device> device GUARDED_BY_STORE_LOCK;  // none once the store is closed
  const DeviceInfo info;
  const uint64_t opened_ns = NowNs();
  std::mutex mu;
  IoPump pump;
  std::unique_ptr<Volume> volume PT_GUARDED_BY_STORE_LOCK;
};

class StoreImpl : public std::enable_shared_from_this<StoreImpl> {
 public:
  // If `background` is false, the store starts no thread: writeback and checkpoints run inside calls. With `leased`, the
  // store is this checkpoint's state, and the device reads under a lease of it.
  static absl::StatusOr<std::shared_ptr<StoreImpl>> Open(std::unique_ptr<Device> device,
                                                         const OpenOptions& options, bool background,
                                                         const Superblock* leased = nullptr);
  ~StoreImpl();
  StoreImpl(const StoreImpl&) = delete;

  // Makes everything durable, writes a checkpoint, stops the threads, and closes the device. Returns the
  // failure of a failed store, and closes that store too. Later calls find the store closed.
  absl::Status Close() EXCLUDES_STORE_LOCK;
  // Closes the store if it is open and this process opened it. An error goes to the log callback.
  void CloseIfOpen() EXCLUDES_STORE_LOCK;
  absl::Status CheckProcess() const { return fork_guard_.CheckProcess(); }
  // Fails if the store is closed, or if this process did not open it.
  absl::Status CheckOpen() const EXCLUDES_STORE_LOCK;

  // ---- Of a state that is open beside the owner (store/beside_owner.h) ----
  // Must be called before the state is used.
  void SetNewestState(std::weak_ptr<NewestState> newest) { newest_state_ = std::move(newest); }
  const std::weak_ptr<NewestState>& newest_state() const { return newest_state_; }
  // Must be called when there is a newer state. Gives up the lease, and the memory of the cache.
  void GiveUpState() EXCLUDES_STORE_LOCK;
  bool has_newer() const { return has_newer_.load(std::memory_order_acquire); }

  const Front& front() const { return front_; }
  ObjectWriter& writer() { return writer_; }
  Namespace& names() { return names_; }
  PageReader& reader() { return reader_; }
  Checkpointer& checkpointer() { return writeback_.checkpointer(); }
  Readers& readers() { return writeback_.readers(); }

  absl::StatusOr<std::string> NameOf(const ObjectState& object) const EXCLUDES_STORE_LOCK;
  absl::StatusOr<uint64_t> SizeOf(const ObjectState& object) const EXCLUDES_STORE_LOCK;
  absl::Status Barrier() EXCLUDES_STORE_LOCK;
  absl::Status Sync() EXCLUDES_STORE_LOCK;
  absl::Status Checkpoint() EXCLUDES_STORE_LOCK;
  absl::Status Resize(uint64_t size_bytes, const ShrinkOptions& options) EXCLUDES_STORE_LOCK;

  StoreInfo info() const EXCLUDES_STORE_LOCK;
  Stats stats() const EXCLUDES_STORE_LOCK;
  // Is for tests. Stops the process if a numbered invariant of a part does not hold.
  void CheckInvariants() const EXCLUDES_STORE_LOCK;

  // While it lives, no other thread makes the store smaller, or gives it another limit.
  class ResizeTurn {
   public:
    explicit ResizeTurn(StoreImpl& store) EXCLUDES_STORE_LOCK;
    ~ResizeTurn() EXCLUDES_STORE_LOCK;
    ResizeTurn(const ResizeTurn&) = delete;

   private:
    StoreImpl& store_;
    std::optional<Readers::Hold> hold_;
  };

 private:
  StoreImpl(std::unique_ptr<Storage> storage, const OpenOptions& options, bool background);
  // Tells the application, when the background thread comes to it.
  void Warn(const std::string& message) EXCLUDES_STORE_LOCK;
  void LogOpen() const EXCLUDES_STORE_LOCK;
  // From now on, the store waits for space in the file system below where it can, and does not fail.
  void KeepGoingWithoutSpace() EXCLUDES_STORE_LOCK;
  // Returns the size of the block device, or of the file system.
  absl::StatusOr<uint64_t> LargestSize() const EXCLUDES_STORE_LOCK;

  const OpenOptions options_;
  const ForkGuard fork_guard_;
  const std::unique_ptr<Storage> storage_;
  Writeback writeback_;
  Admission admission_;
  CacheLimit cache_limit_;
  Publisher publisher_;
  Background background_;
  const Front front_;
  ObjectWriter writer_;
  Namespace names_;
  PageReader reader_;
  bool resizing_ GUARDED_BY_STORE_LOCK = false;  // a ResizeTurn lives
  std::weak_ptr<NewestState> newest_state_;
  std::atomic<bool> has_newer_ = false;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_STORE_IMPL_H_
