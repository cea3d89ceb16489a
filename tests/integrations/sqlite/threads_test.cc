// Connections of several threads to databases of one store, which come and go.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "integrations/sqlite/untorn_sqlite.h"
#include "tests/integrations/sqlite/connection.h"
#include "untorn/store.h"

namespace untorn::sqlite {
namespace {

TEST(ThreadsTest, LoseNoUpdateAndSeeNoTransactionByHalf) {
  constexpr int kThreads = 4, kConnections = 4, kUpdates = 20;
  ASSERT_EQ(untorn_sqlite_register(0), SQLITE_OK);
  const std::string store = testing::TempDir() + "/threads.untorn";
  ASSERT_TRUE(Store::Create(store, {.size_bytes = 64 << 20, .force = true}).ok());
  const auto uri = [&](const char* name) { return absl::StrCat("file:", name, "?vfs=untorn&store=", store); };
  const std::string attach = absl::StrCat("ATTACH '", uri("two.db"), "' AS two");
  {
    Connection c(uri("one.db"));
    ASSERT_EQ(c(attach), "");
    ASSERT_EQ(
        c("CREATE TABLE t(x); INSERT INTO t VALUES (0); CREATE TABLE two.u(x); INSERT INTO u VALUES (0)"),
        "");
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < kConnections; ++k) {
        Connection c(uri("one.db"));
        sqlite3_busy_timeout(c.db(), 60'000);
        EXPECT_EQ(c(attach), "");
        for (int n = 0; n < kUpdates; ++n) {
          EXPECT_EQ(c("BEGIN IMMEDIATE; UPDATE t SET x = x + 1; UPDATE u SET x = x + 1; COMMIT"), "");
          EXPECT_EQ(c("SELECT t.x - u.x FROM t, u"), "0");
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  {
    Connection c(uri("one.db"));
    EXPECT_EQ(c("SELECT x FROM t"), absl::StrCat(kThreads * kConnections * kUpdates));
  }
  std::remove(store.c_str());
}

// There the commit of several databases does not wait for others that read the same cache.
TEST(ThreadsTest, ReadersOfASharedCacheSeeNoTransactionOverTwoDatabasesByHalf) {
  ASSERT_EQ(untorn_sqlite_register(0), SQLITE_OK);
  const std::string store = testing::TempDir() + "/shared.untorn";
  ASSERT_TRUE(Store::Create(store, {.size_bytes = 64 << 20, .force = true}).ok());
  const auto uri = [&](const char* name) {
    return absl::StrCat("file:", name, "?vfs=untorn&cache=shared&store=", store);
  };
  const std::string attach = absl::StrCat("ATTACH '", uri("two.db"), "' AS two");
  Connection writer(uri("one.db"));
  ASSERT_EQ(writer(attach), "");
  ASSERT_EQ(writer("CREATE TABLE t(x); CREATE TABLE other(x, y); INSERT INTO t VALUES (0);"
                   "CREATE TABLE two.u(x); INSERT INTO u VALUES (0);"
                   "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500) "
                   "INSERT INTO other SELECT i, hex(randomblob(500)) FROM n"),
            "");
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      Connection c(uri("one.db"));
      c("PRAGMA cache_size=3");
      while (!stop) {
        const std::string sum = c("SELECT sum(x) FROM other");
        EXPECT_TRUE(sum == "125250" || absl::StrContains(sum, "locked")) << sum;
      }
    });
  }
  for (int n = 0; n < 200; ++n) {
    EXPECT_EQ(writer("BEGIN; UPDATE t SET x = x + 1; UPDATE u SET x = x + 1; COMMIT"), "");
  }
  stop = true;
  for (std::thread& t : readers) t.join();
  EXPECT_EQ(writer("SELECT t.x, u.x FROM t, u"), "200|200");
  std::remove(store.c_str());
}

}  // namespace
}  // namespace untorn::sqlite
