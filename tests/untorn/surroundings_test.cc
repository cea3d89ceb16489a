// An embedded library never ends its host: what the surroundings refuse is an error of the call, and the host goes on.
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

// While it lives, threads have stacks that no machine has room for: so none can be started.
class NoThreads {
 public:
  NoThreads() {
    pthread_getattr_default_np(&before_);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, size_t{1} << 47);
    EXPECT_EQ(pthread_setattr_default_np(&attributes), 0);
    pthread_attr_destroy(&attributes);
  }
  ~NoThreads() {
    pthread_setattr_default_np(&before_);
    pthread_attr_destroy(&before_);
  }

 private:
  pthread_attr_t before_;
};

class SurroundingsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 64 << 20, .force = true}))); }
  void TearDown() override { std::remove(path_.c_str()); }
  const std::string path_ = testing::TempDir() + "/surroundings";
};

TEST_F(SurroundingsTest, AStoreWhoseThreadsCannotBeStartedIsNotOpenedAndCanBeLater) {
  {
    const NoThreads none;
    auto store = Store::Open(path_, {});
    ASSERT_TRUE(Fails(store.status(), absl::StatusCode::kResourceExhausted));
    EXPECT_TRUE(store.status().message().find("thread") != std::string::npos) << store.status();
  }
  auto store = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(store));
  EXPECT_TRUE(IsOk((*store)->Close()));
}

TEST_F(SurroundingsTest, AsynchronousReadsAreDoneByTheCallWhereNoMoreThreadsCanBeStarted) {
  auto store = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(store));
  const Object object = *(*store)->CreateObject("a");
  const std::vector<std::byte> data = Stamped(1, 1 << 20);
  ASSERT_TRUE(IsOk(object.Write(0, data, {.durability = Durability::kSync, .bypass_cache = true})));
  std::vector<std::byte> out(data.size());
  absl::StatusOr<size_t> told = 0;
  {
    const NoThreads none;
    object.ReadAsync(0, out, {.bypass_cache = true}, [&](absl::StatusOr<size_t> n) { told = n; });
    ASSERT_TRUE(IsOk((*store)->Close()));  // waits for it
  }
  EXPECT_EQ(told.value_or(0), data.size());
  EXPECT_TRUE(out == data);
}

// Promise 8: the store fails and says so, before it closes, and without an operation that would notice by itself.
TEST_F(SurroundingsTest, AFileThatIsCutShortUnderAWriterFailsTheStore) {
  auto store = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(store));
  const Object object = *(*store)->CreateObject("a");
  ASSERT_TRUE(IsOk(object.Write(0, Stamped(1, 8 << 20), {.durability = Durability::kSync})));
  ASSERT_EQ(truncate(path_.c_str(), 4 << 20), 0);
  const absl::Status checkpoint = (*store)->Checkpoint();
  EXPECT_FALSE(checkpoint.ok());
  EXPECT_NE(checkpoint.message().find("cut it short"), std::string::npos) << checkpoint;
  EXPECT_TRUE(Fails(object.Write(0, Stamped(2, 4096)), absl::StatusCode::kFailedPrecondition));
  EXPECT_FALSE((*store)->Close().ok());
}

TEST_F(SurroundingsTest, AnIdleWriterNoticesThatItsFileIsCutShort) {
  auto store = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(store));
  const Object object = *(*store)->CreateObject("a");
  ASSERT_EQ(truncate(path_.c_str(), 4 << 20), 0);
  absl::Status status;
  while (status.ok()) status = object.Write(0, Stamped(2, 4096));  // until the store has looked
  EXPECT_NE(status.message().find("cut it short"), std::string::npos) << status;
}

// A signal of the host may be one that the host's own threads wait for, or that ends a process.
TEST_F(SurroundingsTest, TheThreadsOfAStoreTakeNoSignalsOfTheProcess) {
  auto store = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(store));
  int taken = 0, blocking = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    const pid_t thread = std::stoi(entry.path().filename());
    if (thread == gettid()) continue;
    std::ifstream status(entry.path() / "status");
    for (std::string line; std::getline(status, line);) {
      if (line.rfind("SigBlk:", 0) != 0) continue;
      const uint64_t blocked = std::stoull(line.substr(7), nullptr, 16);
      ++((blocked >> (SIGTERM - 1) & blocked >> (SIGXFSZ - 1) & 1) == 0 ? taken : blocking);
    }
  }
  EXPECT_EQ(taken, 0);
  EXPECT_GE(blocking, 2);
  EXPECT_TRUE(IsOk((*store)->Close()));
}

}  // namespace
}  // namespace untorn
