// SQLite on untorn, in one process: transactions, several databases at once, locks, refusals.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "integrations/sqlite/untorn_sqlite.h"
#include "tests/integrations/sqlite/connection.h"
#include "untorn/store.h"

namespace untorn::sqlite {
namespace {

using testing::TempDir;

class VfsTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(untorn_sqlite_register(0), SQLITE_OK);
    store_ = absl::StrCat(TempDir(), "/", testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(Store::Create(store_, {.size_bytes = 128 << 20, .force = true}).ok());
  }
  void TearDown() override { std::remove(store_.c_str()); }

  std::string Uri(const std::string& name, const std::string& store) const {
    return absl::StrCat("file:", name, "?vfs=untorn&store=", store);
  }
  std::string Uri(const std::string& name) const { return Uri(name, store_); }

  std::string store_;
};

// Names of the objects of a store that nobody has open.
std::vector<std::string> Objects(const std::string& path) {
  auto store = Store::Open(path, {});
  EXPECT_TRUE(store.ok()) << store.status();
  std::vector<std::string> names;
  const std::vector<ObjectInfo> objects = (*store)->List().value();
  for (const ObjectInfo& info : objects) names.push_back(info.name);
  return names;
}

TEST_F(VfsTest, WhatIsCommittedIsThereAfterReopeningAndNoJournalEverIs) {
  {
    Connection a(Uri("app.db"));
    ASSERT_EQ(a.rc(), SQLITE_OK) << a.error();
    EXPECT_EQ(a("CREATE TABLE t(x); INSERT INTO t VALUES (1),(2)"), "");
    EXPECT_EQ(a("BEGIN; INSERT INTO t VALUES (3)"), "");
    // Closing rolls back.
  }
  EXPECT_EQ(Objects(store_), (std::vector<std::string>{"app.db"}));
  Connection b(Uri("app.db"));
  EXPECT_EQ(b("SELECT x FROM t"), "1 2");
  EXPECT_EQ(b("PRAGMA integrity_check"), "ok");
  EXPECT_EQ(b("PRAGMA journal_mode"), "delete");
}

TEST_F(VfsTest, ASpilledTransactionRollsBackWholeAndCommitsWhole) {
  Connection a(Uri("app.db"));
  a("CREATE TABLE t(x, y); PRAGMA cache_size=10");
  const std::string fill =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000) "
      "INSERT INTO t SELECT i, hex(randomblob(200)) FROM n";
  EXPECT_EQ(a(fill), "");
  EXPECT_EQ(a("BEGIN; UPDATE t SET x = x + 1; DELETE FROM t WHERE x % 2 = 0; ROLLBACK"), "");
  EXPECT_EQ(a("SELECT count(*), sum(x) FROM t"), "20000|200010000");
  EXPECT_EQ(a("BEGIN; UPDATE t SET x = x + 1; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; COMMIT"), "");
  EXPECT_EQ(a("SELECT count(*), sum(x) FROM t"), "20000|200030000");
  EXPECT_EQ(a("PRAGMA integrity_check"), "ok");
}

TEST_F(VfsTest, SeveralDatabasesCommitTogetherAndRollBackTogether) {
  {
    Connection a(Uri("one.db"));
    EXPECT_EQ(a(absl::StrCat("ATTACH '", Uri("two.db"), "' AS two")), "");
    EXPECT_EQ(a("CREATE TABLE t(x); CREATE TABLE two.u(x)"), "");
    EXPECT_EQ(a("BEGIN; INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); COMMIT"), "");
    EXPECT_EQ(a("BEGIN; INSERT INTO t VALUES (2); INSERT INTO u VALUES (2); ROLLBACK"), "");
    EXPECT_EQ(a("SELECT * FROM t UNION ALL SELECT * FROM u"), "1 1");
  }
  EXPECT_EQ(Objects(store_), (std::vector<std::string>{"one.db", "two.db"}));
  Connection b(Uri("two.db"));
  EXPECT_EQ(b("SELECT x FROM u"), "1");
}

