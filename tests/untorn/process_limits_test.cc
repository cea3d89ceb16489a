// The limits of the process (setrlimit(2)). What a limit forbids is an error that names the limit. SIGXFSZ ends a process by
// default, so these tests end if the store brings it about.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

using absl::StatusCode;

constexpr uint64_t kMiB = 1 << 20, kPage = 4096;
constexpr WriteOptions kSync = {.durability = Durability::kSync};

// While it lives, the limit is `value`.
class Limited {
 public:
  Limited(__rlimit_resource resource, rlim_t value) : resource_(resource) {
    EXPECT_EQ(getrlimit(resource, &before_), 0);
    const struct rlimit limit = {std::min(value, before_.rlim_max), before_.rlim_max};
    EXPECT_EQ(setrlimit(resource, &limit), 0);
  }
  ~Limited() { setrlimit(resource_, &before_); }

 private:
  const __rlimit_resource resource_;
  struct rlimit before_ = {};
};

// As many descriptors as the process may have, but for `left` of them.
class Descriptors {
 public:
  explicit Descriptors(int left) : limit_(RLIMIT_NOFILE, 512) {
    for (int fd; (fd = dup(STDIN_FILENO)) >= 0 || (fd = open("/dev/null", O_RDONLY)) >= 0;)
      taken_.push_back(fd);
    for (; left > 0; --left) GiveBack();
  }
  ~Descriptors() {
    while (!taken_.empty()) GiveBack();
  }
  void GiveBack() {
    close(taken_.back());
    taken_.pop_back();
  }

 private:
  const Limited limit_;
  std::vector<int> taken_;
};

bool Names(const absl::Status& status, const char* what) {
  return status.message().find(what) != std::string::npos;
}

class ProcessLimitsTest : public testing::Test {
 protected:
  ProcessLimitsTest() : directory_(testing::TempDir() + "/limits.XXXXXX") {
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
    path_ = directory_ + "/store";
  }
  ~ProcessLimitsTest() override {
    unlink(path_.c_str());
    EXPECT_EQ(rmdir(directory_.c_str()), 0) << "something was left behind";
  }
  void ExpectNoFindings() {
    auto fsck = Fsck(path_);
    ASSERT_TRUE(IsOk(fsck));
    EXPECT_EQ(fsck->findings_total, 0u);
  }

  std::string directory_, path_;
};

class FileSizeTest : public ProcessLimitsTest, public testing::WithParamInterface<bool> {
 protected:
  OpenOptions Options() const { return {.use_io_uring = GetParam()}; }
};

TEST_P(FileSizeTest, StoreThatTheProcessMayNotWriteIsNotMadeAndNotOpened) {
  {
    const Limited limit(RLIMIT_FSIZE, kMiB);
    const absl::Status made = Store::Create(path_, {.size_bytes = 64 * kMiB});
    EXPECT_TRUE(Fails(made, StatusCode::kResourceExhausted));
    EXPECT_TRUE(Names(made, "RLIMIT_FSIZE")) << made;
  }
  ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 64 * kMiB})));
  const Limited limit(RLIMIT_FSIZE, kMiB);
  const absl::Status opened = Store::Open(path_, Options()).status();
  EXPECT_TRUE(Fails(opened, StatusCode::kResourceExhausted));
  EXPECT_TRUE(Names(opened, "RLIMIT_FSIZE")) << opened;
  auto reader = Store::Open(path_, {.read_only = true});
  ASSERT_TRUE(IsOk(reader));
  EXPECT_TRUE(IsOk((*reader)->List()));
}

