#include "integrations/sqlite/database_file.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "integrations/process_wide.h"
#include "integrations/sqlite/journal.h"
#include "integrations/sqlite/names.h"
#include "integrations/sqlite/super_journal.h"

namespace untorn::sqlite {
namespace {

constexpr std::chrono::milliseconds kSpacePause{100};

constexpr uint64_t kBlockBytes = 4096;
constexpr int kHolesMax = 512;  // of one transaction

bool AllZeros(std::span<const std::byte> data) {
  return data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
}

// Of all handles of the process.
struct Handles {
  // The lock of the journals comes after this one. fork() takes the locks in the opposite order of these calls.
  Handles() { Journals::Get(); }
  std::mutex mu;
  std::multiset<std::string, std::less<>> journals;         // their names
  std::map<std::string, DatabaseFile*, std::less<>> ready;  // by journal: a database has one writer
  std::multimap<std::string, DatabaseFile*> prepared;       // by super-journal
  static Handles& Get() { return ProcessWide<Handles, &Handles::mu>(); }
};

}  // namespace

DatabaseFile::DatabaseFile(std::shared_ptr<Database> database, std::string journal_name, bool read_only)
    : database_(std::move(database)), journal_name_(std::move(journal_name)), read_only_(read_only) {
  Handles& handles = Handles::Get();
  std::lock_guard guard(handles.mu);
  handles.journals.insert(journal_name_);
}

DatabaseFile::~DatabaseFile() {
  Unlock(Database::kNone);
  Handles& handles = Handles::Get();
  std::lock_guard guard(handles.mu);
  handles.journals.erase(handles.journals.find(journal_name_));
  // In some modes SQLite keeps a journal that is not in use.
  if (!handles.journals.contains(journal_name_)) Journals::Get().Remove(journal_name_);
}

bool DatabaseFile::AnyHasJournal(std::string_view name) {
  Handles& handles = Handles::Get();
  std::lock_guard guard(handles.mu);
  return handles.journals.contains(name);
}

std::shared_ptr<Journal> DatabaseFile::FindJournal() const {
  std::shared_ptr<Journal> journal = Journals::Get().Find(journal_name_);
  return journal && journal->in_use() ? journal : nullptr;
}

// https://www.sqlite.org/howtocorrupt.html, 2.6: connections must not be carried into a child.
absl::Status DatabaseFile::CheckProcess() const {
  if (!IsOfParentProcess()) return absl::OkStatus();
  return absl::UnimplementedError(
      "the connection was opened by a process that this one was forked from: open connections after the "
      "fork, "
      "in one process");
}

absl::StatusOr<uint64_t> DatabaseFile::Size() const {
  if (absl::Status s = CheckProcess(); !s.ok()) return s;
  std::lock_guard guard(mu_);
  return staged_ ? staged_->Size(database_->object()) : database_->object().Size();
}

absl::StatusOr<size_t> DatabaseFile::Read(uint64_t offset, std::span<std::byte> out) const {
  if (absl::Status s = CheckProcess(); !s.ok()) return s;
  std::lock_guard guard(mu_);
  if (database_->shared_store().failed()) {
    return absl::UnavailableError(
        "the store has failed: close all its databases, and open them again, to see what is there");
  }
  return ReadLocked(offset, out);
}

absl::StatusOr<size_t> DatabaseFile::ReadLocked(uint64_t offset, std::span<std::byte> out) const {
  absl::StatusOr<size_t> count =
      staged_ ? staged_->Read(database_->object(), offset, out) : database_->object().Read(offset, out);
  if (absl::IsAborted(count.status())) database_->shared_store().SetStale();
  if (!count.ok() || offset >= kHeaderBytes) return count;
  // SQLite reads the marks with the header, or with all of page 1.
  if (offset == 0) WalMark::Remove(out.first(*count));
  if (first_page_staged_) return count;
  const std::optional<HeaderCounters> counters = counters_ ? counters_ : database_->counters();
  if (counters) counters->PutInto(offset, out.first(*count));
  return count;
}

absl::Status DatabaseFile::Begin() {
  if (read_only_) return absl::PermissionDeniedError("the database is open read-only");
  if (state_ == State::kStaging) return absl::OkStatus();
  if (state_ == State::kReady || state_ == State::kPrepared) {
    EndStaging(State::kStaging);
    return absl::OkStatus();
  }
  if (!FindJournal()) {
    return absl::FailedPreconditionError(
        "SQLite has no rollback journal for this transaction: only journal_mode=DELETE is supported");
  }
  staged_.emplace(database_->store().Begin());
  holes_ = 0;
  hole_end_ = 0;
  state_ = State::kStaging;
  return absl::OkStatus();
}

absl::StatusOr<bool> DatabaseFile::OnlyCountersChange(std::span<const std::byte> first_page) {
  if (first_page_staged_ || first_page.size() < kHeaderBytes) return false;
  block_.resize(first_page.size());
  absl::StatusOr<size_t> count = ReadLocked(0, block_);
  if (!count.ok()) return count.status();
  return *count == first_page.size() && HeaderCounters::AreAllThatDiffers(block_, first_page);
}

// With secure_delete, SQLite overwrites what it frees with zeros. As a hole such a page needs no space, and gives its space
// back. The entries of many holes may not fit one commit.
bool DatabaseFile::NoteHole(uint64_t offset, uint64_t end) {
  if (offset != hole_end_ && ++holes_ > kHolesMax) return false;
  hole_end_ = end;
  return true;
}

// Whole blocks, but for the last of the file: a transaction keeps those in memory of which it knows only a part.
absl::Status DatabaseFile::Write(uint64_t offset, std::span<const std::byte> data) {
  if (absl::Status s = CheckProcess(); !s.ok()) return s;
  std::lock_guard guard(mu_);
  if (absl::Status s = Begin(); !s.ok()) return s;
  std::vector<std::byte> first_page;  // if it is not written as it is
  if (offset == 0) {
    const absl::StatusOr<bool> only_counters = OnlyCountersChange(data);
    if (!only_counters.ok()) return only_counters.status();
    if (*only_counters) {
      counters_.emplace(data.first<kHeaderBytes>());
      return absl::OkStatus();
    }
    first_page_staged_ = true;
    counters_.reset();
    if (WalMark::IsIn(data)) {
      counters_ = HeaderCounters(data.first<kHeaderBytes>()).Next();
      first_page.assign(data.begin(), data.end());
      WalMark::Remove(first_page);
      data = first_page;
    }
  }
  const Object& object = database_->object();
  const uint64_t end = offset + data.size();
  const uint64_t first = offset / kBlockBytes * kBlockBytes;
  const uint64_t last = (end + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  const bool whole = first == offset && last == end;
  if (whole && !AllZeros(data)) return staged_->Write(object, offset, data);
  absl::StatusOr<uint64_t> size = staged_->Size(object);
  if (!size.ok()) return size.status();
  if (whole) {
    const bool hole = end <= *size && NoteHole(offset, end);
    return hole ? staged_->PunchHole(object, offset, data.size()) : staged_->Write(object, offset, data);
  }
  block_.assign(last - first, std::byte{0});
  absl::StatusOr<size_t> before = staged_->Read(object, first, block_);
  if (!before.ok()) return before.status();
  std::memcpy(block_.data() + (offset - first), data.data(), data.size());
  const uint64_t until = std::min(last, std::max(end, *size));
  return staged_->Write(object, first, std::span(block_).first(until - first));
}

absl::Status DatabaseFile::Truncate(uint64_t bytes) {
  std::lock_guard guard(mu_);
  if (state_ == State::kCommitted && !FindJournal()) return database_->object().Truncate(bytes);
  if (absl::Status s = Begin(); !s.ok()) return s;
  if (bytes < kHeaderBytes) {
    first_page_staged_ = true;
    counters_.reset();
  }
  return staged_->Truncate(database_->object(), bytes);
}

absl::Status DatabaseFile::BeginSync(const std::string& super_journal) {
  if (absl::Status s = CheckProcess(); !s.ok()) return s;
  {
    std::lock_guard guard(mu_);
    if (state_ != State::kStaging) return absl::OkStatus();
    const std::shared_ptr<Journal> journal = FindJournal();
    durability_ = journal && !journal->synced() ? Durability::kBuffered : Durability::kSync;
    Handles& handles = Handles::Get();
    std::lock_guard all(handles.mu);
    if (super_journal.empty()) {
      state_ = State::kReady;
      handles.ready[journal_name_] = this;
      return absl::OkStatus();
    }
    state_ = State::kPrepared;
    handles.prepared.insert({super_journal, this});
  }
  if (AnyHasJournal(JournalName(MainOfSuperJournal(super_journal)))) return absl::OkStatus();
  return CommitIfOthersAreUnchanged(super_journal);
}

absl::Status DatabaseFile::CommitIfOthersAreUnchanged(const std::string& super_journal) {
  // While SQLite finds the super-journal here too, it plays our journals back, should the transaction fail.
  const std::shared_ptr<Journal> here = Journals::Get().FindOrCreate(super_journal);
  const absl::StatusOr<std::string> content = ReadSuperJournal(super_journal);
  if (!content.ok()) return content.status();
  if (absl::Status s = here->Write(0, content->data(), content->size()); !s.ok()) return s;
  const absl::StatusOr<ChangedDatabases> changed = ChangedIn(*content);
  if (!changed.ok()) return changed.status();
  here->SetHasFile();  // nobody else deletes it, should the commit fail
  if (changed->last_of_ours() != journal_name_) return absl::OkStatus();
  absl::Status status = CommitPrepared(super_journal);
  if (status.ok()) Journals::Get().Remove(super_journal);
  return status;
}

absl::Status DatabaseFile::Sync() {
  std::lock_guard guard(mu_);
  // What is committed already, before others of the transaction, must not fail any more.
  if (!staged_) return state_ == State::kCommitted ? absl::OkStatus() : database_->object().Sync();
  // SQLite syncs the journal before it writes or plays back. Where it does not, it is one of another mode, of which it cannot
  // be told what it does.
  const std::shared_ptr<Journal> journal = FindJournal();
  if (!journal || !journal->synced()) {
    return absl::FailedPreconditionError(
        "SQLite has not synced its rollback journal: only journal_mode=DELETE is supported");
  }
  if (journal->being_played_back()) {
    EndStaging(State::kIdle);
  } else {
    durability_ = Durability::kSync;
  }
  return absl::OkStatus();
}

absl::Status DatabaseFile::CommitInOrder(Database& database, Transaction& transaction,
                                         Durability durability) {
  absl::Status status = transaction.Commit(durability);
  // Nothing tells SQLite that a commit is accepted and not durable yet. So the commit waits until the file system below has
  // space.
  if (absl::IsUnavailable(status)) {
    do {
      std::this_thread::sleep_for(kSpacePause);
      status = database.store().Sync();
    } while (absl::IsResourceExhausted(status));
  }
  if (status.ok() && durability == Durability::kBuffered) status = database.store().Barrier();
  const bool undone = absl::IsResourceExhausted(status) || absl::IsAborted(status);
  if (!status.ok() && !undone) database.shared_store().SetFailed();
  return status;
}

absl::Status DatabaseFile::Commit() {
  const absl::Status status = CommitInOrder(*database_, *staged_, durability_);
  EndStaging(status.ok() ? State::kCommitted : State::kIdle);
  return status;
}

absl::Status DatabaseFile::CommitReady(std::string_view journal) {
  Handles& handles = Handles::Get();
  DatabaseFile* file = nullptr;
  {
    std::lock_guard guard(handles.mu);
    if (auto it = handles.ready.find(journal); it != handles.ready.end()) file = it->second;
  }
  if (file == nullptr) return absl::OkStatus();
  std::lock_guard guard(file->mu_);
  return file->Commit();
}

absl::Status DatabaseFile::CommitPrepared(const std::string& super_journal) {
  Handles& handles = Handles::Get();
  std::vector<DatabaseFile*> files;
  {
    std::lock_guard guard(handles.mu);
    const auto [from, to] = handles.prepared.equal_range(super_journal);
    for (auto it = from; it != to; ++it) files.push_back(it->second);
  }
  if (files.empty()) return absl::OkStatus();
  std::sort(files.begin(), files.end(), std::less<>());
  std::vector<std::unique_lock<std::mutex>> locks;
  for (DatabaseFile* file : files) locks.emplace_back(file->mu_);
  const bool durable = std::any_of(files.begin(), files.end(),
                                   [](const DatabaseFile* f) { return f->durability_ == Durability::kSync; });
  absl::Status status;
  Transaction& together = *files.front()->staged_;
  for (size_t i = 1; i < files.size() && status.ok(); ++i) {
    if (&files[i]->database_->store() != &files[0]->database_->store()) {
      status = absl::UnimplementedError(
          "a transaction cannot span databases of several stores: change them in two");
    } else {
      status = together.Absorb(std::move(*files[i]->staged_));
    }
  }
  if (status.ok())
    status =
        CommitInOrder(*files[0]->database_, together, durable ? Durability::kSync : Durability::kBuffered);
  for (DatabaseFile* file : files) file->EndStaging(status.ok() ? State::kCommitted : State::kIdle);
  return status;
}

absl::Status DatabaseFile::EndCommit() {
  std::lock_guard guard(mu_);
  if (state_ == State::kStaging || state_ == State::kPrepared)
    return absl::InternalError("SQLite ends a transaction that it has not synced");
  // Its journal was never finalized: there was none.
  absl::Status status;
  if (state_ == State::kReady) status = Commit();
  if (state_ == State::kCommitted) state_ = State::kIdle;
  return status;
}

// Leaves what is staged only for State::kStaging.
void DatabaseFile::EndStaging(State next) {
  if (state_ == State::kReady || state_ == State::kPrepared) {
    Handles& handles = Handles::Get();
    std::lock_guard guard(handles.mu);
    std::erase_if(handles.ready, [&](const auto& v) { return v.second == this; });
    std::erase_if(handles.prepared, [&](const auto& v) { return v.second == this; });
  }
  state_ = next;
  if (next == State::kStaging) return;
  staged_.reset();
  if (next == State::kCommitted && (first_page_staged_ || counters_)) database_->SetCounters(counters_);
  first_page_staged_ = false;
  counters_.reset();
}

absl::StatusOr<bool> DatabaseFile::Lock(Database::Level level) {
  return database_->Raise(this, level, &level_);
}

void DatabaseFile::Unlock(Database::Level level) {
  // There the mutexes may be locked for ever.
  if (IsOfParentProcess()) return;
  std::lock_guard guard(mu_);
  if (level <= Database::kShared && level_ > Database::kShared) {
    EndStaging(State::kIdle);
    // SQLite has given up, and not finalized it.
    if (level == Database::kNone) Journals::Get().Remove(journal_name_);
  }
  database_->Lower(this, level, &level_);
}

}  // namespace untorn::sqlite
