// Random statements, on the default VFS and on untorn: equal results, errors included.
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "integrations/sqlite/untorn_sqlite.h"
#include "tests/integrations/sqlite/connection.h"
#include "untorn/store.h"

namespace untorn::sqlite {
namespace {

class Statements {
 public:
  explicit Statements(uint64_t seed) : rng_(seed) {}

  std::string Next() {
    switch (Below(40)) {
      case 0:
      case 1:
        return Pick({"BEGIN", "BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"});
      case 2:
      case 3:
        return "COMMIT";
      case 4:
        return "ROLLBACK";
      case 5:
        return absl::StrCat("SAVEPOINT s", Below(3));
      case 6:
        return absl::StrCat("RELEASE s", Below(3));
      case 7:
        return absl::StrCat("ROLLBACK TO s", Below(3));
      case 8:
        return absl::StrCat("CREATE TABLE ", Table(),
                            "(id INTEGER PRIMARY KEY, a INT UNIQUE, b TEXT, c INT CHECK(c < 900))");
      case 9:
        return Below(8) == 0 ? absl::StrCat("DROP TABLE ", Table()) : absl::StrCat("DELETE FROM ", Table());
      case 10:
        return absl::StrCat("CREATE INDEX ", Schema(), "i", Below(4), " ON t", Below(4), "(b, c)");
      case 11:
        return absl::StrCat("DROP INDEX ", Schema(), "i", Below(4));
      case 12:
        return Rare();
      case 13:
      case 14:
      case 15:
      case 16:
        return absl::StrCat("UPDATE ", Table(), " SET c = c + ", Below(20), ", b = b || '", Below(10),
                            "' WHERE ", Where());
      case 17:
        return absl::StrCat("UPDATE ", Table(), " SET a = a + 1 WHERE ", Where());
      case 18:
      case 19:
        return absl::StrCat("DELETE FROM ", Table(), " WHERE ", Where());
      case 20:
      case 21:
      case 22:
      case 23:
      case 24:
        return absl::StrCat("SELECT count(*), sum(a), sum(length(b)), max(c) FROM ", Table());
      case 25:
      case 26:
        return absl::StrCat("SELECT id, a, length(b), c FROM ", Table(), " WHERE ", Where(),
                            " ORDER BY b DESC, id LIMIT 5");
      case 27:
        return absl::StrCat("INSERT INTO ", Table(), " SELECT NULL, a + ", Below(5000), ", b, c FROM ",
                            Table());
      default:
        return absl::StrCat(
            "INSERT ", Pick({"", "", "OR REPLACE ", "OR IGNORE ", "OR FAIL ", "OR ROLLBACK "}), "INTO ",
            Table(), " WITH RECURSIVE n(i) AS (SELECT ", Below(500), " UNION ALL SELECT i + 1 FROM n LIMIT ",
            1 + Below(Below(8) == 0 ? 200 : 8), ") SELECT NULL, i * 7, printf('%.*c', ",
            Below(Below(5) == 0 ? 6000 : 100), ", 'b'), i % 1000 FROM n");
    }
  }
  uint64_t Below(uint64_t n) { return rng_() % n; }

 private:
  std::string Pick(const std::vector<std::string>& from) { return from[Below(from.size())]; }
  std::string Schema() { return Below(4) == 0 ? "other." : ""; }
  std::string Table() { return absl::StrCat(Schema(), "t", Below(4)); }
  std::string Where() {
    return Pick({absl::StrCat("id % 13 = ", Below(13)),
                 absl::StrCat("a BETWEEN ", Below(2000), " AND ", Below(4000)),
                 absl::StrCat("c > ", Below(900)), absl::StrCat("id = ", Below(300))});
  }
  std::string Rare() {
    return Pick({"VACUUM",
                 "VACUUM other",
                 "PRAGMA integrity_check",
                 "PRAGMA other.integrity_check",
                 "PRAGMA cache_size=10",
                 "PRAGMA cache_size=2000",
                 "PRAGMA synchronous=OFF",
                 "PRAGMA synchronous=FULL",
                 "PRAGMA synchronous=NORMAL",
                 "PRAGMA locking_mode=EXCLUSIVE",
                 "PRAGMA locking_mode=NORMAL",
                 "PRAGMA locking_mode=NORMAL",
                 "PRAGMA auto_vacuum=INCREMENTAL",
                 "PRAGMA incremental_vacuum(3)",
                 "PRAGMA page_count",
                 absl::StrCat("PRAGMA page_size=", 512 << Below(6)),
                 "PRAGMA journal_mode",
                 "ANALYZE",
                 "REINDEX",
                 "SELECT count(*) FROM sqlite_schema",
                 "SELECT total_changes() > 0",
                 "PRAGMA user_version=3",
                 "PRAGMA freelist_count"});
  }

