// The C API does what the C++ API does: each function, what it returns, and its errors in words.
#include "untorn/c.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

std::string Temporary() {
  const char* const dir = std::getenv("TEST_TMPDIR");
  static int number = 0;
  return std::string(dir == nullptr ? "/tmp" : dir) + "/c-" + std::to_string(getpid()) + "-" +
         std::to_string(number++) + ".untorn";
}

class CTest : public testing::Test {
 protected:
  void SetUp() override {
    untorn_create_options create = UNTORN_CREATE_OPTIONS_INIT;
    create.size_bytes = 64 << 20;
    ASSERT_EQ(untorn_store_create(path_.c_str(), &create), UNTORN_OK) << untorn_message();
    Open();
  }
  void TearDown() override {
    Close();
    unlink(path_.c_str());
  }
  void Open() {
    untorn_open_options open = UNTORN_OPEN_OPTIONS_INIT;
    open.cache_bytes = 8 << 20;
    ASSERT_EQ(untorn_store_open(path_.c_str(), &open, &store_), UNTORN_OK) << untorn_message();
  }
  void Close() {
    EXPECT_EQ(untorn_store_close(store_), UNTORN_OK) << untorn_message();
    store_ = nullptr;
  }
  void SpoilFirstSuperblock() {
    FILE* const file = std::fopen(path_.c_str(), "r+");
    ASSERT_NE(file, nullptr);
    std::fwrite("rubbish", 7, 1, file);
    std::fclose(file);
  }
  untorn_object* Make(const char* name) {
    untorn_object* object = nullptr;
    EXPECT_EQ(untorn_object_create(store_, name, UNTORN_BUFFERED, &object), UNTORN_OK) << untorn_message();
    return object;
  }
  static std::string Content(const untorn_object* object, uint64_t offset = 0, size_t length = 100) {
    std::string out(length, '?');
    size_t got = 0;
    EXPECT_EQ(untorn_object_read(object, offset, out.data(), length, 0, &got), UNTORN_OK) << untorn_message();
    out.resize(got);
    return out;
  }
  std::vector<std::string> Names(const char* after = nullptr, size_t most = SIZE_MAX) {
    struct Names {
      std::vector<std::string> names;
      size_t most;
    } found{{}, most};
    const auto each = [](void* context, const char* name, uint64_t, uint64_t) {
      auto* names = static_cast<Names*>(context);
      names->names.emplace_back(name);
      return static_cast<int>(names->names.size() < names->most);
    };
    EXPECT_EQ(untorn_store_list(store_, after, each, &found), UNTORN_OK) << untorn_message();
    return found.names;
  }

  const std::string path_ = Temporary();
  untorn_store* store_ = nullptr;
};

TEST_F(CTest, ObjectsAreWrittenReadAndThereWhenTheStoreIsOpenedAgain) {
  untorn_object* a = Make("a");
  ASSERT_EQ(untorn_object_write(a, 0, "hello", 5, UNTORN_SYNC), UNTORN_OK) << untorn_message();
  const iovec parts[] = {{const_cast<char*>(", "), 2}, {const_cast<char*>("world"), 5}};
  ASSERT_EQ(untorn_object_writev(a, 5, parts, 2, UNTORN_NOT_ATOMIC | UNTORN_BYPASS_CACHE), UNTORN_OK);
  EXPECT_EQ(Content(a), "hello, world");
  char x[3], y[4];
  const iovec out[] = {{x, 3}, {y, 4}};
  size_t got = 0;
  ASSERT_EQ(untorn_object_readv(a, 7, out, 2, UNTORN_BYPASS_CACHE, &got), UNTORN_OK);
  EXPECT_EQ(std::string(x, 3) + std::string(y, got - 3), "world");
  uint64_t size = 0;
  ASSERT_EQ(untorn_object_size(a, &size), UNTORN_OK);
  EXPECT_EQ(size, 12u);
  const uint64_t id = untorn_object_id(a);
  untorn_object_free(a);
  Close();
  Open();
  ASSERT_EQ(untorn_object_open(store_, "a", &a), UNTORN_OK) << untorn_message();
  EXPECT_EQ(Content(a), "hello, world");
  EXPECT_EQ(untorn_object_id(a), id);
  char* name = nullptr;
  ASSERT_EQ(untorn_object_name(a, &name), UNTORN_OK);
  EXPECT_STREQ(name, "a");
  untorn_free(name);
  untorn_object_free(a);
}

