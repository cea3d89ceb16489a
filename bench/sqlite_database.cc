#include "bench/sqlite_database.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "integrations/sqlite/untorn_sqlite.h"
#include "untorn/store.h"

namespace untorn::bench {
namespace {

constexpr char kStoreCacheMib[] = "256";
constexpr char kStatedUnit[] = "4096";

bool IsOnUntorn(SqliteKind kind) {
  return kind == SqliteKind::kOnUntorn || kind == SqliteKind::kOnUntornInPlace;
}

std::string StorePath(const std::string& directory) {
  return std::filesystem::absolute(directory + "/store").lexically_normal();
}

}  // namespace

const char* SqliteKindName(SqliteKind kind) {
  switch (kind) {
    case SqliteKind::kWal:
      return "SQLite WAL";
    case SqliteKind::kRollbackJournal:
      return "SQLite rollback journal";
    case SqliteKind::kOnUntorn:
      return "SQLite on untorn";
    case SqliteKind::kOnUntornInPlace:
      return "SQLite on untorn in place";
  }
  return "";
}

std::string SqliteSettings(SqliteKind kind) {
  const std::string sqlite = absl::StrCat("SQLite ", sqlite3_libversion());
  switch (kind) {
    case SqliteKind::kWal:
      return sqlite + ", journal_mode=WAL, synchronous=FULL";
    case SqliteKind::kRollbackJournal:
      return sqlite + ", journal_mode=DELETE, synchronous=FULL";
    case SqliteKind::kOnUntorn:
    case SqliteKind::kOnUntornInPlace:
      return absl::StrCat(sqlite, ", synchronous=FULL, vfs=untorn, a store cache of ", kStoreCacheMib, " MiB",
                          kind == SqliteKind::kOnUntornInPlace ? ", a stated unit of 4 KiB" : "",
                          "; the store prepared when it was created");
  }
  return "";
}

absl::Status SqliteError(sqlite3* db) { return absl::InternalError(sqlite3_errmsg(db)); }

absl::Status Execute(sqlite3* db, const std::string& sql) {
  return sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK ? absl::OkStatus()
                                                                               : SqliteError(db);
}

absl::Status MakeSqlite(SqliteKind kind, const std::string& directory, uint64_t store_bytes) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return absl::InternalError(absl::StrCat(directory, ": ", error.message()));
  if (!IsOnUntorn(kind)) return absl::OkStatus();
  return Store::Create(StorePath(directory), {.size_bytes = store_bytes, .prepare = true});
}

absl::StatusOr<SqliteConnection> OpenSqlite(SqliteKind kind, const std::string& directory,
                                            uint64_t cache_bytes) {
  if (untorn_sqlite_register(0) != SQLITE_OK) return absl::InternalError("the VFS cannot be registered");
  std::string uri = absl::StrCat("file:", directory, "/sqlite.db");
  if (IsOnUntorn(kind)) {
    uri = absl::StrCat("file:sqlite.db?vfs=untorn&store=", StorePath(directory),
                       "&store_cache_mib=", kStoreCacheMib);
    if (kind == SqliteKind::kOnUntornInPlace) absl::StrAppend(&uri, "&store_atomic_unit=", kStatedUnit);
  }
  sqlite3* db = nullptr;
  const int rc = sqlite3_open_v2(uri.c_str(), &db,
                                 SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, nullptr);
  SqliteConnection connection(db);
  if (rc != SQLITE_OK) return SqliteError(db);
  sqlite3_busy_timeout(db, 60000);
  absl::Status s =
      Execute(db, absl::StrCat("PRAGMA journal_mode=", kind == SqliteKind::kWal ? "WAL" : "DELETE",
                               "; PRAGMA synchronous=FULL; PRAGMA cache_size=-", cache_bytes >> 10));
  if (!s.ok()) return s;
  return connection;
}

}  // namespace untorn::bench
