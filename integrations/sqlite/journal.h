// The journals of SQLite, which it needs for rollback and savepoints: files of this process that never reach a store. They
// are the place where several things can be told that SQLite does not say otherwise, see database_file.h.
//
// Threading: thread-safe.
#ifndef UNTORN_INTEGRATIONS_SQLITE_JOURNAL_H_
#define UNTORN_INTEGRATIONS_SQLITE_JOURNAL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "integrations/sqlite/plain_file.h"
#include "store/fork_guard.h"

namespace untorn::sqlite {

class Journal {
 public:
  Journal() = default;
  Journal(const Journal&) = delete;

  // Returns how many bytes there were. `owner`: by the connection whose journal it is.
  absl::StatusOr<size_t> Read(uint64_t offset, void* out, size_t bytes, bool owner);
  // What lies before and was never written reads as zeros.
  absl::Status Write(uint64_t offset, const void* data, size_t bytes);
  absl::Status Truncate(uint64_t bytes);
  void Sync();
  uint64_t size() const;

  // Whether the last thing its owner did with it was reading: SQLite is rolling back. A commit writes or syncs it last.
  bool being_played_back() const;
  // Whether it was synced since its beginning was written: never with synchronous=OFF.
  bool synced() const;
  // Whether it has a header, and was not finalized since.
  bool in_use() const;
  // Whether it is a super-journal that is also a file, see super_journal.h.
  bool has_file() const;
  void SetHasFile();

 private:
  absl::Status Spill();

  // In a fork()ed child a journal is that of the parent, file and all.
  const internal::ForkGuard fork_guard_;
  mutable std::mutex mu_;
  std::vector<char> bytes_;
  std::unique_ptr<PlainFile> file_;  // instead of bytes_, once it is large
  uint64_t size_ = 0;
  bool read_last_ = false, synced_ = false, in_use_ = false, has_file_ = false;
};

// Those that exist, by name.
class Journals {
 public:
  static Journals& Get();
  std::shared_ptr<Journal> Find(std::string_view name) const;  // nullptr: there is none
  std::shared_ptr<Journal> FindOrCreate(std::string_view name);
  void Remove(std::string_view name);

 private:
  mutable std::mutex mu_;
  std::map<std::string, std::shared_ptr<Journal>, std::less<>> journals_;
};

}  // namespace untorn::sqlite

#endif  // UNTORN_INTEGRATIONS_SQLITE_JOURNAL_H_
