// dump; and fsck and dump on random damage.
#include "untorn/inspect.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "inspect/on_device.h"
#include "tests/inspect/fsck_testing.h"
#include "tests/rounds.h"

namespace untorn {
namespace {

// ---- Dump ----

TEST(DumpTest, ShowsEverything) {
  auto disk = SmallStore(true);
  const nlohmann::json dump = RunDump(disk);
  EXPECT_EQ(dump["superblocks"].size(), 2u);
  EXPECT_EQ(dump["geometry"]["total_blocks"], 4096);
  EXPECT_GT(dump["log"]["records"].size(), 10u);
  EXPECT_EQ(dump["tree"]["nodes"].size(), 1u);
  ASSERT_EQ(dump["objects"].size(), 3u);
  EXPECT_EQ(dump["objects"][0]["name"], "a");
  EXPECT_EQ(dump["objects"][0]["size_bytes"], 30000);
  EXPECT_EQ(dump["objects"][2]["name"], "e");
  std::set<std::string> from;
  const FsckResult fsck = RunFsck(disk);
  uint64_t mappings = 0;
  for (const auto& object : dump["objects"]) {
    uint64_t end = 0;
    for (const auto& m : object["mappings"]) {
      EXPECT_GE(m["logical"], end);
      end = m["logical"].get<uint64_t>() + m["count"].get<uint64_t>();
      from.insert(m["from"].get<std::string>() + " " + m["state"].get<std::string>());
      ++mappings;
    }
  }
  EXPECT_EQ(mappings, fsck.mappings);
  EXPECT_EQ(from, (std::set<std::string>{"checkpoint written", "checkpoint unwritten", "log written"}));
}

TEST(DumpTest, PartsAndObject) {
  auto disk = LargeStore(true);
  const std::string name = "object with a name of some length, number 123";
  const nlohmann::json one =
      RunDump(disk, {.log = false, .tree = false, .objects = true, .free_map = false, .object = name});
  ASSERT_EQ(one["objects"].size(), 1u);
  EXPECT_EQ(one["objects"][0]["name"], name);
  EXPECT_EQ(one["objects"][0]["mappings"].size(), 12u);
  EXPECT_EQ(one.count("log") + one.count("tree") + one.count("free_map"), 0u);
  EXPECT_EQ(RunDump(disk)["objects"].size(), 257u);
  auto device = OpenDisk(disk);
  EXPECT_TRUE(Fails(DumpJsonDevice(*device, {.object = "none"}), absl::StatusCode::kNotFound));
}

// ---- Random damage ----

std::vector<BlockNumber> BlocksInUse(const std::shared_ptr<SimulatedDisk>& disk) {
  const nlohmann::json dump = RunDump(disk);
  std::vector<BlockNumber> blocks;
  for (const auto& slot : dump["superblocks"]) {
    if (slot["in_use"]) blocks.push_back(BlockOf(slot));
  }
  for (const auto& node : dump["tree"]["nodes"]) blocks.push_back(BlockOf(node));
  for (const auto& node : dump["free_map"]["nodes"]) {
    if (node.count("block")) blocks.push_back(BlockOf(node));
  }
  return blocks;
}

TEST(RandomDamageTest, FlippedBytes) {
  std::mt19937_64 rng(TestSeed(20));
  for (const auto& disk : {SmallStore(true), LargeStore(true)}) {
    const std::vector<BlockNumber> in_use = BlocksInUse(disk);
    const uint64_t fixed = BlocksBefore(StoreEditor(disk).superblock().geometry.log.end()).value();
    for (int i = 0; i < Rounds(200); ++i) {
      auto damaged = disk->Clone();
      const bool used = i % 2 == 0;
      const BlockNumber block = used ? in_use[rng() % in_use.size()] : BlockNumber(rng() % fixed);
      const size_t at = rng() % kBlockBytes;
      FlipByte(*damaged, block, at, 1 + rng() % 255);
      const FsckResult result = RunFsck(damaged);
      EXPECT_TRUE(!used || result.findings_total > 0) << "block " << block << " byte " << at;
      RunDump(damaged);
      if (i % 8 == 0) RunRepair(damaged);
    }
  }
}

// Blocks whose checksums are right and whose contents are not.
TEST(RandomDamageTest, SealedNonsense) {
  const uint64_t seed = TestSeed(21);
  std::mt19937_64 rng(seed);
  auto disk = SmallStore(true);
  const auto flip = [&](std::vector<std::byte>& block) {
    const size_t from = sizeof(BlockHeader) * (rng() % 4 != 0);
    for (int n = 1 + rng() % 6; n > 0; --n) {
      // Most of a tree node is in its offsets and at its end, most of all else at the beginning.
      const size_t at = rng() % 2   ? rng() % kBlockBytes
                        : rng() % 2 ? rng() % 256
                                    : kBlockBytes - 1 - rng() % 600;
      if (at >= from) block[at] ^= static_cast<std::byte>(1 << rng() % 8);
    }
  };
  for (int i = 0; i < Rounds(800); ++i) {
    StoreEditor editor(disk->Clone());
    Superblock& sb = editor.superblock();
    switch (rng() % 5) {
      case 0:
        sb.tree.root.checksum = editor.ChangeBlock(sb.tree.root.block, flip);
        break;
      case 1: {
        std::vector<FreeMapEntry> table = editor.RootTable();
        table[0].checksum = editor.ChangeBlock(table[0].block, flip);
        editor.PutRootTable(table);
        break;
      }
      case 2:
        sb.free_map.checksum = editor.ChangeBlock(sb.free_map.block, flip);
        break;
      case 3: {
        editor.ChangeBlock(sb.geometry.LogBlock(sb.checkpoint_position + BlockCount(rng() % 10)), flip);
        break;
      }
      case 4:
        editor.ChangeBlock(kSuperblockSlots[editor.slot()], flip);
        RunFsck(editor.disk());
        RunDump(editor.disk());
        continue;
    }
    editor.PutSuperblock();
    RunFsck(editor.disk());
    RunDump(editor.disk());
    if (i % 4 == 0) RunRepair(editor.disk());
  }
}

}  // namespace
}  // namespace untorn
