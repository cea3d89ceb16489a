// What cannot be opened: each with its own code, and not a byte of it changed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "extent/block_header.h"
#include "extent/superblock.h"
#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/store.h"

namespace untorn {
namespace {

using absl::StatusCode;
constexpr uint64_t kStoreBytes = 16 << 20;

class OpenErrorsTest : public testing::Test {
 protected:
  // A closed store on a simulated disk, with an object in it.
  OpenErrorsTest() : store_({.size_bytes = kStoreBytes}) {
    EXPECT_TRUE(IsOk(store_->CreateObject("a")->Write(0, Stamped(1, 10000))));
    EXPECT_TRUE(IsOk(store_.Close()));
  }

  // Changes a field of the superblock's slot so that it is sound otherwise.
  void Patch(int slot, const std::function<void(std::vector<std::byte>&)>& change) {
    std::vector<std::byte> block(kBlockBytes);
    const uint64_t at = ByteOffset(kSuperblockSlots[slot]);
    store_.disk()->Peek(at, block.data(), block.size());
    change(block);
    SealBlock(block);
    store_.disk()->Poke(at, block.data(), block.size());
  }
  void PatchField(int slot, size_t offset, uint64_t value, size_t bytes) {
    Patch(slot, [=](std::vector<std::byte>& block) { std::memcpy(block.data() + offset, &value, bytes); });
  }
  std::vector<std::byte> Image() {
    std::vector<std::byte> image(kStoreBytes);
    store_.disk()->Peek(0, image.data(), image.size());
    return image;
  }
  // Opening fails so, for writing and read-only, and changes nothing.
  void ExpectFails(StatusCode code, const std::string& word, bool read_only_too = true) {
    const auto before = Image();
    for (bool read_only : {false, true}) {
      if (read_only && !read_only_too) continue;
      OpenOptions open = store_.options().open;
      open.read_only = read_only;
      const absl::Status status = store_.Open(open, 0);
      EXPECT_TRUE(Fails(status, code));
      EXPECT_NE(status.message().find(word), std::string::npos) << status;
      EXPECT_TRUE(Image() == before);
    }
  }