TEST_F(VfsTest, ATransactionOverAnotherVfsOrAnotherStoreIsRefusedAndUndone) {
  const std::string other = store_ + ".other", plain = store_ + ".db";
  ASSERT_TRUE(Store::Create(other, {.size_bytes = 64 << 20, .force = true}).ok());
  std::remove(plain.c_str());
  for (const std::string& uri : {Uri("b.db", other), absl::StrCat("file:", plain, "?vfs=unix")}) {
    for (const bool untorn_first : {true, false}) {
      Connection a(untorn_first ? Uri("app.db") : uri);
      ASSERT_EQ(a.rc(), SQLITE_OK) << a.error();
      EXPECT_EQ(a(absl::StrCat("ATTACH '", untorn_first ? uri : Uri("app.db"), "' AS b")), "");
      EXPECT_EQ(a("CREATE TABLE IF NOT EXISTS main.t(x); CREATE TABLE IF NOT EXISTS b.t(x)"), "");
      const std::string before = a("SELECT count(*) FROM main.t UNION ALL SELECT count(*) FROM b.t");
      EXPECT_EQ(a("BEGIN; INSERT INTO main.t VALUES (1); INSERT INTO b.t VALUES (1); COMMIT"),
                "error: disk I/O error");
      a("ROLLBACK");
      EXPECT_EQ(a("SELECT count(*) FROM main.t UNION ALL SELECT count(*) FROM b.t"), before);
      EXPECT_EQ(a("INSERT INTO main.t VALUES (1)"), "");
      EXPECT_EQ(a("INSERT INTO b.t VALUES (1)"), "");
      EXPECT_EQ(a("PRAGMA integrity_check"), "ok");
    }
  }
  std::remove(other.c_str());
  std::remove(plain.c_str());
}

TEST_F(VfsTest, ReadersAndOneWriterLockAsOnAFile) {
  Connection a(Uri("app.db")), b(Uri("app.db"));
  a("CREATE TABLE t(x); INSERT INTO t VALUES (1)");
  EXPECT_EQ(a("BEGIN IMMEDIATE; UPDATE t SET x = 2"), "");
  EXPECT_EQ(b("SELECT x FROM t"), "1");
  EXPECT_EQ(b("BEGIN IMMEDIATE"), "error: database is locked");
  EXPECT_EQ(b("BEGIN; SELECT x FROM t"), "1");
  EXPECT_EQ(a("COMMIT"), "error: database is locked");  // of the reader
  EXPECT_EQ(b("COMMIT"), "");
  EXPECT_EQ(a("COMMIT"), "");
  EXPECT_EQ(b("SELECT x FROM t"), "2");
  EXPECT_EQ(a("PRAGMA locking_mode=EXCLUSIVE; UPDATE t SET x = 3"), "exclusive");
  EXPECT_EQ(b("SELECT x FROM t"), "error: database is locked");
  EXPECT_EQ(a("PRAGMA locking_mode=NORMAL; SELECT x FROM t"), "normal 3");
  EXPECT_EQ(b("SELECT x FROM t"), "3");
}

TEST_F(VfsTest, OtherJournalModesAreRefusedWithAReason) {
  Connection a(Uri("app.db"));
  for (const char* mode : {"WAL", "OFF", "MEMORY", "TRUNCATE", "PERSIST"}) {
    const std::string told = a(absl::StrCat("PRAGMA journal_mode=", mode));
    EXPECT_TRUE(absl::StrContains(told, "only DELETE is supported")) << told;
  }
  EXPECT_EQ(a("PRAGMA journal_mode=DELETE"), "delete");
  EXPECT_EQ(a("CREATE TABLE t(x)"), "");
}

TEST_F(VfsTest, AJournalModeThatIsSetByAnotherVfsStillWritesNothingWithoutAJournal) {
  Connection(Uri("app.db"))("CREATE TABLE t(x)");
  for (const char* mode : {"OFF", "MEMORY", "WAL", "TRUNCATE", "PERSIST"}) {
    Connection a(":memory:");
    ASSERT_EQ(a(absl::StrCat("ATTACH '", Uri("app.db"), "' AS b")), "");
    a(absl::StrCat("PRAGMA journal_mode=", mode));  // not refused: main is not ours
    const std::string kept = a("PRAGMA b.journal_mode");
    const std::string before = a("SELECT count(*) FROM t");
    EXPECT_EQ(a("BEGIN; INSERT INTO t VALUES (1); ROLLBACK"), "") << mode;
    a("ROLLBACK");
    EXPECT_EQ(a("SELECT count(*) FROM t"), before) << mode;
    const std::string told = a("INSERT INTO t VALUES (1)");
    EXPECT_EQ(told, kept == "off" || kept == "memory" ? "error: disk I/O error" : "") << mode << ", " << kept;
    EXPECT_EQ(a("SELECT count(*) FROM t"), told.empty() ? absl::StrCat(std::stoi(before) + 1) : before)
        << mode;
    EXPECT_EQ(a("PRAGMA b.integrity_check"), "ok") << mode;
  }
  EXPECT_EQ(Objects(store_), (std::vector<std::string>{"app.db"}));
}

