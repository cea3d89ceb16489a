// A process that forks while it uses databases of a store. The child's calls fail at once and change nothing.
// https://www.sqlite.org/howtocorrupt.html, 2.6
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
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

constexpr int kTimeoutSeconds = 30;

// What a child that runs this exits with; -1 if it had to be killed.
template <typename Body>
int ExitCodeOfChild(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(kTimeoutSeconds);
    _exit(body());
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class ForkTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(untorn_sqlite_register(0), SQLITE_OK);
    store_ = testing::TempDir() + "/fork.untorn";
    ASSERT_TRUE(Store::Create(store_, {.size_bytes = 64 << 20, .force = true}).ok());
  }
  void TearDown() override { std::remove(store_.c_str()); }
  std::string Uri(const std::string& name) const {
    return absl::StrCat("file:", name, "?vfs=untorn&store=", store_);
  }
  std::string store_;
};

TEST_F(ForkTest, AChildCannotUseTheConnectionsOfItsParent) {
  Connection a(Uri("app.db")), b(Uri("app.db"));
  ASSERT_EQ(a("CREATE TABLE t(x); INSERT INTO t VALUES (1)"), "");
  ASSERT_EQ(b("SELECT x FROM t"), "1");
  ASSERT_EQ(a("BEGIN; INSERT INTO t VALUES (2)"), "");  // is open in the child too
  EXPECT_EQ(ExitCodeOfChild([&] {
              if (b("SELECT x FROM t") != "error: bad parameter or other API misuse") return 1;
              a("COMMIT");
              if (a.rc() == SQLITE_OK) return 2;
              Connection c(Uri("app.db"));
              if (c.rc() != SQLITE_CANTOPEN) return 3;
              if (!absl::StrContains(c.error(), "forked from")) return 4;
              return 0;
            }),
            0);
  // A child that ends as a program does, destructors and all.
  EXPECT_EQ(ExitCodeOfChild([&] {
              sqlite3_close(b.db());
              std::exit(0);
              return 1;
            }),
            0);
  EXPECT_EQ(a("COMMIT; SELECT count(*) FROM t"), "2");
  EXPECT_EQ(b("SELECT count(*) FROM t; PRAGMA integrity_check"), "2 ok");
}

TEST_F(ForkTest, AChildCanUseAnotherStore) {
  Connection a(Uri("app.db"));
  ASSERT_EQ(a("CREATE TABLE t(x)"), "");
  const std::string other = store_ + ".child";
  EXPECT_EQ(ExitCodeOfChild([&] {
              Connection c(absl::StrCat("file:own.db?vfs=untorn&store=", other));
              return c("CREATE TABLE t(x); INSERT INTO t VALUES (1); SELECT x FROM t") == "1" ? 0 : 1;
            }),
            0);
  EXPECT_EQ(Connection(absl::StrCat("file:own.db?vfs=untorn&store=", other))("SELECT x FROM t"), "1");
  std::remove(other.c_str());
}

// A fork can come at any point of the calls of other threads. SQLite's own mutexes may be taken then: so children only use
// what does not need these.
TEST_F(ForkTest, ChildrenOfAProcessWithThreadsDoNotHangAndDoNoHarm) {
  constexpr int kThreads = 3, kForks = 40;
  std::atomic<bool> stop = false;
  std::atomic<int> acknowledged = 0;
  ASSERT_EQ(Connection(Uri("app.db"))("CREATE TABLE t(x)"), "");
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      while (!stop) {
        Connection c(Uri("app.db"));
        sqlite3_busy_timeout(c.db(), 60'000);
        for (int n = 0; n < 5; ++n) {
          EXPECT_EQ(c("INSERT INTO t VALUES (1)"), "");
          ++acknowledged;
        }
      }
    });
  }
  sqlite3_vfs* vfs = sqlite3_vfs_find("untorn");
  const std::string journal = store_ + ":app.db-journal";
  for (int n = 0; n < kForks; ++n) {
    EXPECT_EQ(ExitCodeOfChild([&] {
                int found = 0;
                return vfs->xAccess(vfs, journal.c_str(), 0, &found) == SQLITE_OK ? 0 : 1;
              }),
              0);
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(Connection(Uri("app.db"))("SELECT count(*) FROM t; PRAGMA integrity_check"),
            absl::StrCat(acknowledged.load(), " ok"));
}

}  // namespace
}  // namespace untorn::sqlite
