// The stores that this process has open for SQLite, one for each path, and their databases with SQLite's locks.
//
// Threading: thread-safe.
#ifndef UNTORN_INTEGRATIONS_SQLITE_DATABASE_H_
#define UNTORN_INTEGRATIONS_SQLITE_DATABASE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "integrations/sqlite/header.h"
#include "integrations/stores_of_process.h"
#include "untorn/store.h"

namespace untorn::sqlite {

class Database;

// What a connection wants to do with a database, and with one that is not there.
enum class DatabaseUse { kRead, kWrite, kCreate };

// A store, and what its databases share.
class SharedStore : public OpenedStore {
 public:
  using Use = StoresOfProcess<SharedStore>::Use;
  explicit SharedStore(std::unique_ptr<Store> store)
      : OpenedStore(std::move(store)), beside_owner_(this->store().info().beside_owner) {}

  // Another process has it open for writing. What is read here is a state that changes only while nobody reads.
  bool beside_owner() const { return beside_owner_; }
  // Must be called before the first lock of a handle is taken, and when its last one is given up. The first of those that
  // read at once brings the state up to date, unless that was done lately. Returns a number of the state.
  absl::StatusOr<uint64_t> BeginRead();
  void EndRead();
  // Opens an object, in a newer state if it is not in this one.
  absl::StatusOr<Object> OpenNewest(const std::string& name);
  // A read has found that the state is not kept any more.
  void SetStale();

  // A commit has failed on the device: what the store shows of it may not be there when it is opened next. So nothing more is
  // read of it until then.
  void SetFailed() { failed_ = true; }
  bool failed() const { return failed_; }

 private:
  friend class Database;

  std::atomic<bool> failed_ = false;
  const bool beside_owner_;
  std::mutex read_mu_;
  int reading_ = 0;  // guarded by read_mu_, as what follows
  uint64_t state_ = 0;
  std::chrono::steady_clock::time_point refreshed_ =
      std::chrono::steady_clock::now();  // the state is as of then
  std::mutex mu_;
  std::map<std::string, std::weak_ptr<Database>> databases_;
};

// One database of a store, for all connections of the process. Its locks are those of https://sqlite.org/lockingv3.html,
// within the process: no other has the store open for writing, or all connections of this one only read.
class Database {
 public:
  enum Level { kNone, kShared, kReserved, kPending, kExclusive };  // SQLite's numbers

  // The first to open it for more than reading also takes it out of WAL mode. Errors of StoresOfProcess::Open.
  //  kNotFound            there is none of this name in the store, and `intent` is not kCreate
  static absl::StatusOr<std::shared_ptr<Database>> Open(const std::string& store_path,
                                                        const StoreOptions& options, const std::string& name,
                                                        DatabaseUse intent);

  Database(SharedStore::Use store, Object object) : store_(std::move(store)), object_(std::move(object)) {}

  SharedStore& shared_store() { return *store_; }
  Store& store() { return store_->store(); }
  const Object& object() const { return object_; }

  // Makes a database that was in WAL mode one in DELETE mode. Before that, and for those that only read, DatabaseFile does as
  // if it were.
  absl::Status LeaveWalMode();

  // Raises the level of a handle, `*level`, as far as it can be; false: others are in the way (SQLITE_BUSY). Beside an owner,
  // an error says that there is none any more.
  absl::StatusOr<bool> Raise(const void* handle, Level to, Level* level);
  // Lowers it to kShared or kNone.
  void Lower(const void* handle, Level to, Level* level);
  bool Reserved() const;

  // Of its first page, where they are newer than what is in the store. They need not get there, since they tell the
  // connections of this process what is stale, and none outlives it.
  std::optional<HeaderCounters> counters() const;
  void SetCounters(std::optional<HeaderCounters> counters);

 private:
  const SharedStore::Use store_;
  const Object object_;
  bool RaiseLocked(const void* handle, Level to, Level* level);
  // Makes connections drop what they have cached of another state.
  absl::Status NoteState(uint64_t state);

  mutable std::mutex mu_;
  uint64_t state_ = 0;            // of the store, that connections have seen
  int readers_ = 0;               // handles with any lock, the writer's among them
  const void* writer_ = nullptr;  // has at least kReserved, or waits for kExclusive
  bool pending_ = false;          // it wants, or has, kExclusive
  std::optional<HeaderCounters> counters_;
};

}  // namespace untorn::sqlite

#endif  // UNTORN_INTEGRATIONS_SQLITE_DATABASE_H_
