// Promise 9 on a store with a thousand blocks of metadata: each of them in turn with a bit flipped, zeroed, as it
// was earlier, or with another one's content. Always found by fsck, which names the block; never a wrong answer,
// a crash or a hang; and what the block does not cover stays readable.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <iostream>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "inspect/on_device.h"
#include "store/on_device.h"
#include "tests/inspect/fsck_testing.h"
#include "tests/untorn/test_store.h"
#include "tests/untorn/test_util.h"

namespace untorn {
namespace {

constexpr int kObjects = 7300;
constexpr size_t kMetadataBlocks = 1000;

// Names so long that a tree node holds few of them.
std::string NameOf(int i) { return absl::StrCat(10000 + i, std::string(240, 'n')); }

struct DamageStore {
  std::shared_ptr<SimulatedDisk> disk, earlier;  // `earlier`: with an older version of most blocks
  std::vector<BlockNumber> metadata;
  std::set<BlockNumber> inner;  // nodes of the tree that are no leaves: they cover much
  uint64_t first_id = 0;
};

const DamageStore& TheStore() {
  static const DamageStore made = [] {
    DamageStore made;
    TestStore store({.size_bytes = 64 << 20, .shuffle = false, .open = {.cache_bytes = 64 << 20}});
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < kObjects; ++i) {
        auto object = round == 0 ? store->CreateObject(NameOf(i)) : store->OpenObject(NameOf(i));
        EXPECT_TRUE(IsOk(object));
        if (i == 0) made.first_id = object->id();
        EXPECT_TRUE(IsOk(object->Write(0, Stamped(i + 1, 100 + round))));
      }
      EXPECT_TRUE(IsOk(store->Sync()));
      // Twice, so that nodes come to lie where others were.
      EXPECT_TRUE(IsOk(store->Checkpoint()));
      EXPECT_TRUE(IsOk(store->Checkpoint()));
      if (round == 0) made.earlier = store.disk()->Clone();
    }
    EXPECT_TRUE(IsOk(store.Close()));
    made.disk = store.disk();
    const nlohmann::json dump = RunDump(made.disk, {.objects = false});
    for (const auto& slot : dump["superblocks"]) made.metadata.push_back(BlockOf(slot));
    for (const auto& node : dump["tree"]["nodes"]) {
      made.metadata.push_back(BlockOf(node));
      if (node["level"] > 0) made.inner.insert(BlockOf(node));
    }
    for (const auto& node : dump["free_map"]["nodes"]) {
      if (node.count("block")) made.metadata.push_back(BlockOf(node));
    }
    return made;
  }();
  return made;
}

enum Damage { kFlippedBit, kZeroed, kStale, kSwapped, kDamages };

// The blocks that are now wrong. None: this damage cannot be done to this block.
std::vector<BlockNumber> Harm(SimulatedDisk& disk, size_t index, Damage damage, std::mt19937_64& rng) {
  const DamageStore& store = TheStore();
  const BlockNumber block = store.metadata[index];
  std::vector<char> now(kBlockBytes), other(kBlockBytes);
  disk.Peek(ByteOffset(block), now.data(), kBlockBytes);
  switch (damage) {
    case kFlippedBit:
      FlipByte(disk, block, rng() % kBlockBytes, 1 << rng() % 8);
      return {block};
    case kZeroed:
      ZeroBlock(disk, block);
      return {block};
    case kStale:
      store.earlier->Peek(ByteOffset(block), other.data(), kBlockBytes);
      if (other == now) return {};
      disk.Poke(ByteOffset(block), other.data(), kBlockBytes);
      return {block};
    default: {
      const BlockNumber with =
          store.metadata[(index + 1 + rng() % (store.metadata.size() - 1)) % store.metadata.size()];
      disk.Peek(ByteOffset(with), other.data(), kBlockBytes);
      if (other == now) return {};
      disk.Poke(ByteOffset(block), other.data(), kBlockBytes);
      disk.Poke(ByteOffset(with), now.data(), kBlockBytes);
      return {block, with};
    }
  }
}

constexpr int kRepairOneIn = 20;
constexpr int kReadOneIn = 16;  // objects, of those that follow one another

