// The entry points of the loadable extension. SQLite derives the name of the one it calls from the name of the file:
// untorn_sqlite.so or untorn_sqlite_default.so, unless it is told (https://www.sqlite.org/loadext.html, 4).
#include <sqlite3ext.h>

#include "integrations/sqlite/untorn_sqlite.h"

SQLITE_EXTENSION_INIT1

namespace {

int Load(const sqlite3_api_routines* api, int make_default) {
  SQLITE_EXTENSION_INIT2(api);
  const int rc = untorn_sqlite_register(make_default);
  // It stays when the connection that loaded it closes.
  return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}

}  // namespace

extern "C" int sqlite3_untornsqlite_init(sqlite3*, char**, const sqlite3_api_routines* api) {
  return Load(api, 0);
}

extern "C" int sqlite3_untornsqlitedefault_init(sqlite3*, char**, const sqlite3_api_routines* api) {
  return Load(api, 1);
}
