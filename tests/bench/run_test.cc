// The driver draws the load it is told to, and finds out what a store has lost: else the benchmark would praise it.
#include "bench/run.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "bench/pages.h"

namespace untorn::bench {
namespace {

constexpr uint64_t kPage = 4096;

// What all stores of one test have in common.
struct Memory {
  std::mutex mu;
  std::map<uint64_t, std::vector<std::byte>> pages;
  std::map<uint64_t, int> writes;
  int commits = 0, reads = 0;
  int lose_commit = 0;  // this one is told to have succeeded, and did nothing
};

class MemoryStore : public PageStore {
 public:
  explicit MemoryStore(Memory* memory) : memory_(memory) {}
  absl::Status Commit(int, std::span<const PageWrite> pages) override {
    std::lock_guard lock(memory_->mu);
    if (++memory_->commits == memory_->lose_commit) return absl::OkStatus();
    for (const PageWrite& p : pages) {
      memory_->pages[p.page].assign(p.data, p.data + kPage);
      ++memory_->writes[p.page];
    }
    return absl::OkStatus();
  }
  absl::Status Read(int, uint32_t, uint64_t page, std::byte* out) override {
    std::lock_guard lock(memory_->mu);
    ++memory_->reads;
    std::vector<std::byte>& bytes = memory_->pages[page];
    bytes.resize(kPage);
    std::memcpy(out, bytes.data(), kPage);
    return absl::OkStatus();
  }

 private:
  Memory* const memory_;
};

class RunTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Driver>> Make(const Load& load) {
    const Subject subject{
        "memory", "", [this](const PageStoreOptions&, bool) {
          return absl::StatusOr<std::unique_ptr<PageStore>>(std::make_unique<MemoryStore>(&memory_));
        }};
    return Driver::Make(subject, load, testing::TempDir() + "/run", 1);
  }
  // So many operations at least, however long they take. 0: one failed.
  static uint64_t Run(Driver& driver, uint64_t operations) {
    uint64_t done = 0;
    while (done < operations) {
      const auto run = driver.RunFor(10);
      if (!run.ok()) return 0;
      done += run->operations;
    }
    return done;
  }
  Memory memory_;
};

TEST_F(RunTest, WhatWasCommittedIsFound) {
  auto driver = Make({.page_bytes = kPage, .pages = 4, .clients = 3, .set_bytes = 1 << 20, .overwritten = 2});
  ASSERT_TRUE(driver.ok()) << driver.status();
  EXPECT_EQ(memory_.commits, 3 * 256 / 64) << "all pages once, then as many twice over, 64 at a time";
  const auto run = (*driver)->RunFor(20);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_GT(run->operations, 0u);
  EXPECT_EQ(run->latencies_ns.size(), run->operations);
  const absl::Status verified = (*driver)->Verify();
  EXPECT_TRUE(verified.ok()) << verified;
}

TEST_F(RunTest, LostCommitIsFound) {
  memory_.lose_commit = 4;  // the last of the first fill
  auto driver = Make({.page_bytes = kPage, .set_bytes = 1 << 20});
  ASSERT_TRUE(driver.ok()) << driver.status();
  EXPECT_TRUE(absl::IsDataLoss((*driver)->Verify()));
}

TEST_F(RunTest, ReadsTakeTheirShareAndAreChecked) {
  auto driver = Make({.page_bytes = kPage, .set_bytes = 1 << 20, .read_percent = 80});
  ASSERT_TRUE(driver.ok()) << driver.status();
  const int filled = memory_.commits;
  const uint64_t operations = Run(**driver, 2000);
  EXPECT_EQ(operations, static_cast<uint64_t>(memory_.commits - filled + memory_.reads));
  EXPECT_NEAR(memory_.reads / static_cast<double>(operations), 0.8, 0.1);
  for (auto& [page, bytes] : memory_.pages) bytes[0] ^= std::byte{1};
  EXPECT_EQ(Run(**driver, 1000000), 0u);
}

TEST_F(RunTest, SkewedLoadHasPagesThatAreDrawnMost) {
  auto driver = Make({.page_bytes = kPage, .set_bytes = 4 << 20, .skewed = true});
  ASSERT_TRUE(driver.ok()) << driver.status();
  memory_.writes.clear();
  const uint64_t operations = Run(**driver, 2000);
  int most = 0;
  for (const auto& [page, writes] : memory_.writes) most = std::max(most, writes);
  // Of 1024 pages the first has 13 % by Zipf's law; all alike, one would have 0.1 %.
  EXPECT_GT(most, static_cast<int>(operations / 20));
}

}  // namespace
}  // namespace untorn::bench
