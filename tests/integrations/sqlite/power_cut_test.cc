// The power is cut under SQLite at every point of random transactions, and each way is tried in which what no flush covers can
// land: of what is there afterwards both databases are sound, and hold every transaction that was acknowledged and none by half
// (promises 1, 3 and 6).
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <cstdio>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/explore/landings.h"
#include "tests/integrations/sqlite/connection.h"
#include "tests/integrations/sqlite/simulated_databases.h"

namespace untorn::sqlite {
namespace {

class Transactions {
 public:
  explicit Transactions(uint64_t seed, int page_size) : rng_(seed), page_size_(page_size) {}

  std::string Next() {
    switch (Below(14)) {
      case 0:
        return Insert("t", 1);
      case 1:
        return Scattered("t");
      case 2:
        return Scattered("u");
      case 3:
        return absl::StrCat("BEGIN; ", Scattered("t"), "; ", Insert("u", 3), "; ", Delete("u"), "; COMMIT");
      case 4:
        return absl::StrCat("BEGIN; ", Insert("u", 1), "; ", Insert("t", 1), "; COMMIT");
      case 5:  // more than the page cache
        return absl::StrCat("BEGIN; ", Insert("t", 150), "; ", Scattered("t"), "; COMMIT");
      case 6:
        return absl::StrCat("BEGIN; ", Insert("t", 100), "; ", Insert("u", 100), "; COMMIT");
      case 7:
        return absl::StrCat("BEGIN; ", Insert("t", 150), "; DELETE FROM u; ROLLBACK");
      case 8:
        return absl::StrCat("BEGIN; ", Scattered("t"), "; SAVEPOINT s; ", Insert("t", 100), "; ", Delete("u"),
                            "; ROLLBACK TO s; ", Insert("u", 1), "; COMMIT");
      case 9:
        return Delete("t");
      case 10:
        return Below(2) == 0 ? "DELETE FROM u" : Delete("u");
      case 11:
        return Below(2) == 0 ? "VACUUM" : "VACUUM two";
      case 12:
        return Below(2) == 0 ? "CREATE INDEX IF NOT EXISTS i ON t(b)" : "DROP INDEX IF EXISTS i";
      default:
        return absl::StrCat("PRAGMA main.synchronous=OFF; BEGIN; ", Scattered("t"), "; ", Insert("t", 2),
                            "; COMMIT; PRAGMA main.synchronous=FULL");
    }
  }

 private:
  uint64_t Below(uint64_t n) { return rng_() % n; }
  std::string Insert(const char* table, uint64_t rows) {
    return absl::StrCat("INSERT INTO ", table, "(a, b) WITH RECURSIVE n(i) AS (SELECT ", Below(1000),
                        " UNION ALL SELECT i + 1 FROM n LIMIT ", rows, ") SELECT i, printf('%.*c', ",
                        Below(page_size_ / 8), " + i % 100, 'b') FROM n");
  }
  std::string Scattered(const char* table) {
    return absl::StrCat("UPDATE ", table, " SET a = a + 1, b = b || '", Below(10),
                        "' WHERE id % 11 = ", Below(11));
  }
  std::string Delete(const char* table) {
    return absl::StrCat("DELETE FROM ", table, " WHERE id % 2 = ", Below(2));
  }

