// Every operation fails in turn under SQLite: of the store as SQLite sees it, of the device below the store, and for lack of
// space. SQLite reports it, and both databases stay sound, with each transaction whole or not there (promises 1, 6 and 8).
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/integrations/sqlite/connection.h"
#include "tests/integrations/sqlite/failing_vfs.h"
#include "tests/integrations/sqlite/simulated_databases.h"

namespace untorn::sqlite {
namespace {

std::string Insert(const char* table, int rows) {
  return absl::StrCat("INSERT INTO ", table,
                      "(a, b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ", rows,
                      ") SELECT i, printf('%.*c', 300 + i % 100, 'b') FROM n");
}

// Each one transaction.
const std::vector<std::vector<std::string>>& Transactions() {
  static const auto& all = *new std::vector<std::vector<std::string>>{
      {Insert("t", 1)},
      {"BEGIN", "UPDATE t SET a = a + 1 WHERE id % 7 = 0", Insert("u", 1), "COMMIT"},
      {"BEGIN", Insert("t", 200), "UPDATE t SET a = a + 1", "ROLLBACK"},
      {"BEGIN", "SAVEPOINT s", Insert("t", 100), "DELETE FROM u", "ROLLBACK TO s", Insert("u", 2), "COMMIT"},
      {"BEGIN", Insert("t", 150), Insert("u", 150), "UPDATE u SET b = b || 'x'", "COMMIT"},
      {"BEGIN", "CREATE TEMP TABLE x AS SELECT * FROM t", "UPDATE t SET a = a + 1", "DROP TABLE x", "COMMIT"},
      {"DELETE FROM u WHERE id % 3 > 0"},
      {"VACUUM"},
      {"DELETE FROM u"},
      {"CREATE INDEX i ON t(b)"},
  };
  return all;
}

// The databases before a transaction.
struct Before {
  std::shared_ptr<SimulatedDisk> disk;
  std::string contents;
};

// Before each of them, and after the last.
const std::vector<Before>& Befores() {
  static const auto& befores = *new std::vector<Before>([] {
    std::vector<Before> befores;
    auto disk = SimulatedDatabases::NewDisk(32 << 20);
    auto databases = SimulatedDatabases::Open(disk, {});
    EXPECT_TRUE(databases.ok()) << databases.status();
    EXPECT_EQ((**databases)(absl::StrCat("PRAGMA two.auto_vacuum=FULL; "
                                         "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT); "
                                         "CREATE TABLE two.u(id INTEGER PRIMARY KEY, a INT, b TEXT);",
                                         Insert("t", 100), ";", Insert("u", 50))),
              "");
    befores.push_back({disk->Clone(), Contents((*databases)->connection())});
    for (const auto& transaction : Transactions()) {
      for (const std::string& sql : transaction) EXPECT_EQ((**databases)(sql), "") << sql;
      befores.push_back({disk->Clone(), Contents((*databases)->connection())});
    }
    return befores;
  }());
  return befores;
}

// The number of the statement that failed, or that of all.
size_t Execute(SimulatedDatabases& databases, const std::vector<std::string>& transaction) {
  for (size_t s = 0; s < transaction.size(); ++s) {
    databases(transaction[s]);
    if (databases.connection().rc() != SQLITE_OK) return s;
  }
  return transaction.size();
}

class ErrorsTest : public testing::TestWithParam<bool> {  // whether locking_mode is EXCLUSIVE
 protected:
  // What fails is repeated once nothing fails any more.
  void FailEachCall(bool and_all_after) {
    FailingVfs::Register();
    uint64_t calls = 0, failures = 0;
    int repeated = 0;
    for (size_t t = 0; t < Transactions().size(); ++t) {
      const std::vector<std::string>& transaction = Transactions()[t];
      const std::string &before = Befores()[t].contents, &after = Befores()[t + 1].contents;
      bool failed = true;
      for (uint64_t n = 1; failed; ++n, ++calls) {
        FailingVfs::FailCall(0, false);
        std::unique_ptr<SimulatedDatabases> databases;
        ASSERT_NO_FATAL_FAILURE(Open(Befores()[t].disk->Clone(), "failing", &databases));
        FailingVfs::FailCall(n, and_all_after);
        const size_t at = Execute(*databases, transaction);
        if (at < transaction.size()) (*databases)("ROLLBACK");
        failed = FailingVfs::failures() > 0;
        failures += FailingVfs::failures();
        FailingVfs::FailCall(0, false);
        const std::string context = absl::StrCat("transaction ", t, ", call ", n,
                                                 and_all_after ? " and all after" : "", ", statement ", at);
        ASSERT_TRUE(failed || at == transaction.size()) << context;
        ASSERT_EQ(Unsound(*databases), "") << context;
        const std::string now = Contents(databases->connection());
        if (at < transaction.size() && now == before) {
          ++repeated;
          ASSERT_EQ(Execute(*databases, transaction), transaction.size())
              << context << ": " << databases->connection().error();
          ASSERT_EQ(Contents(databases->connection()), after) << context << ", again";
        } else {
          ASSERT_EQ(now, after) << context;
          ASSERT_GE(at + 1, transaction.size()) << context;
        }
        const std::shared_ptr<SimulatedDisk> disk = databases->disk();
        databases.reset();
        ASSERT_NO_FATAL_FAILURE(Open(disk, "untorn", &databases));
        ASSERT_EQ(Unsound(*databases), "") << context << ", reopened";
        ASSERT_EQ(Contents(databases->connection()), after) << context << ", reopened";
      }
    }
    std::printf("%d calls, %d failures, %d transactions repeated\n", static_cast<int>(calls),
                static_cast<int>(failures), repeated);
    EXPECT_GT(repeated, 500);
  }

