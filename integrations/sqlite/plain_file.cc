#include "integrations/sqlite/plain_file.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

namespace untorn::sqlite {
namespace {

// The largest page. SQLite's files take no more than twice that at a time (seekAndWriteFd in src/os_unix.c).
constexpr size_t kPieceMax = 1 << 16;

absl::Status FromSqlite(int rc, const char* what) {
  if (rc == SQLITE_OK) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", sqlite3_errstr(rc));
  return (rc & 0xff) == SQLITE_FULL ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
}

}  // namespace

sqlite3_vfs* PlainVfs() {
  static sqlite3_vfs* const vfs = sqlite3_vfs_find(nullptr);
  return vfs;
}

absl::StatusOr<std::unique_ptr<PlainFile>> PlainFile::Create(const char* name, int type) {
  std::unique_ptr<PlainFile> made(new PlainFile);
  const int flags = type | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXCLUSIVE;
  const int rc = PlainVfs()->xOpen(PlainVfs(), name, made->file(), flags, nullptr);
  if (rc == SQLITE_OK) return made;
  return FromSqlite(rc, name == nullptr ? "a temporary file (SQLITE_TMPDIR says where)" : name);
}

absl::StatusOr<std::unique_ptr<PlainFile>> PlainFile::CreateTemporary() {
  return Create(nullptr, SQLITE_OPEN_TEMP_JOURNAL | SQLITE_OPEN_DELETEONCLOSE);
}

absl::StatusOr<std::unique_ptr<PlainFile>> PlainFile::CreateSuperJournal(const char* name) {
  return Create(name, SQLITE_OPEN_SUPER_JOURNAL);
}

PlainFile::~PlainFile() {
  if (file()->pMethods != nullptr) file()->pMethods->xClose(file());
}

absl::Status PlainFile::Read(uint64_t offset, void* out, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const int n = static_cast<int>(std::min(bytes - done, kPieceMax));
    const int rc = file()->pMethods->xRead(file(), static_cast<char*>(out) + done, n, offset + done);
    if (rc != SQLITE_OK) return FromSqlite(rc, "reading a temporary file");
    done += n;
  }
  return absl::OkStatus();
}

absl::Status PlainFile::Write(uint64_t offset, const void* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const int n = static_cast<int>(std::min(bytes - done, kPieceMax));
    const int rc = file()->pMethods->xWrite(file(), static_cast<const char*>(data) + done, n, offset + done);
    if (rc != SQLITE_OK) return FromSqlite(rc, "writing a file beside the store, or a temporary one");
    done += n;
  }
  return absl::OkStatus();
}

absl::Status PlainFile::Truncate(uint64_t bytes) {
  return FromSqlite(file()->pMethods->xTruncate(file(), bytes), "cutting a temporary file");
}

absl::Status PlainFile::Sync() {
  return FromSqlite(file()->pMethods->xSync(file(), SQLITE_SYNC_NORMAL), "syncing a super-journal");
}

}  // namespace untorn::sqlite
