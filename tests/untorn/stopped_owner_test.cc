// The owner of a store is stopped (SIGSTOP) with writes on their way, and continued. Nothing is lost, and nothing fails. Others
// are told meanwhile who has the store.
//
// UNTORN_SECONDS says for how long the owner is stopped.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
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

using absl::StatusCode;

constexpr uint64_t kPage = 4096, kPages = 64;
constexpr int kThreads = 4;

// What the processes share.
struct Shared {
  std::array<std::atomic<uint64_t>, kThreads> acknowledged;  // the newest number that is durable
  std::atomic<bool> stop, failed;
  char what[1000];
};

class StoppedOwnerTest : public testing::TestWithParam<bool> {
 protected:
  StoppedOwnerTest()
      : shared_(new (mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                    Shared()) {}
  ~StoppedOwnerTest() override {
    unlink(path_.c_str());
    munmap(shared_, sizeof(Shared));
  }

  void Tell(const absl::Status& status) {
    if (status.ok() || shared_->failed.exchange(true)) return;
    std::snprintf(shared_->what, sizeof(shared_->what), "%s", status.ToString().c_str());
  }

  // Writes until it is told to stop. Each number has its page, and goes to all of it.
  void Write() {
    auto store = Store::Open(path_, {.use_io_uring = GetParam()});
    Tell(store.status());
    if (!store.ok()) return;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        const absl::StatusOr<Object> object = (*store)->OpenObject(std::to_string(t));
        Tell(object.status());
        for (uint64_t n = 1; !shared_->stop && !shared_->failed; ++n) {
          Tell(object->Write(n % kPages * 4 * kPage, Stamped(n, 4 * kPage),
                             {.durability = Durability::kSync}));
          if (!shared_->failed) shared_->acknowledged[t] = n;
          if (t == 0 && n % 50 == 0) Tell((*store)->Checkpoint());
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    Tell((*store)->Close());
  }
  // Waits until every thread has done some more.
  void AwaitProgress() {
    for (auto& acknowledged : shared_->acknowledged) {
      for (const uint64_t now = acknowledged; acknowledged < now + 3 && !shared_->failed;)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_FALSE(shared_->failed) << shared_->what;
  }

  const std::string path_ = testing::TempDir() + "/stopped_owner." + std::to_string(getpid());
  Shared* const shared_;
};

TEST_P(StoppedOwnerTest, LosesNothingFailsNothingAndKeepsOthersOut) {
  const std::chrono::seconds stop(FromEnvironment("UNTORN_SECONDS", 3));
  ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 128 << 20, .force = true})));
  {
    auto store = Store::Open(path_, {});
    ASSERT_TRUE(IsOk(store));
    for (int t = 0; t < kThreads; ++t) ASSERT_TRUE(IsOk((*store)->CreateObject(std::to_string(t))));
    ASSERT_TRUE(IsOk((*store)->Close()));
  }
  const pid_t owner = fork();
  ASSERT_GE(owner, 0);
  if (owner == 0) {
    Write();
    _exit(shared_->failed ? 1 : 0);
  }
  AwaitProgress();
  auto reader = Store::Open(path_, {.read_only = true});
  ASSERT_TRUE(IsOk(reader));
  const auto before = ReadAll(*(*reader)->OpenObject("0"), 0, 4 * kPage);
  // Short stops meet many moments of the writes.
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(kill(owner, SIGSTOP), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_EQ(kill(owner, SIGCONT), 0);
    AwaitProgress();
  }
  ASSERT_EQ(kill(owner, SIGSTOP), 0);
  const auto end = std::chrono::steady_clock::now() + stop;
  const absl::Status second = Store::Open(path_, {}).status();
  EXPECT_TRUE(Fails(second, StatusCode::kFailedPrecondition));
  EXPECT_NE(second.message().find("open for writing by process " + std::to_string(owner)), std::string::npos)
      << second;
  EXPECT_TRUE(ReadAll(*(*reader)->OpenObject("0"), 0, 4 * kPage) == before)
      << "the state that the reader has";
  // A newer state has to be asked for.
  absl::Status refreshed;
  std::thread refreshing([&] { refreshed = (*reader)->Refresh(); });
  std::this_thread::sleep_until(end);
  ASSERT_EQ(kill(owner, SIGCONT), 0);
  refreshing.join();
  // A reader waits for 30 seconds.
  const bool waited_enough =
      refreshed.ok() ? stop < std::chrono::seconds(40) : stop > std::chrono::seconds(20);
  EXPECT_TRUE(waited_enough && (refreshed.ok() || absl::IsUnavailable(refreshed))) << refreshed;
  AwaitProgress();
  EXPECT_TRUE(IsOk((*reader)->Refresh()));
  shared_->stop = true;
  int status = 0;
  ASSERT_EQ(waitpid(owner, &status, 0), owner);
  EXPECT_EQ(status, 0) << shared_->what;
  EXPECT_TRUE(IsOk((*reader)->Close()));

  auto store = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(store));
  for (int t = 0; t < kThreads; ++t) {
    const Object object = *(*store)->OpenObject(std::to_string(t));
    const uint64_t last = shared_->acknowledged[t];
    for (uint64_t n = last < kPages ? 1 : last - kPages + 1; n <= last; ++n)
      EXPECT_TRUE(ReadAll(object, n % kPages * 4 * kPage, 4 * kPage) == Stamped(n, 4 * kPage))
          << t << ": " << n;
  }
  ASSERT_TRUE(IsOk((*store)->Close()));
  auto fsck = Fsck(path_);
  ASSERT_TRUE(IsOk(fsck));
  EXPECT_EQ(fsck->findings_total, 0u);
}

INSTANTIATE_TEST_SUITE_P(Engines, StoppedOwnerTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "IoUring" : "SystemCalls"; });

}  // namespace
}  // namespace untorn