TEST_F(CTest, ObjectIsTruncatedPunchedPreallocatedAndSynced) {
  untorn_object* a = Make("a");
  ASSERT_EQ(untorn_object_write(a, 0, "0123456789", 10, UNTORN_BUFFERED), UNTORN_OK);
  ASSERT_EQ(untorn_object_punch_hole(a, 2, 3, UNTORN_BUFFERED), UNTORN_OK);
  EXPECT_EQ(Content(a), std::string("01\0\0\0"
                                    "56789",
                                    10));
  ASSERT_EQ(untorn_object_truncate(a, 7, UNTORN_SYNC), UNTORN_OK);
  EXPECT_EQ(Content(a), std::string("01\0\0\0"
                                    "56",
                                    7));
  ASSERT_EQ(untorn_object_preallocate(a, 0, 1 << 20), UNTORN_OK) << untorn_message();
  uint64_t size = 0;
  ASSERT_EQ(untorn_object_size(a, &size), UNTORN_OK);
  EXPECT_EQ(size, 1u << 20);
  EXPECT_EQ(untorn_object_sync(a), UNTORN_OK);
  EXPECT_EQ(untorn_object_sync_range(a, 0, 4096), UNTORN_OK);
  EXPECT_EQ(untorn_store_barrier(store_), UNTORN_OK);
  EXPECT_EQ(untorn_store_sync(store_), UNTORN_OK);
  EXPECT_EQ(untorn_store_checkpoint(store_), UNTORN_OK);
  untorn_object_free(a);
}

TEST_F(CTest, AsynchronousOperationsTellOfTheirEnd) {
  struct End {
    std::promise<std::string> told;
    static void Done(void* context, untorn_code code, const char* message, size_t got) {
      static_cast<End*>(context)->told.set_value(std::string(untorn_code_name(code)) + " " + message + " " +
                                                 std::to_string(got));
    }
  };
  untorn_object* a = Make("a");
  End write, read, wrong;
  untorn_object_write_async(a, 0, "hello", 5, UNTORN_SYNC, End::Done, &write);
  EXPECT_EQ(write.told.get_future().get(), "OK  0");
  char out[10];
  untorn_object_read_async(a, 1, out, sizeof(out), 0, End::Done, &read);
  EXPECT_EQ(read.told.get_future().get(), "OK  4");
  EXPECT_EQ(std::string(out, 4), "ello");
  untorn_object_write_async(nullptr, 0, "hello", 5, 0, End::Done, &wrong);
  EXPECT_EQ(wrong.told.get_future().get(), "INVALID_ARGUMENT object is NULL 0");
  untorn_object_free(a);
}

