// With LD_PRELOAD, a program that uses libsqlite3.so finds the VFS as its default one with the first database that it opens.
// The variable UNTORN_STORE names the store; without the variable the program is left as it is. The functions here stand
// before those of SQLite. Before the first opening, SQLite is left alone, so that the program can still configure SQLite.
#include <dlfcn.h>
#include <sqlite3.h>

#include <cstdlib>

#include "integrations/sqlite/untorn_sqlite.h"

namespace {

// The next function of this name: that of SQLite.
template <typename Function>
Function* Next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

int Register() {
  const char* store = std::getenv("UNTORN_STORE");
  return store == nullptr || *store == '\0' ? SQLITE_OK : untorn_sqlite_register(1);
}

}  // namespace

extern "C" {

int sqlite3_open(const char* name, sqlite3** db) {
  if (const int rc = Register(); rc != SQLITE_OK) return rc;
  return Next<decltype(sqlite3_open)>("sqlite3_open")(name, db);
}

int sqlite3_open16(const void* name, sqlite3** db) {
  if (const int rc = Register(); rc != SQLITE_OK) return rc;
  return Next<decltype(sqlite3_open16)>("sqlite3_open16")(name, db);
}

int sqlite3_open_v2(const char* name, sqlite3** db, int flags, const char* vfs) {
  if (const int rc = Register(); rc != SQLITE_OK) return rc;
  return Next<decltype(sqlite3_open_v2)>("sqlite3_open_v2")(name, db, flags, vfs);
}

}  // extern "C"
