#include "integrations/sqlite/super_journal.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>

#include "absl/strings/str_cat.h"
#include "base/file_io.h"
#include "integrations/sqlite/database_file.h"
#include "integrations/sqlite/journal.h"
#include "integrations/sqlite/names.h"

namespace untorn::sqlite {
namespace {

constexpr size_t kJournalHeaderBytes = 28;  // https://www.sqlite.org/fileformat2.html, 3

// Whether this process has the file open. True if that cannot be told.
bool IsOpenHere(const struct stat& file) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    struct stat s;
    if (stat(entry.path().c_str(), &s) == 0 && s.st_dev == file.st_dev && s.st_ino == file.st_ino)
      return true;
  }
  return static_cast<bool>(error);
}

// Whether a journal on the file system has a header. It has none if its database was not changed, and where SQLite keeps
// journals (PERSIST, locking_mode=EXCLUSIVE) it is zeros then. One that a crash left behind is not open. In other modes there
// is no such journal: these databases commit by themselves, on any VFS. The database itself must not be opened: closing it
// would drop SQLite's locks.
absl::StatusOr<bool> PlainJournalInUse(const std::string& journal) {
  // Databases in memory commit by themselves, too.
  if (!journal.starts_with('/')) return false;
  const std::string database = DatabaseOf(journal);
  struct stat s;
  if (stat(database.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) {
    return absl::UnimplementedError(absl::StrCat("it cannot be told whether '", database,
                                                 "', which is not a file, has changes in this transaction"));
  }
  // Such a SQLite makes some journals only after it has asked.
  if (sqlite3_compileoption_used("ENABLE_ATOMIC_WRITE") != 0 ||
      sqlite3_compileoption_used("ENABLE_BATCH_ATOMIC_WRITE") != 0) {
    return true;
  }
  absl::StatusOr<InputFile> file = InputFile::Open(journal);
  if (absl::IsNotFound(file.status())) return false;
  if (!file.ok()) return file.status();
  std::array<std::byte, kJournalHeaderBytes> header{};
  if (absl::StatusOr<size_t> n = file->Read(header); !n.ok()) return n.status();
  if (std::all_of(header.begin(), header.end(), [](std::byte b) { return b == std::byte{0}; })) return false;
  if (fstat(file->fd(), &s) != 0) return absl::ErrnoToStatus(errno, journal);
  // Only SQLite's own descriptor counts.
  file = absl::CancelledError();
  return IsOpenHere(s);
}

}  // namespace

absl::Status ChangedDatabases::Add(std::string_view journal) {
  if (DatabaseFile::AnyHasJournal(journal)) {
    const std::shared_ptr<Journal> ours = Journals::Get().Find(journal);
    if (ours && ours->in_use()) last_of_ours_ = journal;
  } else {
    absl::StatusOr<bool> in_use = PlainJournalInUse(std::string(journal));
    if (!in_use.ok()) return in_use.status();
    if (*in_use) last_of_others_ = journal;
  }
  if (!others() || last_of_ours_.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "a transaction that changes databases of a store and others cannot be atomic ('",
      DatabaseOf(last_of_ours_), "', '", DatabaseOf(last_of_others_), "'): change them in two transactions"));
}

absl::Status SuperJournal::Add(std::string_view journal) {
  if (absl::Status s = changed_.Add(journal); !s.ok()) return s;
  const size_t at = content_.size();
  content_.append(journal).push_back('\0');
  if (file_) return file_->Write(at, content_.data() + at, content_.size() - at);
  if (!changed_.others()) return absl::OkStatus();
  // Beside a block device it would not outlast the power.
  struct stat store;
  if (stat(StoreOf(name_).c_str(), &store) != 0 || !S_ISREG(store.st_mode)) {
    return absl::UnimplementedError(
        absl::StrCat("'", DatabaseOf(journal),
                     "' has changed, and the main database is of a store that is not a file: "
                     "begin the transaction without IMMEDIATE, on a connection with a file as main"));
  }
  absl::StatusOr<std::unique_ptr<PlainFile>> file = PlainFile::CreateSuperJournal(name_);
  if (!file.ok()) return file.status();
  file_ = *std::move(file);
  return file_->Write(0, content_.data(), content_.size());
}

absl::Status SuperJournal::Sync() { return file_ ? file_->Sync() : absl::OkStatus(); }

absl::StatusOr<std::string> ReadSuperJournal(const std::string& name) {
  absl::StatusOr<InputFile> file = InputFile::Open(name);
  if (absl::IsNotFound(file.status())) {
    return absl::UnimplementedError(
        absl::StrCat("the main database is neither of a store nor a file: its transactions cannot change "
                     "databases of a store (",
                     name, ")"));
  }
  if (!file.ok()) return file.status();
  std::string content(file->size(), '\0');
  const absl::StatusOr<size_t> n = file->Read(std::as_writable_bytes(std::span(content)));
  if (!n.ok()) return n.status();
  content.resize(*n);
  return content;
}

absl::StatusOr<ChangedDatabases> ChangedIn(std::string_view content) {
  ChangedDatabases changed;
  while (!content.empty()) {
    const size_t end = std::min(content.find('\0'), content.size());
    if (absl::Status s = changed.Add(content.substr(0, end)); !s.ok()) return s;
    content.remove_prefix(std::min(end + 1, content.size()));
  }
  return changed;
}

}  // namespace untorn::sqlite
