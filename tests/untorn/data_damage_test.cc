// Promise 9 for data: whatever happens to a block of data below the store, a read of the block says kDataLoss, the scrub
// and fsck name it, and everything else is right. What was open at a crash is the exception.
#include <gtest/gtest.h>

#include <cstring>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/aligned_buffer.h"
#include "device/device.h"
#include "inspect/on_device.h"
#include "store/on_device.h"
#include "tests/inspect/fsck_testing.h"
#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

using absl::StatusCode;
using DiskPtr = std::shared_ptr<SimulatedDisk>;

constexpr WriteOptions kSync{.durability = Durability::kSync};
constexpr uint64_t kPage = 16384;

struct DataBlock {
  std::string object;
  uint64_t offset_bytes;
  BlockNumber place;
};

// All blocks of data that a store maps.
std::vector<DataBlock> DataBlocks(const DiskPtr& disk) {
  std::vector<DataBlock> blocks;
  const nlohmann::json dump = RunDump(disk, {.log = false, .tree = false, .free_map = false});
  for (const auto& object : dump["objects"]) {
    for (const auto& m : object["mappings"]) {
      if (m["state"] != "written") continue;
      for (uint64_t i = 0; i < m["count"].get<uint64_t>(); ++i) {
        blocks.push_back({object["name"], (m["logical"].get<uint64_t>() + i) * kBlockBytes,
                          BlockNumber(m["physical"].get<uint64_t>() + i)});
      }
    }
  }
  return blocks;
}

bool AnyOpen(const DiskPtr& disk) {
  const nlohmann::json dump = RunDump(disk, {.log = false, .tree = false, .free_map = false});
  for (const auto& object : dump["objects"]) {
    for (const auto& m : object["mappings"]) {
      if (m.contains("opened_in_epoch")) return true;
    }
  }
  return false;
}

std::vector<std::byte> BlockOn(SimulatedDisk& disk, BlockNumber block) {
  std::vector<std::byte> bytes(kBlockBytes);
  disk.Peek(ByteOffset(block), bytes.data(), bytes.size());
  return bytes;
}

// A store with objects of several shapes, closed. `earlier` has what lay in the blocks before.
struct Made {
  DiskPtr disk, earlier;
  std::map<std::string, std::vector<std::byte>> contents;
};
const Made& TheStore() {
  static const Made made = [] {
    Made made;
    TestStore store({.size_bytes = 16 << 20, .atomic = HardwareUnit(4096, 65536)});
    std::mt19937_64 rng(5);
    for (const auto& [name, bytes] : {std::pair("one run", 600'000), std::pair("scattered", 300'000)}) {
      auto object = store->CreateObject(name);
      EXPECT_TRUE(IsOk(object));
      EXPECT_TRUE(IsOk(object->Write(0, Stamped(rng(), bytes))));
    }
    EXPECT_TRUE(IsOk(store->Sync()));
    auto scattered = store->OpenObject("scattered");
    for (int i = 0; i < 100; ++i) {
      EXPECT_TRUE(IsOk(scattered->Write(rng() % 18 * kPage, Stamped(rng(), kPage), kSync)));
      if (i == 40) made.earlier = store.disk()->Clone();
      if (i % 30 != 0) continue;
      EXPECT_TRUE(IsOk(store->Checkpoint()));
    }
    EXPECT_GT(store->stats().change_sets_in_place(), 10u);
    made.contents = Contents(*store);
    *scattered = Object();
    EXPECT_TRUE(IsOk(store.Close()));
    EXPECT_FALSE(AnyOpen(store.disk())) << "a clean close closes all";
    made.disk = store.disk();
    return made;
  }();
  return made;
}

// Reads all, block by block: only `damaged` is refused, and everything else is right.
void ExpectOnlyDamaged(Store& store, const DataBlock& damaged) {
  for (const auto& [name, contents] : TheStore().contents) {
    auto object = store.OpenObject(name);
    ASSERT_TRUE(IsOk(object));
    for (uint64_t at = 0; at < contents.size(); at += kBlockBytes) {
      std::vector<std::byte> bytes(std::min<uint64_t>(kBlockBytes, contents.size() - at));
      const auto read = object->Read(at, bytes);
      if (name == damaged.object && at == damaged.offset_bytes) {
        EXPECT_TRUE(Fails(read, StatusCode::kDataLoss)) << name << " " << at;
      } else {
        ASSERT_TRUE(IsOk(read)) << name << " " << at;
        ASSERT_EQ(std::memcmp(bytes.data(), contents.data() + at, bytes.size()), 0) << name << " " << at;
      }
    }
  }
}

