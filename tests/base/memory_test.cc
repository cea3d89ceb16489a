// What the machine could give, from files as the kernel writes them.
#include "base/memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace untorn {
namespace {

class MemoryTest : public testing::Test {
 protected:
  MemoryTest() : root_(testing::TempDir() + "/root") {
    std::filesystem::remove_all(root_);
    Put("/proc/meminfo", "MemTotal:  1000000 kB\nMemFree: 10 kB\nMemAvailable:   500000 kB\nBuffers: 1 kB\n");
  }
  ~MemoryTest() override { std::filesystem::remove_all(root_); }
  void Put(const std::string& path, const std::string& content) {
    const std::filesystem::path full = root_ + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << content;
  }
  void PutGroup(const std::string& path, const std::string& max, const std::string& current) {
    Put(path + "/memory.max", max + "\n");
    Put(path + "/memory.current", current + "\n");
    Put(path + "/memory.stat", "anon 5\nactive_file 1000\ninactive_file 2000\n");
  }
  const std::string root_;
};

TEST_F(MemoryTest, WithoutCgroupsTheMachineCounts) {
  EXPECT_EQ(AvailableMemoryBytes(root_), uint64_t{500000} << 10);
}

TEST_F(MemoryTest, TheLeastOfTheGroupsAboveCountsAndFilesCanBeGivenBack) {
  Put("/proc/self/cgroup", "1:name=old:/x\n0::/pods/one\n");
  PutGroup("/sys/fs/cgroup/pods/one", "max", "4000");
  EXPECT_EQ(AvailableMemoryBytes(root_), uint64_t{500000} << 10);
  PutGroup("/sys/fs/cgroup/pods", "100000", "40000");
  EXPECT_EQ(AvailableMemoryBytes(root_), 63000u);
  PutGroup("/sys/fs/cgroup/pods/one", "50000", "4000");
  EXPECT_EQ(AvailableMemoryBytes(root_), 49000u);
  PutGroup("/sys/fs/cgroup/pods/one", "50000", "70000");
  EXPECT_EQ(AvailableMemoryBytes(root_), 0u);
}

// As in a container.
TEST_F(MemoryTest, TheRootOfWhatIsMountedCountsForEveryGroup) {
  PutGroup("/sys/fs/cgroup", "10000", "3000");
  for (const char* group : {"/", "/init"}) {
    Put("/proc/self/cgroup", std::string("0::") + group + "\n");
    EXPECT_EQ(AvailableMemoryBytes(root_), 10000u) << group;
  }
}

TEST_F(MemoryTest, TheSoftLimitCountsToo) {
  Put("/proc/self/cgroup", "0::/a\n");
  PutGroup("/sys/fs/cgroup/a", "100000", "3000");
  Put("/sys/fs/cgroup/a/memory.high", "20000\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 20000u);
}

TEST_F(MemoryTest, TheFirstVersionOfCgroupsCounts) {
  Put("/proc/self/cgroup", "5:cpu,memory:/docker/x\n1:name=systemd:/y\n");
  Put("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "50000\n");
  Put("/sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "20000\n");
  EXPECT_EQ(AvailableMemoryBytes(root_), 30000u);
}

TEST_F(MemoryTest, WhereNothingIsToldNothingIsKnown) {
  EXPECT_EQ(AvailableMemoryBytes(root_ + "/nowhere"), std::nullopt);
}

TEST_F(MemoryTest, ThisMachineTells) { EXPECT_GT(AvailableMemoryBytes().value_or(0), 0u); }

}  // namespace
}  // namespace untorn
