// Behind Store and Object: checks arguments, stages changes in the COW fork, waits where asked to.
//
// Every operation that changes something is a loop: look at everything under the lock; where something has to
// be waited for (space, a node, a block's old content), wait with the lock released and look again; stage
// when all is there.
//
// Threading: thread-safe.
#ifndef UNTORN_STORE_IMPL_H_
#define UNTORN_STORE_IMPL_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "untorn/store.h"
#include "writeback/engine.h"

namespace untorn::internal {

inline constexpr uint64_t kAtomicBytesMax = 64 << 20;

// The record of a new object will be the last one: its leaf is that of this one's.
inline constexpr ObjectId kAnyNewObject{UINT64_MAX};

struct ObjectHandle {
  std::shared_ptr<StoreImpl> store;
  ObjectId id = ObjectId::kNone;
  std::shared_ptr<ObjectState> state;  // nullptr: created in a transaction that has not committed
};

absl::Status CheckName(std::string_view name);
// Offset and length of a change: not empty, no overflow, within kObjectBytesMax.
absl::Status CheckRange(uint64_t offset, uint64_t length);
uint64_t TotalBytes(std::span<const iovec> pieces);

class StoreImpl : public std::enable_shared_from_this<StoreImpl> {
 public:
  explicit StoreImpl(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}
  ~StoreImpl();

  Engine& engine() { return *engine_; }
  absl::Status Close();

  // ---- Objects (object_ops.cc) ----
  using WhenDone = std::function<void(absl::Status)>;
  // `done`, if given, is told when the write is as durable as asked; then this does not wait for that.
  absl::Status Write(const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector data,
                     const WriteOptions& options, WhenDone done);
  absl::Status Truncate(const std::shared_ptr<ObjectState>& object, uint64_t size, Durability durability);
  absl::Status PunchHole(const std::shared_ptr<ObjectState>& object, uint64_t offset, uint64_t length,
                         Durability durability);
  absl::Status Preallocate(const std::shared_ptr<ObjectState>& object, uint64_t offset, uint64_t length);
  absl::Status SyncObject(const std::shared_ptr<ObjectState>& object);
  absl::Status SyncRange(const std::shared_ptr<ObjectState>& object, uint64_t offset, uint64_t length);

  // ---- Names (namespace_ops.cc) ----
  absl::StatusOr<std::shared_ptr<ObjectState>> Create(std::string_view name, Durability durability);
  absl::StatusOr<std::shared_ptr<ObjectState>> Find(std::string_view name);
  absl::Status Rename(std::string_view from, std::string_view to, Durability durability);
  absl::Status Remove(std::string_view name, Durability durability);
  absl::StatusOr<std::vector<ObjectInfo>> List(std::string_view after, size_t max);

  // Steps of them, with the lock held; false: the lock was released, look again.
  // What the name refers to now (nullptr: nothing).
  absl::StatusOr<bool> TryFind(Lock& lock, const std::string& name, std::shared_ptr<ObjectState>* out);
  absl::StatusOr<bool> TryObject(Lock& lock, ObjectId id, std::shared_ptr<ObjectState>* out);
  absl::StatusOr<bool> AwaitNames(Lock& lock);
  // For a change of these names, and of the object (if not null) besides its data: waits for what must not be
  // joined to it.
  absl::StatusOr<bool> AwaitNamedUnits(Lock& lock, ObjectState* object,
                                       const std::vector<std::string>& names);
  absl::StatusOr<bool> AwaitObjectUnits(Lock& lock, ObjectState& object);
  // Whether the next checkpoint can read what a change makes it take apart of the tree: `look` does the volume's lookups,
  // again for every node that has to be loaded. So damage refuses the changes of what it covers, with kDataLoss, and
  // nothing that is accepted fails for it later. Once for a change, before it is staged.
  absl::StatusOr<bool> AwaitTree(Lock& lock, const std::string& name,
                                 absl::FunctionRef<absl::StatusOr<bool>(Volume&)> look);
  absl::StatusOr<bool> AwaitWritable(Lock& lock, const ObjectState& object, uint64_t offset, uint64_t bytes);
  absl::StatusOr<bool> AwaitRecord(Lock& lock, const std::string& name, ObjectId id);
  // `range`: with its partly covered edges. `edges_written`: they bring mappings that end within them.
  absl::StatusOr<bool> AwaitHole(Lock& lock, const ObjectState& object, BlockRange range, bool edges_written);
  // For a write.
  absl::StatusOr<bool> AwaitJoinOfRange(Lock& lock, const ObjectState& object, BlockRange range, bool atomic);
  static absl::Status CheckNamed(const ObjectState& object, const std::string& name);
  // Stage, with everything there. They return the unit that holds the change.
  std::shared_ptr<Unit> StageCreate(std::shared_ptr<Unit> unit, const std::shared_ptr<ObjectState>& object);
  std::shared_ptr<Unit> StageRemove(std::shared_ptr<Unit> unit, const std::shared_ptr<ObjectState>& object);
  std::shared_ptr<Unit> StageRename(std::shared_ptr<Unit> unit, const std::shared_ptr<ObjectState>& object,
                                    const std::string& to);
  void StageHoles(std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object, BlockRange blocks);
  void StageSize(std::shared_ptr<Unit>& unit, const std::shared_ptr<ObjectState>& object, uint64_t size);
  void NoteClaim(Unit& unit, uint64_t blocks, uint64_t entries);
  void SetNamesExclusive(bool exclusive) { names_exclusive_ = exclusive; }

  // Ends a change: syncs if asked, lets background work happen.
  absl::Status Finish(Lock& lock, std::vector<std::shared_ptr<Unit>> units, Durability durability);

 private:
  class HeldClaim;
  absl::Status WriteInParts(const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector data,
                            const WriteOptions& options, WhenDone done);
  absl::Status WriteLarge(const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector data);
  // What has to be durable before a metadata change of the object that becomes so now.
  std::vector<std::shared_ptr<Unit>> UnitsBefore(const ObjectState& object);
  // Stages one write; `units` gets the units that hold it.
  absl::Status Stage(Lock& lock, const std::shared_ptr<ObjectState>& object, uint64_t offset, IoVector data,
                     uint64_t data_offset, uint64_t bytes, const WriteOptions& options, HeldClaim* held,
                     std::vector<std::shared_ptr<Unit>>* units);

  std::unique_ptr<Engine> engine_;
  bool names_exclusive_ = false;
};

}  // namespace untorn::internal

#endif  // UNTORN_STORE_IMPL_H_
