// Memory does not grow with what is written: 4 GiB through a cache of 64 MiB, and one transaction of 1 GiB,
// each in a process of its own on a real file, measured by the kernel (VmHWM).
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

constexpr uint64_t kMiB = 1 << 20, kGiB = 1 << 30;
constexpr uint64_t kPeakMax = 160 * kMiB;
constexpr uint64_t kPiece = 64 << 10;

// Of this process.
uint64_t PeakBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) << 10;
  }
  return ~uint64_t{0};
}

int Give(const absl::Status& status, const char* what) {
  std::cerr << what << ": " << status << std::endl;
  return 1;
}

// The pieces of [0, bytes) of `object` are written `times` times over: first in order, then in random order.
int WriteAll(Store& store, uint64_t bytes, int times) {
  auto object = store.CreateObject("a");
  if (!object.ok()) return Give(object.status(), "create");
  std::mt19937_64 rng(1);
  std::vector<std::byte> data = Stamped(1, kPiece);
  for (int time = 0; time < times; ++time) {
    for (uint64_t i = 0; i < bytes / kPiece; ++i) {
      const uint64_t at = time == 0 ? i : rng() % (bytes / kPiece);
      std::memcpy(data.data(), &at, sizeof(at));
      if (auto status = object->Write(at * kPiece, data); !status.ok()) return Give(status, "write");
    }
  }
  if (auto status = store.Sync(); !status.ok()) return Give(status, "sync");
  return 0;
}

int WriteInATransaction(Store& store, uint64_t bytes) {
  Transaction transaction = store.Begin();
  auto object = transaction.CreateObject("a");
  if (!object.ok()) return Give(object.status(), "create");
  std::vector<std::byte> data = Stamped(1, kPiece);
  for (uint64_t at = 0; at < bytes / kPiece; ++at) {
    std::memcpy(data.data(), &at, sizeof(at));
    if (auto status = transaction.Write(*object, at * kPiece, data); !status.ok())
      return Give(status, "write");
  }
  if (auto status = transaction.Commit(); !status.ok()) return Give(status, "commit");
  return 0;
}

// Every piece holds its own number.
int ReadBack(Store& store, uint64_t bytes) {
  auto object = store.OpenObject("a");
  if (!object.ok()) return Give(object.status(), "open object");
  const std::vector<std::byte> pattern = Stamped(1, kPiece);
  std::vector<std::byte> data(kPiece);
  for (uint64_t at = 0; at < bytes / kPiece; ++at) {
    auto read = object->Read(at * kPiece, data);
    if (!read.ok()) return Give(read.status(), "read");
    if (std::memcmp(data.data(), &at, sizeof(at)) != 0 ||
        std::memcmp(data.data() + 8, pattern.data() + 8, kPiece - 8) != 0) {
      return Give(absl::DataLossError("wrong content at piece " + std::to_string(at)), "read");
    }
  }
  return 0;
}

int Child(const std::string& what, const std::string& path) {
  auto store = Store::Open(path, {.cache_bytes = 64 * kMiB});
  if (!store.ok()) return Give(store.status(), "open");
  int result = what == "write" ? WriteAll(**store, kGiB, 4) : WriteInATransaction(**store, kGiB);
  if (result == 0) result = ReadBack(**store, kGiB);
  if (auto status = (*store)->Close(); !status.ok()) return Give(status, "close");
  store->reset();
  const uint64_t peak = PeakBytes();
  std::cout << what << ": peak " << (peak >> 20) << " MiB" << std::endl;
  if (result == 0 && peak > kPeakMax) return Give(absl::InternalError("too much memory"), "peak");
  return result;
}

class MemoryTest : public testing::TestWithParam<const char*> {};

TEST_P(MemoryTest, PeakIsBoundedByTheCache) {
  const std::string path = testing::TempDir() + "/memory_" + std::to_string(getpid());
  ASSERT_TRUE(IsOk(Store::Create(path, {.size_bytes = 2 * kGiB, .force = true})));
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    setenv("UNTORN_MEMORY_TEST", GetParam(), 1);
    setenv("UNTORN_MEMORY_TEST_PATH", path.c_str(), 1);
    execl("/proc/self/exe", "memory_test", static_cast<char*>(nullptr));
    _exit(99);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  auto fsck = Fsck(path);
  EXPECT_TRUE(IsOk(fsck));
  EXPECT_EQ(fsck.ok() ? fsck->findings_total : 1, 0u);
  unlink(path.c_str());
}

INSTANTIATE_TEST_SUITE_P(Ways, MemoryTest, testing::Values("write", "transaction"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace untorn

int main(int argc, char** argv) {
  if (const char* what = std::getenv("UNTORN_MEMORY_TEST")) {
    return untorn::Child(what, std::getenv("UNTORN_MEMORY_TEST_PATH"));
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
