// Opening, locking and examining files.
#include "device/file_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>

#include "base/aligned_buffer.h"
#include "device/open_file.h"
#include "device/syscall_device.h"
#include "device/uring_device.h"
#include "tests/device/device_testing.h"

namespace untorn {
namespace {

constexpr uint64_t kFileBytes = 1 << 20;

// A process that has opened the store and stays until it is killed.
class Holder {
 public:
  Holder(const std::string& path, bool read_only) {
    int ready[2];
    if (pipe(ready) != 0) return;
    pid_ = fork();
    if (pid_ == 0) {
      FileDeviceOptions options;
      options.read_only = read_only;
      auto device = OpenFileDevice(path, options);
      const char answer = device.ok() ? 'y' : 'n';
      if (write(ready[1], &answer, 1) != 1) _exit(1);
      while (true) pause();
    }
    char answer = 'n';
    opened_ = read(ready[0], &answer, 1) == 1 && answer == 'y';
    close(ready[0]);
    close(ready[1]);
  }
  ~Holder() {
    Kill();
    waitpid(pid_, nullptr, 0);
  }
  void Kill() { kill(pid_, SIGKILL); }
  pid_t pid() const { return pid_; }
  bool opened() const { return opened_; }

 private:
  pid_t pid_ = -1;
  bool opened_ = false;
};

class FileDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(CreateStoreFile(path_.str()).ok());
    ASSERT_EQ(truncate(path_.str().c_str(), kFileBytes), 0);
  }
  TempPath path_;
};

TEST_F(FileDeviceTest, LiveOwnerIsNamedAndTheSecondOpenRefusedAtOnce) {
  Holder holder(path_.str(), /*read_only=*/false);
  ASSERT_TRUE(holder.opened());
  FileDeviceOptions options;
  options.lock_wait_ms = 60000;
  const auto before = std::chrono::steady_clock::now();
  const absl::Status status = OpenFileDevice(path_.str(), options).status();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(10));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  const std::string expected = "open for writing by process " + std::to_string(holder.pid());
  EXPECT_NE(std::string(status.message()).find(expected), std::string::npos) << status;
}

TEST_F(FileDeviceTest, OpenSucceedsRightAfterTheOwnerIsKilled) {
  for (int i = 0; i < 20; ++i) {
    Holder holder(path_.str(), /*read_only=*/false);
    ASSERT_TRUE(holder.opened());
    holder.Kill();
    const auto device = OpenFileDevice(path_.str(), {});
    EXPECT_TRUE(device.ok()) << device.status();
  }
}

TEST_F(FileDeviceTest, SecondOpenInTheSameProcessIsRefused) {
  const auto first = OpenFileDevice(path_.str(), {});
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status status = OpenFileDevice(path_.str(), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(status.message()).find(std::to_string(getpid())), std::string::npos) << status;
}

TEST_F(FileDeviceTest, ReadersShareAndKeepWritersOut) {
  Holder reader(path_.str(), /*read_only=*/true);
  ASSERT_TRUE(reader.opened());
  FileDeviceOptions read_only;
  read_only.read_only = true;
  EXPECT_TRUE(OpenFileDevice(path_.str(), read_only).ok());
  const absl::Status status = OpenFileDevice(path_.str(), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(status.message()).find("open for reading by process"), std::string::npos) << status;
}