// Every answer is right or kDataLoss, and all but `lost_max` objects are there.
void ExpectNoWrongAnswer(const std::shared_ptr<SimulatedDisk>& disk, int lost_max, std::mt19937_64& rng) {
  auto opened = internal::OpenOnDevice(OpenDisk(disk), {.read_only = true, .cache_bytes = 64 << 20}, false);
  if (!opened.ok()) {
    EXPECT_TRUE(Fails(opened, absl::StatusCode::kDataLoss));
    return;
  }
  Store& store = **opened;
  int lost = 0;
  for (int i = static_cast<int>(rng() % kReadOneIn); i < kObjects; i += kReadOneIn) {
    auto object = store.OpenObject(NameOf(i));
    if (!object.ok()) {
      EXPECT_TRUE(Fails(object, absl::StatusCode::kDataLoss)) << i;
      ++lost;
      continue;
    }
    EXPECT_EQ(object->id(), TheStore().first_id + i);
    if (rng() % 4 != 0) continue;
    std::vector<std::byte> bytes(101);
    auto read = object->Read(0, bytes);
    if (read.ok()) {
      EXPECT_TRUE(bytes == Stamped(i + 1, 101)) << i;
    } else {
      EXPECT_TRUE(Fails(read, absl::StatusCode::kDataLoss)) << i;
    }
  }
  EXPECT_LE(lost, lost_max / kReadOneIn + 1);
}

// Repaired, nothing is left to be found, and all but `lost_max` objects have their names and their contents.
void ExpectRepaired(const std::shared_ptr<SimulatedDisk>& disk, int lost_max) {
  auto repair = RepairDevice(*OpenDisk(disk), {});
  ASSERT_TRUE(IsOk(repair));
  ASSERT_TRUE(repair->repaired);
  EXPECT_LE(repair->quarantined, static_cast<uint64_t>(lost_max));
  auto store = internal::OpenOnDevice(OpenDisk(disk), {.read_only = true, .cache_bytes = 64 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  int lost = 0;
  for (int i = 0; i < kObjects; ++i) {
    auto object = (*store)->OpenObject(NameOf(i));
    std::vector<std::byte> bytes(101);
    lost += !object.ok();
    if (!object.ok() || i % kReadOneIn != 0) continue;
    EXPECT_TRUE(IsOk(object->Read(0, bytes)));
    ASSERT_TRUE(bytes == Stamped(i + 1, 101)) << i;
  }
  EXPECT_LE(lost, lost_max);
}

// Whether "block N" is there, and not as the beginning of a longer number.
bool Names(const std::string& text, BlockNumber block) {
  const std::string words = absl::StrCat("block ", block.value());
  for (size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) {
    const size_t end = at + words.size();
    if (end == text.size() || !absl::ascii_isdigit(text[end])) return true;
  }
  return false;
}

// In parts, which run side by side.
constexpr size_t kParts = 2;
class DamageTest : public testing::TestWithParam<size_t> {};

TEST_P(DamageTest, EverySingleBlockIsFoundAndGivesNoWrongAnswer) {
  std::mt19937_64 rng(TestSeed(30) + GetParam());
  const DamageStore& store = TheStore();
  ASSERT_GE(store.metadata.size(), kMetadataBlocks);
  ASSERT_EQ(RunFsck(store.disk).findings_total, 0u);
  std::array<int, kDamages> tried = {};
  for (size_t i = GetParam(); i < store.metadata.size() && !HasFailure(); i += kParts) {
    for (int d = 0; d < kDamages; ++d) {
      const auto disk = store.disk->Clone();
      const std::vector<BlockNumber> blocks = Harm(*disk, i, static_cast<Damage>(d), rng);
      if (blocks.empty()) continue;
      SCOPED_TRACE(absl::StrCat("block ", blocks[0].value(), ", damage ", d));
      ++tried[d];
      const FsckResult result = RunFsck(disk);
      bool named = false;
      for (const Finding& finding : result.findings) {
        for (BlockNumber block : blocks) {
          named |= Names(finding.what, block) || finding.code == FindingCode::kSuperblockUnreadable;
        }
      }
      EXPECT_TRUE(named) << "fsck: " << result.findings_total << " findings";
      // A leaf holds a handful of names and objects, or some hundred mappings.
      const int inner =
          std::count_if(blocks.begin(), blocks.end(), [&](BlockNumber b) { return store.inner.contains(b); });
      const int leaves = static_cast<int>(blocks.size()) - inner;
      ExpectNoWrongAnswer(disk, inner * kObjects + leaves * 40, rng);
      if ((i + d) % kRepairOneIn == 0) ExpectRepaired(disk, inner * kObjects + leaves * 400);
    }
  }
  std::cout << store.metadata.size() << " blocks of metadata; tried: " << tried[0] << " flipped, " << tried[1]
            << " zeroed, " << tried[2] << " stale, " << tried[3] << " swapped" << std::endl;
}

INSTANTIATE_TEST_SUITE_P(Parts, DamageTest, testing::Range<size_t>(0, kParts));

}  // namespace
}  // namespace untorn
