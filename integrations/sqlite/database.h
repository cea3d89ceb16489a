// The stores that this process has open for SQLite, one for each path, and their databases with SQLite's locks.
//
// Threading: thread-safe.
#ifndef UNTORN_INTEGRATIONS_SQLITE_DATABASE_H_
#define UNTORN_INTEGRATIONS_SQLITE_DATABASE_H_

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "integrations/sqlite/header.h"
#include "store/fork_guard.h"
#include "untorn/store.h"

namespace untorn::sqlite {

class Database;

struct StoreOptions {
  OpenOptions open;
  CreateOptions create;     // of a store that is not there
  bool may_create = false;  // or such a store is kNotFound
};

// What a connection wants to do with a database, and with one that is not there.
enum class DatabaseUse { kRead, kWrite, kCreate };

// A store, opened with the first use of its path in this process and closed with the last.
class SharedStore {
 public:
  struct EndUse {
    void operator()(SharedStore* store) const;
  };
  using Use = std::unique_ptr<SharedStore, EndUse>;

  // `path`: a canonical one. `options` are those of the first use. Errors of Store::Open and Store::Create.
  //  kFailedPrecondition  a process that this one was forked from has it open
  static absl::StatusOr<Use> Open(const std::string& path, const StoreOptions& options);
  // A store that is open already, and is no longer the caller's: what opens `path` while it is in use gets this one.
  // kAlreadyExists: one of that path is open.
  static absl::StatusOr<Use> Adopt(const std::string& path, std::unique_ptr<Store> store);
  Store& store() { return *store_; }

  // A commit has failed on the device: what the store shows of it may not be there when it is opened next. So nothing more is
  // read of it until then.
  void SetFailed() { failed_ = true; }
  bool failed() const { return failed_; }
  // In a fork()ed child nothing of it works, and its mutexes may be locked for ever.
  bool IsOfParentProcess() const { return !fork_guard_.CheckProcess().ok(); }

 private:
  friend class Database;
  struct Opened;
  SharedStore(std::string path, std::unique_ptr<Store> store)
      : path_(std::move(path)), store_(std::move(store)) {}

  const std::string path_;
  int uses_ = 0;  // guarded by the mutex of all
  std::atomic<bool> failed_ = false;
  const internal::ForkGuard fork_guard_;
  const std::unique_ptr<Store> store_;
  std::mutex mu_;
  std::map<std::string, std::weak_ptr<Database>> databases_;
};

// One database of a store, for all connections of the process. Its locks are those of https://sqlite.org/lockingv3.html,
// within the process: no other has the store open.
class Database {
 public:
  enum Level { kNone, kShared, kReserved, kPending, kExclusive };  // SQLite's numbers

  // The first to open it for more than reading also takes it out of WAL mode. Errors of SharedStore::Open.
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

  // Raises the level of a handle, `*level`, as far as it can be; false: others are in the way (SQLITE_BUSY).
  bool Raise(const void* handle, Level to, Level* level);
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
  mutable std::mutex mu_;
  int readers_ = 0;               // handles with any lock, the writer's among them
  const void* writer_ = nullptr;  // has at least kReserved, or waits for kExclusive
  bool pending_ = false;          // it wants, or has, kExclusive
  std::optional<HeaderCounters> counters_;
};

}  // namespace untorn::sqlite

#endif  // UNTORN_INTEGRATIONS_SQLITE_DATABASE_H_