// With exclusive locking SQLite keeps the journal that it has open, also for modes that do not use it as DELETE does.
TEST_F(VfsTest, AnotherJournalModeWithExclusiveLockingIsRefusedAndLosesNothing) {
  for (const char* mode : {"OFF", "MEMORY", "TRUNCATE", "PERSIST", "WAL"}) {
    const std::string name = absl::StrCat(mode, ".db");
    std::string before = "1 1";
    {
      Connection a(":memory:");
      ASSERT_EQ(a(absl::StrCat("ATTACH '", Uri(name), "' AS a")), "");
      a("PRAGMA locking_mode=EXCLUSIVE; PRAGMA a.auto_vacuum=FULL; CREATE TABLE a.t(x); CREATE TABLE a.u(x);"
        "INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)");
      a(absl::StrCat("PRAGMA journal_mode=", mode));
      // With WAL it cannot even be read until it is opened again.
      const auto contents = [&] {
        const std::string now = a("SELECT group_concat(x) FROM t UNION ALL SELECT count(*) FROM u");
        return now == "error: unable to open database file" ? before : now;
      };
      before = contents();
      for (const char* sql :
           {"BEGIN; CREATE TABLE a.v(y); INSERT INTO t VALUES (2); SAVEPOINT s; UPDATE u SET x = 5; "
            "ROLLBACK TO s; COMMIT",
            "BEGIN; DELETE FROM u; INSERT INTO t VALUES (3); COMMIT",
            "PRAGMA a.cache_size=3; BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
            "LIMIT 200) INSERT INTO u SELECT zeroblob(2000) FROM n; ROLLBACK; INSERT INTO t VALUES (4)"}) {
        a(sql);
        const bool committed = a.rc() == SQLITE_OK;
        a("ROLLBACK");
        if (committed) before = contents();
        EXPECT_EQ(contents(), before) << mode << ": " << sql;
      }
    }
    Connection b(Uri(name));
    EXPECT_EQ(b("SELECT group_concat(x) FROM t UNION ALL SELECT count(*) FROM u"), before) << mode;
    EXPECT_EQ(b("PRAGMA integrity_check"), "ok") << mode;
  }
}

TEST_F(VfsTest, AWriteWhileTheSameConnectionReadsIsPossibleWithAPersistentJournal) {
  Connection a(":memory:");
  ASSERT_EQ(a(absl::StrCat("ATTACH '", Uri("app.db"),
                           "' AS a; CREATE TABLE a.t(x); INSERT INTO t VALUES (1),(2),(3)")),
            "");
  a("PRAGMA journal_mode=PERSIST");
  sqlite3_stmt* reading;
  ASSERT_EQ(sqlite3_prepare_v2(a.db(), "SELECT x FROM t WHERE x < 4", -1, &reading, nullptr), SQLITE_OK);
  EXPECT_EQ(sqlite3_step(reading), SQLITE_ROW);
  EXPECT_EQ(a("INSERT INTO t VALUES (10)"), "");
  EXPECT_EQ(sqlite3_step(reading), SQLITE_ROW);
  EXPECT_EQ(a("INSERT INTO t VALUES (11)"), "");
  EXPECT_EQ(sqlite3_step(reading), SQLITE_ROW);
  EXPECT_EQ(sqlite3_finalize(reading), SQLITE_OK);
  EXPECT_EQ(a("SELECT count(*) FROM t"), "5");
}

TEST_F(VfsTest, ABackupOfADatabaseInWalModeCanBeUsedAtOnce) {
  const std::string plain = store_ + ".wal.db";
  std::remove(plain.c_str());
  {
    Connection a("file:" + plain + "?vfs=unix");
    EXPECT_EQ(a("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (7)"), "wal");
    Connection b(Uri("app.db")), c(Uri("app.db"));
    EXPECT_EQ(b("CREATE TABLE old(x)"), "");
    EXPECT_EQ(c("SELECT * FROM old"), "");
    sqlite3_backup* backup = sqlite3_backup_init(b.db(), "main", a.db(), "main");
    ASSERT_NE(backup, nullptr);
    EXPECT_EQ(sqlite3_backup_step(backup, -1), SQLITE_DONE);
    EXPECT_EQ(sqlite3_backup_finish(backup), SQLITE_OK);
    EXPECT_EQ(b("SELECT x FROM t"), "7");
    EXPECT_EQ(c("SELECT x FROM t"), "7");
    EXPECT_EQ(c("UPDATE t SET x = 8"), "");
    EXPECT_EQ(b("SELECT x FROM t; PRAGMA integrity_check"), "8 ok");
  }
  EXPECT_EQ(Connection(Uri("app.db"))("SELECT x FROM t; PRAGMA journal_mode"), "8 delete");
  std::remove(plain.c_str());
}

