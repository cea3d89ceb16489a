// SQLite on untorn: accounts in one database and a journal of what was transferred between them in another, in one store.
// A transaction over both is atomic, and there is no journal of SQLite's on the device.
//
//     sqlite_accounts bank.untorn 1000       makes so many transfers
//     sqlite_accounts bank.untorn 0          only checks
//
// Kill it, or the power, whenever you like: no money is ever lost or made, and every transfer that was printed is there.
#include <sqlite3.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "integrations/sqlite/untorn_sqlite.h"
#include "untorn/store.h"

namespace {

constexpr int kAccounts = 100, kMoney = 100'000;  // 1000 each at first

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "sqlite_accounts: %s\n", what.c_str());
  std::exit(1);
}

void Execute(sqlite3* db, const std::string& sql) {
  if (sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK)
    Fail(sql + ": " + sqlite3_errmsg(db));
}

int64_t Number(sqlite3* db, const char* sql) {
  sqlite3_stmt* statement;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) != SQLITE_OK ||
      sqlite3_step(statement) != SQLITE_ROW)
    Fail(std::string(sql) + ": " + sqlite3_errmsg(db));
  const int64_t number = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  return number;
}

sqlite3* Open(const std::string& store) {
  const absl::Status created = untorn::Store::Create(store, {.size_bytes = 256 << 20});
  if (!created.ok() && !absl::IsAlreadyExists(created)) Fail(std::string(created.message()));
  untorn_sqlite_register(/*make_default=*/0);
  const std::string in_store = "?vfs=untorn&store=" + store;
  sqlite3* db;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI;
  if (sqlite3_open_v2(("file:accounts.db" + in_store).c_str(), &db, flags, nullptr) != SQLITE_OK)
    Fail(sqlite3_errmsg(db));
  Execute(db, "ATTACH 'file:transfers.db" + in_store + "' AS transfers");
  Execute(
      db,
      "BEGIN;"
      "CREATE TABLE IF NOT EXISTS main.accounts(id INTEGER PRIMARY KEY, balance INT CHECK(balance >= 0));"
      "CREATE TABLE IF NOT EXISTS transfers.log(id INTEGER PRIMARY KEY, source INT, target INT, amount INT);"
      "INSERT INTO accounts WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100)"
      " SELECT i, 1000 FROM n WHERE NOT EXISTS (SELECT 1 FROM accounts);"
      "COMMIT");
  return db;
}

// That the two databases belong together.
void Check(sqlite3* db) {
  if (Number(db, "SELECT sum(balance) FROM accounts") != kMoney) Fail("money was lost or made");
  if (Number(db,
             "SELECT count(*) FROM accounts AS a WHERE balance <> 1000"
             " + (SELECT coalesce(sum(amount), 0) FROM log WHERE target = a.id)"
             " - (SELECT coalesce(sum(amount), 0) FROM log WHERE source = a.id)") != 0)
    Fail("the balances are not what was transferred");
}

}  // namespace

int main(int argc, char** argv) {
  int transfers;
  if (argc != 3 || !absl::SimpleAtoi(argv[2], &transfers) || transfers < 0) {
    std::fputs("usage: sqlite_accounts STORE TRANSFERS\n", stderr);
    return 2;
  }
  sqlite3* db = Open(argv[1]);
  Check(db);
  for (int i = 0; i < transfers; ++i) {
    const std::string source = std::to_string(1 + std::rand() % kAccounts);
    const std::string target = std::to_string(1 + std::rand() % kAccounts);
    const std::string amount = std::to_string(1 + std::rand() % 10);
    Execute(db, "BEGIN IMMEDIATE");
    if (source == target ||
        Number(db, ("SELECT balance >= " + amount + " FROM accounts WHERE id = " + source).c_str()) == 0) {
      Execute(db, "ROLLBACK");
      continue;
    }
    Execute(db, "UPDATE accounts SET balance = balance - " + amount + " WHERE id = " + source);
    Execute(db, "UPDATE accounts SET balance = balance + " + amount + " WHERE id = " + target);
    Execute(db, "INSERT INTO log(source, target, amount) VALUES (" + source + ", " + target + ", " + amount +
                    ")");
    Execute(db, "COMMIT");
    std::printf("transfer %lld\n", static_cast<long long>(Number(db, "SELECT max(id) FROM log")));
    std::fflush(stdout);
  }
  Check(db);
  std::printf("%lld transfers, and all the money is there\n",
              static_cast<long long>(Number(db, "SELECT count(*) FROM log")));
  sqlite3_close(db);
  return 0;
}