  TestStore store_;
};

TEST_F(OpenErrorsTest, AnotherFormatVersionIsToldApart) {
  for (int slot : {0, 1}) PatchField(slot, offsetof(BlockHeader, version), kFormatVersion + 1, 2);
  ExpectFails(StatusCode::kUnimplemented, "version");
}

TEST_F(OpenErrorsTest, UnknownIncompatibleFeaturesForbidOpening) {
  for (int slot : {0, 1}) PatchField(slot, 80, uint64_t{1} << 40, 8);
  ExpectFails(StatusCode::kUnimplemented, "feature");
}

TEST_F(OpenErrorsTest, UnknownReadOnlyCompatibleFeaturesForbidWritingOnly) {
  for (int slot : {0, 1}) PatchField(slot, 72, uint64_t{1} << 40, 8);
  ExpectFails(StatusCode::kUnimplemented, "feature", false);
  OpenOptions open = store_.options().open;
  open.read_only = true;
  EXPECT_TRUE(IsOk(store_.Open(open, 0)));
}

TEST_F(OpenErrorsTest, UnknownCompatibleFeaturesAreIgnored) {
  for (int slot : {0, 1}) PatchField(slot, 64, uint64_t{1} << 40, 8);
  ASSERT_TRUE(IsOk(store_.Open()));
  EXPECT_TRUE(ReadAll(*store_->OpenObject("a"), 0, 10000) == Stamped(1, 10000));
}

// Promise 3 and 9: what was acknowledged after the last superblock write, by record and in place, does not hang
// on either slot.
TEST_F(OpenErrorsTest, OneDamagedSlotLosesNothing) {
  for (const bool zero : {false, true}) {
    for (int slot : {0, 1}) {
      TestStoreOptions options{.atomic = HardwareUnit(4096, 65536)};
      options.open.policy = WritePolicy::kHardwareOnly;
      TestStore store(options);
      ASSERT_TRUE(IsOk(store->CreateObject("a")->Write(0, Stamped(1, 16384))));
      ASSERT_TRUE(IsOk(store->Sync()));
      store.KillAndOpen();
      auto a = store->OpenObject("a");
      ASSERT_TRUE(IsOk(a));
      ASSERT_TRUE(IsOk(a->Write(0, Stamped(2, 16384), {.durability = Durability::kSync})));
      EXPECT_EQ(store->stats().change_sets_in_place(), 1u);
      ASSERT_TRUE(IsOk(a->Write(16384, Stamped(3, 100), {.durability = Durability::kSync})));
      *a = Object();
      store.Kill();
      const auto garbage = zero ? Filled(0, kBlockBytes) : Stamped(9, kBlockBytes);
      store.disk()->Poke(ByteOffset(kSuperblockSlots[slot]), garbage.data(), garbage.size());
      EXPECT_NE(store.Fsck().find("superblock-unreadable"), std::string::npos);
      ASSERT_TRUE(IsOk(store.Open())) << slot;
      a = store->OpenObject("a");
      ASSERT_TRUE(IsOk(a)) << slot;
      EXPECT_TRUE(ReadAll(*a, 0, 16384) == Stamped(2, 16384)) << slot;
      EXPECT_TRUE(ReadAll(*a, 16384, 100) == Stamped(3, 100)) << slot;
      EXPECT_TRUE(IsOk(store.Close()));  // fsck: both slots are sound again
    }
  }
}

TEST_F(OpenErrorsTest, DamagedSuperblocksAreDataLoss) {
  for (int slot : {0, 1}) {
    const auto garbage = Stamped(9, 100);
    store_.disk()->Poke(ByteOffset(kSuperblockSlots[slot]) + 200, garbage.data(), garbage.size());
  }
  ExpectFails(StatusCode::kDataLoss, "superblock");
}

TEST_F(OpenErrorsTest, ZerosAndOtherContentAreNoStore) {
  for (const auto& content : {Filled(0, kBlockBytes * 16), Stamped(3, kBlockBytes * 16)}) {
    store_.disk()->Poke(0, content.data(), content.size());
    ExpectFails(StatusCode::kInvalidArgument, "not an untorn store");
  }
}

// On real files.
class FileErrorsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string directory = testing::TempDir() + "/open_errors_XXXXXX";
    ASSERT_NE(mkdtemp(directory.data()), nullptr);
    directory_ = directory;
    path_ = directory + "/store";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void MakeStore() {
    ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = kStoreBytes})));
    auto store = Store::Open(path_, {});
    ASSERT_TRUE(IsOk(store));
    ASSERT_TRUE(IsOk((*store)->CreateObject("a")->Write(0, Stamped(1, 10000))));
    ASSERT_TRUE(IsOk((*store)->Close()));
  }
  std::string Image() {
    std::ifstream file(path_, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  void ExpectFails(StatusCode code) {
    const std::string before = Image();
    for (bool read_only : {false, true}) {
      EXPECT_TRUE(Fails(Store::Open(path_, {.read_only = read_only}), code)) << read_only;
    }
    EXPECT_TRUE(Image() == before);
  }

  std::string directory_, path_;
};

TEST_F(FileErrorsTest, NoFile) {
  EXPECT_TRUE(Fails(Store::Open(path_, {}), StatusCode::kNotFound));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(FileErrorsTest, FileThatIsNoStore) {
  std::ofstream(path_) << "Dear diary";
  ExpectFails(StatusCode::kInvalidArgument);
  std::ofstream(path_) << std::string(1 << 20, 'x');
  ExpectFails(StatusCode::kInvalidArgument);
}

TEST_F(FileErrorsTest, EmptyFileAndDirectory) {
  std::ofstream file(path_);
  file.close();
  ExpectFails(StatusCode::kInvalidArgument);
  EXPECT_TRUE(Fails(Store::Open(directory_, {}), StatusCode::kInvalidArgument));
}

TEST_F(FileErrorsTest, StoreCutShort) {
  MakeStore();
  std::filesystem::resize_file(path_, kStoreBytes / 2);
  ExpectFails(StatusCode::kDataLoss);
}

TEST_F(FileErrorsTest, CreateRefusesWhatIsThereAndWhatIsTooSmall) {
  EXPECT_TRUE(Fails(Store::Create(path_, {.size_bytes = 1 << 20}), StatusCode::kInvalidArgument));
  EXPECT_FALSE(std::filesystem::exists(path_));
  MakeStore();
  const std::string before = Image();
  EXPECT_TRUE(Fails(Store::Create(path_, {.size_bytes = kStoreBytes}), StatusCode::kAlreadyExists));
  EXPECT_TRUE(Image() == before);
  EXPECT_TRUE(IsOk(Store::Create(path_, {.size_bytes = kStoreBytes, .force = true})));
  auto store = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(store));
  EXPECT_TRUE((*store)->List()->empty());
}

// Promise 10.
TEST_F(FileErrorsTest, SecondOwnerIsToldWhoHasIt) {
  MakeStore();
  auto first = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(first));
  auto second = Store::Open(path_, {});
  EXPECT_TRUE(Fails(second, StatusCode::kFailedPrecondition));
  EXPECT_NE(second.status().message().find("process " + std::to_string(getpid())), std::string::npos)
      << second.status();
  EXPECT_TRUE(Fails(Store::Create(path_, {.size_bytes = kStoreBytes, .force = true}),
                    StatusCode::kFailedPrecondition));
  EXPECT_TRUE(ReadAll(*(*first)->OpenObject("a"), 0, 10000) == Stamped(1, 10000));
  ASSERT_TRUE(IsOk((*first)->Close()));
  EXPECT_TRUE(IsOk(Store::Open(path_, {})));
}

