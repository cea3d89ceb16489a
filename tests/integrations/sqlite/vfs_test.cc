// SQLite on untorn, in one process: transactions, several databases at once, locks, refusals.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
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
    const std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    store_ = absl::StrCat(TempDir(), "/", absl::StrReplaceAll(name, {{"/", "_"}}));
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

constexpr const char* kRefused = "error: bad parameter or other API misuse";

// A database that is not of the store: on the file system, in the journal mode of its name, or of another store.
class OtherDatabaseTest : public VfsTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    VfsTest::SetUp();
    const std::string mode = GetParam();
    directory_ = store_ + ".d";
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directory(directory_);
    std::filesystem::rename(store_, directory_ + "/s.untorn");
    store_ = directory_ + "/s.untorn";
    if (mode == "store") {
      ASSERT_TRUE(Store::Create(directory_ + "/other.untorn", {.size_bytes = 64 << 20}).ok());
      other_ = Uri("b.db", directory_ + "/other.untorn");
    } else {
      other_ = absl::StrCat("file:", directory_, "/b.db?vfs=unix");
    }
    Connection a(Uri("app.db")), b(other_);
    ASSERT_EQ(a("CREATE TABLE t(x)"), "");
    if (mode != "store") {
      ASSERT_EQ(b("PRAGMA journal_mode=" + mode), mode);
    }
    ASSERT_EQ(b("CREATE TABLE t(x)"), "");
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  bool is_wal() const { return std::string(GetParam()) == "wal"; }
  // Connects to both. TRUNCATE and PERSIST are modes of a connection.
  void Connect(Connection& c, bool ours_is_main) {
    ASSERT_EQ(c.rc(), SQLITE_OK) << c.error();
    ASSERT_EQ(c(absl::StrCat("ATTACH '", ours_is_main ? other_ : Uri("app.db"), "' AS b")), "");
    const std::string mode = GetParam();
    if (mode != "store" && !is_wal()) {
      ASSERT_EQ(c(absl::StrCat("PRAGMA ", ours_is_main ? "b" : "main", ".journal_mode=", mode)), mode);
    }
  }
  std::string Contents() {
    const std::string all = "SELECT coalesce(group_concat(x), '') FROM t; PRAGMA integrity_check";
    return absl::StrCat(Connection(Uri("app.db"))(all), " / ", Connection(other_)(all));
  }
  void ExpectNoSuperJournal() {
    for (const auto& entry : std::filesystem::directory_iterator(directory_))
      EXPECT_EQ(entry.path().string().find("-mj"), std::string::npos) << entry.path();
  }

  std::string directory_, other_;
};