  std::mt19937_64 rng_;
  const uint64_t page_size_;
};

class PowerCutTest : public testing::TestWithParam<std::tuple<int, bool, bool>> {
};  // page size, exclusive, in place

TEST_P(PowerCutTest, LeavesBothDatabasesSoundWithAllThatWasAcknowledgedAndNothingByHalf) {
  const auto [page_size, exclusive, in_place] = GetParam();
  const int seed = in_place ? 2 : 1;
  // Of pages of 64 KiB a database is large, and to read one takes long.
  const int transactions_count = page_size > 4096 ? 15 : 60;
  const size_t images_at_a_point = page_size > 4096 ? 24 : 72;
  std::printf("seed %d\n", seed);
  std::mt19937_64 rng(seed);
  Transactions transactions(rng(), page_size);
  SimulatedDeviceOptions options{.seed = rng()};
  if (in_place) options.atomic = {AtomicSource::kStated, kBlockBytes, 64 << 10, 0};
  auto opened = SimulatedDatabases::Open(SimulatedDatabases::NewDisk(64 << 20), options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  SimulatedDatabases& databases = **opened;
  // What it should hold, from a database in memory.
  Connection expected(":memory:");
  ASSERT_EQ(expected("ATTACH ':memory:' AS two"), "");
  const std::string settings =
      absl::StrCat("PRAGMA main.page_size=", page_size, "; PRAGMA two.page_size=", page_size,
                   "; PRAGMA two.auto_vacuum=FULL; PRAGMA main.cache_size=10; PRAGMA two.cache_size=10");
  const std::string schema =
      "CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT); CREATE INDEX ta ON t(a); "
      "CREATE TABLE two.u(id INTEGER PRIMARY KEY, a INT, b TEXT); INSERT INTO t(a, b) VALUES (1, 'one'), (2, "
      "'two')";
  ASSERT_EQ(databases(settings), "");
  for (Connection* c : {&databases.connection(), &expected}) ASSERT_EQ((*c)(schema), "");
  if (exclusive) {
    ASSERT_EQ(databases("PRAGMA locking_mode=EXCLUSIVE"), "exclusive");
  }

  struct Image {
    std::shared_ptr<SimulatedDisk> disk;
    bool during;  // the transaction
  };
  std::vector<Image> images;
  std::set<uint64_t> known;  // fingerprints
  int points = 0, checked = 0, new_ones = 0;
  const auto collect = [&](bool during) {
    ++points;
    const std::shared_ptr<SimulatedDisk> moment = databases.disk()->Clone();
    for (const Landings& landings : EnumerateLandings(moment->unflushed(), images_at_a_point, rng)) {
      std::shared_ptr<SimulatedDisk> after = moment->AfterCut(landings);
      if (known.insert(after->Fingerprint()).second) images.push_back({std::move(after), during});
    }
  };
  // What the databases may hold after a cut: what was made durable last, and what was committed since with synchronous=OFF.
  std::set<std::string> possible = {Contents(expected)};
  for (int n = 0; n < transactions_count; ++n) {
    const std::string sql = transactions.Next();
    const std::string before = Contents(expected);
    ASSERT_EQ(expected(sql), "");
    const std::string after = Contents(expected);
    databases.disk()->SetObserver([&] { collect(true); });
    ASSERT_EQ(databases(sql), "") << sql;
    databases.disk()->SetObserver(nullptr);
    ASSERT_EQ(Contents(databases.connection()), after) << sql;
    known.clear();  // what was possible inside need not be any more
    collect(false);
    std::set<std::string> inside = possible;
    inside.insert(after);
    if (after != before && sql.find("OFF") == std::string::npos)
      possible = {after};
    else
      possible = inside;
    for (const Image& image : images) {
      auto recovered = SimulatedDatabases::Open(image.disk, options);
      ASSERT_TRUE(recovered.ok()) << recovered.status() << " after " << sql;
      const std::string context = absl::StrCat("a cut ", image.during ? "inside " : "after ", sql);
      ASSERT_EQ(Unsound(**recovered), "") << context;
      const std::string found = Contents((*recovered)->connection());
      ASSERT_TRUE((image.during ? inside : possible).contains(found)) << context << " leaves " << found;
      ++checked;
      new_ones += image.during && found == after && after != before;
      if (rng() % 16 != 0) continue;
      ASSERT_EQ(
          (**recovered)("BEGIN; DELETE FROM t; INSERT INTO u(a) VALUES (1); COMMIT; SELECT count(*) FROM t"),
          "0")
          << context;
      ASSERT_EQ(Unsound(**recovered), "") << context << ", and going on";
    }
    images.clear();
  }
  std::printf("%d points, %d images, %d of them inside a transaction and with it\n", points, checked,
              new_ones);
  EXPECT_GT(new_ones, 0);
  EXPECT_EQ(databases.store().stats().change_sets_in_place() > 0, in_place);
}

INSTANTIATE_TEST_SUITE_P(Databases, PowerCutTest,
                         testing::Combine(testing::Values(512, 4096, 65536), testing::Bool(),
                                          testing::Values(1, 2)));

}  // namespace
}  // namespace untorn::sqlite
