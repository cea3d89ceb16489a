#include "integrations/sqlite/database.h"

#include <array>
#include <span>
#include <utility>

namespace untorn::sqlite {

namespace {

// So old a state may be when a transaction begins. To bring it up to date costs the other process a checkpoint.
constexpr std::chrono::milliseconds kStateAgeMax(1000);

}  // namespace

absl::StatusOr<uint64_t> SharedStore::BeginRead() {
  std::lock_guard guard(read_mu_);
  if (beside_owner_ && reading_ == 0 && std::chrono::steady_clock::now() >= refreshed_ + kStateAgeMax) {
    const auto now = std::chrono::steady_clock::now();
    if (absl::Status s = store().Refresh(); !s.ok()) return s;
    refreshed_ = now;
    ++state_;
  }
  ++reading_;
  return state_;
}

absl::StatusOr<Object> SharedStore::OpenNewest(const std::string& name) {
  absl::StatusOr<Object> object = store().OpenObject(name);
  if (!beside_owner_ || object.ok()) return object;
  // It may be newer than the state, or the state may not be kept any more.
  SetStale();
  if (const absl::StatusOr<uint64_t> state = BeginRead(); !state.ok()) return state.status();
  object = store().OpenObject(name);
  EndRead();
  return object;
}

void SharedStore::SetStale() {
  std::lock_guard guard(read_mu_);
  refreshed_ = {};
}

void SharedStore::EndRead() {
  std::lock_guard guard(read_mu_);
  --reading_;
}

absl::StatusOr<std::shared_ptr<Database>> Database::Open(const std::string& store_path,
                                                         const StoreOptions& options, const std::string& name,
                                                         DatabaseUse intent) {
  absl::StatusOr<SharedStore::Use> use = StoresOfProcess<SharedStore>::Open(store_path, options);
  if (!use.ok()) return use.status();
  SharedStore& shared = **use;
  std::shared_ptr<Database> database;  // may be the last use of the store, and then outlives the lock
  std::lock_guard guard(shared.mu_);
  std::weak_ptr<Database>& entry = shared.databases_[name];
  database = entry.lock();
  if (!database) {
    absl::StatusOr<Object> object = shared.OpenNewest(name);
    if (absl::IsNotFound(object.status()) && intent == DatabaseUse::kCreate)
      object = shared.store().CreateObject(name);
    if (!object.ok()) return object.status();
    database = std::make_shared<Database>(*std::move(use), *object);
    entry = database;
  }
  if (intent != DatabaseUse::kRead) {
    if (database->shared_store().beside_owner()) {
      return absl::FailedPreconditionError(
          store_path + ": another process has it open for writing; here it can be opened with mode=ro");
    }
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

absl::Status Database::NoteState(uint64_t state) {
  if (state_ == state) return absl::OkStatus();
  std::array<std::byte, kHeaderBytes> header{};
  const absl::StatusOr<size_t> n = object_.Read(0, header);
  if (!n.ok()) return n.status();
  // Page 1 alone does not tell: the other process may have counted in its memory.
  counters_ = counters_.value_or(HeaderCounters(header)).Next();
  state_ = state;
  return absl::OkStatus();
}

absl::StatusOr<bool> Database::Raise(const void* handle, Level to, Level* level) {
  if (!store_->beside_owner() || *level != kNone) return RaiseLocked(handle, to, level);
  absl::StatusOr<uint64_t> state = store_->BeginRead();
  if (!state.ok()) return state.status();
  absl::Status noted;
  {
    std::lock_guard guard(mu_);
    noted = NoteState(*state);
  }
  if (absl::IsAborted(noted)) store_->SetStale();
  const bool raised = noted.ok() && RaiseLocked(handle, to, level);
  if (*level != kNone) return raised;
  store_->EndRead();
  if (!noted.ok()) return noted;
  return false;
}

bool Database::RaiseLocked(const void* handle, Level to, Level* level) {
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
  if (to == kNone) {
    --readers_;
    if (store_->beside_owner()) store_->EndRead();
  }
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