TEST_F(FileDeviceTest, LocksOnBytesAreSeenByOtherOpeningsAndEndWithTheirOwn) {
  using ByteLock = Device::ByteLock;
  constexpr uint64_t kFirst = uint64_t{1} << 61;
  auto owner = OpenFileDevice(path_.str(), {});
  ASSERT_TRUE(owner.ok()) << owner.status();
  FileDeviceOptions beside;
  beside.read_only = true;
  beside.beside_owner = FileDeviceOptions::BesideOwner::kMust;
  beside.owner_bytes = {kFirst, 100};
  EXPECT_EQ(OpenFileDevice(path_.str(), beside).status().code(), absl::StatusCode::kUnavailable);
  for (uint64_t byte : {kFirst + 2, kFirst + 4, kFirst + 6}) {
    ASSERT_TRUE((*owner)->LockByte(byte, ByteLock::kExclusive).ok());
  }
  auto reader = OpenFileDevice(path_.str(), beside);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE((*reader)->info().beside_owner);
  const auto found = [](Device& device, uint64_t first, uint64_t count, ByteLock kind) {
    return *device.FindLock(first, count, kind);
  };
  EXPECT_EQ(found(**reader, kFirst, 100, ByteLock::kExclusive), kFirst + 2);
  EXPECT_EQ(found(**reader, kFirst + 3, 100, ByteLock::kExclusive), kFirst + 4);
  EXPECT_EQ(found(**reader, kFirst + 3, 1, ByteLock::kExclusive), std::nullopt);
  EXPECT_EQ(found(**owner, kFirst, 100, ByteLock::kShared), std::nullopt) << "its own";
  ASSERT_TRUE((*owner)->UnlockByte(kFirst + 4).ok());
  EXPECT_EQ(found(**reader, kFirst + 3, 2, ByteLock::kExclusive), std::nullopt);
  EXPECT_EQ(found(**reader, kFirst + 3, 100, ByteLock::kExclusive), kFirst + 6);
  // A reader takes shared locks only, beside others, and not where the owner has one.
  EXPECT_FALSE((*reader)->LockByte(kFirst + 50, ByteLock::kExclusive).ok());
  EXPECT_EQ((*reader)->LockByte(kFirst + 2, ByteLock::kShared).code(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE((*reader)->LockByte(kFirst + 50, ByteLock::kShared).ok());
  EXPECT_EQ(found(**owner, kFirst + 50, 1, ByteLock::kShared), kFirst + 50);
  EXPECT_EQ(found(**owner, kFirst + 50, 1, ByteLock::kExclusive), std::nullopt);
  reader->reset();
  EXPECT_EQ(found(**owner, kFirst, 100, ByteLock::kShared), std::nullopt);
  // A killed owner's locks end with the lock that keeps others out.
  auto after = OpenFileDevice(path_.str(), beside);
  ASSERT_TRUE(after.ok()) << after.status();
  owner->reset();
  EXPECT_EQ(found(**after, kFirst, 100, ByteLock::kShared), std::nullopt);
  EXPECT_TRUE(OpenFileDevice(path_.str(), {}).ok());
}

TEST_F(FileDeviceTest, LockEndsWithTheDevice) {
  ASSERT_TRUE(OpenFileDevice(path_.str(), {}).ok());
  EXPECT_TRUE(OpenFileDevice(path_.str(), {}).ok());
}

TEST_F(FileDeviceTest, WrongPathsAreToldApart) {
  EXPECT_EQ(OpenFileDevice(path_.str() + ".missing", {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(OpenFileDevice(testing::TempDir(), {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OpenFileDevice("/dev/null", {}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CreateStoreFile(path_.str()).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(FileDeviceTest, FileThatIsExtendedReadsAsZerosAndNeverBecomesShorter) {
  auto device = OpenFileDevice(path_.str(), {});
  ASSERT_TRUE(device.ok()) << device.status();
  AlignedBuffer block(kBlockBytes);
  EXPECT_TRUE(absl::IsDataLoss(ReadBlocking(**device, kFileBytes, block.data(), kBlockBytes)));
  for (const uint64_t bytes : {2 * kFileBytes, kFileBytes}) {
    ASSERT_TRUE((*device)->Extend(bytes).ok());
    EXPECT_EQ((*device)->size_bytes(), 2 * kFileBytes);
  }
  ASSERT_TRUE(ReadBlocking(**device, 2 * kFileBytes - kBlockBytes, block.data(), kBlockBytes).ok());
  EXPECT_EQ(block.data()[0], std::byte{0});
  struct stat st;
  ASSERT_EQ(stat(path_.str().c_str(), &st), 0);
  EXPECT_EQ(static_cast<uint64_t>(st.st_size), 2 * kFileBytes);
  EXPECT_TRUE(absl::IsResourceExhausted((*device)->Extend(uint64_t{1} << 62))) << "no file may be so large";
  EXPECT_EQ((*device)->size_bytes(), 2 * kFileBytes);
}

TEST_F(FileDeviceTest, FileThatIsShortenedGivesItsEndBackAndHasZerosThereLater) {
  auto device = OpenFileDevice(path_.str(), {});
  ASSERT_TRUE(device.ok()) << device.status();
  AlignedBuffer block(kBlockBytes);
  std::fill(block.span().begin(), block.span().end(), std::byte{7});
  ASSERT_TRUE(WriteBlocking(**device, kFileBytes - kBlockBytes, block.data(), kBlockBytes).ok());
  ASSERT_TRUE((*device)->Shorten(kFileBytes * 2).ok()) << "it is not longer";
  EXPECT_EQ((*device)->size_bytes(), kFileBytes);
  ASSERT_TRUE((*device)->Shorten(kFileBytes - kBlockBytes).ok());
  EXPECT_EQ((*device)->size_bytes(), kFileBytes - kBlockBytes);
  EXPECT_TRUE(absl::IsDataLoss(ReadBlocking(**device, kFileBytes - kBlockBytes, block.data(), kBlockBytes)));
  EXPECT_EQ(WriteBlocking(**device, kFileBytes - kBlockBytes, block.data(), kBlockBytes).code(),
            absl::StatusCode::kOutOfRange);
  ASSERT_TRUE((*device)->Extend(kFileBytes).ok());
  ASSERT_TRUE(ReadBlocking(**device, kFileBytes - kBlockBytes, block.data(), kBlockBytes).ok());
  EXPECT_EQ(block.data()[0], std::byte{0});
}

TEST_F(FileDeviceTest, FileSystemHasASize) {
  const auto bytes = SizeOfFileSystem(path_.str());
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_GT(*bytes, kFileBytes);
  EXPECT_FALSE(SizeOfFileSystem("/missing/store").ok());
}

TEST_F(FileDeviceTest, SizeIsRoundedDownToBlocks) {
  ASSERT_EQ(truncate(path_.str().c_str(), kFileBytes + 1000), 0);
  const auto device = OpenFileDevice(path_.str(), {});
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ((*device)->info().size_bytes, kFileBytes);
  EXPECT_TRUE((*device)->info().needs_preparing);
  EXPECT_FALSE((*device)->info().block_device);
}

TEST_F(FileDeviceTest, ChosenEngineHasAReasonUnlessItIsTheBest) {
  FileDeviceOptions system_calls;
  system_calls.use_io_uring = false;
  {
    const auto device = OpenFileDevice(path_.str(), system_calls);
    ASSERT_TRUE(device.ok()) << device.status();
    EXPECT_EQ((*device)->info().engine, "system calls");
    EXPECT_NE((*device)->info().engine_reason, "");
  }
  const auto device = OpenFileDevice(path_.str(), {});
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ((*device)->info().engine, HasIoUring() ? "io_uring" : "system calls");
  if (HasIoUring() && (*device)->info().direct_io) {
    EXPECT_EQ((*device)->info().engine_reason, "");
  } else {
    EXPECT_NE((*device)->info().engine_reason, "");
  }
}

TEST_F(FileDeviceTest, ReadOfAFileThatShrankIsDataLoss) {
  for (bool use_io_uring : {true, false}) {
    ASSERT_EQ(truncate(path_.str().c_str(), kFileBytes), 0);
    FileDeviceOptions options;
    options.use_io_uring = use_io_uring;
    const auto device = OpenFileDevice(path_.str(), options);
    ASSERT_TRUE(device.ok()) << device.status();
    ASSERT_EQ(truncate(path_.str().c_str(), 8192), 0);
    AlignedBuffer buffer = Filled(8192, 'x');
    EXPECT_TRUE(ReadBlocking(**device, 0, buffer.data(), 8192).ok());
    EXPECT_EQ(ReadBlocking(**device, 4096, buffer.data(), 8192).code(), absl::StatusCode::kDataLoss);
  }
}

// The file systems tests run on have no atomic writes, so the kernel refuses RWF_ATOMIC: the engines must
// have asked for it and must say what came of it.
TEST_F(FileDeviceTest, KernelsRefusalOfAnAtomicWriteIsUnimplemented) {
  DeviceInfo info;
  {
    const auto device = OpenFileDevice(path_.str(), {});
    ASSERT_TRUE(device.ok()) << device.status();
    info = (*device)->info();
    if (info.atomic.source != AtomicSource::kNone) GTEST_SKIP() << "this file system takes RWF_ATOMIC";
  }
  info.atomic = {AtomicSource::kHardware, 4096, 65536, 0};
  const int direct = info.direct_io ? O_DIRECT : 0;
  AlignedBuffer buffer = Filled(16384, 'x');
  IoRequest request = Request(IoOp::kAtomicWrite, 16384, buffer);

  SyscallDevice by_calls(OpenFile(open(path_.str().c_str(), O_RDWR | O_CLOEXEC | direct)), info);
  EXPECT_EQ(Execute(by_calls, &request).code(), absl::StatusCode::kUnimplemented) << request.status;

  if (!HasIoUring()) GTEST_SKIP() << "the kernel refuses io_uring here";
  OpenFile file(open(path_.str().c_str(), O_RDWR | O_CLOEXEC | direct));
  const auto by_ring = UringDevice::Create(file, info);
  ASSERT_TRUE(by_ring.ok()) << by_ring.status();
  EXPECT_EQ(Execute(**by_ring, &request).code(), absl::StatusCode::kUnimplemented) << request.status;
  AlignedBuffer seen = Filled(16384, 'y');
  EXPECT_TRUE(ReadBlocking(**by_ring, 16384, seen.data(), 16384).ok());
  EXPECT_TRUE(AllAre(seen, 0));
}

TEST_F(FileDeviceTest, StatedUnitThatIsNoPowerOfTwoIsRefused) {
  FileDeviceOptions options;
  options.stated_unit_bytes = 12288;
  EXPECT_EQ(OpenFileDevice(path_.str(), options).status().code(), absl::StatusCode::kInvalidArgument);
}

// Whatever a program prints to a stream that it was started without must not go into a store.
TEST_F(FileDeviceTest, NumbersOfTheStandardStreamsAreLeftAlone) {
  const int input = dup(0);
  close(0);
  auto device = OpenFileDevice(path_.str(), {});
  struct stat now, store;
  const bool taken =
      fstat(0, &now) == 0 && stat(path_.str().c_str(), &store) == 0 && now.st_ino == store.st_ino;
  if (input >= 0) {
    dup2(input, 0);
    close(input);
  }
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_FALSE(taken);
}

TEST_F(FileDeviceTest, ZerosAreNoForeignContent) {
  const auto content = ProbeForeignContent(path_.str());
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(*content, "");
  ASSERT_EQ(truncate(path_.str().c_str(), 0), 0);
  EXPECT_EQ(*ProbeForeignContent(path_.str()), "");
}

TEST_F(FileDeviceTest, ForeignContentIsNamed) {
  std::fstream file(path_.str(), std::ios::in | std::ios::out | std::ios::binary);
  // The signature, one partition entry and nothing else of a DOS partition table.
  const unsigned char entry[16] = {0x80, 0, 2, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0xff, 0x03, 0, 0};
  file.seekp(446);
  file.write(reinterpret_cast<const char*>(entry), sizeof(entry));
  file.seekp(510);
  file.write("\x55\xaa", 2);
  file.close();
  const auto content = ProbeForeignContent(path_.str());
  ASSERT_TRUE(content.ok()) << content.status();
  EXPECT_EQ(*content, "MBR partition table");
}

}  // namespace
}  // namespace untorn
