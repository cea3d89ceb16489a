// A RocksDB FileSystem on a store does as RocksDB's own one does on files, where RocksDB can tell the difference.
#include <gtest/gtest.h>
#include <rocksdb/convenience.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "integrations/rocksdb/untorn_rocksdb.h"
#include "untorn/store.h"

namespace untorn::rocks {
namespace {

using ::rocksdb::FileOptions;
using ::rocksdb::IOOptions;
using ::rocksdb::IOStatus;
using ::rocksdb::Slice;

class FileSystemTest : public testing::Test {
 protected:
  void SetUp() override {
    const absl::Status created = Store::Create(path_, {.size_bytes = 64 << 20, .force = true});
    ASSERT_TRUE(created.ok()) << created;
    absl::StatusOr<std::shared_ptr<::rocksdb::FileSystem>> opened = NewFileSystem(uri_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    fs_ = *opened;
  }
  void TearDown() override {
    fs_.reset();
    std::remove(path_.c_str());
  }

  IOStatus Write(const std::string& name, const std::string& content) {
    std::unique_ptr<::rocksdb::FSWritableFile> file;
    IOStatus s = fs_->NewWritableFile(name, {}, &file, nullptr);
    if (s.ok()) s = file->Append(content, {}, nullptr);
    if (s.ok()) s = file->Close({}, nullptr);
    return s;
  }
  std::string Read(const std::string& name) {
    std::unique_ptr<::rocksdb::FSSequentialFile> file;
    const IOStatus s = fs_->NewSequentialFile(name, {}, &file, nullptr);
    if (!s.ok()) return s.ToString();
    std::string content(1000, '\0');
    Slice got;
    EXPECT_TRUE(file->Read(content.size(), {}, &got, content.data(), nullptr).ok());
    return got.ToString();
  }
  std::string List(const std::string& directory) {
    std::vector<std::string> names;
    if (!fs_->GetChildren(directory, {}, &names, nullptr).ok()) return "none";
    std::sort(names.begin(), names.end());
    std::string all;
    for (const std::string& name : names) all += name + " ";
    return all;
  }
  bool Exists(const std::string& name) { return fs_->FileExists(name, {}, nullptr).ok(); }

  const std::string path_ = testing::TempDir() + "/file_system.untorn", uri_ = "untorn://" + path_;
  std::shared_ptr<::rocksdb::FileSystem> fs_;
};

TEST_F(FileSystemTest, FilesHoldWhatWasAppended) {
  std::unique_ptr<::rocksdb::FSWritableFile> file;
  ASSERT_TRUE(fs_->NewWritableFile("/db/a", {}, &file, nullptr).ok());
  for (const char* piece : {"one ", "", "two ", "three"}) ASSERT_TRUE(file->Append(piece, {}, nullptr).ok());
  EXPECT_EQ(file->GetFileSize({}, nullptr), 13);
  EXPECT_EQ(Read("/db/a"), "one two three");
  ASSERT_TRUE(file->Truncate(7, {}, nullptr).ok());
  ASSERT_TRUE(file->Append("!", {}, nullptr).ok());
  EXPECT_EQ(Read("/db/a"), "one two!");
  ASSERT_TRUE(fs_->ReopenWritableFile("/db/a", {}, &file, nullptr).ok());
  ASSERT_TRUE(file->Append("?", {}, nullptr).ok());
  EXPECT_EQ(Read("/db/a"), "one two!?");
  ASSERT_TRUE(fs_->Truncate("/db/a", 3, {}, nullptr).ok());
  EXPECT_EQ(Read("/db/a"), "one");
  EXPECT_TRUE(Write("/db/a", "new").ok());
  EXPECT_EQ(Read("/db/a"), "new");
}

TEST_F(FileSystemTest, SequentialFilesSkipAndSeeWhatIsAppendedLater) {
  ASSERT_TRUE(Write("/db/a", "0123456789").ok());
  std::unique_ptr<::rocksdb::FSSequentialFile> file;
  ASSERT_TRUE(fs_->NewSequentialFile("/db/a", {}, &file, nullptr).ok());
  char scratch[100];
  Slice got;
  ASSERT_TRUE(file->Read(3, {}, &got, scratch, nullptr).ok());
  EXPECT_EQ(got, Slice("012"));
  ASSERT_TRUE(file->Skip(4).ok());
  ASSERT_TRUE(file->Read(100, {}, &got, scratch, nullptr).ok());
  EXPECT_EQ(got, Slice("789"));
  ASSERT_TRUE(file->Read(100, {}, &got, scratch, nullptr).ok());
  EXPECT_EQ(got, Slice(""));
  std::unique_ptr<::rocksdb::FSWritableFile> more;
  ASSERT_TRUE(fs_->ReopenWritableFile("/db/a", {}, &more, nullptr).ok());
  ASSERT_TRUE(more->Append("abc", {}, nullptr).ok());
  ASSERT_TRUE(file->Read(100, {}, &got, scratch, nullptr).ok());
  EXPECT_EQ(got, Slice("abc"));
}

TEST_F(FileSystemTest, ReadsAtOffsetsAreThoseOfTheFileCachedOrDirect) {
  std::string content;
  for (int i = 0; i < 20'000; ++i) content += std::to_string(i);
  ASSERT_TRUE(Write("/db/a", content).ok());
  for (const bool direct : {false, true}) {
    FileOptions options;
    options.use_direct_reads = direct;
    std::unique_ptr<::rocksdb::FSRandomAccessFile> file;
    ASSERT_TRUE(fs_->NewRandomAccessFile("/db/a", options, &file, nullptr).ok());
    EXPECT_EQ(file->use_direct_io(), direct);
    std::vector<std::string> scratch(7, std::string(5000, '\0'));
    std::vector<::rocksdb::FSReadRequest> requests(scratch.size());
    for (size_t i = 0; i < scratch.size(); ++i) {
      requests[i].offset = i * 16'000;
      requests[i].len = scratch[i].size();
      requests[i].scratch = scratch[i].data();
    }
    ASSERT_TRUE(file->MultiRead(requests.data(), requests.size(), {}, nullptr).ok());
    for (const ::rocksdb::FSReadRequest& r : requests) {
      ASSERT_TRUE(r.status.ok()) << r.status.ToString();
      const std::string expected =
          r.offset < content.size() ? content.substr(r.offset, r.len) : std::string();
      EXPECT_EQ(r.result.ToString(), expected) << r.offset;
      Slice alone;
      ASSERT_TRUE(file->Read(r.offset, r.len, {}, &alone, r.scratch, nullptr).ok());
      EXPECT_EQ(alone.ToString(), expected) << r.offset;
    }
  }
}

TEST_F(FileSystemTest, RandomReadWriteFilesOverwrite) {
  ASSERT_TRUE(Write("/db/a", "0123456789").ok());
  std::unique_ptr<::rocksdb::FSRandomRWFile> file;
  ASSERT_TRUE(fs_->NewRandomRWFile("/db/a", {}, &file, nullptr).ok());
  ASSERT_TRUE(file->Write(3, "abc", {}, nullptr).ok());
  ASSERT_TRUE(file->Sync({}, nullptr).ok());
  char scratch[4];
  Slice got;
  ASSERT_TRUE(file->Read(5, 4, {}, &got, scratch, nullptr).ok());
  EXPECT_EQ(got, Slice("c678"));
  EXPECT_TRUE(fs_->NewRandomRWFile("/db/none", {}, &file, nullptr).IsPathNotFound());
}

TEST_F(FileSystemTest, DirectoriesListTheirFilesAndSubdirectories) {
  EXPECT_EQ(List("/"), "");
  EXPECT_EQ(List("/db"), "none");
  ASSERT_TRUE(fs_->CreateDir("/db", {}, nullptr).ok());
  EXPECT_EQ(List("/db"), "");
  EXPECT_TRUE(Exists("/db"));
  EXPECT_FALSE(fs_->CreateDir("/db", {}, nullptr).ok());
  EXPECT_TRUE(fs_->CreateDirIfMissing("/db/", {}, nullptr).ok());
  for (const char* name : {"/db/a", "/db//b", "/db/sub/x", "/db/sub/y", "/db/sub/z/w", "/db/./c", "/dbz/q"})
    ASSERT_TRUE(Write(name, name).ok());
  EXPECT_EQ(List("/db"), "a b c sub ");
  EXPECT_EQ(List("db/"), "a b c sub ");
  EXPECT_EQ(List("/db/sub"), "x y z ");
  EXPECT_EQ(List("/"), "db dbz ");
  bool is_directory = false;
  EXPECT_TRUE(fs_->IsDirectory("/db/sub", {}, &is_directory, nullptr).ok());
  EXPECT_TRUE(is_directory);
  EXPECT_TRUE(fs_->IsDirectory("/db/a", {}, &is_directory, nullptr).ok());
  EXPECT_FALSE(is_directory);
  EXPECT_FALSE(fs_->IsDirectory("/none", {}, &is_directory, nullptr).ok());
  EXPECT_FALSE(fs_->CreateDirIfMissing("/db/a", {}, nullptr).ok());
  EXPECT_FALSE(fs_->DeleteDir("/db", {}, nullptr).ok());
  for (const char* name : {"/db/a", "/db/b", "/db/c", "/db/sub/x", "/db/sub/y", "/db/sub/z/w"})
    ASSERT_TRUE(fs_->DeleteFile(name, {}, nullptr).ok());
  EXPECT_EQ(List("/db"), "");
  EXPECT_TRUE(fs_->DeleteDir("/db", {}, nullptr).ok());
  EXPECT_FALSE(Exists("/db"));
}

TEST_F(FileSystemTest, ListsOfThousandsOfFilesAreWhole) {
  for (int i = 0; i < 2500; ++i) {
    ASSERT_TRUE(Write("/db/sub" + std::to_string(i % 3) + "/" + std::to_string(i), "").ok());
    ASSERT_TRUE(Write("/db/x" + std::to_string(i), "").ok());
  }
  std::vector<std::string> names;
  ASSERT_TRUE(fs_->GetChildren("/db", {}, &names, nullptr).ok());
  EXPECT_EQ(names.size(), 2503);
  ASSERT_TRUE(fs_->GetChildren("/db/sub1", {}, &names, nullptr).ok());
  EXPECT_EQ(names.size(), 833);
}

TEST_F(FileSystemTest, RenamedFilesReplaceOthersAndRenamedDirectoriesTakeAllAlong) {
  ASSERT_TRUE(Write("/db/CURRENT", "old").ok());
  ASSERT_TRUE(Write("/db/7.dbtmp", "new").ok());
  ASSERT_TRUE(fs_->RenameFile("/db/7.dbtmp", "/db/CURRENT", {}, nullptr).ok());
  EXPECT_EQ(Read("/db/CURRENT"), "new");
  EXPECT_EQ(List("/db"), "CURRENT ");
  EXPECT_TRUE(fs_->RenameFile("/db/CURRENT", "/db/CURRENT", {}, nullptr).ok());
  EXPECT_TRUE(fs_->RenameFile("/db/none", "/db/other", {}, nullptr).IsPathNotFound());
  ASSERT_TRUE(fs_->CreateDir("/point.tmp", {}, nullptr).ok());
  ASSERT_TRUE(Write("/point.tmp/a", "a").ok());
  ASSERT_TRUE(Write("/point.tmp/sub/b", "b").ok());
  EXPECT_FALSE(fs_->RenameFile("/point.tmp", "/db", {}, nullptr).ok());
  EXPECT_FALSE(fs_->RenameFile("/point.tmp", "/point.tmp/x", {}, nullptr).ok());
  ASSERT_TRUE(fs_->RenameFile("/point.tmp", "/point", {}, nullptr).ok());
  EXPECT_EQ(List("/"), "db point ");
  EXPECT_EQ(List("/point"), "a sub ");
  EXPECT_EQ(Read("/point/sub/b"), "b");
}

TEST_F(FileSystemTest, AReusedLogKeepsItsOldContentUntilItIsOverwritten) {
  ASSERT_TRUE(Write("/db/1.log", "0123456789").ok());
  std::unique_ptr<::rocksdb::FSWritableFile> file;
  ASSERT_TRUE(fs_->ReuseWritableFile("/db/2.log", "/db/1.log", {}, &file, nullptr).ok());
  ASSERT_TRUE(file->Append("abc", {}, nullptr).ok());
  EXPECT_EQ(file->GetFileSize({}, nullptr), 3);
  EXPECT_EQ(Read("/db/2.log"), "abc3456789");
  EXPECT_FALSE(Exists("/db/1.log"));
}

TEST_F(FileSystemTest, WhatIsNotThereIsToldWithTheCodesThatRocksdbExpects) {
  std::unique_ptr<::rocksdb::FSSequentialFile> file;
  EXPECT_TRUE(fs_->NewSequentialFile("/db/none", {}, &file, nullptr).IsPathNotFound());
  EXPECT_TRUE(fs_->FileExists("/db/none", {}, nullptr).IsNotFound());
  EXPECT_TRUE(fs_->DeleteFile("/db/none", {}, nullptr).IsPathNotFound());
  std::vector<std::string> names;
  EXPECT_TRUE(fs_->GetChildren("/none", {}, &names, nullptr).IsNotFound());
  uint64_t size = 1;
  EXPECT_TRUE(fs_->GetFileSize("/none", {}, &size, nullptr).IsPathNotFound());
  EXPECT_TRUE(fs_->LinkFile("/a", "/b", {}, nullptr).IsNotSupported());
  const IOStatus long_name = Write("/db/" + std::string(300, 'x'), "");
  EXPECT_TRUE(long_name.IsInvalidArgument()) << long_name.ToString();
  EXPECT_NE(long_name.ToString().find("255"), std::string::npos) << long_name.ToString();
}

TEST_F(FileSystemTest, AFullStoreIsNoSpace) {
  std::unique_ptr<::rocksdb::FSWritableFile> file;
  ASSERT_TRUE(fs_->NewWritableFile("/db/a", {}, &file, nullptr).ok());
  IOStatus s;
  for (int i = 0; i < 200 && s.ok(); ++i) s = file->Append(std::string(1 << 20, 'x'), {}, nullptr);
  EXPECT_TRUE(s.IsNoSpace()) << s.ToString();
  uint64_t free = 0;
  ASSERT_TRUE(fs_->GetFreeSpace("/db", {}, &free, nullptr).ok());
  EXPECT_LT(free, 4 << 20);
}

TEST_F(FileSystemTest, ALockIsHeldOnceInAllFileSystemsOfTheStore) {
  absl::StatusOr<std::shared_ptr<::rocksdb::FileSystem>> other = NewFileSystem(uri_);
  ASSERT_TRUE(other.ok()) << other.status();
  ::rocksdb::FileLock *lock = nullptr, *second = nullptr;
  ASSERT_TRUE(fs_->LockFile("/db/LOCK", {}, &lock, nullptr).ok());
  EXPECT_FALSE((*other)->LockFile("/db/LOCK", {}, &second, nullptr).ok());
  ASSERT_TRUE(fs_->UnlockFile(lock, {}, nullptr).ok());
  ASSERT_TRUE((*other)->LockFile("/db/LOCK", {}, &second, nullptr).ok());
  EXPECT_TRUE((*other)->UnlockFile(second, {}, nullptr).ok());
}

TEST_F(FileSystemTest, FilesOfThisProcessTellWhenTheyWereWritten) {
  const uint64_t before = time(nullptr);
  ASSERT_TRUE(Write("/db/a", "a").ok());
  uint64_t written = 0;
  ASSERT_TRUE(fs_->GetFileModificationTime("/db/a", {}, &written, nullptr).ok());
  EXPECT_GE(written, before);
  EXPECT_LE(written, static_cast<uint64_t>(time(nullptr)));
}

TEST_F(FileSystemTest, UrisAreCheckedAndMakeTheSameFileSystemForRocksdb) {
  for (const char* wrong : {"posix:///x", "untorn://", "untorn:///x?mode=x", "untorn:///x?size=5",
                            "untorn:///x?store_size=much", "untorn:///x?store_cache_mib=1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(NewFileSystem(wrong).status())) << wrong;
  }
  EXPECT_TRUE(absl::IsNotFound(NewFileSystem(uri_ + ".none?store_create=0").status()));
  EXPECT_TRUE(absl::IsNotFound(NewFileSystem(uri_ + ".none?mode=ro").status()));
  RegisterFileSystem();
  std::shared_ptr<::rocksdb::FileSystem> made;
  const ::rocksdb::Status s =
      ::rocksdb::FileSystem::CreateFromString(::rocksdb::ConfigOptions(), uri_, &made);
  ASSERT_TRUE(s.ok()) << s.ToString();
  ASSERT_TRUE(Write("/db/a", "a").ok());
  EXPECT_TRUE(made->FileExists("/db/a", {}, nullptr).ok());
  const ::rocksdb::Status none = ::rocksdb::FileSystem::CreateFromString(
      ::rocksdb::ConfigOptions(), "untorn:///none/s?store_create=0", &made);
  EXPECT_FALSE(none.ok());
}

}  // namespace
}  // namespace untorn::rocks
