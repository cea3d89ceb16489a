#include <sqlite3.h>

#include <cstring>
#include <utility>
#include <vector>

#include "bench/sqlite_database.h"
#include "bench/stores.h"

namespace untorn::bench {
namespace {

// A table of pages, or of rows that are smaller, in one database; a connection for each client.
class SqliteStore : public PageStore {
 public:
  static absl::StatusOr<std::unique_ptr<PageStore>> Open(SqliteKind kind, const PageStoreOptions& options,
                                                         bool exists) {
    if (!exists) {
      const uint64_t bytes = options.page_bytes * options.pages * options.objects;
      if (absl::Status s = MakeSqlite(kind, options.directory, 4 * bytes + (256 << 20)); !s.ok()) return s;
    }
    auto store = std::make_unique<SqliteStore>();
    store->options_ = options;
    store->clients_.resize(options.clients);
    for (Client& c : store->clients_) {
      if (absl::Status s = store->Connect(kind, c, exists || &c != &store->clients_[0]); !s.ok()) return s;
    }
    return store;
  }
  ~SqliteStore() override {
    for (Client& c : clients_) {
      for (sqlite3_stmt* s : {c.begin, c.commit, c.update, c.select}) sqlite3_finalize(s);
    }
  }

  absl::Status Commit(int client, std::span<const PageWrite> pages) override {
    Client& c = clients_[client];
    if (absl::Status s = Step(c, c.begin, SQLITE_DONE); !s.ok()) return s;
    for (const PageWrite& p : pages) {
      sqlite3_bind_int64(c.update, 1, p.object * options_.pages + p.page);
      sqlite3_bind_blob64(c.update, 2, p.data, options_.page_bytes, SQLITE_STATIC);
      if (absl::Status s = Step(c, c.update, SQLITE_DONE); !s.ok()) return s;
    }
    return Step(c, c.commit, SQLITE_DONE);
  }

  absl::Status Read(int client, uint32_t object, uint64_t page, std::byte* out) override {
    Client& c = clients_[client];
    sqlite3_bind_int64(c.select, 1, object * options_.pages + page);
    const int result = sqlite3_step(c.select);
    absl::Status status;
    if (result == SQLITE_DONE)
      status = absl::NotFoundError("never written");
    else if (result != SQLITE_ROW)
      status = SqliteError(c.db.get());
    else
      std::memcpy(out, sqlite3_column_blob(c.select, 0), sqlite3_column_bytes(c.select, 0));
    sqlite3_reset(c.select);
    return status;
  }

 private:
  struct Client {
    SqliteConnection db;
    sqlite3_stmt *begin = nullptr, *commit = nullptr, *update = nullptr, *select = nullptr;
  };

  static absl::Status Step(const Client& c, sqlite3_stmt* statement, int expected) {
    const int result = sqlite3_step(statement);
    const absl::Status status = result == expected ? absl::OkStatus() : SqliteError(c.db.get());
    sqlite3_reset(statement);
    return status;
  }

  absl::Status Connect(SqliteKind kind, Client& c, bool exists) {
    auto opened = OpenSqlite(kind, options_.directory, options_.cache_bytes / options_.clients);
    if (!opened.ok()) return opened.status();
    c.db = *std::move(opened);
    if (!exists) {
      absl::Status s = Execute(c.db.get(), "CREATE TABLE pages(id INTEGER PRIMARY KEY, data BLOB NOT NULL)");
      if (!s.ok()) return s;
    }
    const std::pair<const char*, sqlite3_stmt**> statements[] = {
        {"BEGIN IMMEDIATE", &c.begin},
        {"COMMIT", &c.commit},
        {"INSERT INTO pages VALUES(?1, ?2) ON CONFLICT(id) DO UPDATE SET data=excluded.data", &c.update},
        {"SELECT data FROM pages WHERE id=?1", &c.select}};
    for (const auto& [sql, statement] : statements) {
      if (sqlite3_prepare_v2(c.db.get(), sql, -1, statement, nullptr) != SQLITE_OK)
        return SqliteError(c.db.get());
    }
    return absl::OkStatus();
  }

  PageStoreOptions options_;
  std::vector<Client> clients_;
};

}  // namespace

Subject SqliteSubject(SqliteKind kind) {
  return {SqliteKindName(kind), SqliteSettings(kind), [kind](const PageStoreOptions& options, bool exists) {
            return SqliteStore::Open(kind, options, exists);
          }};
}

}  // namespace untorn::bench