TEST_F(VfsTest, NamesThatLookLikeJournalsAtTheirEndsWork) {
  for (const char* name : {"a-mjx", "journal", "mj123456789", "a?b", "wal"}) {
    const std::string escaped = absl::StrReplaceAll(name, {{"?", "%3f"}});
    Connection a(Uri(escaped));
    EXPECT_EQ(a("CREATE TABLE t(x); INSERT INTO t VALUES (1); SELECT x FROM t"), "1") << name;
  }
}

TEST_F(VfsTest, WhyADatabaseCannotBeOpenedIsTold) {
  const auto told = [](const std::string& uri, int flags = SQLITE_OPEN_READWRITE) {
    Connection c(uri, flags);
    EXPECT_EQ(c.rc(), SQLITE_CANTOPEN);
    return c.error();
  };
  EXPECT_TRUE(absl::StrContains(told("file:app.db?vfs=untorn"), "names no store"));
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db", store_ + ".missing")), "No such file"));
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db")), "app.db"));
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db-journal"), SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE),
                                "gives such names to journals"));
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db") + "&nolock=1"), "nolock and immutable"));
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db") + "&store_cache_mib=many"), "store_cache_mib=many"));
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db") + "&store_cache_mib=1"), "4 to"));
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db") + "&store_atomic_unit=1000"), "1000"));
  Connection(Uri("app.db"))("CREATE TABLE t(x)");
  Connection attaching(":memory:");
  // SQLite, not asking for locks, reads it: the reason is in the log only.
  EXPECT_EQ(attaching(absl::StrCat("ATTACH '", Uri("app.db"), "&nolock=1' AS b")), "error: disk I/O error");
  EXPECT_TRUE(absl::StartsWith(attaching(absl::StrCat("ATTACH '", Uri("app.db"), ".missing/x' AS c")),
                               "error: unable to open database"));
  auto store = Store::Open(store_, {});
  ASSERT_TRUE(store.ok());
  const std::string locked = told(Uri("app.db"));
  EXPECT_TRUE(absl::StrContains(locked, absl::StrCat("process ", getpid()))) << locked;
}

TEST_F(VfsTest, EveryPageSizeVacuumsAndBacksUp) {
  for (int page = 512; page <= 65536; page *= 2) {
    const std::string name = absl::StrCat("page", page, ".db"), copy = absl::StrCat("copy", page, ".db");
    Connection a(Uri(name));
    EXPECT_EQ(a(absl::StrCat("PRAGMA page_size=", page, "; CREATE TABLE t(x, y)")), "");
    EXPECT_EQ(a("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 3000) "
                "INSERT INTO t SELECT i, hex(randomblob(i % 300)) FROM n"),
              "");
    EXPECT_EQ(a("DELETE FROM t WHERE x % 3 = 0; VACUUM; PRAGMA integrity_check; PRAGMA page_size"),
              absl::StrCat("ok ", page));
    EXPECT_EQ(a(absl::StrCat("VACUUM INTO '", Uri(copy), "'")), "");
    Connection b(Uri(copy));
    EXPECT_EQ(b("PRAGMA integrity_check; SELECT count(*) FROM t"), "ok 2000");
    Connection c(Uri("backup" + name));
    sqlite3_backup* backup = sqlite3_backup_init(c.db(), "main", a.db(), "main");
    ASSERT_NE(backup, nullptr);
    while (sqlite3_backup_step(backup, 7) == SQLITE_OK) {
    }
    EXPECT_EQ(sqlite3_backup_finish(backup), SQLITE_OK);
    EXPECT_EQ(c("PRAGMA integrity_check; SELECT count(*) FROM t"), "ok 2000");
  }
}

TEST_F(VfsTest, AReadOnlyConnectionReadsAndCannotWrite) {
  Connection(Uri("app.db"))("CREATE TABLE t(x); INSERT INTO t VALUES (1)");
  Connection a(Uri("app.db"), SQLITE_OPEN_READONLY);
  EXPECT_EQ(a("SELECT x FROM t"), "1");
  EXPECT_EQ(a("INSERT INTO t VALUES (2)"), "error: attempt to write a readonly database");
}

}  // namespace
}  // namespace untorn::sqlite