// The store says so everywhere that this block, and no other, is damaged.
void ExpectFound(const DiskPtr& disk, const DataBlock& damaged, bool read_all) {
  auto store = internal::OpenOnDevice(OpenDisk(disk), {.read_only = true, .cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  if (read_all) {
    ExpectOnlyDamaged(**store, damaged);
  } else {
    std::vector<std::byte> bytes(100);
    EXPECT_TRUE(Fails((*store)->OpenObject(damaged.object)->Read(damaged.offset_bytes, bytes),
                      StatusCode::kDataLoss));
  }
  const auto scrub = (*store)->Scrub();
  ASSERT_TRUE(IsOk(scrub));
  ASSERT_EQ(scrub->damaged_total, 1u);
  EXPECT_EQ(scrub->damaged[0].object, damaged.object);
  EXPECT_EQ(scrub->damaged[0].offset_bytes, damaged.offset_bytes);
  EXPECT_LE(scrub->damaged[0].length_bytes, kBlockBytes);
  const auto fsck = FsckDevice(*OpenDisk(disk), {.data = true});
  ASSERT_TRUE(IsOk(fsck));
  ASSERT_EQ(fsck->findings_total, 1u);
  EXPECT_EQ(fsck->findings[0].code, FindingCode::kDataDamaged);
  EXPECT_NE(fsck->findings[0].what.find(absl::StrCat("'", damaged.object, "'")), std::string::npos);
}

TEST(DataDamageTest, OneFlippedBitAnywhereIsFoundAndNothingElseSuffers) {
  const std::vector<DataBlock> blocks = DataBlocks(TheStore().disk);
  std::mt19937_64 rng(TestSeed(31));
  for (int i = 0; i < 1000 && !HasFailure(); ++i) {
    const DiskPtr disk = TheStore().disk->Clone();
    const DataBlock& block = blocks[rng() % blocks.size()];
    FlipByte(*disk, block.place, rng() % kBlockBytes, 1 << rng() % 8);
    SCOPED_TRACE(absl::StrCat(i, ": block ", block.place.value()));
    ExpectFound(disk, block, /*read_all=*/i % 50 == 0);
  }
}

TEST(DataDamageTest, LostStaleMisdirectedAndTornWritesAreFound) {
  const std::vector<DataBlock> blocks = DataBlocks(TheStore().disk);
  std::mt19937_64 rng(TestSeed(32));
  int tried[4] = {};
  for (int i = 0; i < 400 && !HasFailure(); ++i) {
    const DiskPtr disk = TheStore().disk->Clone();
    const DataBlock& block = blocks[rng() % blocks.size()];
    const std::vector<std::byte> now = BlockOn(*disk, block.place);
    std::vector<std::byte> other(kBlockBytes);                                    // lost: as zeros
    if (i % 4 == 1) other = BlockOn(*TheStore().earlier, block.place);            // stale
    if (i % 4 == 2) other = BlockOn(*disk, blocks[rng() % blocks.size()].place);  // misdirected
    if (i % 4 == 3) std::copy(now.begin(), now.begin() + 512 * (1 + rng() % 7), other.begin());  // torn
    if (other == now) continue;
    disk->Poke(ByteOffset(block.place), other.data(), other.size());
    ++tried[i % 4];
    SCOPED_TRACE(absl::StrCat(i, ": block ", block.place.value()));
    ExpectFound(disk, block, /*read_all=*/false);
  }
  for (int n : tried) EXPECT_GT(n, 20);
}

TEST(DataDamageTest, UnreadableSectorIsNamedByScrubAndFsck) {
  const DataBlock block = DataBlocks(TheStore().disk)[7];
  DiskPtr disk = TheStore().disk->Clone();
  // The power fails during a write there.
  auto device = OpenDisk(disk);
  AlignedBuffer bytes(kBlockBytes);
  ASSERT_TRUE(IsOk(WriteBlocking(*device, ByteOffset(block.place), bytes.data(), kBlockBytes)));
  std::vector<SimulatedDisk::Landing> landings(disk->unflushed().size());
  landings.back() = {.lands = true, .sectors = std::vector<bool>(kBlockBytes / 512, false), .shorn = true};
  disk = disk->AfterCut(landings);
  ASSERT_FALSE(disk->IsReadable(block.place));
  ExpectFound(disk, block, /*read_all=*/true);
}

TEST(DataDamageTest, PartialWriteOfADamagedBlockIsRefusedAndAWholeWriteMendsIt) {
  TestStore store({});
  auto a = store->CreateObject("a");
  ASSERT_TRUE(IsOk(a->Write(0, Stamped(1, 3 * kBlockBytes), kSync)));
  *a = Object();
  ASSERT_TRUE(IsOk(store.Close()));
  FlipByte(*store.disk(), DataBlocks(store.disk())[1].place, 99, 4);
  ASSERT_TRUE(IsOk(store.Open()));
  a = store->OpenObject("a");
  EXPECT_TRUE(Fails(a->Write(kBlockBytes + 5, Stamped(2, 10)), StatusCode::kDataLoss));
  EXPECT_TRUE(Fails(a->Truncate(kBlockBytes + 100), StatusCode::kDataLoss)) << "its rest would be made valid";
  Transaction transaction = store->Begin();
  ASSERT_TRUE(IsOk(transaction.Write(*a, kBlockBytes + 5, Stamped(2, 10))));
  EXPECT_TRUE(Fails(transaction.Commit(), StatusCode::kDataLoss));
  EXPECT_GE(store->stats().blocks_damaged, 3u);
  ASSERT_TRUE(IsOk(a->Write(kBlockBytes, Stamped(3, kBlockBytes), kSync)));
  EXPECT_TRUE(ReadAll(*a, kBlockBytes, kBlockBytes) == Stamped(3, kBlockBytes));
  const auto scrub = store->Scrub();
  ASSERT_TRUE(IsOk(scrub));
  EXPECT_EQ(scrub->damaged_total, 0u);
}

// ---- Open mappings ----

class OpenMappingsTest : public testing::Test {
 protected:
  // An object of 1 MiB, of which the first page is overwritten in place and so open, with all around it.
  void SetUp() override {
    TestStoreOptions options{.size_bytes = 32 << 20, .atomic = HardwareUnit(4096, 65536)};
    store_ = std::make_unique<TestStore>(options);
    auto object = (*store_)->CreateObject("a");
    ASSERT_TRUE(IsOk(object->Write(0, Stamped(1, 2 << 20), kSync)));
    a_ = *object;
    ASSERT_TRUE(IsOk((*store_)->Checkpoint()));
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(IsOk(Overwrite(0)));
    ASSERT_GT(InPlace(), 0u);
  }
  void TearDown() override { a_ = Object(); }
  absl::Status Overwrite(uint64_t offset) { return a_.Write(offset, Stamped(++stamp_, kPage), kSync); }
  uint64_t InPlace() { return (*store_)->stats().change_sets_in_place(); }
  void KillAndOpen() {
    a_ = Object();
    store_->KillAndOpen();
    a_ = *(*store_)->OpenObject("a");
  }
  BlockNumber PlaceOf(uint64_t offset) {
    for (const DataBlock& block : DataBlocks(store_->disk())) {
      if (block.offset_bytes == offset) return block.place;
    }
    return 0;
  }

  std::unique_ptr<TestStore> store_;
  Object a_;
  uint64_t stamp_ = 100;
};

TEST_F(OpenMappingsTest, HotPageStaysOpenOverCheckpointsAndAQuietOneIsClosed) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(IsOk((*store_)->Checkpoint()));
    const uint64_t before = InPlace();
    ASSERT_TRUE(IsOk(Overwrite(0)));
    EXPECT_EQ(InPlace(), before + 1);
  }
  ASSERT_TRUE(IsOk((*store_)->Checkpoint()));
  ASSERT_TRUE(IsOk((*store_)->Checkpoint()));
  const uint64_t before = InPlace();
  ASSERT_TRUE(IsOk(Overwrite(0)));
  EXPECT_EQ(InPlace(), before) << "it is closed, so the next overwrite goes elsewhere";
  // What is opened again is open again.
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(IsOk(Overwrite(0)));
  EXPECT_GT(InPlace(), before);
  KillAndOpen();
  EXPECT_TRUE(ReadAll(a_, 0, kPage) == Stamped(stamp_, kPage));
}

