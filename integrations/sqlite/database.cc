#include "integrations/sqlite/database.h"

#include <utility>

namespace untorn::sqlite {

// Held while a store is opened and while it is closed: so a path that is opened again meanwhile waits, and does not find
// the store locked by its own process.
struct SharedStore::Opened {
  std::mutex mu;
  std::map<std::string, std::unique_ptr<SharedStore>> stores;

  static Opened& Get() {
    static Opened& opened = *new Opened;  // databases may be closed while the process ends
    return opened;
  }
};

absl::StatusOr<SharedStore::Use> SharedStore::Open(const std::string& path, const OpenOptions& options) {
  Opened& opened = Opened::Get();
  std::lock_guard guard(opened.mu);
  std::unique_ptr<SharedStore>& shared = opened.stores[path];
  if (!shared) {
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path, options);
    if (!store.ok()) {
      opened.stores.erase(path);
      return store.status();
    }
    shared.reset(new SharedStore(path, *std::move(store)));
  }
  ++shared->uses_;
  return Use(shared.get());
}

absl::StatusOr<SharedStore::Use> SharedStore::Adopt(const std::string& path, std::unique_ptr<Store> store) {
  Opened& opened = Opened::Get();
  std::lock_guard guard(opened.mu);
  std::unique_ptr<SharedStore>& shared = opened.stores[path];
  if (shared) return absl::AlreadyExistsError(path + " is open");
  shared.reset(new SharedStore(path, std::move(store)));
  ++shared->uses_;
  return Use(shared.get());
}

void SharedStore::EndUse::operator()(SharedStore* store) const {
  Opened& opened = Opened::Get();
  std::lock_guard guard(opened.mu);
  if (--store->uses_ == 0) opened.stores.erase(store->path_);
}

absl::StatusOr<std::shared_ptr<Database>> Database::Open(const std::string& store_path,
                                                         const OpenOptions& options, const std::string& name,
                                                         bool create) {
  absl::StatusOr<SharedStore::Use> use = SharedStore::Open(store_path, options);
  if (!use.ok()) return use.status();
  SharedStore& shared = **use;
  std::lock_guard guard(shared.mu_);
  std::weak_ptr<Database>& entry = shared.databases_[name];
  if (std::shared_ptr<Database> database = entry.lock()) return database;
  absl::StatusOr<Object> object = shared.store().OpenObject(name);
  if (absl::IsNotFound(object.status()) && create) object = shared.store().CreateObject(name);
  if (!object.ok()) return object.status();
  auto database = std::make_shared<Database>(*std::move(use), *object);
  entry = database;
  return database;
}

bool Database::Raise(const void* handle, Level to, Level* level) {
  std::lock_guard guard(mu_);
  if (*level >= to) return true;
  if (writer_ != nullptr && writer_ != handle && (to > kShared || pending_)) return false;
  if (*level == kNone) {
    ++readers_;
    *level = kShared;
  }
  if (to == kShared) return true;
  writer_ = handle;
  if (to == kReserved) {
    *level = kReserved;
    return true;
  }
  // No new readers from here on; those that are there finish.
  pending_ = true;
  *level = readers_ == 1 ? kExclusive : kPending;
  return *level == kExclusive;
}

void Database::Lower(const void* handle, Level to, Level* level) {
  std::lock_guard guard(mu_);
  if (*level <= to) return;
  if (writer_ == handle) {
    writer_ = nullptr;
    pending_ = false;
  }
  if (to == kNone) --readers_;
  *level = to;
}

bool Database::Reserved() const {
  std::lock_guard guard(mu_);
  return writer_ != nullptr;
}

std::optional<HeaderCounters> Database::counters() const {
  std::lock_guard guard(mu_);
  return counters_;
}

void Database::SetCounters(std::optional<HeaderCounters> counters) {
  std::lock_guard guard(mu_);
  counters_ = counters;
}

}  // namespace untorn::sqlite
