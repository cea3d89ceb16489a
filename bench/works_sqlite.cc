// SQLite on untorn beside SQLite with its own journals.
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "bench/sqlite_database.h"
#include "bench/stores.h"
#include "bench/works.h"

namespace untorn::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr SqliteKind kKinds[] = {SqliteKind::kOnUntorn, SqliteKind::kWal, SqliteKind::kRollbackJournal};
const char* const kUntorn = SqliteKindName(SqliteKind::kOnUntorn);
const char* const kWal = SqliteKindName(SqliteKind::kWal);
const char* const kRollback = SqliteKindName(SqliteKind::kRollbackJournal);
constexpr uint64_t kRowBytes = 200;
constexpr uint64_t kCacheBytes = 32 << 20;

std::string UpdateName(int rows) {
  return absl::StrCat("SQLite transaction of ", rows, rows == 1 ? " row" : " scattered rows");
}

absl::Status Updates(const Setting& setting, Results* results) {
  for (const int rows : {1, 16}) {
    const std::string work = UpdateName(rows) + setting.on;
    const Load load{
        .page_bytes = kRowBytes, .pages = rows, .set_bytes = 16 << 20, .cache_bytes = kCacheBytes};
    std::vector<Entrant> entrants;
    for (const SqliteKind kind : kKinds) entrants.push_back({SqliteSubject(kind), load});
    if (rows == 1) entrants.push_back({SqliteSubject(SqliteKind::kOnUntornInPlace), load});
    auto series = CompareStores(work, entrants, setting.pace, setting.directory, results);
    if (!series.ok()) return series.status();
    AddRatio(work, *series, kUntorn, kWal, results);
    AddRatio(work, *series, kUntorn, kRollback, results);
    if (rows == 1) AddRatio(work, *series, SqliteKindName(SqliteKind::kOnUntornInPlace), kWal, results);
    results->bars.push_back({work, kUntorn, kWal, rows == 1 ? 1.0 : 1.5, {}});
    if (rows == 1) results->bars.push_back({work, kUntorn, kRollback, 5, {}});
  }
  return absl::OkStatus();
}

// Of a database that the cache below SQLite's own holds.
absl::Status Reads(const Setting& setting, Results* results) {
  const std::string work = "SQLite read of a row, from the cache below SQLite's" + setting.on;
  const Load load{.page_bytes = kRowBytes,
                  .set_bytes = (setting.quick ? uint64_t{16} : 64) << 20,
                  .cache_bytes = 2 << 20,
                  .read_percent = 100};
  auto series = CompareStores(
      work,
      {{SqliteSubject(SqliteKind::kOnUntorn), load}, {SqliteSubject(SqliteKind::kRollbackJournal), load}},
      setting.pace, setting.directory, results);
  if (!series.ok()) return series.status();
  AddRatio(work, *series, kUntorn, kRollback, results);
  results->bars.push_back({work, kUntorn, kRollback, 0.9, {}});
  return absl::OkStatus();
}

// One of each kind, and what is measured of it.
absl::StatusOr<std::vector<Series>> EachOf(
    const std::vector<SqliteKind>& kinds, const Setting& setting, const std::string& what,
    const std::function<absl::StatusOr<double>(SqliteKind, const std::string& directory)>& measure) {
  std::vector<Contestant> contestants;
  for (const SqliteKind kind : kinds) {
    const std::string directory = absl::StrCat(setting.directory, "/", what, ", ", SqliteKindName(kind));
    if (absl::Status s = MakeSqlite(kind, directory, 512 << 20); !s.ok()) return s;
    contestants.push_back({SqliteKindName(kind), [=] { return measure(kind, directory); }});
  }
  return Alternate(contestants, setting.pace.rounds);
}

// kDataLoss: the first value of the result is another one.
absl::Status Check(sqlite3* db, const char* sql, const std::string& expected) {
  sqlite3_stmt* statement;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) != SQLITE_OK) return SqliteError(db);
  const absl::Cleanup finalize = [statement] { sqlite3_finalize(statement); };
  if (sqlite3_step(statement) != SQLITE_ROW) return SqliteError(db);
  const auto* value = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
  if (value == nullptr || value != expected)
    return absl::DataLossError(absl::StrCat(sql, ": ", value ? value : "null", ", not ", expected));
  return absl::OkStatus();
}

