// Who promises atomic writes, told from what the kernel reports: one row a situation.
#include "device/atomic_limits.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace untorn {
namespace {

struct Row {
  const char* situation;
  AtomicFacts facts;
  AtomicSource source;
  uint32_t unit_min_bytes = 0;
  uint32_t unit_max_bytes = 0;
  uint32_t boundary_bytes = 0;
};

AtomicFacts File(uint32_t unit_min, uint32_t unit_max, uint32_t unit_max_opt, uint32_t disk_min,
                 uint32_t disk_max, uint32_t disk_boundary = 0) {
  AtomicFacts facts;
  facts.path = "/some/store";
  facts.direct_io = true;
  facts.file_unit_min_bytes = unit_min;
  facts.file_unit_max_bytes = unit_max;
  facts.file_unit_max_opt_bytes = unit_max_opt;
  facts.disk = "nvme0n1";
  facts.disk_unit_min_bytes = disk_min;
  facts.disk_unit_max_bytes = disk_max;
  facts.disk_boundary_bytes = disk_boundary;
  facts.request_max_bytes = 1 << 20;
  return facts;
}

AtomicFacts BlockDevice(uint32_t unit_min, uint32_t unit_max, uint32_t disk_min, uint32_t disk_max,
                        uint32_t disk_boundary = 0) {
  AtomicFacts facts = File(unit_min, unit_max, 0, disk_min, disk_max, disk_boundary);
  facts.block_device = true;
  return facts;
}

AtomicFacts Buffered(AtomicFacts facts) {
  facts.direct_io = false;
  return facts;
}

AtomicFacts NoDisk(AtomicFacts facts) {
  facts.disk.clear();
  facts.request_max_bytes = 0;
  return facts;
}

AtomicFacts Stated(AtomicFacts facts, uint64_t unit) {
  facts.stated_unit_bytes = unit;
  return facts;
}

TEST(AtomicLimitsTest, EachSituationHasItsSourceAndLimits) {
  using enum AtomicSource;
  const Row rows[] = {
      {"nothing reported", File(0, 0, 0, 0, 0), kNone},
      {"no disk below", NoDisk(File(0, 0, 0, 0, 0)), kNone},
      {"ext4 on a disk that has it", File(4096, 16384, 0, 512, 65536), kHardware, 4096, 16384, 0},
      {"disk below the file system's own limit", File(4096, 16384, 0, 512, 8192), kFileSystem, 4096, 16384,
       0},
      {"boundary is the disk's", File(4096, 65536, 0, 512, 65536, 131072), kHardware, 4096, 65536, 131072},
      {"disk minimum above the file's", File(4096, 65536, 0, 8192, 65536), kHardware, 8192, 65536, 0},
      {"XFS emulates on a disk without", File(4096, 2 << 20, 0, 0, 0), kFileSystem, 4096, 2 << 20, 0},
      {"XFS emulates beyond the disk", File(4096, 2 << 20, 16384, 512, 65536), kHardware, 4096, 16384, 0},
      {"XFS on a misaligned partition", File(4096, 2 << 20, 0, 512, 65536), kFileSystem, 4096, 2 << 20, 0},
      {"emulated, and no disk known", NoDisk(File(4096, 65536, 0, 0, 0)), kFileSystem, 4096, 65536, 0},
      {"file system does not pass it on", File(0, 0, 0, 512, 65536), kNone},
      {"no direct I/O", Buffered(File(4096, 16384, 0, 512, 65536)), kNone},
      {"block device", BlockDevice(512, 65536, 512, 65536, 65536), kHardware, 512, 65536, 65536},
      {"misaligned partition", BlockDevice(0, 0, 512, 65536), kNone},
      {"block device whose queue denies it", BlockDevice(512, 65536, 0, 0), kNone},
      {"smaller than a block", BlockDevice(512, 2048, 512, 2048), kNone},
      {"one size only", File(16384, 16384, 0, 512, 65536), kHardware, 16384, 16384, 0},
      {"units that are no powers of two", File(4096, 12288, 0, 512, 65536), kNone},
      {"stated", Stated(File(0, 0, 0, 0, 0), 16384), kStated, 4096, 16384, 0},
      {"stated over what the kernel reports", Stated(File(4096, 8192, 0, 512, 8192, 65536), 16384), kStated,
       4096, 16384, 0},
      {"stated, no disk below", Stated(NoDisk(File(0, 0, 0, 0, 0)), 65536), kStated, 4096, 65536, 0},
      {"stated for a block device", Stated(BlockDevice(0, 0, 0, 0), 4096), kStated, 4096, 4096, 0},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.situation);
    const auto verdict = DecideAtomicLimits(row.facts);
    ASSERT_TRUE(verdict.ok()) << verdict.status();
    EXPECT_STREQ(AtomicSourceName(verdict->limits.source), AtomicSourceName(row.source)) << verdict->note;
    EXPECT_EQ(verdict->limits.unit_min_bytes, row.unit_min_bytes);
    EXPECT_EQ(verdict->limits.unit_max_bytes, row.unit_max_bytes);
    EXPECT_EQ(verdict->limits.boundary_bytes, row.boundary_bytes);
    EXPECT_FALSE(verdict->note.empty());
  }
}