INSTANTIATE_TEST_SUITE_P(All, OtherDatabaseTest,
                         testing::Values("delete", "truncate", "persist", "wal", "store"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(OtherDatabaseTest, ATransactionThatLocksBothAndChangesOneCommits) {
  std::string ours, others;
  int n = 0;
  for (const bool ours_is_main : {true, false}) {
    Connection c(ours_is_main ? Uri("app.db") : other_);
    Connect(c, ours_is_main);
    for (const std::string begin : {"BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"}) {
      for (const bool change_main : {true, false, true}) {
        EXPECT_EQ(c(absl::StrCat(begin, "; INSERT INTO ", change_main ? "main" : "b", ".t VALUES (", ++n,
                                 "); COMMIT")),
                  "")
            << begin << " " << ours_is_main << change_main;
        absl::StrAppend(ours_is_main == change_main ? &ours : &others, ",", n);
      }
    }
  }
  EXPECT_EQ(Contents(), absl::StrCat(ours.substr(1), " ok / ", others.substr(1), " ok"));
  ExpectNoSuperJournal();
}

TEST_P(OtherDatabaseTest, ATransactionThatChangesBothIsRefusedAndUndone) {
  if (is_wal()) {
    // Databases in WAL mode commit by themselves, on any VFS: https://www.sqlite.org/lang_attach.html
    Connection c(Uri("app.db"));
    Connect(c, true);
    EXPECT_EQ(c("BEGIN; INSERT INTO main.t VALUES (1); INSERT INTO b.t VALUES (1); COMMIT"), "");
    return;
  }
  for (const bool ours_is_main : {true, false}) {
    for (const std::string locking : {"NORMAL", "EXCLUSIVE"}) {
      const std::string before = Contents();
      {
        Connection c(ours_is_main ? Uri("app.db") : other_);
        Connect(c, ours_is_main);
        c("PRAGMA locking_mode=" + locking);
        for (const std::string begin : {"BEGIN", "BEGIN IMMEDIATE"}) {
          EXPECT_EQ(c(begin + "; INSERT INTO main.t VALUES (-1); INSERT INTO b.t VALUES (-1); COMMIT"),
                    kRefused)
              << ours_is_main << locking;
          c("ROLLBACK");
          // What was cached of it is gone too.
          EXPECT_EQ(c("SELECT count(*) FROM (SELECT * FROM main.t UNION ALL SELECT * FROM b.t) WHERE x < 0"),
                    "0")
              << ours_is_main << locking;
        }
        EXPECT_EQ(c("PRAGMA integrity_check"), "ok");
      }
      EXPECT_EQ(Contents(), before);
      Connection c(ours_is_main ? Uri("app.db") : other_);
      Connect(c, ours_is_main);
      EXPECT_EQ(c("INSERT INTO main.t VALUES (1)"), "");
      EXPECT_EQ(c("INSERT INTO b.t VALUES (1)"), "");
    }
  }
}

// What a killed process leaves: a header without the magic number, which SQLite does not take for a hot journal.
TEST_P(OtherDatabaseTest, AJournalThatACrashLeftBehindIsNoChange) {
  if (std::string(GetParam()) != "delete") return;
  std::ofstream(directory_ + "/b.db-journal", std::ios::binary)
      << std::string(12, '\0') << std::string(500, 'x');
  Connection c(Uri("app.db"));
  Connect(c, true);
  EXPECT_EQ(c("BEGIN IMMEDIATE; INSERT INTO main.t VALUES (1); COMMIT"), "");
  EXPECT_EQ(c("SELECT count(*) FROM main.t"), "1");
}

TEST_P(OtherDatabaseTest, DatabasesInMemoryAreNoObstacle) {
  for (const bool ours_is_main : {true, false}) {
    Connection c(ours_is_main ? Uri("app.db") : other_);
    Connect(c, ours_is_main);
    ASSERT_EQ(c("ATTACH ':memory:' AS m; ATTACH 'file:x?mode=memory&vfs=unix' AS n; CREATE TABLE m.t(x); "
                "CREATE TABLE n.t(x)"),
              "");
    ASSERT_EQ(c(absl::StrCat("ATTACH '", Uri("two.db"), "' AS two; CREATE TABLE IF NOT EXISTS two.t(x)")),
              "");
    EXPECT_EQ(c(absl::StrCat("BEGIN IMMEDIATE; INSERT INTO m.t VALUES (1); INSERT INTO n.t VALUES (1); "
                             "INSERT INTO two.t VALUES (1); INSERT INTO ",
                             ours_is_main ? "main" : "b", ".t VALUES (1); COMMIT")),
              "")
        << ours_is_main;
  }
}

TEST_P(OtherDatabaseTest, TwoOfTheStoreCommitTogetherBesideItAndOneAloneToo) {
  for (const bool ours_is_main : {true, false}) {
    Connection c(ours_is_main ? Uri("app.db") : other_);
    Connect(c, ours_is_main);
    const std::string ours = ours_is_main ? "main" : "b";
    ASSERT_EQ(c(absl::StrCat("ATTACH '", Uri("two.db"), "' AS two; CREATE TABLE IF NOT EXISTS two.t(x)")),
              "");
    EXPECT_EQ(c("BEGIN IMMEDIATE; INSERT INTO two.t VALUES (1); COMMIT"), "");
    EXPECT_EQ(
        c("BEGIN IMMEDIATE; INSERT INTO two.t VALUES (2); INSERT INTO " + ours + ".t VALUES (2); COMMIT"),
        "");
    EXPECT_EQ(c("BEGIN IMMEDIATE; INSERT INTO " + ours + ".t VALUES (3); COMMIT"), "");
  }
  EXPECT_EQ(Contents(), "2,3,2,3 ok / ok");
  EXPECT_EQ(Connection(Uri("two.db"))("SELECT group_concat(x) FROM t"), "1,2,1,2");
  ExpectNoSuperJournal();
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

// https://www.sqlite.org/pragma.html#pragma_journal_mode: a mode that is not possible leaves the one that was, and that is
// told. Drivers send such a pragma at each connect, and take an error as fatal.
TEST_F(VfsTest, AnotherJournalModeIsAnsweredWithTheOneThatStays) {
  for (const char* locking : {"NORMAL", "EXCLUSIVE"}) {
    Connection a(Uri("app.db"));
    a(absl::StrCat("PRAGMA locking_mode=", locking));
    for (const char* mode :
         {"WAL", "wal", "w", "OFF", "MEMORY", "m", "TRUNCATE", "PERSIST", "DELETE", "d", "other"}) {
      EXPECT_EQ(a(absl::StrCat("PRAGMA journal_mode=", mode)), "delete") << mode;
      EXPECT_EQ(a(absl::StrCat("PRAGMA main.journal_mode(", mode, ")")), "delete") << mode;
      EXPECT_EQ(a("PRAGMA journal_mode"), "delete") << mode;
      EXPECT_EQ(a("CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES (1)"), "") << mode;
    }
    sqlite3_stmt* statement;
    ASSERT_EQ(sqlite3_prepare_v2(a.db(), "PRAGMA journal_mode=WAL", -1, &statement, nullptr), SQLITE_OK);
    EXPECT_STREQ(sqlite3_column_name(statement, 0), "journal_mode");
    EXPECT_EQ(sqlite3_finalize(statement), SQLITE_OK);
  }
}

TEST_F(VfsTest, PragmasAnswerAsOnAFile) {
  const std::string plain = store_ + ".db";
  std::remove(plain.c_str());
  Connection ours(Uri("app.db")), file(absl::StrCat("file:", plain, "?vfs=unix"));
  for (const char* pragma : {"page_size",
                             "cache_size",
                             "locking_mode=EXCLUSIVE",
                             "locking_mode=NORMAL",
                             "wal_checkpoint",
                             "auto_vacuum=INCREMENTAL",
                             "incremental_vacuum",
                             "data_version",
                             "quick_check",
                             "secure_delete",
                             "secure_delete=ON",
                             "temp_store=MEMORY",
                             "max_page_count=5000",
                             "soft_heap_limit",
                             "synchronous",
                             "encoding",
                             "journal_size_limit",
                             "application_id=7",
                             "user_version",
                             "busy_timeout=100",
                             "journal_mode",
                             "wal_autocheckpoint=100",
                             "optimize",
                             "freelist_count",
                             "page_count"}) {
    EXPECT_EQ(ours(absl::StrCat("PRAGMA ", pragma)), file(absl::StrCat("PRAGMA ", pragma))) << pragma;
  }
  // Nothing is ever mapped.
  EXPECT_EQ(ours("PRAGMA mmap_size"), "0");
  EXPECT_EQ(ours("PRAGMA mmap_size=268435456"), "0");
  std::remove(plain.c_str());
}

TEST_F(VfsTest, OpeningMakesAStoreThatIsNotThereUnlessToldNotTo) {
  const std::string fresh = store_ + ".fresh";
  std::remove(fresh.c_str());
  const std::string uri = Uri("app.db", fresh);
  EXPECT_EQ(Connection(uri, SQLITE_OPEN_READWRITE).rc(), SQLITE_CANTOPEN);
  EXPECT_EQ(Connection(uri + "&mode=ro").rc(), SQLITE_CANTOPEN);
  EXPECT_EQ(Connection(uri + "&store_create=0").rc(), SQLITE_CANTOPEN);
  EXPECT_FALSE(std::filesystem::exists(fresh));
  {
    Connection a(uri + "&store_size=33554432");
    ASSERT_EQ(a.rc(), SQLITE_OK) << a.error();
    EXPECT_EQ(a("CREATE TABLE t(x); INSERT INTO t VALUES (5)"), "");
  }
  EXPECT_EQ(Connection(uri)("SELECT x FROM t"), "5");
  auto store = Store::Open(fresh, {});
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ((*store)->info().size_bytes, 32 << 20);
  std::remove(fresh.c_str());
}

TEST_F(VfsTest, WhatIsNoDatabaseIsNotChangedByOpeningIt) {
  std::string image(4096, '\2');
  {
    auto store = Store::Open(store_, {});
    const Object object = (*store)->CreateObject("logo.png").value();
    ASSERT_TRUE(object.Write(0, std::as_bytes(std::span(image))).ok());
  }
  EXPECT_EQ(Connection(Uri("logo.png"))("SELECT * FROM sqlite_schema"), "error: file is not a database");
  auto store = Store::Open(store_, {});
  std::string now(image.size(), '\0');
  ASSERT_TRUE((*store)->OpenObject("logo.png")->Read(0, std::as_writable_bytes(std::span(now))).ok());
  EXPECT_EQ(now, image);
}

TEST_F(VfsTest, ADamagedFirstPageIsAnErrorOfOpening) {
  Connection(Uri("app.db"))("CREATE TABLE t(x)");
  std::fstream file(store_, std::ios::in | std::ios::out | std::ios::binary);
  std::string image((std::istreambuf_iterator<char>(file)), {});
  int found = 0;
  for (size_t at = 0; (at = image.find("SQLite format 3", at)) != std::string::npos; ++at, ++found) {
    file.seekp(static_cast<std::streamoff>(at) + 200);
    file.put('x');
  }
  file.close();
  ASSERT_GT(found, 0);
  Connection c(Uri("app.db"));
  EXPECT_EQ(c.rc(), SQLITE_CANTOPEN);
  EXPECT_TRUE(absl::StrContains(c.error(), "checksum")) << c.error();
  EXPECT_EQ(Connection(Uri("other.db"))("CREATE TABLE t(x); SELECT count(*) FROM t"), "0");
}

TEST_F(VfsTest, ADatabaseIsOpenedByTheNameThatSqliteTells) {
  std::string told;
  {
    Connection a(Uri("app.db"));
    a("CREATE TABLE t(x); INSERT INTO t VALUES (1)");
    told = a("SELECT file FROM pragma_database_list WHERE name = 'main'");
  }
  EXPECT_EQ(Connection(Uri(absl::StrReplaceAll(told, {{"%", "%25"}, {"?", "%3f"}})))("SELECT x FROM t"), "1")
      << told;
  EXPECT_EQ(Objects(store_), std::vector<std::string>{"app.db"});
}

TEST_F(VfsTest, StoresWithOddNamesAreTold) {
  for (const char* odd : {"a:b", "a%3ab", "a%:", "dir:x/a"}) {
    const std::string path = absl::StrCat(TempDir(), "/", odd);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    const std::string uri =
        absl::StrCat("file:app.db?vfs=untorn&store=", absl::StrReplaceAll(path, {{"%", "%25"}}));
    EXPECT_EQ(Connection(uri)("CREATE TABLE t(x); INSERT INTO t VALUES (1); SELECT x FROM t"), "1") << odd;
    EXPECT_EQ(Objects(path), std::vector<std::string>{"app.db"}) << odd;
    std::filesystem::remove(path);
  }
}

TEST_F(VfsTest, RegisteringAgainTakesNothingBack) {
  sqlite3_vfs* before = sqlite3_vfs_find(nullptr);
  EXPECT_EQ(untorn_sqlite_register(1), SQLITE_OK);
  EXPECT_EQ(untorn_sqlite_register(0), SQLITE_OK);
  EXPECT_STREQ(sqlite3_vfs_find(nullptr)->zName, "untorn");
  EXPECT_EQ(sqlite3_vfs_register(before, 1), SQLITE_OK);
  EXPECT_EQ(untorn_sqlite_register(0), SQLITE_OK);
  EXPECT_EQ(sqlite3_vfs_find(nullptr), before);
}

TEST_F(VfsTest, AnImmutableDatabaseIsReadWithoutLocksAndCannotBeWritten) {
  Connection(Uri("app.db"))("CREATE TABLE t(x); INSERT INTO t VALUES (1)");
  Connection a(Uri("app.db") + "&immutable=1");
  ASSERT_EQ(a.rc(), SQLITE_OK) << a.error();
  EXPECT_EQ(a("SELECT x FROM t; PRAGMA integrity_check"), "1 ok");
  EXPECT_EQ(a("INSERT INTO t VALUES (2)"), "error: attempt to write a readonly database");
}

TEST_F(VfsTest, OneDatabaseHasOneNameHoweverItIsWritten) {
  Connection(Uri("app.db"))("CREATE TABLE t(x); INSERT INTO t VALUES (1)");
  for (const char* name : {"./app.db", ".//app.db", "x/../app.db"})
    EXPECT_EQ(Connection(Uri(name), SQLITE_OPEN_READWRITE)("SELECT x FROM t"), "1") << name;
  EXPECT_EQ(Objects(store_), std::vector<std::string>{"app.db"});
}

TEST_F(VfsTest, ALargeJournalIsWhereSqliteLooksForTemporaryFiles) {
  const std::string name = "journals_here", directory = absl::StrCat(TempDir(), "/", name);
  std::filesystem::create_directory(directory);
  sqlite3_temp_directory = sqlite3_mprintf("%s", directory.c_str());
  {
    Connection a(Uri("app.db"));
    a("PRAGMA cache_size=10; CREATE TABLE t(x)");
    EXPECT_EQ(a("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 4000) "
                "INSERT INTO t SELECT randomblob(4000) FROM n"),
              "");
    EXPECT_EQ(a("BEGIN; UPDATE t SET x = randomblob(4000)"), "");
    int there = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      const std::string path = std::filesystem::read_symlink(entry.path(), error);
      there += absl::StrContains(path, name + "/etilqs_");
    }
    EXPECT_EQ(there, 1);
    EXPECT_EQ(a("ROLLBACK; PRAGMA integrity_check"), "ok");
  }
  std::filesystem::remove_all(directory);
  sqlite3_free(sqlite3_temp_directory);
  sqlite3_temp_directory = nullptr;
}

// A database that was in WAL mode is one in DELETE mode from the first connection on that may write: bytes 18 and 19 of its
// header are 1, whichever way it leaves the store.
TEST_F(VfsTest, ADatabaseThatWasInWalModeLeavesAsOneThatIsNot) {
  const std::string plain = store_ + ".wal.db";
  std::remove(plain.c_str());
  ASSERT_EQ(Connection("file:" + plain +
                       "?vfs=unix")("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (7)"),
            "wal");
  std::ifstream file(plain, std::ios::binary);
  const std::string image((std::istreambuf_iterator<char>(file)), {});
  std::remove(plain.c_str());
  ASSERT_EQ(image.substr(18, 2), "\2\2");
  const auto modes = [&] {
    auto store = Store::Open(store_, {});
    std::array<std::byte, 2> bytes{};
    EXPECT_TRUE((*store)->OpenObject("app.db")->Read(18, bytes).ok());
    return absl::StrCat(static_cast<int>(bytes[0]), static_cast<int>(bytes[1]));
  };
  {
    auto store = Store::Open(store_, {});
    const Object object = (*store)->CreateObject("app.db").value();
    ASSERT_TRUE(object.Write(0, std::as_bytes(std::span(image))).ok());
  }
  EXPECT_EQ(Connection(Uri("app.db"), SQLITE_OPEN_READONLY)("SELECT x FROM t; PRAGMA journal_mode"),
            "7 delete");
  EXPECT_EQ(modes(), "22");
  {
    Connection a(Uri("app.db"), SQLITE_OPEN_READWRITE);
    EXPECT_EQ(a("SELECT x FROM t"), "7");
    EXPECT_EQ(a("VACUUM INTO 'file:" + plain + "?vfs=unix'"), "");
    sqlite3_int64 bytes = 0;
    unsigned char* serialized = sqlite3_serialize(a.db(), "main", &bytes, 0);
    ASSERT_NE(serialized, nullptr);
    EXPECT_EQ(serialized[18], 1);
    Connection memory(":memory:");
    ASSERT_EQ(
        sqlite3_deserialize(memory.db(), "main", serialized, bytes, bytes, SQLITE_DESERIALIZE_FREEONCLOSE),
        SQLITE_OK);
    EXPECT_EQ(memory("SELECT x FROM t"), "7");
  }
  EXPECT_EQ(modes(), "11");
  EXPECT_EQ(Connection("file:" + plain + "?vfs=unix")("PRAGMA journal_mode; SELECT x FROM t"), "delete 7");
  std::remove(plain.c_str());
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
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db") + "&store_cache_mib=many"), "store_cache_mib=many"));
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db") + "&store_cache_mib=1"), "4 to"));
  EXPECT_TRUE(absl::StrContains(told(Uri("app.db") + "&store_atomic_unit=1000"), "1000"));
  Connection(Uri("app.db"))("CREATE TABLE t(x)");
  Connection attaching(":memory:");
  EXPECT_TRUE(absl::StartsWith(attaching(absl::StrCat("ATTACH '", Uri("app.db"), "&nolock=1' AS b")),
                               "error: unable to open database"));
  EXPECT_TRUE(absl::StartsWith(attaching(absl::StrCat("ATTACH '", Uri("app.db"), ".missing/x' AS c")),
                               "error: unable to open database"));
  auto store = Store::Open(store_, {});
  ASSERT_TRUE(store.ok());
  const std::string locked = told(Uri("app.db"));
  EXPECT_TRUE(absl::StrContains(locked, absl::StrCat("process ", getpid()))) << locked;
}

class FullStoreTest : public VfsTest, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(SecureDelete, FullStoreTest, testing::Values("ON", "OFF"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(FullStoreTest, IsChangedAndEmptiedBySql) {
  Connection a(Uri("app.db"));
  a(absl::StrCat("PRAGMA secure_delete=", GetParam()));
  ASSERT_EQ(a("CREATE TABLE t(x INTEGER PRIMARY KEY, y); CREATE TABLE u(x, y)"), "");
  const std::string insert =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200) "
      "INSERT INTO %s(y) SELECT randomblob(3500) FROM n";
  std::string told;
  for (int n = 0; told.empty() && n < 1000; ++n)
    told = a(absl::StrReplaceAll(insert, {{"%s", n % 2 == 0 ? "t" : "u"}}));
  ASSERT_EQ(told, "error: database or disk is full");
  EXPECT_EQ(a("UPDATE t SET y = randomblob(3500) WHERE x % 40 = 1"), "");
  EXPECT_EQ(a("DELETE FROM t WHERE x <= 500"), "");
  EXPECT_EQ(a(absl::StrReplaceAll(insert, {{"%s", "t"}})), "") << "into pages that are free in the database";
  EXPECT_EQ(a("DROP TABLE u"), "");
  EXPECT_EQ(a("PRAGMA integrity_check"), "ok");
  for (std::string left = "1"; left != "0"; left = a("SELECT count(*) FROM t WHERE x > 500"))
    ASSERT_EQ(a("DELETE FROM t WHERE x IN (SELECT x FROM t WHERE x > 500 LIMIT 500)"), "");
  EXPECT_EQ(a("DELETE FROM t WHERE x > 200; VACUUM; PRAGMA integrity_check"), "ok");
  // It is far below full.
  for (int n = 0; n < 50; ++n) ASSERT_EQ(a(absl::StrReplaceAll(insert, {{"%s", "t"}})), "") << n;
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

TEST_F(VfsTest, ADatabaseGoesThroughAllPageSizes) {
  const std::string sum = "SELECT count(*), sum(x), sum(length(y)), max(hex(y)) FROM t";
  std::string before;
  {
    Connection a(Uri("app.db"));
    ASSERT_EQ(
        a("CREATE TABLE t(x, y); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 5000) "
          "INSERT INTO t SELECT i, randomblob(i % 700) FROM n"),
        "");
    before = a(sum);
  }
  for (const int page : {512, 65536, 1024, 4096, 32768, 512}) {
    const std::string size = absl::StrCat(page);
    EXPECT_EQ(Connection(Uri("app.db"))(
                  absl::StrCat("PRAGMA page_size=", page, "; VACUUM; PRAGMA integrity_check")),
              "ok");
    EXPECT_EQ(Connection(Uri("app.db"))("PRAGMA page_size; " + sum), size + " " + before) << page;
  }
}

// The same writes by two handles of incremental blobs at the edges of pages, on both VFSes.
TEST_F(VfsTest, BlobsAreWrittenAndReadByTwoHandlesAsOnAFile) {
  const std::string plain = store_ + ".blob.db";
  std::remove(plain.c_str());
  Connection ours(Uri("app.db")), file(absl::StrCat("file:", plain, "?vfs=unix"));
  constexpr int kBytes = 3 << 20;
  for (Connection* c : {&ours, &file}) {
    ASSERT_EQ((*c)(absl::StrCat("CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(", kBytes, "))")), "");
    int n = 0;
    // The second round is rolled back.
    for (const std::string begin : {"BEGIN", "SAVEPOINT s"}) {
      ASSERT_EQ((*c)(begin), "");
      sqlite3_blob *one, *two;
      ASSERT_EQ(sqlite3_blob_open(c->db(), "main", "t", "x", 1, 1, &one), SQLITE_OK);
      ASSERT_EQ(sqlite3_blob_open(c->db(), "main", "t", "x", 1, 1, &two), SQLITE_OK);
      for (const int edge : {4096, 4092, 40920, 409200, 1 << 20, 2 << 20}) {
        for (const int length : {1, 511, 4097, 8192}) {
          for (const int at : {edge - 1, edge, edge + 1}) {
            const std::string bytes(length, static_cast<char>(++n));
            std::string back(length, 'x');
            ASSERT_EQ(sqlite3_blob_write(n % 2 == 0 ? one : two, bytes.data(), length, at), SQLITE_OK);
            ASSERT_EQ(sqlite3_blob_read(n % 2 == 0 ? two : one, back.data(), length, at), SQLITE_OK);
            ASSERT_EQ(back, bytes) << edge << " " << length;
          }
        }
      }
      EXPECT_EQ(sqlite3_blob_close(one), SQLITE_OK);
      EXPECT_EQ(sqlite3_blob_close(two), SQLITE_OK);
    }
    EXPECT_EQ((*c)("ROLLBACK TO s; COMMIT; PRAGMA integrity_check"), "ok");
  }
  EXPECT_EQ(ours("SELECT hex(x) FROM t"), file("SELECT hex(x) FROM t"));
  std::remove(plain.c_str());
}

TEST_F(VfsTest, AReadOnlyConnectionReadsAndCannotWrite) {
  Connection(Uri("app.db"))("CREATE TABLE t(x); INSERT INTO t VALUES (1)");
  Connection a(Uri("app.db"), SQLITE_OPEN_READONLY);
  EXPECT_EQ(a("SELECT x FROM t"), "1");
  EXPECT_EQ(a("INSERT INTO t VALUES (2)"), "error: attempt to write a readonly database");
}

}  // namespace
}  // namespace untorn::sqlite
