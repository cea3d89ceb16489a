/* SQLite on untorn: a VFS under which databases are objects of an untorn store. Their transactions are atomic and durable
** without a journal on the device.
**
** In the shell:   .load ./untorn_sqlite
**                 .open 'file:app.db?vfs=untorn&store=/path/to/store.untorn'
** From C:         untorn_sqlite_register(0);
**                 sqlite3_open_v2("file:app.db?vfs=untorn&store=/path/to/store.untorn", &db,
**                                 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, 0);
**
** The store is created if it does not exist (store_create=0: not), opened with the first of its databases, and closed with
** the last. Without store= the store is the one that the environment variable UNTORN_STORE names.
*/
#ifndef UNTORN_INTEGRATIONS_SQLITE_UNTORN_SQLITE_H_
#define UNTORN_INTEGRATIONS_SQLITE_UNTORN_SQLITE_H_

#ifdef __cplusplus
extern "C" {
#endif

/* Registers the VFS "untorn"; as the default one if `make_default` is not 0. May be called again, and takes nothing back
** then. Returns an SQLite result code. */
int untorn_sqlite_register(int make_default);

#ifdef __cplusplus
}
#endif

#endif /* UNTORN_INTEGRATIONS_SQLITE_UNTORN_SQLITE_H_ */