// Promise 10: what reads beside an owner keeps nobody out, and is told when there is no owner any more.
TEST_F(FileErrorsTest, ReaderBesideAnOwnerSeesAStateAndItsRefresh) {
  MakeStore();
  auto owner = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(owner));
  auto reader = Store::Open(path_, {.read_only = true});
  ASSERT_TRUE(IsOk(reader));
  EXPECT_TRUE((*reader)->info().beside_owner);
  auto object = (*reader)->OpenObject("a");
  ASSERT_TRUE(IsOk(object));
  ASSERT_TRUE(
      IsOk((*owner)->OpenObject("a")->Write(0, Stamped(2, 10000), {.durability = Durability::kSync})));
  ASSERT_TRUE(IsOk((*owner)->Rename("a", "b", Durability::kSync)));
  EXPECT_TRUE(ReadAll(*object, 0, 10000) == Stamped(1, 10000));
  Transaction before = (*reader)->Begin();
  ASSERT_TRUE(IsOk((*reader)->Refresh()));
  EXPECT_TRUE(ReadAll(*object, 0, 10000) == Stamped(2, 10000));
  EXPECT_EQ(*object->Name(), "b");
  EXPECT_TRUE(IsOk((*reader)->Begin().Size(*object)));
  EXPECT_TRUE(IsOk(before.Size(*object))) << "of the state in which both were made";
  EXPECT_TRUE(Fails((*reader)->OpenObject("a"), StatusCode::kNotFound));
  EXPECT_TRUE(Fails((*reader)->Remove("b"), StatusCode::kFailedPrecondition));
  ASSERT_TRUE(IsOk((*owner)->Remove("b", Durability::kSync)));
  ASSERT_TRUE(IsOk((*reader)->Refresh()));
  EXPECT_TRUE(Fails(object->Size(), StatusCode::kNotFound));
  ASSERT_TRUE(IsOk((*owner)->Close()));
  EXPECT_TRUE(Fails((*reader)->Refresh(), StatusCode::kUnavailable));
  // It keeps no other owner out.
  owner = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(owner));
  EXPECT_TRUE(IsOk((*reader)->Refresh()));
  ASSERT_TRUE(IsOk((*owner)->Close()));
  ASSERT_TRUE(IsOk(Store::Create(path_, {.size_bytes = kStoreBytes, .force = true})));
  owner = Store::Open(path_, {});
  ASSERT_TRUE(IsOk(owner));
  EXPECT_TRUE(Fails((*reader)->Refresh(), StatusCode::kFailedPrecondition)) << "another store";
  EXPECT_TRUE(IsOk((*reader)->Close()));
  EXPECT_TRUE(Fails((*reader)->Refresh(), StatusCode::kFailedPrecondition));
}

TEST_F(FileErrorsTest, ReadersShareAndKeepWritersOut) {
  MakeStore();
  auto one = Store::Open(path_, {.read_only = true});
  auto two = Store::Open(path_, {.read_only = true});
  EXPECT_TRUE(IsOk(one));
  EXPECT_TRUE(IsOk(two));
  EXPECT_TRUE(Fails(Store::Open(path_, {}), StatusCode::kFailedPrecondition));
}

TEST_F(FileErrorsTest, ReadOnlyFileOpensReadOnlyOnly) {
  MakeStore();
  chmod(path_.c_str(), 0444);
  chmod(directory_.c_str(), 0755);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // without root's rights
    if (geteuid() == 0 && setuid(65534) != 0) _exit(2);
    if (access(path_.c_str(), R_OK) != 0) _exit(2);
    const bool refused = Store::Open(path_, {}).status().code() == StatusCode::kPermissionDenied;
    const bool readable = Store::Open(path_, {.read_only = true}).ok();
    _exit(refused && readable ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) GTEST_SKIP() << "cannot become another user than root here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace untorn
