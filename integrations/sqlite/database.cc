#include "integrations/sqlite/database.h"

#include <array>
#include <span>
#include <utility>

#include "integrations/sqlite/process_wide.h"

namespace untorn::sqlite {

// Held while a store is opened and while it is closed: so a path that is opened again meanwhile waits, and does not find
// the store locked by its own process.
struct SharedStore::Opened {
  std::mutex mu;
  std::map<std::string, std::unique_ptr<SharedStore>> stores;

  static Opened& Get() { return ProcessWide<Opened, &Opened::mu>(); }
};

namespace {

absl::StatusOr<std::unique_ptr<Store>> OpenOrCreate(const std::string& path, const StoreOptions& options) {
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path, options.open);
  if (!absl::IsNotFound(store.status()) || !options.may_create) return store;
  const absl::Status created = Store::Create(path, options.create);
  // Another process may have been faster.
  if (!created.ok() && !absl::IsAlreadyExists(created)) return created;
  return Store::Open(path, options.open);
}

}  // namespace

absl::StatusOr<SharedStore::Use> SharedStore::Open(const std::string& path, const StoreOptions& options) {
  Opened& opened = Opened::Get();
  std::lock_guard guard(opened.mu);
  std::unique_ptr<SharedStore>& shared = opened.stores[path];
  if (shared && shared->IsOfParentProcess()) return shared->fork_guard_.CheckProcess();
  if (!shared) {
    absl::StatusOr<std::unique_ptr<Store>> store = OpenOrCreate(path, options);
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
                                                         const StoreOptions& options, const std::string& name,
                                                         DatabaseUse intent) {
  absl::StatusOr<SharedStore::Use> use = SharedStore::Open(store_path, options);
  if (!use.ok()) return use.status();
  SharedStore& shared = **use;
  std::shared_ptr<Database> database;  // may be the last use of the store, and then outlives the lock
  std::lock_guard guard(shared.mu_);
  std::weak_ptr<Database>& entry = shared.databases_[name];
  database = entry.lock();
  if (!database) {
    absl::StatusOr<Object> object = shared.store().OpenObject(name);
    if (absl::IsNotFound(object.status()) && intent == DatabaseUse::kCreate)
      object = shared.store().CreateObject(name);
    if (!object.ok()) return object.status();
    database = std::make_shared<Database>(*std::move(use), *object);
    entry = database;
  }
  if (intent != DatabaseUse::kRead) {
    if (absl::Status s = database->LeaveWalMode(); !s.ok()) return s;
  }
  return database;
}

// As SQLite itself does when it leaves that mode. Readers see the header as it becomes, before and after.
absl::Status Database::LeaveWalMode() {
  std::array<std::byte, kHeaderBytes> header{};
  const absl::StatusOr<size_t> n = object_.Read(0, header);
  if (!n.ok()) return n.status();
  if (!WalMark::IsIn(std::span(header).first(*n))) return absl::OkStatus();
  WalMark::Remove(header);
  return object_.Write(0, header);
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
