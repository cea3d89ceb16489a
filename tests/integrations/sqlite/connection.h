// A connection to SQLite, for tests.
#ifndef UNTORN_TESTS_INTEGRATIONS_SQLITE_CONNECTION_H_
#define UNTORN_TESTS_INTEGRATIONS_SQLITE_CONNECTION_H_

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace untorn::sqlite {

class Connection {
 public:
  explicit Connection(const std::string& uri, int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) {
    rc_ = sqlite3_open_v2(uri.c_str(), &db_, flags | SQLITE_OPEN_URI, nullptr);
  }
  ~Connection() { EXPECT_EQ(sqlite3_close(db_), SQLITE_OK); }
  Connection(const Connection&) = delete;

  int rc() const { return rc_; }  // of what was done last
  std::string error() const { return sqlite3_errmsg(db_); }
  sqlite3* db() { return db_; }
  // The rows, "a|b" each, separated by spaces; or "error: ...".
  std::string operator()(const std::string& sql) {
    std::string rows;
    char* message = nullptr;
    const auto add = [](void* to, int n, char** values, char**) {
      auto& rows = *static_cast<std::string*>(to);
      for (int i = 0; i < n; ++i)
        absl::StrAppend(&rows, i > 0 ? "|" : rows.empty() ? "" : " ", values[i] ? values[i] : "null");
      return 0;
    };
    rc_ = sqlite3_exec(db_, sql.c_str(), add, &rows, &message);
    if (rc_ != SQLITE_OK) rows = absl::StrCat("error: ", message ? message : sqlite3_errmsg(db_));
    sqlite3_free(message);
    return rows;
  }

 private:
  sqlite3* db_ = nullptr;
  int rc_ = SQLITE_OK;
};

}  // namespace untorn::sqlite

#endif  // UNTORN_TESTS_INTEGRATIONS_SQLITE_CONNECTION_H_
