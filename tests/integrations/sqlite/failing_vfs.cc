#include "tests/integrations/sqlite/failing_vfs.h"

#include <sqlite3.h>

#include "gtest/gtest.h"
#include "integrations/sqlite/untorn_sqlite.h"

namespace untorn::sqlite {
namespace {

uint64_t left = 0;
uint64_t failures_seen = 0;
bool all_after = false;
sqlite3_vfs* below = nullptr;

bool Fails() {
  if (left == 0) return false;
  if (left > 1) {
    --left;
    return false;
  }
  if (!all_after) left = 0;
  ++failures_seen;
  return true;
}

struct File {
  sqlite3_file base;
  sqlite3_file* real;  // behind it
};
sqlite3_file* Real(sqlite3_file* f) { return reinterpret_cast<File*>(f)->real; }

int Close(sqlite3_file* f) { return Real(f)->pMethods->xClose(Real(f)); }
int Read(sqlite3_file* f, void* out, int n, sqlite3_int64 offset) {
  return Fails() ? SQLITE_IOERR_READ : Real(f)->pMethods->xRead(Real(f), out, n, offset);
}
int Write(sqlite3_file* f, const void* data, int n, sqlite3_int64 offset) {
  return Fails() ? SQLITE_IOERR_WRITE : Real(f)->pMethods->xWrite(Real(f), data, n, offset);
}
int Truncate(sqlite3_file* f, sqlite3_int64 bytes) {
  return Fails() ? SQLITE_IOERR_TRUNCATE : Real(f)->pMethods->xTruncate(Real(f), bytes);
}
int Sync(sqlite3_file* f, int flags) {
  return Fails() ? SQLITE_IOERR_FSYNC : Real(f)->pMethods->xSync(Real(f), flags);
}
int Size(sqlite3_file* f, sqlite3_int64* bytes) {
  return Fails() ? SQLITE_IOERR_FSTAT : Real(f)->pMethods->xFileSize(Real(f), bytes);
}
int Lock(sqlite3_file* f, int level) {
  return Fails() ? SQLITE_IOERR_LOCK : Real(f)->pMethods->xLock(Real(f), level);
}
int Unlock(sqlite3_file* f, int level) { return Real(f)->pMethods->xUnlock(Real(f), level); }
int CheckReserved(sqlite3_file* f, int* reserved) {
  return Fails() ? SQLITE_IOERR_CHECKRESERVEDLOCK : Real(f)->pMethods->xCheckReservedLock(Real(f), reserved);
}
int Control(sqlite3_file* f, int op, void* argument) {
  if (op == SQLITE_FCNTL_SYNC && Fails()) return SQLITE_IOERR_FSYNC;
  return Real(f)->pMethods->xFileControl(Real(f), op, argument);
}
int SectorSize(sqlite3_file* f) { return Real(f)->pMethods->xSectorSize(Real(f)); }
int Characteristics(sqlite3_file* f) { return Real(f)->pMethods->xDeviceCharacteristics(Real(f)); }

constexpr sqlite3_io_methods kMethods = {1,       Close,      Read,           Write,  Truncate,
                                         Sync,    Size,       Lock,           Unlock, CheckReserved,
                                         Control, SectorSize, Characteristics};

int Open(sqlite3_vfs*, const char* name, sqlite3_file* f, int flags, int* flags_out) {
  f->pMethods = nullptr;
  if ((flags & SQLITE_OPEN_MAIN_DB) == 0 && Fails()) return SQLITE_CANTOPEN;
  auto* file = reinterpret_cast<File*>(f);
  file->real = reinterpret_cast<sqlite3_file*>(file + 1);
  const int rc = below->xOpen(below, name, file->real, flags, flags_out);
  if (file->real->pMethods != nullptr) f->pMethods = &kMethods;
  return rc;
}
int Delete(sqlite3_vfs*, const char* name, int sync) {
  return Fails() ? SQLITE_IOERR_DELETE : below->xDelete(below, name, sync);
}
int Access(sqlite3_vfs*, const char* name, int flags, int* result) {
  return Fails() ? SQLITE_IOERR_ACCESS : below->xAccess(below, name, flags, result);
}
int FullPathname(sqlite3_vfs*, const char* name, int bytes, char* out) {
  return below->xFullPathname(below, name, bytes, out);
}

}  // namespace

void FailingVfs::Register() {
  if (below != nullptr) return;
  ASSERT_EQ(untorn_sqlite_register(0), SQLITE_OK);
  below = sqlite3_vfs_find("untorn");
  ASSERT_NE(below, nullptr);
  static sqlite3_vfs vfs = *below;
  vfs.pNext = nullptr;
  vfs.szOsFile += sizeof(File);
  vfs.zName = "failing";
  vfs.xOpen = Open;
  vfs.xDelete = Delete;
  vfs.xAccess = Access;
  vfs.xFullPathname = FullPathname;
  ASSERT_EQ(sqlite3_vfs_register(&vfs, 0), SQLITE_OK);
}

void FailingVfs::FailCall(uint64_t n, bool and_all_after) {
  left = n;
  all_after = and_all_after;
  failures_seen = 0;
}

uint64_t FailingVfs::failures() { return failures_seen; }

}  // namespace untorn::sqlite
