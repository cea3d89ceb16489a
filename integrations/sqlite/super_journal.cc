#include "integrations/sqlite/super_journal.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "absl/strings/str_cat.h"
#include "base/file_io.h"
#include "integrations/sqlite/database_file.h"
#include "integrations/sqlite/journal.h"
#include "integrations/sqlite/names.h"

namespace untorn::sqlite {
namespace {

constexpr size_t kJournalHeaderBytes = 28;  // https://www.sqlite.org/fileformat2.html, 3

// Whether a journal on the file system has a header. It has none if its database was not changed, and where SQLite keeps
// journals (PERSIST, locking_mode=EXCLUSIVE) it is zeros then. In other modes there is no such journal: these databases
// commit by themselves, on any VFS. The database itself must not be opened: closing it would drop SQLite's locks.
absl::StatusOr<bool> PlainJournalInUse(const std::string& journal) {
  const std::string database = DatabaseOf(journal);
  struct stat s;
  if (stat(database.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) {
    return absl::UnimplementedError(absl::StrCat("it cannot be told whether '", database,
                                                 "', which is not a file, has changes in this transaction"));
  }
  absl::StatusOr<InputFile> file = InputFile::Open(journal);
  if (absl::IsNotFound(file.status())) return false;
  if (!file.ok()) return file.status();
  std::array<std::byte, kJournalHeaderBytes> header{};
  if (absl::StatusOr<size_t> n = file->Read(header); !n.ok()) return n.status();
  return std::any_of(header.begin(), header.end(), [](std::byte b) { return b != std::byte{0}; });
}

}  // namespace

absl::Status ChangedDatabases::Add(std::string_view journal) {
  if (DatabaseFile::AnyHasJournal(journal)) {
    const std::shared_ptr<Journal> ours = Journals::Get().Find(journal);
    if (ours && ours->in_use()) last_of_ours_ = journal;
  } else {
    absl::StatusOr<bool> in_use = PlainJournalInUse(std::string(journal));
    if (!in_use.ok()) return in_use.status();
    others_ |= *in_use;
  }
  if (!others_ || last_of_ours_.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "a transaction that changes databases of a store and others cannot be atomic (",
      DatabaseOf(last_of_ours_), ", ", DatabaseOf(journal), "): change them in two transactions"));
}

absl::Status SuperJournal::Add(std::string_view journal) {
  if (absl::Status s = changed_.Add(journal); !s.ok()) return s;
  const size_t at = content_.size();
  content_.append(journal).push_back('\0');
  if (file_) return file_->Write(at, content_.data() + at, content_.size() - at);
  if (!changed_.others()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<PlainFile>> file = PlainFile::CreateSuperJournal(name_);
  if (!file.ok()) return file.status();
  file_ = *std::move(file);
  return file_->Write(0, content_.data(), content_.size());
}

absl::Status SuperJournal::Sync() { return file_ ? file_->Sync() : absl::OkStatus(); }

absl::StatusOr<std::string> ReadSuperJournal(const std::string& name) {
  absl::StatusOr<InputFile> file = InputFile::Open(name);
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