  // With small caches, so that large transactions spill.
  void Open(std::shared_ptr<SimulatedDisk> disk, const std::string& vfs,
            std::unique_ptr<SimulatedDatabases>* databases) {
    auto opened = SimulatedDatabases::Open(std::move(disk), {}, vfs);
    ASSERT_TRUE(opened.ok()) << opened.status();
    *databases = *std::move(opened);
    ASSERT_EQ((**databases)("PRAGMA main.cache_size=10; PRAGMA two.cache_size=10"), "");
    if (GetParam()) {
      ASSERT_EQ((**databases)("PRAGMA locking_mode=EXCLUSIVE"), "exclusive");
    }
  }
};

TEST_P(ErrorsTest, OneFailedCallFailsTheTransactionAndNoOther) { FailEachCall(false); }
TEST_P(ErrorsTest, CallsThatGoOnFailingFailItUntilTheyDoNot) { FailEachCall(true); }

TEST_P(ErrorsTest, AFailingDeviceIsReportedAndNothingAcknowledgedIsLost) {
  const std::pair<IoOp, const char*> operations[] = {
      {IoOp::kRead, "read"}, {IoOp::kWrite, "write"}, {IoOp::kFlush, "flush"}};
  for (const auto& [op, name] : operations) {
    for (const bool forever : {false, true}) {
      int stopped = 0;
      uint64_t n = 0;
      for (bool reached = true; reached;) {
        std::unique_ptr<SimulatedDatabases> databases;
        ASSERT_NO_FATAL_FAILURE(Open(Befores()[0].disk->Clone(), "untorn", &databases));
        databases->device().FailAfter(op, ++n, absl::InternalError("injected"), forever ? UINT64_MAX : 1);
        size_t t = 0, at = 0;
        for (; t < Transactions().size(); ++t) {
          at = Execute(*databases, Transactions()[t]);
          if (at < Transactions()[t].size()) break;
        }
        reached = databases->device().faults_seen() > 0;
        const std::string context =
            absl::StrCat(forever ? "from " : "", name, " ", n, ", transaction ", t, ", statement ", at);
        const int rc = databases->connection().rc() & 0xff;
        if (t < Transactions().size()) {
          ++stopped;
          ASSERT_TRUE(reached) << context << ": " << databases->connection().error();
          ASSERT_TRUE(rc == SQLITE_IOERR || rc == SQLITE_FULL || rc == SQLITE_CANTOPEN)
              << context << ": " << databases->connection().error();
        }
        const std::shared_ptr<SimulatedDisk> disk = databases->disk();
        databases.reset();
        ASSERT_NO_FATAL_FAILURE(Open(disk, "untorn", &databases));
        ASSERT_EQ(Unsound(*databases), "") << context;
        const std::string found = Contents(databases->connection());
        // A commit that failed may be there all the same.
        if (t < Transactions().size() && at + 1 == Transactions()[t].size() &&
            found == Befores()[t + 1].contents)
          continue;
        ASSERT_EQ(found, Befores()[t].contents) << context;
      }
      std::printf("%s, %s: %d of them, %d runs stopped\n", name, forever ? "and all after" : "once",
                  static_cast<int>(n), stopped);
      EXPECT_GT(stopped, 0);
    }
  }
}

TEST_P(ErrorsTest, AfterACommitThatFailedOnTheDeviceNothingIsReadUntilTheStoreIsOpenedAgain) {
  std::unique_ptr<SimulatedDatabases> databases;
  ASSERT_NO_FATAL_FAILURE(Open(Befores()[0].disk->Clone(), "untorn", &databases));
  std::optional<Connection> other;
  if (!GetParam()) {
    other.emplace(databases->Uri("one.db"));
    ASSERT_EQ((*other)("SELECT count(*) FROM t WHERE a = -1"), "0");
  }
  databases->device().FailAfter(IoOp::kFlush, 1, absl::InternalError("injected"));
  EXPECT_EQ((*databases)("UPDATE t SET a = -1"), "error: disk I/O error");
  EXPECT_EQ((*databases)("SELECT count(*) FROM t WHERE a = -1"), "error: disk I/O error");
  EXPECT_EQ((*databases)("UPDATE t SET a = -2"), "error: disk I/O error");
  if (other) {
    EXPECT_EQ((*other)("SELECT count(*) FROM t WHERE a = -1"), "error: disk I/O error");
  }
  const std::shared_ptr<SimulatedDisk> disk = databases->disk();
  other.reset();
  databases.reset();
  ASSERT_NO_FATAL_FAILURE(Open(disk, "untorn", &databases));
  EXPECT_EQ(Unsound(*databases), "");
  const std::string found = (*databases)("SELECT count(*) FROM t WHERE a = -1");
  EXPECT_TRUE(found == "0" || found == "100") << found;
}

TEST_P(ErrorsTest, AFullStoreFailsTransactionsUntilThereIsSpaceAgain) {
  std::unique_ptr<SimulatedDatabases> databases;
  ASSERT_NO_FATAL_FAILURE(Open(Befores()[0].disk->Clone(), "untorn", &databases));
  const absl::StatusOr<Object> filler = databases->store().CreateObject("filler");
  ASSERT_TRUE(filler.ok());
  const std::vector<std::byte> data(64 << 10);
  absl::Status status;
  for (uint64_t offset = 0; status.ok(); offset += data.size()) status = filler->Write(offset, data);
  ASSERT_TRUE(absl::IsResourceExhausted(status)) << status;
  const std::vector<std::vector<std::string>> transactions = {
      {Insert("t", 300)},
      {"BEGIN", Insert("t", 150), Insert("u", 150), "COMMIT"},
      {"BEGIN", Insert("u", 20), "SAVEPOINT s", Insert("t", 20), "RELEASE s", "COMMIT"}};
  for (const std::vector<std::string>& transaction : transactions) {
    std::string before;
    size_t at = transaction.size();
    for (int i = 0; i < 1000 && at == transaction.size(); ++i) {
      before = Contents(databases->connection());
      at = Execute(*databases, transaction);
    }
    ASSERT_LT(at, transaction.size());
    EXPECT_EQ(databases->connection().error(), "database or disk is full");
    (*databases)("ROLLBACK");
    EXPECT_EQ((*databases)("PRAGMA main.integrity_check; PRAGMA two.integrity_check"), "ok ok");
    EXPECT_EQ(Contents(databases->connection()), before);
  }
  ASSERT_TRUE(databases->store().Remove("filler", Durability::kSync).ok());
  for (const std::vector<std::string>& transaction : transactions) {
    EXPECT_EQ(Execute(*databases, transaction), transaction.size()) << databases->connection().error();
  }
  EXPECT_EQ(Unsound(*databases), "");
}

INSTANTIATE_TEST_SUITE_P(LockingModes, ErrorsTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Exclusive" : "Normal"; });

}  // namespace
}  // namespace untorn::sqlite