TEST_P(FileSizeTest, StoreGrowsUpToTheLimitAndTakesOverwritesThere) {
  ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 512 * kMiB})));
  auto limit = std::make_unique<Limited>(RLIMIT_FSIZE, 96 * kMiB);
  auto store = Store::Open(path_, Options());
  ASSERT_TRUE(IsOk(store));
  const Object object = *(*store)->CreateObject("a");
  uint64_t bytes = 0;
  absl::Status status;
  for (; status.ok(); bytes += kMiB) {
    ASSERT_LT(bytes, 96 * kMiB);
    status = object.Write(bytes, Stamped(bytes, kMiB), kSync);
  }
  EXPECT_TRUE(Fails(status, StatusCode::kResourceExhausted));
  EXPECT_TRUE(Names(status, "RLIMIT_FSIZE")) << status;
  EXPECT_GT(bytes, 32 * kMiB);
  EXPECT_TRUE(IsOk(object.Write(0, Stamped(1, kMiB), kSync)));
  EXPECT_TRUE(IsOk((*store)->Checkpoint()));
  limit.reset();
  EXPECT_TRUE(IsOk(object.Write(bytes, Stamped(bytes, 64 * kMiB), kSync)));
  EXPECT_TRUE(IsOk((*store)->Close()));
  ExpectNoFindings();
}

TEST_P(FileSizeTest, LimitThatIsLoweredUnderAStoreIsNoSpaceUntilItIsRaised) {
  ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 64 * kMiB})));
  auto store = Store::Open(path_, Options());
  ASSERT_TRUE(IsOk(store));
  Object object = *(*store)->CreateObject("a");
  ASSERT_TRUE(IsOk(object.Write(0, Stamped(1, 16 * kPage), kSync)));
  {
    const Limited limit(RLIMIT_FSIZE, kPage);
    const absl::Status accepted = object.Write(0, Stamped(2, kPage), kSync);
    EXPECT_TRUE(Fails(accepted, StatusCode::kUnavailable));
    EXPECT_TRUE(Names(accepted, "RLIMIT_FSIZE")) << accepted;
    EXPECT_TRUE(Fails(object.Write(kPage, Stamped(3, kPage)), StatusCode::kResourceExhausted));
    EXPECT_TRUE(Fails((*store)->Sync(), StatusCode::kResourceExhausted));
    EXPECT_TRUE(Fails((*store)->Checkpoint(), StatusCode::kResourceExhausted));
    std::vector<std::byte> out(kPage);
    EXPECT_TRUE(IsOk(object.Read(0, out)));
    EXPECT_TRUE(out == Stamped(2, kPage));
  }
  EXPECT_TRUE(IsOk((*store)->Sync()));
  EXPECT_TRUE(IsOk(object.Write(kPage, Stamped(4, kPage), kSync)));
  object = Object();
  EXPECT_TRUE(IsOk((*store)->Close()));
  store = Store::Open(path_, Options());
  ASSERT_TRUE(IsOk(store));
  object = *(*store)->OpenObject("a");
  EXPECT_TRUE(ReadAll(object, 0, kPage) == Stamped(2, kPage));
  EXPECT_TRUE(ReadAll(object, kPage, kPage) == Stamped(4, kPage));
  EXPECT_TRUE(IsOk((*store)->Close()));
  ExpectNoFindings();
}

TEST_P(FileSizeTest, CloseUnderALoweredLimitSaysThatNotAllIsDurable) {
  ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 64 * kMiB})));
  auto store = Store::Open(path_, Options());
  ASSERT_TRUE(IsOk(store));
  ASSERT_TRUE(IsOk((*store)->CreateObject("a", Durability::kSync)));
  ASSERT_TRUE(IsOk((*store)->CreateObject("b")));
  {
    const Limited limit(RLIMIT_FSIZE, kPage);
    const absl::Status closed = (*store)->Close();
    EXPECT_FALSE(closed.ok());
    EXPECT_TRUE(Names(closed, "RLIMIT_FSIZE")) << closed;
    store->reset();
  }
  store = Store::Open(path_, Options());
  ASSERT_TRUE(IsOk(store));
  EXPECT_TRUE(IsOk((*store)->OpenObject("a")));
}

INSTANTIATE_TEST_SUITE_P(Engines, FileSizeTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "IoUring" : "SystemCalls"; });