// Rows a second.
absl::StatusOr<double> BulkInsert(SqliteKind kind, const std::string& directory) {
  constexpr int kRows = 100'000;
  auto db = OpenSqlite(kind, directory, kCacheBytes);
  if (!db.ok()) return db.status();
  absl::Status s = Execute(
      db->get(), "DROP TABLE IF EXISTS bulk; CREATE TABLE bulk(id INTEGER PRIMARY KEY, data BLOB NOT NULL)");
  if (!s.ok()) return s;
  const Clock::time_point start = Clock::now();
  s = Execute(
      db->get(),
      absl::StrCat("INSERT INTO bulk WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ",
                   kRows, ") SELECT i, randomblob(", kRowBytes, ") FROM n"));
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (!s.ok()) return s;
  s = Check(db->get(), "SELECT count(*) || ' ' || sum(length(data)) FROM bulk",
            absl::StrCat(kRows, " ", kRows * kRowBytes));
  if (!s.ok()) return s;
  return kRows / seconds;
}

// Of this process, to its devices, so far: what its page cache got to write counts when it gets it.
absl::StatusOr<uint64_t> BytesWritten() {
  std::FILE* io = std::fopen("/proc/self/io", "r");
  if (io == nullptr) return absl::ErrnoToStatus(errno, "/proc/self/io");
  const absl::Cleanup close = [io] { std::fclose(io); };
  char line[100];
  uint64_t bytes;
  while (std::fgets(line, sizeof(line), io) != nullptr) {
    if (std::sscanf(line, "write_bytes: %" SCNu64, &bytes) == 1) return bytes;
  }
  return absl::NotFoundError("/proc/self/io tells no write_bytes");
}

// Bytes written for each transaction, what closing the database writes included.
absl::StatusOr<double> BytesOfATransaction(SqliteKind kind, const std::string& directory, int rows,
                                           int transactions) {
  constexpr int kRows = 80'000;
  auto db = OpenSqlite(kind, directory, kCacheBytes);
  if (!db.ok()) return db.status();
  absl::Status s = Execute(
      db->get(),
      absl::StrCat("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, data BLOB NOT NULL);"
                   "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ",
                   kRows, ") SELECT i, randomblob(", kRowBytes,
                   ") FROM n WHERE NOT EXISTS (SELECT 1 FROM t)"));
  if (!s.ok()) return s;
  // What filling the table has left in a log is not these transactions'.
  db = absl::InternalError("closed");
  db = OpenSqlite(kind, directory, kCacheBytes);
  if (!db.ok()) return db.status();
  const absl::StatusOr<uint64_t> before = BytesWritten();
  if (!before.ok()) return before.status();
  std::mt19937_64 rng(rows);
  for (int n = 0; n < transactions; ++n) {
    std::string sql = "BEGIN;";
    for (int i = 0; i < rows; ++i)
      absl::StrAppend(&sql, "UPDATE t SET data = randomblob(", kRowBytes, ") WHERE id = ", 1 + rng() % kRows,
                      ";");
    if (s = Execute(db->get(), sql + "COMMIT"); !s.ok()) return s;
  }
  db = absl::InternalError("closed");
  const absl::StatusOr<uint64_t> after = BytesWritten();
  if (!after.ok()) return after.status();
  db = OpenSqlite(kind, directory, kCacheBytes);
  if (!db.ok()) return db.status();
  if (s = Check(db->get(), "PRAGMA integrity_check", "ok"); !s.ok()) return s;
  return static_cast<double>(*after - *before) / transactions;
}

}  // namespace

absl::Status SqliteWorks(const Setting& setting, Results* results) {
  if (absl::Status s = Updates(setting, results); !s.ok()) return s;
  if (absl::Status s = Reads(setting, results); !s.ok()) return s;
  const std::string bulk = "SQLite insert of 100,000 rows in one transaction" + setting.on;
  auto series = EachOf({std::begin(kKinds), std::end(kKinds)}, setting, "bulk", BulkInsert);
  if (!series.ok()) return series.status();
  AddRatio(bulk, *series, kUntorn, kWal, results);
  AddRatio(bulk, *series, kUntorn, kRollback, results);
  results->bars.push_back({bulk, kUntorn, kWal, 1, {}});
  // What is written does not depend on the disk.
  if (!setting.on.empty()) return absl::OkStatus();
  for (const int rows : {16, 1}) {
    if (setting.quick && rows == 1) continue;
    const std::string work = absl::StrCat("bytes written by a ", UpdateName(rows));
    series = EachOf({SqliteKind::kOnUntorn, SqliteKind::kWal}, setting, work,
                    [&](SqliteKind kind, const std::string& directory) {
                      return BytesOfATransaction(kind, directory, rows, setting.quick ? 300 : 1000);
                    });
    if (!series.ok()) return series.status();
    AddRatio(work, *series, kUntorn, kWal, results);
    for (const Series& s : *series) results->figures.push_back({work, s.subject, "", MedianOf(s.per_second)});
    if (rows == 16) results->bars.push_back({work, kUntorn, kWal, {}, 0.6});
  }
  return absl::OkStatus();
}

}  // namespace untorn::bench
