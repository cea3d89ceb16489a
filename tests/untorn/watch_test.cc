// One process has a store open, and others watch it. Each of them is killed and stopped.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/watcher.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

using absl::StatusCode;
using internal::Watcher;

// What the processes share.
struct Shared {
  std::atomic<uint64_t> writes, warnings;
  std::atomic<bool> open, close;
  char warning[1000];
};

class WatchTest : public testing::Test {
 protected:
  WatchTest()
      : directory_(absl::StrCat(testing::TempDir(), "/watch.", getpid())),
        path_(directory_ + "/s.untorn"),
        file_(path_ + ".stats"),
        shared_(new (mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                    Shared()) {}
  void SetUp() override {
    std::filesystem::create_directory(directory_);
    ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 32 << 20})));
    ASSERT_EQ(chmod(path_.c_str(), 0640), 0);
  }
  ~WatchTest() override {
    for (const pid_t pid : children_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    chmod(directory_.c_str(), 0755);
    std::filesystem::remove_all(directory_);
    munmap(shared_, sizeof(Shared));
  }

  pid_t Fork(const std::function<void()>& run) {
    const pid_t pid = fork();
    if (pid != 0) {
      children_.push_back(pid);
      return pid;
    }
    run();
    _exit(0);
  }

  // Starts a process that has the store open, and writes to it until it is told to close it.
  pid_t StartOwner(bool without_rights = false) {
    shared_->open = shared_->close = false;
    const pid_t pid = Fork([&] {
      // Root too has to keep to the permissions of directories then.
      __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
      __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
      if (without_rights && syscall(SYS_capset, &header, none) != 0) _exit(1);
      OpenOptions options;
      options.log = [this](LogLevel level, std::string_view message) {
        if (level == LogLevel::kInfo) return;
        if (shared_->warnings++ == 0)
          std::snprintf(shared_->warning, sizeof(shared_->warning), "%s", std::string(message).c_str());
      };
      auto store = Store::Open(path_, options);
      if (!store.ok()) _exit(1);
      auto object = (*store)->OpenObject("a");
      if (!object.ok()) object = (*store)->CreateObject("a");
      shared_->open = true;
      while (!shared_->close) {
        if (!object->Write(0, Stamped(++shared_->writes, 4096), {.durability = Durability::kSync}).ok())
          _exit(1);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      _exit((*store)->Close().ok() ? 0 : 1);
    });
    EXPECT_TRUE(Becomes([&] { return shared_->open.load(); }));
    return pid;
  }
  void Kill(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    std::erase(children_, pid);
  }
  // Lets the owner close the store, and expects that it could.
  void Close(pid_t owner) {
    shared_->close = true;
    int status = 0;
    waitpid(owner, &status, 0);
    EXPECT_EQ(status, 0);
    std::erase(children_, owner);
  }

  // Waits until the condition holds. Returns false after a minute.
  static bool Becomes(const std::function<bool()>& condition) {
    for (int i = 0; i < 6000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  bool FileIsThere() const { return std::filesystem::exists(std::filesystem::symlink_status(file_)); }
  // Returns the next page, or the error that comes instead.
  static absl::StatusOr<std::string> Next(Watcher& watcher) {
    absl::StatusOr<std::optional<std::string>> page = std::nullopt;
    if (!Becomes([&] {
          page = watcher.Poll();
          return !page.ok() || page->has_value();
        })) {
      return absl::DeadlineExceededError("no page comes");
    }
    if (!page.ok()) return page.status();
    return **page;
  }
  static uint64_t ValueIn(const std::string& page, const std::string& metric) {
    const size_t at = page.find("\n" + metric + "{");
    const size_t value = page.find("} ", at);
    return at == page.npos ? 0 : std::stoull(page.substr(value + 2));
  }
  static std::string ContentOf(const std::string& path) {
    std::ifstream in(path);
    std::stringstream content;
    content << in.rdbuf();
    return content.str();
  }

  const std::string directory_, path_, file_;
  Shared* const shared_;
  std::vector<pid_t> children_;
};

TEST_F(WatchTest, OwnerTellsItsNumbersWhileSomebodyWatchesAndOnlyThen) {
  const pid_t owner = StartOwner();
  EXPECT_TRUE(Becomes([&, first = shared_->writes.load()] { return shared_->writes > first + 300; }));
  EXPECT_FALSE(FileIsThere()) << "nobody watches";
  auto watcher = Watcher::Open(path_);
  ASSERT_TRUE(IsOk(watcher));
  const auto first = Next(**watcher), second = Next(**watcher);
  ASSERT_TRUE(IsOk(first));
  ASSERT_TRUE(IsOk(second));
  EXPECT_EQ(ValueIn(*first, "untorn_process_id"), static_cast<uint64_t>(owner));
  EXPECT_GT(ValueIn(*first, "untorn_writes_total"), 300u);
  EXPECT_GT(ValueIn(*second, "untorn_writes_total"), ValueIn(*first, "untorn_writes_total"));
  struct stat st;
  ASSERT_EQ(stat(file_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & ALLPERMS, 0640u) << "the permissions of the store";
  watcher->reset();
  EXPECT_TRUE(Becomes([&] { return !FileIsThere(); }));
  Close(owner);
  EXPECT_EQ(shared_->warnings, 0u) << shared_->warning;
}

TEST_F(WatchTest, CloseRemovesTheFileAndTellsTheWatcher) {
  const pid_t owner = StartOwner();
  auto watcher = Watcher::Open(path_);
  ASSERT_TRUE(IsOk(watcher));
  ASSERT_TRUE(IsOk(Next(**watcher)));
  Close(owner);
  EXPECT_FALSE(FileIsThere());
  EXPECT_TRUE(Fails((*watcher)->Poll(), StatusCode::kAborted));
}

TEST_F(WatchTest, WhatAKilledOwnerHasLeftIsNotBelieved) {
  pid_t owner = StartOwner();
  auto watcher = Watcher::Open(path_);
  ASSERT_TRUE(IsOk(watcher));
  ASSERT_TRUE(IsOk(Next(**watcher)));
  Kill(owner);
  EXPECT_TRUE(Fails(Next(**watcher), StatusCode::kAborted));
  watcher->reset();
  EXPECT_TRUE(FileIsThere());
  EXPECT_TRUE(Fails(Watcher::Open(path_), StatusCode::kUnavailable)) << "there is a file, and no owner";

  // The next owner writes the file anew, or removes it first.
  owner = StartOwner();
  watcher = Watcher::Open(path_);
  ASSERT_TRUE(IsOk(watcher));
  const auto page = Next(**watcher);
  ASSERT_TRUE(IsOk(page));
  EXPECT_EQ(ValueIn(*page, "untorn_process_id"), static_cast<uint64_t>(owner));
  Kill(owner);
  watcher->reset();
  ASSERT_TRUE(FileIsThere());
  StartOwner();
  EXPECT_TRUE(Becomes([&] { return !FileIsThere(); })) << "nobody watches, and the file stays";
}

TEST_F(WatchTest, WatcherThatIsKilledOrStoppedDoesNoHarm) {
  const pid_t owner = StartOwner();
  const pid_t child = Fork([&] {
    auto watcher = Watcher::Open(path_);
    while (watcher.ok()) pause();
  });
  ASSERT_TRUE(Becomes([&] { return FileIsThere(); }));
  kill(child, SIGSTOP);
  EXPECT_TRUE(Becomes([&, first = shared_->writes.load()] { return shared_->writes > first + 100; }));
  Kill(child);
  EXPECT_TRUE(Becomes([&] { return !FileIsThere(); }));
  Close(owner);
}

TEST_F(WatchTest, TwoWatchAtTheSameTime) {
  const pid_t owner = StartOwner();
  auto one = Watcher::Open(path_), two = Watcher::Open(path_);
  ASSERT_TRUE(IsOk(one));
  ASSERT_TRUE(IsOk(two));
  ASSERT_TRUE(IsOk(Next(**one)));
  ASSERT_TRUE(IsOk(Next(**two)));
  one->reset();
  ASSERT_TRUE(IsOk(Next(**two)));
  ASSERT_TRUE(IsOk(Next(**two)));
  Close(owner);
}

TEST_F(WatchTest, OwnerThatMayNotWriteTheFileWarnsOnceAndTheWatcherIsTold) {
  ASSERT_EQ(chmod(directory_.c_str(), 0555), 0);
  const pid_t owner = StartOwner(/*without_rights=*/true);
  auto watcher = Watcher::Open(path_);
  ASSERT_TRUE(IsOk(watcher));
  const auto page = Next(**watcher);
  EXPECT_TRUE(Fails(page, StatusCode::kUnavailable));
  EXPECT_NE(
      page.status().message().find(absl::StrCat("process ", owner, " has the store open, and cannot write")),
      std::string::npos)
      << page.status();
  // It tries again every second.
  EXPECT_TRUE(Becomes([&, end = std::chrono::steady_clock::now() + std::chrono::milliseconds(2500)] {
    return std::chrono::steady_clock::now() > end;
  }));
  EXPECT_EQ(shared_->warnings, 1u);
  EXPECT_NE(std::string(shared_->warning).find("Permission denied"), std::string::npos) << shared_->warning;
  Close(owner);
}

TEST_F(WatchTest, SomethingElseWithTheNameOfTheFileStays) {
  const std::string other = directory_ + "/other";
  std::ofstream(other) << "# HELP untorn_store_info of somebody else";
  for (const bool link : {false, true}) {
    if (link) {
      unlink(file_.c_str());
      std::filesystem::create_symlink(other, file_);
    } else {
      std::ofstream(file_) << "a user's own";
    }
    const pid_t owner = StartOwner();
    auto watcher = Watcher::Open(path_);
    ASSERT_TRUE(IsOk(watcher));
    EXPECT_TRUE(Fails(Next(**watcher), StatusCode::kUnavailable)) << "link: " << link;
    Close(owner);
    EXPECT_EQ(ContentOf(other), "# HELP untorn_store_info of somebody else");
    EXPECT_EQ(ContentOf(file_), link ? ContentOf(other) : "a user's own");
  }
  EXPECT_EQ(shared_->warnings, 2u);
}

TEST_F(WatchTest, StoreThatHasGotAnotherNameIsNotToldOfUnderTheOldOne) {
  const pid_t owner = StartOwner();
  const std::string renamed = directory_ + "/renamed";
  std::filesystem::rename(path_, renamed);
  auto watcher = Watcher::Open(renamed);
  ASSERT_TRUE(IsOk(watcher));
  EXPECT_TRUE(Fails(Next(**watcher), StatusCode::kUnavailable));
  EXPECT_FALSE(FileIsThere());
  EXPECT_NE(std::string(shared_->warning).find("another name"), std::string::npos) << shared_->warning;
  Close(owner);
}

TEST_F(WatchTest, OwnerThatIsStoppedIsNamed) {
  const pid_t owner = StartOwner();
  auto watcher = Watcher::Open(path_);
  ASSERT_TRUE(IsOk(watcher));
  ASSERT_TRUE(IsOk(Next(**watcher)));
  kill(owner, SIGSTOP);
  absl::StatusOr<std::string> next = Next(**watcher);
  if (next.ok()) next = Next(**watcher);  // one may have been on its way
  EXPECT_TRUE(Fails(next, StatusCode::kUnavailable));
  EXPECT_NE(next.status().message().find(absl::StrCat("process ", owner)), std::string::npos)
      << next.status();
  EXPECT_NE(next.status().message().find("may be stopped"), std::string::npos) << next.status();
}

TEST_F(WatchTest, StoreThatNobodyWritesCannotBeWatched) {
  EXPECT_TRUE(Fails(Watcher::Open(path_), StatusCode::kUnavailable));
  EXPECT_TRUE(Fails(Watcher::Open(path_ + "x"), StatusCode::kNotFound));
  auto reader = Store::Open(path_, {.read_only = true});
  ASSERT_TRUE(IsOk(reader));
  EXPECT_TRUE(Fails(Watcher::Open(path_), StatusCode::kUnavailable));
}

}  // namespace
}  // namespace untorn
