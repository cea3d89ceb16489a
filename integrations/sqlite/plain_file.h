// A file of the VFS that was the default before: a temporary one, where SQLite looks for room for those, or one with a name.
//
// Threading: as SQLite's files, one thread at a time.
#ifndef UNTORN_INTEGRATIONS_SQLITE_PLAIN_FILE_H_
#define UNTORN_INTEGRATIONS_SQLITE_PLAIN_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "integrations/sqlite/api.h"

namespace untorn::sqlite {

// The default VFS at the time of the first call, which is before this one becomes the default.
sqlite3_vfs* PlainVfs();

class PlainFile {
 public:
  // Has no name, and is gone with the object. Where it is, SQLite decides: https://www.sqlite.org/tempfiles.html, 5
  static absl::StatusOr<std::unique_ptr<PlainFile>> CreateTemporary();
  // `name`: as SQLite passes it to xOpen, and valid as long as the object.
  static absl::StatusOr<std::unique_ptr<PlainFile>> CreateSuperJournal(const char* name);
  ~PlainFile();
  PlainFile(const PlainFile&) = delete;

  absl::Status Read(uint64_t offset, void* out, size_t bytes);  // all of them are there
  absl::Status Write(uint64_t offset, const void* data, size_t bytes);
  absl::Status Truncate(uint64_t bytes);
  absl::Status Sync();

 private:
  PlainFile() : bytes_(new std::byte[PlainVfs()->szOsFile]()) {}
  static absl::StatusOr<std::unique_ptr<PlainFile>> Create(const char* name, int type);
  sqlite3_file* file() { return reinterpret_cast<sqlite3_file*>(bytes_.get()); }

  const std::unique_ptr<std::byte[]> bytes_;  // SQLite says how many, and what is in them
};

}  // namespace untorn::sqlite

#endif  // UNTORN_INTEGRATIONS_SQLITE_PLAIN_FILE_H_
