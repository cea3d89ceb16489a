// The entry point of the loadable extension.
#include <sqlite3ext.h>

#include "integrations/sqlite/untorn_sqlite.h"

SQLITE_EXTENSION_INIT1

extern "C" int sqlite3_untornsqlite_init(sqlite3*, char**, const sqlite3_api_routines* api) {
  SQLITE_EXTENSION_INIT2(api);
  const int rc = untorn_sqlite_register(0);
  // It stays when the connection that loaded it closes.
  return rc == SQLITE_OK ? SQLITE_OK_LOAD_PERMANENTLY : rc;
}
