// The system refuses io_uring, all of it or a part: by a filter of system calls, as containers have, or by a limit. The store
// goes on with system calls, and says so. A filter stays until its process ends, so each test has a process of its own.
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr uint64_t kPage = 4096;
constexpr WriteOptions kSync = {.durability = Durability::kSync};

// From now on, a system call of this number fails with `error`, in all threads of the process.
bool Refuse(long number, int error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

class RefusedIoUringTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 64 << 20, .force = true})));
    auto store = Store::Open(path_, {});
    ASSERT_TRUE(IsOk(store));
    if ((*store)->info().engine != "io_uring")
      GTEST_SKIP() << "no io_uring here: " << (*store)->info().engine_reason;
    ASSERT_TRUE(IsOk((*store)->CreateObject("a", Durability::kSync)));
  }
  void TearDown() override { unlink(path_.c_str()); }

  // Runs `run` in a process of its own, and fails if that process does not end by itself or has a failure.
  void InChild(const std::function<void()>& run) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(120);
      run();
      _exit(HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_FALSE(WIFSIGNALED(status)) << "ended by signal " << WTERMSIG(status);
    EXPECT_EQ(status, 0);
  }
  void ExpectSystemCalls(const Store& store, const std::string& reason) {
    const StoreInfo info = store.info();
    EXPECT_EQ(info.engine, "system calls");
    EXPECT_NE(info.engine_reason.find(reason), std::string::npos) << info.engine_reason;
    EXPECT_EQ(info.durable_road.find("io_uring"), std::string::npos) << info.durable_road;
  }
  // Opens the store, finds the reason, and uses the store.
  void ExpectFallsBack(const std::string& reason) {
    auto store = Store::Open(path_, {});
    ASSERT_TRUE(IsOk(store));
    ExpectSystemCalls(**store, reason);
    const Object object = *(*store)->OpenObject("a");
    ASSERT_TRUE(IsOk(object.Write(0, Stamped(1, 100 * kPage), kSync)));
    EXPECT_TRUE(ReadAll(object, 0, 100 * kPage) == Stamped(1, 100 * kPage));
    EXPECT_TRUE(IsOk((*store)->Close()));
  }

  const std::string path_ = testing::TempDir() + "/refused_io_uring." + std::to_string(getpid());
};

TEST_F(RefusedIoUringTest, NoRingCanBeMade) {
  for (const int error : {EPERM, ENOSYS}) {
    InChild([&] {
      ASSERT_TRUE(Refuse(SYS_io_uring_setup, error));
      ExpectFallsBack("seccomp");
    });
  }
}

TEST_F(RefusedIoUringTest, ARingCanBeMadeAndTakesNoFile) {
  InChild([&] {
    ASSERT_TRUE(Refuse(SYS_io_uring_register, EPERM));
    ExpectFallsBack("does not take the file");
  });
}

TEST_F(RefusedIoUringTest, ARingCanBeMadeAndDoesNoWork) {
  for (const int error : {EPERM, ENOSYS}) {
    InChild([&] {
      ASSERT_TRUE(Refuse(SYS_io_uring_enter, error));
      ExpectFallsBack("io_uring does no work");
    });
  }
}

TEST_F(RefusedIoUringTest, NoMemoryMayBeLocked) {
  InChild([&] {
    const rlimit none = {0, 0};
    ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    auto store = Store::Open(path_, {});
    ASSERT_TRUE(IsOk(store));
    const StoreInfo info = (*store)->info();
    EXPECT_TRUE(info.engine == "io_uring" || info.engine_reason.find("RLIMIT_MEMLOCK") != std::string::npos)
        << info.engine << ": " << info.engine_reason;
    EXPECT_TRUE(IsOk((*store)->OpenObject("a")->Write(0, Stamped(1, kPage), kSync)));
  });
}

// A host that shuts itself in when it has opened what it needs.
TEST_F(RefusedIoUringTest, ARingThatStopsWorkingUnderAStoreIsReplacedAndNothingIsLost) {
  InChild([&] {
    auto store = Store::Open(path_, {});
    ASSERT_TRUE(IsOk(store));
    constexpr int kThreads = 4;
    std::atomic<bool> shut_in = false;
    std::vector<uint64_t> newest(kThreads);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const Object object = *(*store)->CreateObject(std::to_string(t));
        int after = 0;
        for (uint64_t n = 1; after < 200; ++n) {
          if (shut_in) ++after;
          const std::vector<std::byte> data = Stamped(n, 16 * kPage);
          ASSERT_TRUE(IsOk(object.Write(0, data, n % 2 == 0 ? kSync : WriteOptions{.bypass_cache = true})));
          newest[t] = n;
          std::vector<std::byte> out(16 * kPage);
          ASSERT_TRUE(IsOk(object.Read(0, out, {.bypass_cache = true})));
          ASSERT_TRUE(out == data);
        }
      });
    }
    while ((*store)->stats().commits < 100) std::this_thread::yield();
    ASSERT_TRUE(Refuse(SYS_io_uring_enter, EPERM));
    shut_in = true;
    for (std::thread& thread : threads) thread.join();
    EXPECT_TRUE(IsOk((*store)->Checkpoint()));
    ExpectSystemCalls(**store, "io_uring has stopped working");
    EXPECT_TRUE(IsOk((*store)->Close()));
    store = Store::Open(path_, {});
    ASSERT_TRUE(IsOk(store));
    for (int t = 0; t < kThreads; ++t) {
      EXPECT_TRUE(ReadAll(*(*store)->OpenObject(std::to_string(t)), 0, 16 * kPage) ==
                  Stamped(newest[t], 16 * kPage));
    }
    EXPECT_TRUE(IsOk((*store)->Close()));
  });
  auto fsck = Fsck(path_);
  ASSERT_TRUE(IsOk(fsck));
  EXPECT_EQ(fsck->findings_total, 0u);
}

}  // namespace
}  // namespace untorn
