// A program with threads and open stores forks. A child may come into being while a thread of its parent is anywhere in the
// store. The child ends as programs do, or becomes another program, and nothing of that disturbs the parent.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace {
bool in_child = false;
}  // namespace

// A child leaves the stores of its parent where they are. That is no leak.
extern "C" int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() { return in_child ? 1 : 0; }

namespace untorn {
namespace {

using absl::StatusCode;

constexpr uint64_t kPage = 4096;
constexpr WriteOptions kSync = {.durability = Durability::kSync};

// Are destroyed when the process exits.
std::unique_ptr<Store> owner, reader;

class ForkTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 64 << 20, .force = true})));
    owner = *Store::Open(path_, {});
    for (int t = 0; t < kThreads; ++t)
      ASSERT_TRUE(IsOk(owner->CreateObject(std::to_string(t), Durability::kSync)));
    reader = *Store::Open(path_, {.read_only = true});
    ASSERT_TRUE(reader->info().beside_owner);
  }
  void TearDown() override { unlink(path_.c_str()); }

  // Has the threads write, read and refresh while `run` runs in this one. Then expects that all is there.
  void UnderLoad(const std::function<void()>& run) {
    std::atomic<bool> stop = false;
    std::vector<uint64_t> newest(kThreads);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const Object object = *owner->OpenObject(std::to_string(t));
        for (uint64_t n = 1; !stop; ++n) {
          ASSERT_TRUE(IsOk(object.Write(0, Stamped(n, 4 * kPage), n % 4 == 0 ? kSync : WriteOptions())));
          newest[t] = n;
          ASSERT_TRUE(ReadAll(object, 0, 4 * kPage) == Stamped(n, 4 * kPage));
        }
      });
      threads.emplace_back([&] {
        while (!stop) ASSERT_TRUE(IsOk(reader->List()));
      });
    }
    threads.emplace_back([&] {
      while (!stop) ASSERT_TRUE(IsOk(reader->Refresh()));
    });
    // Takes the lock of the newest state most of the time, so that children come into being with it held.
    threads.emplace_back([&] {
      while (!stop) reader->Begin();
    });
    run();
    stop = true;
    for (std::thread& thread : threads) thread.join();
    ASSERT_TRUE(IsOk(reader->Refresh()));
    for (int t = 0; t < kThreads; ++t) {
      const std::string name = std::to_string(t);
      EXPECT_TRUE(ReadAll(*owner->OpenObject(name), 0, 4 * kPage) == Stamped(newest[t], 4 * kPage));
    }
    ASSERT_TRUE(IsOk(reader->Close()));
    ASSERT_TRUE(IsOk(owner->Close()));
    reader.reset();
    owner.reset();
    auto fsck = Fsck(path_);
    ASSERT_TRUE(IsOk(fsck));
    EXPECT_EQ(fsck->findings_total, 0u);
  }

  // Forks a child that runs `run` and exits with its result. A child that hangs is killed.
  template <typename Run>
  pid_t Fork(Run run) {
    const pid_t child = fork();
    if (child != 0) return child;
    in_child = true;
    alarm(60);
    run();
    _exit(9);
  }
  void ExpectExit(pid_t child, int code) {
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_FALSE(WIFSIGNALED(status)) << "killed by signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), code);
  }

  static constexpr int kThreads = 3;
  const std::string path_ = testing::TempDir() + "/fork." + std::to_string(getpid());
};

TEST_F(ForkTest, CallsOfChildrenFailAndTheParentGoesOn) {
  UnderLoad([&] {
    for (int i = 0; i < 300; ++i) {
      ExpectExit(Fork([&] {
                   bool all_fail = true;
                   for (const auto& store : {&owner, &reader}) {
                     for (const absl::Status& status :
                          {(*store)->OpenObject("0").status(), (*store)->List().status(), (*store)->Sync(),
                           (*store)->Refresh(), (*store)->Begin().Commit(), (*store)->Remove("0"),
                           (*store)->Close()}) {
                       all_fail &= Fails(status, StatusCode::kFailedPrecondition);
                     }
                     (*store)->info();
                     (*store)->stats();
                     store->reset();
                   }
                   _exit(all_fail ? 0 : 1);
                 }),
                 0);
    }
  });
}

TEST_F(ForkTest, ChildrenThatExitAsProgramsDoDisturbNothing) {
  UnderLoad([&] {
    for (int i = 0; i < 50; ++i) {
      ExpectExit(Fork([&] { std::exit(3); }), 3);  // destroys both stores
      ExpectExit(Fork([&] { _exit(4); }), 4);
    }
  });
}

TEST_F(ForkTest, ProgramsThatChildrenBecomeHaveNothingOfAStore) {
  UnderLoad([&] {
    // The shell has no file open but for the standard streams, and what it inherits from this test.
    const std::string program = "for fd in /proc/self/fd/*; do case $(readlink $fd) in *" + path_ +
                                "*|*io_uring*) exit 1;; esac; done; exit 5";
    for (int i = 0; i < 20; ++i)
      ExpectExit(Fork([&] { execl("/bin/sh", "sh", "-c", program.c_str(), nullptr); }), 5);
  });
  // Nor does such a program keep the store locked.
  owner = *Store::Open(path_, {});
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  const pid_t child = Fork([&] { execl("/bin/sleep", "sleep", "60", nullptr); });
  close(ready[1]);
  char none;
  ASSERT_EQ(read(ready[0], &none, 1), 0) << "the child has become the other program";
  close(ready[0]);
  ASSERT_TRUE(IsOk(owner->Close()));
  owner = *Store::Open(path_, {});
  ASSERT_TRUE(IsOk(owner->Close()));
  owner.reset();
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
}

// The lock of a store that is closed does not wait for children that its process has forked.
TEST_F(ForkTest, AStoreThatTheParentClosesCanBeOpenedWhileAChildLives) {
  int end[2];
  ASSERT_EQ(pipe(end), 0);
  const pid_t child = Fork([&] {
    close(end[1]);
    char none;
    _exit(read(end[0], &none, 1) == 0 ? 0 : 1);
  });
  close(end[0]);
  ASSERT_TRUE(IsOk(reader->Close()));
  ASSERT_TRUE(IsOk(owner->Close()));
  owner = *Store::Open(path_, {});
  EXPECT_TRUE(IsOk(owner->CreateObject("b", Durability::kSync)));
  close(end[1]);
  ExpectExit(child, 0);
  EXPECT_TRUE(IsOk(owner->CreateObject("c", Durability::kSync)));
  EXPECT_TRUE(IsOk(owner->Close()));
  owner.reset();
  reader.reset();
}

}  // namespace
}  // namespace untorn
