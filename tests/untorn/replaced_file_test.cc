// The file of a store that is open is moved, removed, or replaced.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
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

constexpr uint64_t kPage = 4096;
constexpr WriteOptions kSync = {.durability = Durability::kSync};

class ReplacedFileTest : public testing::Test {
 protected:
  ReplacedFileTest() : directory_(testing::TempDir() + "/replaced_file.XXXXXX") {
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
    path_ = directory_ + "/store";
    other_ = directory_ + "/other";
    MakeStore(path_, 1);
    owner_ = *Store::Open(path_, {});
    object_ = *owner_->OpenObject("a");
  }
  ~ReplacedFileTest() override { std::filesystem::remove_all(directory_); }

  // A store whose object "a" has that stamp.
  static void MakeStore(const std::string& path, uint64_t stamp) {
    ASSERT_TRUE(IsOk(Store::Create(path, {.size_bytes = 16 << 20})));
    auto store = Store::Open(path, {});
    ASSERT_TRUE(IsOk(store));
    ASSERT_TRUE(IsOk((*store)->CreateObject("a")->Write(0, Stamped(stamp, kPage), kSync)));
    ASSERT_TRUE(IsOk((*store)->Close()));
  }
  // Waits until the owner refuses changes, and expects that it says why, and reads on.
  void ExpectOwnerFails() {
    absl::Status status;
    while (status.ok()) status = object_.Write(kPage, Stamped(9, kPage), kSync);
    EXPECT_TRUE(Fails(status, StatusCode::kFailedPrecondition));
    EXPECT_NE(status.message().find("removed the file, or put another one in its place"), std::string::npos)
        << status;
    EXPECT_TRUE(ReadAll(object_, 0, kPage) == Stamped(1, kPage));
    EXPECT_FALSE(owner_->Close().ok());
  }

  std::string directory_, path_, other_;
  std::unique_ptr<Store> owner_;
  Object object_;
};

TEST_F(ReplacedFileTest, FileThatIsMovedHasAllThatIsWrittenLater) {
  ASSERT_EQ(std::rename(path_.c_str(), other_.c_str()), 0);
  ASSERT_TRUE(IsOk(object_.Write(kPage, Stamped(2, kPage), kSync)));
  ASSERT_TRUE(IsOk(owner_->Checkpoint()));
  EXPECT_TRUE(Fails(Store::Open(other_, {}), StatusCode::kFailedPrecondition)) << "it is locked there too";
  ASSERT_TRUE(IsOk(object_.Write(2 * kPage, Stamped(3, 4 << 20), kSync)));
  ASSERT_TRUE(IsOk(owner_->Close()));
  auto store = Store::Open(other_, {});
  ASSERT_TRUE(IsOk(store));
  EXPECT_TRUE(ReadAll(*(*store)->OpenObject("a"), kPage, kPage) == Stamped(2, kPage));
}

TEST_F(ReplacedFileTest, WriterOfARemovedFileFails) {
  ASSERT_EQ(unlink(path_.c_str()), 0);
  ExpectOwnerFails();
}

TEST_F(ReplacedFileTest, RemovedFileFailsTheCheckpointAndClose) {
  ASSERT_EQ(unlink(path_.c_str()), 0);
  const absl::Status checkpoint = owner_->Checkpoint();
  EXPECT_FALSE(checkpoint.ok());
  EXPECT_NE(checkpoint.message().find("/proc/" + std::to_string(getpid()) + "/fd/"), std::string::npos)
      << checkpoint;
  // What it says is so: the content can be saved from there.
  const std::string message(checkpoint.message());
  const size_t begin = message.find("/proc/");
  std::filesystem::copy_file(message.substr(begin, message.find(' ', begin) - begin), other_);
  EXPECT_FALSE(owner_->Close().ok());
  auto store = Store::Open(other_, {});
  ASSERT_TRUE(IsOk(store));
  EXPECT_TRUE(ReadAll(*(*store)->OpenObject("a"), 0, kPage) == Stamped(1, kPage));
}

TEST_F(ReplacedFileTest, FileWithAnotherNameIsNotLost) {
  ASSERT_EQ(link(path_.c_str(), other_.c_str()), 0);
  ASSERT_EQ(unlink(path_.c_str()), 0);
  EXPECT_TRUE(IsOk(owner_->Checkpoint()));
  EXPECT_TRUE(IsOk(owner_->Close()));
}

// The old and the new file are two stores at one path.
TEST_F(ReplacedFileTest, WhoeverOpensThePathGetsTheNewFileAndTheOldOwnerFails) {
  auto reader = Store::Open(path_, {.read_only = true});
  ASSERT_TRUE(IsOk(reader));
  ASSERT_TRUE((*reader)->info().beside_owner);
  MakeStore(other_, 5);
  ASSERT_EQ(std::rename(other_.c_str(), path_.c_str()), 0);
  EXPECT_TRUE(Fails((*reader)->Refresh(), StatusCode::kUnavailable)) << "the new file has no owner";
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // Another process, which is not held up by the locks of the old file.
    auto store = Store::Open(path_, {});
    const bool right = store.ok() && ReadAll(*(*store)->OpenObject("a"), 0, kPage) == Stamped(5, kPage) &&
                       (*store)->OpenObject("a")->Write(0, Stamped(6, kPage), kSync).ok() &&
                       (*store)->Close().ok();
    _exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  auto second = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(second));
  EXPECT_TRUE(Fails((*reader)->Refresh(), StatusCode::kFailedPrecondition)) << "another store";
  EXPECT_TRUE(ReadAll(*(*reader)->OpenObject("a"), 0, kPage) == Stamped(1, kPage));
  ExpectOwnerFails();
  EXPECT_TRUE(ReadAll(*(*second)->OpenObject("a"), 0, kPage) == Stamped(6, kPage));
  EXPECT_TRUE(IsOk((*second)->Close()));
  EXPECT_TRUE(IsOk((*reader)->Close()));
  auto fsck = Fsck(path_);
  ASSERT_TRUE(IsOk(fsck));
  EXPECT_EQ(fsck->findings_total, 0u);
}

}  // namespace
}  // namespace untorn