TEST_F(ProcessLimitsTest, OpeningWithTooFewDescriptorsSaysSoAndNeverShowsLessThanThereIs) {
  ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 64 * kMiB})));
  StoreInfo normal;
  {
    auto store = Store::Open(path_, {.read_only = true});
    ASSERT_TRUE(IsOk(store));
    normal = (*store)->info();
  }
  int refused = 0;
  for (int left = 0; left < 6; ++left) {
    SCOPED_TRACE(left);
    for (const bool read_only : {true, false}) {
      const Descriptors none(left);
      auto store = Store::Open(path_, {.read_only = read_only});
      if (!store.ok()) {
        ++refused;
        EXPECT_TRUE(Fails(store.status(), StatusCode::kResourceExhausted));
        EXPECT_TRUE(Names(store.status(), "RLIMIT_NOFILE")) << store.status();
        continue;
      }
      const StoreInfo info = (*store)->info();
      EXPECT_EQ(info.atomic_note, normal.atomic_note);
      EXPECT_TRUE(info.engine == normal.engine ||
                  info.engine_reason.find("RLIMIT_NOFILE") != std::string::npos)
          << info.engine << ": " << info.engine_reason;
      EXPECT_TRUE(IsOk((*store)->List()));
      EXPECT_TRUE(IsOk((*store)->Close()));
    }
  }
  EXPECT_GE(refused, 2);
  EXPECT_LT(refused, 12);
}

TEST_F(ProcessLimitsTest, AStoreIsMadeWithTooFewDescriptorsWhollyOrNotAtAll) {
  int refused = 0, made = 0;
  for (int left = 0; left < 8; ++left) {
    SCOPED_TRACE(left);
    absl::Status status;
    {
      const Descriptors none(left);
      status = Store::Create(path_, {.size_bytes = 8 * kMiB});
    }
    ++(status.ok() ? made : refused);
    if (status.ok()) {
      ExpectNoFindings();
      unlink(path_.c_str());
    } else {
      EXPECT_TRUE(Fails(status, StatusCode::kResourceExhausted));
      EXPECT_TRUE(Names(status, "RLIMIT_NOFILE")) << status;
      EXPECT_NE(access(path_.c_str(), F_OK), 0);
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_GT(made, 0);
}

TEST_F(ProcessLimitsTest, StoreThatIsOpenNeedsNoMoreDescriptors) {
  ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = 256 * kMiB})));
  auto store = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(store));
  auto reader = Store::Open(path_, {.read_only = true});
  ASSERT_TRUE(IsOk(reader));
  {
    Descriptors none(0);
    const Object object = *(*store)->CreateObject("a");
    for (uint64_t at = 0; at < 96 * kMiB; at += 4 * kMiB)
      ASSERT_TRUE(IsOk(object.Write(at, Stamped(at, 4 * kMiB), kSync)));
    EXPECT_TRUE(ReadAll(object, 0, 4 * kMiB) == Stamped(0, 4 * kMiB));
    Transaction transaction = (*store)->Begin();
    ASSERT_TRUE(IsOk(transaction.Write(object, 0, Stamped(1, kPage))));
    ASSERT_TRUE(IsOk(transaction.Commit()));
    EXPECT_TRUE(IsOk((*store)->Checkpoint()));
    EXPECT_TRUE(IsOk((*store)->Scrub()));
    EXPECT_TRUE(IsOk(object.Truncate(kMiB)));
    EXPECT_TRUE(IsOk((*store)->Trim()));
    EXPECT_TRUE(IsOk((*store)->Resize(0)));
    // A newer state is read by an opening of its own.
    const absl::Status refreshed = (*reader)->Refresh();
    EXPECT_TRUE(refreshed.ok() || Names(refreshed, "RLIMIT_NOFILE")) << refreshed;
    EXPECT_TRUE(IsOk((*store)->Close()));
  }
  EXPECT_TRUE(IsOk((*reader)->Close()));
  ExpectNoFindings();
}

}  // namespace
}  // namespace untorn
