// SQLite's API: called through the table that SQLite hands to an extension, or directly where it is linked
// (SQLITE_CORE).
#ifndef UNTORN_INTEGRATIONS_SQLITE_API_H_
#define UNTORN_INTEGRATIONS_SQLITE_API_H_

#include <sqlite3ext.h>

#ifndef SQLITE_CORE
SQLITE_EXTENSION_INIT3
#endif

#endif  // UNTORN_INTEGRATIONS_SQLITE_API_H_