TEST_F(OpenMappingsTest, OneRecordOpensTheWholeRegion) {
  const uint64_t records = (*store_)->stats().log_records, before = InPlace();
  for (uint64_t at = kPage; at < (1 << 20); at += kPage) ASSERT_TRUE(IsOk(Overwrite(at)));
  EXPECT_EQ(InPlace(), before + 63);
  EXPECT_EQ((*store_)->stats().log_records, records);
  ASSERT_TRUE(IsOk(Overwrite(1 << 20)));
  EXPECT_EQ(InPlace(), before + 63) << "another region";
}

TEST_F(OpenMappingsTest, RotInWhatThisSessionHasOverwrittenIsFound) {
  KillAndOpen();  // the cache is empty
  ASSERT_TRUE(
      IsOk(a_.Write(0, Stamped(++stamp_, kPage), {.durability = Durability::kSync, .bypass_cache = true})));
  ASSERT_EQ(InPlace(), 1u);
  ASSERT_TRUE(IsOk((*store_)->Checkpoint()));
  FlipByte(*store_->disk(), PlaceOf(4096), 7, 1);
  std::vector<std::byte> bytes(kPage);
  EXPECT_TRUE(Fails(a_.Read(0, bytes), StatusCode::kDataLoss));
}

// After a crash the store cannot know, and says so. A scrub gives the blocks checksums again.
TEST_F(OpenMappingsTest, RotInWhatWasOpenAtACrashIsToldAndAScrubEndsThat) {
  ASSERT_TRUE(IsOk((*store_)->Checkpoint()));
  KillAndOpen();
  EXPECT_TRUE(AnyOpen(store_->disk()));
  FlipByte(*store_->disk(), PlaceOf(0), 7, 1);
  FlipByte(*store_->disk(), PlaceOf(1 << 20), 7, 1);  // not in the open region
  std::vector<std::byte> bytes(kPage);
  EXPECT_TRUE(IsOk(a_.Read(0, bytes)));
  EXPECT_EQ((*store_)->stats().blocks_excused, 1u);
  EXPECT_TRUE(Fails(a_.Read(1 << 20, bytes), StatusCode::kDataLoss));
  const auto scrub = (*store_)->Scrub();
  ASSERT_TRUE(IsOk(scrub));
  EXPECT_EQ(scrub->damaged_total, 1u);
  EXPECT_EQ(scrub->blocks_adopted, 256u);
  a_ = Object();
  store_->KillAndOpen();
  EXPECT_EQ((*store_)->Scrub()->blocks_adopted, 256u) << "no checkpoint has the new checksums yet";
  ASSERT_TRUE(IsOk((*store_)->Checkpoint()));
  ASSERT_TRUE(IsOk((*store_)->Checkpoint()));
  store_->KillAndOpen();
  EXPECT_FALSE(AnyOpen(store_->disk()));
  EXPECT_EQ((*store_)->Scrub()->blocks_adopted, 0u);
  FlipByte(*store_->disk(), PlaceOf(0), 9, 1);
  EXPECT_TRUE(Fails((*store_)->OpenObject("a")->Read(0, bytes), StatusCode::kDataLoss));
}

TEST_F(OpenMappingsTest, AlwaysCowOpensNothing) {
  OpenOptions open = store_->options().open;
  open.policy = WritePolicy::kAlwaysCow;
  a_ = Object();
  ASSERT_TRUE(IsOk(store_->Close()));
  ASSERT_TRUE(IsOk(store_->Open(open, 0)));
  a_ = *(*store_)->OpenObject("a");
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(IsOk(Overwrite(i % 3 * kPage)));
  EXPECT_EQ(InPlace(), 0u);
  KillAndOpen();
  EXPECT_FALSE(AnyOpen(store_->disk()));
}

}  // namespace
}  // namespace untorn
