// The stores that a process has open for an integration: one for each path, opened with the first use and closed with the
// last.
//
// Threading: thread-safe.
#ifndef UNTORN_INTEGRATIONS_STORES_OF_PROCESS_H_
#define UNTORN_INTEGRATIONS_STORES_OF_PROCESS_H_

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "integrations/process_wide.h"
#include "store/fork_guard.h"
#include "untorn/store.h"

namespace untorn {

struct StoreOptions {
  OpenOptions open;
  CreateOptions create;     // of a store that is not there
  bool may_create = false;  // or such a store is kNotFound
  // Nothing will be changed, so the store may be opened beside another process that has it open for writing.
  bool only_reads = false;
};

// Errors of Store::Open and Store::Create.
absl::StatusOr<std::unique_ptr<Store>> OpenOrCreate(const std::string& path, const StoreOptions& options);

// A store that is open. What an integration keeps for each store derives from it.
class OpenedStore {
 public:
  explicit OpenedStore(std::unique_ptr<Store> store) : store_(std::move(store)) {}
  OpenedStore(const OpenedStore&) = delete;

  Store& store() const { return *store_; }
  // In a fork()ed child nothing of the store works, and mutexes may be locked for ever.
  absl::Status CheckProcess() const { return fork_guard_.CheckProcess(); }

 private:
  const internal::ForkGuard fork_guard_;
  const std::unique_ptr<Store> store_;
};

// `Shared` derives from OpenedStore, and is made of a std::unique_ptr<Store>.
template <typename Shared>
class StoresOfProcess {
 public:
  struct EndUse {
    std::string path;
    void operator()(Shared*) const {
      StoresOfProcess& all = Get();
      std::lock_guard guard(all.mu_);
      const auto it = all.entries_.find(path);
      if (--it->second.uses == 0) all.entries_.erase(it);
    }
  };
  using Use = std::unique_ptr<Shared, EndUse>;

  // `path`: a canonical one. `options` are those of the first use. Errors of OpenOrCreate.
  //  kFailedPrecondition  a process that this one was forked from has it open
  static absl::StatusOr<Use> Open(const std::string& path, const StoreOptions& options) {
    StoresOfProcess& all = Get();
    std::lock_guard guard(all.mu_);
    const auto it = all.entries_.find(path);
    if (it == all.entries_.end()) {
      absl::StatusOr<std::unique_ptr<Store>> store = OpenOrCreate(path, options);
      if (!store.ok()) return store.status();
      return all.Add(path, *std::move(store));
    }
    if (absl::Status s = it->second.shared->CheckProcess(); !s.ok()) return s;
    ++it->second.uses;
    return Use(it->second.shared.get(), EndUse{path});
  }

  // A store that is open already, and is no longer the caller's: what opens `path` while it is in use gets this one.
  // kAlreadyExists: one of that path is open.
  static absl::StatusOr<Use> Adopt(const std::string& path, std::unique_ptr<Store> store) {
    StoresOfProcess& all = Get();
    std::lock_guard guard(all.mu_);
    if (all.entries_.contains(path)) return absl::AlreadyExistsError(path + " is open");
    return all.Add(path, std::move(store));
  }

 private:
  struct Entry {
    std::unique_ptr<Shared> shared;
    int uses = 1;
  };

  static StoresOfProcess& Get() { return ProcessWide<StoresOfProcess, &StoresOfProcess::mu_>(); }
  Use Add(const std::string& path, std::unique_ptr<Store> store) {
    Shared* shared = new Shared(std::move(store));
    entries_.emplace(path, Entry{std::unique_ptr<Shared>(shared)});
    return Use(shared, EndUse{path});
  }

  // Held while a store is opened and while it is closed: so a path that is opened again meanwhile waits, and does not find
  // the store locked by its own process.
  std::mutex mu_;
  std::map<std::string, Entry> entries_;
};

}  // namespace untorn

#endif  // UNTORN_INTEGRATIONS_STORES_OF_PROCESS_H_