TEST(AtomicLimitsTest, EachCacheOfADiskIsTold) {
  using Cache = AtomicFacts::Cache;
  const std::pair<Cache, const char*> kRows[] = {
      {Cache::kUnknown, "nothing is known"},
      {Cache::kNone, "no volatile cache"},
      {Cache::kVolatile, "no forced unit access"},
      {Cache::kVolatileWithFua, "(forced unit access)"},
  };
  for (const auto& [cache, text] : kRows) {
    AtomicFacts facts;
    facts.disk = "sdx";
    facts.disk_cache = cache;
    EXPECT_NE(DurableWriteNote(facts).find(text), std::string::npos) << DurableWriteNote(facts);
  }
  AtomicFacts in_memory;
  in_memory.in_memory = true;
  EXPECT_NE(DurableWriteNote(in_memory).find("ends with the machine"), std::string::npos);
}

TEST(AtomicLimitsTest, StatedUnitIsWarnedOfWhereAnOverwriteMayGoElsewhere) {
  AtomicFacts facts = Stated(File(0, 0, 0, 0, 0), 16384);
  EXPECT_EQ(DecideAtomicLimits(facts)->warning, "");
  facts.not_in_place = "it copies on write";
  const auto verdict = DecideAtomicLimits(facts);
  ASSERT_TRUE(verdict.ok()) << verdict.status();
  EXPECT_EQ(verdict->limits.source, AtomicSource::kStated) << "it is the operator's word";
  for (const std::string& text : {verdict->warning, verdict->note})
    EXPECT_NE(text.find(facts.not_in_place), std::string::npos) << text;
  facts.stated_unit_bytes = 0;
  EXPECT_EQ(DecideAtomicLimits(facts)->warning, "");
}

TEST(AtomicLimitsTest, UnusableStatedUnitIsRefused) {
  const AtomicFacts file = File(0, 0, 0, 0, 0);
  for (const AtomicFacts& facts : {Stated(file, 2048), Stated(file, 12288), Stated(file, uint64_t{1} << 40),
                                   Stated(Buffered(file), 16384), Stated(file, 2 << 20)}) {
    EXPECT_EQ(DecideAtomicLimits(facts).status().code(), absl::StatusCode::kInvalidArgument)
        << facts.stated_unit_bytes;
  }
}

TEST(AtomicLimitsTest, StatedUnitAboveTheLargestRequestIsRefusedNamingBoth) {
  const auto verdict = DecideAtomicLimits(Stated(File(0, 0, 0, 0, 0), 2 << 20));
  const std::string message(verdict.status().message());
  EXPECT_NE(message.find("2097152"), std::string::npos) << message;
  EXPECT_NE(message.find("1048576"), std::string::npos) << message;
}

TEST(AtomicLimitsTest, FactsOfAFileAgreeWithItsOpenMode) {
  const std::string path = testing::TempDir() + "/untorn_facts";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  const AtomicFacts facts = GatherAtomicFacts(fd, path).value();
  EXPECT_FALSE(facts.block_device);
  EXPECT_FALSE(facts.direct_io);
  EXPECT_EQ(facts.path, path);
  close(fd);
  unlink(path.c_str());
}

}  // namespace
}  // namespace untorn