TEST_F(CTest, NamesAreListedRenamedAndRemoved) {
  for (const char* name : {"b", "a", "c"}) untorn_object_free(Make(name));
  EXPECT_EQ(Names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(Names("a", 1), (std::vector<std::string>{"b"}));
  ASSERT_EQ(untorn_store_rename(store_, "a", "d", UNTORN_SYNC), UNTORN_OK);
  ASSERT_EQ(untorn_store_remove(store_, "b", UNTORN_SYNC), UNTORN_OK);
  EXPECT_EQ(Names(), (std::vector<std::string>{"c", "d"}));
}

TEST_F(CTest, TransactionIsThereWholeOrNotAtAll) {
  untorn_object_free(Make("old"));
  for (const bool commit : {false, true}) {
    untorn_transaction *t = nullptr, *more = nullptr;
    ASSERT_EQ(untorn_transaction_begin(store_, &t), UNTORN_OK);
    ASSERT_EQ(untorn_transaction_begin(store_, &more), UNTORN_OK);
    untorn_object *made = nullptr, *old = nullptr;
    ASSERT_EQ(untorn_transaction_create(t, "made", &made), UNTORN_OK) << untorn_message();
    ASSERT_EQ(untorn_transaction_write(t, made, 0, "hello", 5), UNTORN_OK);
    ASSERT_EQ(untorn_transaction_truncate(t, made, 4), UNTORN_OK);
    ASSERT_EQ(untorn_transaction_punch_hole(t, made, 1, 1), UNTORN_OK);
    char out[10];
    size_t got = 0;
    ASSERT_EQ(untorn_transaction_read(t, made, 0, out, sizeof(out), &got), UNTORN_OK);
    EXPECT_EQ(std::string(out, got), std::string("h\0ll", 4));
    uint64_t size = 0;
    ASSERT_EQ(untorn_transaction_size(t, made, &size), UNTORN_OK);
    EXPECT_EQ(size, 4u);
    ASSERT_EQ(untorn_transaction_open(more, "old", &old), UNTORN_OK);
    ASSERT_EQ(untorn_transaction_rename(more, "old", "renamed"), UNTORN_OK);
    ASSERT_EQ(untorn_transaction_absorb(t, more), UNTORN_OK) << untorn_message();
    EXPECT_EQ(untorn_transaction_write(more, old, 0, "x", 1), UNTORN_FAILED_PRECONDITION);
    if (commit) {
      ASSERT_EQ(untorn_transaction_commit(t, UNTORN_SYNC), UNTORN_OK) << untorn_message();
    }
    untorn_object_free(made);
    untorn_object_free(old);
    untorn_transaction_free(more);
    untorn_transaction_free(t);
    EXPECT_EQ(Names(),
              commit ? (std::vector<std::string>{"made", "renamed"}) : (std::vector<std::string>{"old"}));
  }
  untorn_transaction* t = nullptr;
  ASSERT_EQ(untorn_transaction_begin(store_, &t), UNTORN_OK);
  EXPECT_EQ(untorn_transaction_remove(t, "made"), UNTORN_OK);
  EXPECT_EQ(untorn_transaction_commit(t, UNTORN_BUFFERED), UNTORN_OK);
  untorn_transaction_free(t);
  EXPECT_EQ(Names(), (std::vector<std::string>{"renamed"}));
}

TEST_F(CTest, StoreTellsOfItselfAndIsScrubbedResizedAndTrimmed) {
  untorn_object* a = Make("a");
  ASSERT_EQ(untorn_object_write(a, 0, "hello", 5, UNTORN_SYNC), UNTORN_OK);
  untorn_object_free(a);
  char* json = nullptr;
  ASSERT_EQ(untorn_store_info_json(store_, &json), UNTORN_OK);
  const auto info = nlohmann::json::parse(json);
  EXPECT_EQ(info["size_bytes"], 64 << 20);
  EXPECT_EQ(info["untorn_version"], untorn_version());
  untorn_free(json);
  ASSERT_EQ(untorn_store_stats_json(store_, &json), UNTORN_OK);
  EXPECT_EQ(nlohmann::json::parse(json)["since_open"]["writes"], 1);
  untorn_free(json);
  char* metrics = nullptr;
  ASSERT_EQ(untorn_store_metrics(store_, &metrics), UNTORN_OK);
  EXPECT_NE(std::string(metrics).find("\nuntorn_writes_total{store=\"" + path_ + "\"} 1\n"),
            std::string::npos)
      << metrics;
  untorn_free(metrics);
  untorn_scrub_result scrubbed = UNTORN_SCRUB_RESULT_INIT;
  ASSERT_EQ(untorn_store_scrub(store_, nullptr, &scrubbed), UNTORN_OK) << untorn_message();
  EXPECT_EQ(scrubbed.objects, 1u);
  EXPECT_EQ(scrubbed.damaged_total, 0u);
  ASSERT_EQ(untorn_store_resize(store_, 128 << 20, nullptr, nullptr), UNTORN_OK) << untorn_message();
  uint64_t before = 0, after = 0;
  ASSERT_EQ(untorn_store_trim(store_, nullptr, nullptr, &before, &after, nullptr), UNTORN_OK)
      << untorn_message();
  EXPECT_GE(before, after);
}

TEST_F(CTest, StoreIsCheckedDumpedAndRepaired) {
  untorn_object_free(Make("a"));
  Close();
  uint64_t findings = 1, actions = 1, quarantined = 1;
  untorn_check_options check = UNTORN_CHECK_OPTIONS_INIT;
  check.data = 1;
  EXPECT_EQ(untorn_fsck(path_.c_str(), &check, &findings), UNTORN_OK) << untorn_message();
  EXPECT_EQ(findings, 0u);
  EXPECT_EQ(untorn_repair(path_.c_str(), nullptr, &actions, &quarantined), UNTORN_OK) << untorn_message();
  EXPECT_EQ(actions, 0u);
  EXPECT_EQ(quarantined, 0u);
  char* json = nullptr;
  ASSERT_EQ(untorn_dump_json(path_.c_str(), &json), UNTORN_OK);
  EXPECT_EQ(nlohmann::json::parse(json)["objects"].size(), 1u);
  untorn_free(json);
  SpoilFirstSuperblock();
  std::string found;
  check.context = &found;
  check.finding = [](void* context, int number, const char* name, const char* what) {
    *static_cast<std::string*>(context) += std::to_string(number) + " " + name + ": " + what + "\n";
  };
  EXPECT_EQ(untorn_fsck(path_.c_str(), &check, &findings), UNTORN_OK);
  EXPECT_EQ(findings, 1u);
  EXPECT_EQ(found.rfind("1 superblock-unreadable: ", 0), 0u) << found;
  EXPECT_EQ(untorn_repair(path_.c_str(), &check, &actions, &quarantined), UNTORN_OK) << untorn_message();
  EXPECT_EQ(actions, 1u);
  EXPECT_NE(found.find("0 repair: "), std::string::npos) << found;
  Open();
}

TEST_F(CTest, ErrorsHaveACodeAndAMessageOfTheThread) {
  untorn_object* object = nullptr;
  EXPECT_EQ(untorn_object_open(store_, "missing", &object), UNTORN_NOT_FOUND);
  EXPECT_NE(std::strstr(untorn_message(), "'missing'"), nullptr) << untorn_message();
  std::async(std::launch::async, [] { EXPECT_STREQ(untorn_message(), ""); }).get();
  EXPECT_EQ(untorn_object_open(store_, nullptr, &object), UNTORN_INVALID_ARGUMENT);
  EXPECT_STREQ(untorn_message(), "name is NULL");
  EXPECT_STREQ(untorn_code_name(UNTORN_NOT_FOUND), "NOT_FOUND");
  untorn_store* again = nullptr;
  EXPECT_EQ(untorn_store_open(path_.c_str(), nullptr, &again), UNTORN_FAILED_PRECONDITION)
      << untorn_message();
  untorn_open_options open = {};
  EXPECT_EQ(untorn_store_open(path_.c_str(), &open, &again), UNTORN_INVALID_ARGUMENT);
  EXPECT_STREQ(untorn_message(), "struct_size is not set");
  EXPECT_EQ(untorn_store_close(nullptr), UNTORN_OK);
}

TEST_F(CTest, BadArgumentsAreRefused) {
  untorn_object* a = Make("a");
  const iovec nothing = {nullptr, 1};
  EXPECT_EQ(untorn_object_write(a, 0, nullptr, 1, 0), UNTORN_INVALID_ARGUMENT);
  EXPECT_STREQ(untorn_message(), "the buffer is NULL");
  EXPECT_EQ(untorn_object_read(a, 0, nullptr, 1, 0, nullptr), UNTORN_INVALID_ARGUMENT);
  EXPECT_EQ(untorn_object_readv(a, 0, &nothing, 1, 0, nullptr), UNTORN_INVALID_ARGUMENT);
  EXPECT_EQ(untorn_object_writev(a, 0, nullptr, 1, 0), UNTORN_INVALID_ARGUMENT);
  EXPECT_EQ(untorn_object_writev(a, 0, &nothing, -1, 0), UNTORN_INVALID_ARGUMENT);
  EXPECT_EQ(untorn_object_size(a, nullptr), UNTORN_INVALID_ARGUMENT);
  EXPECT_EQ(untorn_object_write(a, 0, "x", 1, 8), UNTORN_INVALID_ARGUMENT) << "an unknown flag";
  EXPECT_EQ(untorn_object_truncate(a, 0, 2), UNTORN_INVALID_ARGUMENT);
  untorn_object_write_async(a, 0, "x", 1, 0, nullptr, nullptr);
  EXPECT_EQ(untorn_object_sync(a), UNTORN_OK);
  EXPECT_EQ(Content(a), "x");
  untorn_object_free(a);
  EXPECT_STREQ(untorn_code_name(77), "");
}

TEST_F(CTest, ManyObjectsAreListed) {
  constexpr int kObjects = 2100;
  for (int i = 0; i < kObjects; ++i) untorn_object_free(Make(std::to_string(100000 + i).c_str()));
  const std::vector<std::string> names = Names();
  ASSERT_EQ(names.size(), size_t{kObjects});
  for (int i = 0; i < kObjects; ++i) EXPECT_EQ(names[i], std::to_string(100000 + i));
}

TEST_F(CTest, ProgressIsToldAndMayCancel) {
  untorn_object* a = Make("a");
  ASSERT_EQ(untorn_object_write(a, 0, std::string(1 << 20, 'x').data(), 1 << 20, UNTORN_SYNC), UNTORN_OK);
  untorn_object_free(a);
  struct Told {
    int calls = 0, goes_on = 1;
  } told;
  untorn_scrub_options scrub = UNTORN_SCRUB_OPTIONS_INIT;
  scrub.context = &told;
  scrub.progress = [](void* context, uint64_t, uint64_t) {
    ++static_cast<Told*>(context)->calls;
    return static_cast<Told*>(context)->goes_on;
  };
  untorn_scrub_result result = UNTORN_SCRUB_RESULT_INIT;
  EXPECT_EQ(untorn_store_scrub(store_, &scrub, &result), UNTORN_OK);
  EXPECT_GT(told.calls, 0);
  EXPECT_EQ(result.bytes, uint64_t{1} << 20);
  told.goes_on = 0;
  EXPECT_EQ(untorn_store_scrub(store_, &scrub, &result), UNTORN_CANCELLED);
}

// A program that was compiled with a header that had more members.
TEST_F(CTest, NewerStructsAreReadUnlessTheyAskForMore) {
  Close();
  struct Newer {
    untorn_open_options known;
    int more;
  } newer = {UNTORN_OPEN_OPTIONS_INIT, 0};
  newer.known.struct_size = sizeof(newer);
  ASSERT_EQ(untorn_store_open(path_.c_str(), &newer.known, &store_), UNTORN_OK) << untorn_message();
  Close();
  newer.more = 1;
  EXPECT_EQ(untorn_store_open(path_.c_str(), &newer.known, &store_), UNTORN_UNIMPLEMENTED);
  Open();
}

// A program that was compiled with a header that had fewer members.
TEST_F(CTest, OlderStructsAreRead) {
  Close();
  untorn_open_options open = UNTORN_OPEN_OPTIONS_INIT;
  open.struct_size = offsetof(untorn_open_options, policy);
  open.read_only = 1;
  open.cache_bytes = 1;  // is not read
  ASSERT_EQ(untorn_store_open(path_.c_str(), &open, &store_), UNTORN_OK) << untorn_message();
  untorn_object* object = nullptr;
  EXPECT_EQ(untorn_object_create(store_, "a", UNTORN_BUFFERED, &object), UNTORN_FAILED_PRECONDITION);
}

TEST_F(CTest, LogGoesToTheCallback) {
  Close();
  SpoilFirstSuperblock();
  std::string logged;
  untorn_open_options open = UNTORN_OPEN_OPTIONS_INIT;
  open.log_context = &logged;
  open.log = [](void* context, untorn_log_level level, const char* message) {
    *static_cast<std::string*>(context) += std::to_string(level) + message + "\n";
  };
  ASSERT_EQ(untorn_store_open(path_.c_str(), &open, &store_), UNTORN_OK) << untorn_message();
  Close();
  EXPECT_EQ(logged.front(), '1') << "a warning";
  EXPECT_NE(logged.find("superblock slot 0 is unusable"), std::string::npos) << logged;
  Open();
}

}  // namespace