  std::mt19937_64 rng_;
};

class StatementsTest : public testing::TestWithParam<uint64_t> {};  // seeds

TEST_P(StatementsTest, HaveEqualResultsOnBothVfsErrorsIncluded) {
  constexpr int kStatements = 25'000, kConnections = 2;
  std::printf("seed %d\n", static_cast<int>(GetParam()));
  // What was logged for the last statement.
  static std::string logged;
  sqlite3_config(
      SQLITE_CONFIG_LOG,
      +[](void*, int rc, const char* text) { absl::StrAppend(&logged, rc, ": ", text, "\n"); }, nullptr);
  ASSERT_EQ(untorn_sqlite_register(0), SQLITE_OK);
  const std::string directory = testing::TempDir(),
                    store = absl::StrCat(directory, "/statements", GetParam(), ".untorn");
  ASSERT_TRUE(Store::Create(store, {.size_bytes = 512 << 20, .force = true}).ok());
  const auto plain_uri = [&](const char* name) {
    return absl::StrCat("file:", directory, "/", name, "?vfs=unix");
  };
  const auto untorn_uri = [&](const char* name) {
    return absl::StrCat("file:", name, "?vfs=untorn&store=", store);
  };
  std::vector<std::unique_ptr<Connection>> plain, on_untorn;
  for (const char* name : {"main.db", "other.db"}) std::remove(absl::StrCat(directory, "/", name).c_str());
  for (int i = 0; i < kConnections; ++i) {
    plain.push_back(std::make_unique<Connection>(plain_uri("main.db")));
    on_untorn.push_back(std::make_unique<Connection>(untorn_uri("main.db")));
    ASSERT_EQ((*plain[i])(absl::StrCat("ATTACH '", plain_uri("other.db"), "' AS other")), "");
    // Only untorn's is tested.
    (*plain[i])("PRAGMA main.synchronous=OFF; PRAGMA other.synchronous=OFF");
    ASSERT_EQ((*on_untorn[i])(absl::StrCat("ATTACH '", untorn_uri("other.db"), "' AS other")), "");
  }
  Statements statements(GetParam());
  int failed = 0;
  for (int n = 0; n < kStatements; ++n) {
    const std::string sql = statements.Next();
    // Mostly the first, so that transactions get long; but the second does not keep it waiting for as long.
    const bool waits = sqlite3_get_autocommit(plain[1]->db()) == 0;
    const size_t c = statements.Below(waits ? 2 : 10) == 0 ? 1 : 0;
    const std::string expected =
        (*plain[c])(absl::StartsWith(sql, "PRAGMA synchronous") ? "PRAGMA synchronous=OFF" : sql);
    logged.clear();
    const std::string result = (*on_untorn[c])(sql);
    ASSERT_EQ(result, expected) << "statement " << n << " on connection " << c << ": " << sql << "\n"
                                << logged;
    ASSERT_EQ(on_untorn[c]->rc(), plain[c]->rc()) << sql;
    ASSERT_EQ(sqlite3_get_autocommit(on_untorn[c]->db()), sqlite3_get_autocommit(plain[c]->db())) << sql;
    failed += plain[c]->rc() != SQLITE_OK;
  }
  std::printf("%d of %d statements failed on both\n", failed, kStatements);
  for (auto& c : on_untorn) (*c)("ROLLBACK");
  for (auto& c : plain) (*c)("ROLLBACK");
  plain.clear();
  on_untorn.clear();
  Connection a(plain_uri("main.db")), b(untorn_uri("main.db"));
  for (int t = 0; t < 4; ++t) {
    const std::string all = absl::StrCat("SELECT * FROM t", t, " ORDER BY id");
    EXPECT_EQ(b(all), a(all));
  }
  EXPECT_EQ(b("PRAGMA integrity_check"), "ok");
}

INSTANTIATE_TEST_SUITE_P(Seeds, StatementsTest, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace untorn::sqlite
