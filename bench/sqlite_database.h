// Databases of SQLite to be measured, each with synchronous=FULL and a cache of its own.
#ifndef UNTORN_BENCH_SQLITE_DATABASE_H_
#define UNTORN_BENCH_SQLITE_DATABASE_H_

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace untorn::bench {

enum class SqliteKind { kWal, kRollbackJournal, kOnUntorn, kOnUntornInPlace };
const char* SqliteKindName(SqliteKind kind);
std::string SqliteSettings(SqliteKind kind);  // in words, for the table

struct CloseSqlite {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
};
using SqliteConnection = std::unique_ptr<sqlite3, CloseSqlite>;

// Before the first connection: a store of this size, where it is on untorn.
absl::Status MakeSqlite(SqliteKind kind, const std::string& directory, uint64_t store_bytes);
// The page cache below, of the kernel or of the store, holds all of it; SQLite's own has `cache_bytes`.
absl::StatusOr<SqliteConnection> OpenSqlite(SqliteKind kind, const std::string& directory,
                                            uint64_t cache_bytes);
absl::Status Execute(sqlite3* db, const std::string& sql);
absl::Status SqliteError(sqlite3* db);

}  // namespace untorn::bench

#endif  // UNTORN_BENCH_SQLITE_DATABASE_H_
