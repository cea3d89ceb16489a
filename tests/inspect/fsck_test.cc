// fsck: clean stores, and one damage for each finding.
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "inspect/on_device.h"
#include "store/on_device.h"
#include "tests/extent/test_checksums.h"
#include "tests/inspect/fsck_testing.h"
#include "tests/untorn/test_store.h"
#include "untorn/inspect.h"

namespace untorn {
namespace {

using Codes = std::set<int>;
using Entries = StoreEditor::Entries;

// The numbers of what fsck finds, all of which can be repaired, but for a store without a superblock or the
// whole of its device.
Codes Found(const std::shared_ptr<SimulatedDisk>& disk) {
  Codes codes;
  RunDump(disk);
  for (const Finding& f : RunFsck(disk).findings) {
    codes.insert(static_cast<int>(f.code));
    std::cout << "  " << FindingCodeName(f.code) << ": " << f.what << "\n";
  }
  const auto copy = disk->Clone();
  if (codes.contains(2) || codes.contains(17)) {
    auto repair = RepairDevice(*OpenDisk(copy), {});
    EXPECT_EQ(repair.status().code(), absl::StatusCode::kFailedPrecondition) << repair.status();
    return codes;
  }
  const RepairResult repair = RunRepair(copy);
  for (const std::string& action : repair.actions) std::cout << "    " << action << "\n";
  EXPECT_EQ(repair.found.findings.size(), RunFsck(disk).findings.size());
  return codes;
}

// What fsck finds after the entries of the single tree node were changed.
Codes FoundWithEntries(const std::function<void(Entries&)>& change) {
  StoreEditor editor(SmallStore());
  editor.ChangeRoot(change);
  return Found(editor.disk());
}
Codes FoundWithSuperblock(const std::function<void(Superblock&)>& change) {
  StoreEditor editor(SmallStore());
  change(editor.superblock());
  editor.PutSuperblock();
  return Found(editor.disk());
}

TEST(FsckTest, CleanStores) {
  for (bool with_log : {false, true}) {
    const FsckResult small = RunFsck(SmallStore(with_log));
    EXPECT_EQ(small.findings_total, 0u);
    EXPECT_EQ(small.objects, 3u);
    EXPECT_EQ(small.names, 3u);
    EXPECT_EQ(small.tree_nodes, 1u);
    EXPECT_EQ(small.mapped_blocks + small.unwritten_blocks > 256, true);
    EXPECT_EQ(small.log_records > 0, with_log);
    EXPECT_EQ(small.blocks_total, 4096u);
    const FsckResult large = RunFsck(LargeStore(with_log));
    EXPECT_EQ(large.findings_total, 0u);
    EXPECT_EQ(large.objects, with_log ? 257u : 300u);
    EXPECT_GE(large.mappings, 3 * large.objects);
    EXPECT_GT(large.tree_nodes, 3u);
  }
}

TEST(FsckTest, NewStore) {
  auto disk = std::make_shared<SimulatedDisk>(8 << 20);
  EXPECT_TRUE(IsOk(internal::CreateOnDevice(*OpenDisk(disk), {})));
  EXPECT_EQ(Found(disk), Codes{});
}

TEST(FsckTest, Superblocks) {
  StoreEditor editor(SmallStore());
  const BlockNumber current = kSuperblockSlots[editor.slot()], other = kSuperblockSlots[1 - editor.slot()];
  for (BlockNumber block : {current, other}) {
    auto disk = editor.disk()->Clone();
    for (size_t at : {0, 100, 4000}) {
      FlipByte(*disk, block, at, 0x10);
      EXPECT_EQ(Found(disk).count(1), 1u) << block;
    }
    ZeroBlock(*disk, block);
    EXPECT_EQ(Found(disk), Codes{1});
  }
  // An older one in one slot is what a crash may leave, unless a record names the newer: then both were
  // written.
  auto disk = editor.disk()->Clone();
  Superblock older = editor.superblock();
  --older.generation;
  const auto put_older = [&](SimulatedDisk& to, BlockNumber block) {
    std::vector<std::byte> bytes(kBlockBytes);
    EncodeSuperblock(older, block == kSuperblockSlots[1], bytes);
    to.Poke(ByteOffset(block), bytes.data(), kBlockBytes);
  };
  put_older(*disk, other);
  EXPECT_EQ(Found(disk), Codes{});
  --older.generation;
  put_older(*disk, other);
  EXPECT_EQ(Found(disk), Codes{1}) << "no crash leaves two behind";
  StoreEditor with_log(SmallStore(true));
  older = with_log.superblock();
  --older.generation;
  put_older(*with_log.disk(), kSuperblockSlots[0]);
  EXPECT_EQ(Found(with_log.disk()), Codes{1});
  ++older.generation;
  ++older.next_object;
  put_older(*with_log.disk(), kSuperblockSlots[0]);
  EXPECT_EQ(Found(with_log.disk()), Codes{1});
  disk = editor.disk()->Clone();
  FlipByte(*disk, current, 100, 1);
  FlipByte(*disk, other, 100, 1);
  EXPECT_EQ(Found(disk), Codes{2});
  EXPECT_EQ(Found(std::make_shared<SimulatedDisk>(8 << 20)), Codes{2});
  EXPECT_EQ(Found(std::make_shared<SimulatedDisk>(4096)), Codes{2});
  EXPECT_EQ(FoundWithSuperblock([](Superblock& s) { s.features.incompatible = 4; }), Codes{2});
  EXPECT_EQ(FoundWithSuperblock([](Superblock& s) { s.features.compatible = 4; }), Codes{});
  disk = editor.disk()->Clone();
  for (BlockNumber block : {current, other}) {
    PatchBlock(*disk, block, offsetof(BlockHeader, version), uint16_t{9});
  }
  EXPECT_EQ(Found(disk), Codes{2});
  EXPECT_EQ(RunDump(disk).count("error"), 1u);
}

TEST(FsckTest, CutShort) {
  auto disk = std::make_shared<SimulatedDisk>(8 << 20);
  std::vector<std::byte> half(8 << 20);
  SmallStore()->Peek(0, half.data(), half.size());
  disk->Poke(0, half.data(), half.size());
  auto device = OpenDisk(disk);
  auto result = FsckDevice(*device);
  ASSERT_TRUE(IsOk(result));
  ASSERT_EQ(result->findings.size(), 1u);
  EXPECT_EQ(result->findings[0].code, FindingCode::kStoreCutShort);
  auto dump = DumpJsonDevice(*device, {});
  ASSERT_TRUE(IsOk(dump));
  EXPECT_TRUE(nlohmann::json::accept(*dump));
}

TEST(FsckTest, Log) {
  StoreEditor editor(SmallStore(true));
  const Superblock& sb = editor.superblock();
  const auto block = [&](LogPosition position) { return sb.geometry.LogBlock(position); };
  const FsckResult clean = RunFsck(editor.disk());
  auto disk = editor.disk()->Clone();
  FlipByte(*disk, block(sb.checkpoint_position + 2), 200, 1);
  EXPECT_EQ(Found(disk).count(3), 1u);
  EXPECT_LT(RunFsck(disk).log_records, clean.log_records);
  // The last one is vouched for by nobody: it was not there yet.
  disk = editor.disk()->Clone();
  LogPosition end;
  const nlohmann::json dump = RunDump(disk);
  for (const auto& record : dump["log"]["records"]) {
    end = LogPosition(record["position"].get<uint64_t>());
  }
  FlipByte(*disk, block(end), 200, 1);
  const FsckResult shorter = RunFsck(disk);
  EXPECT_EQ(shorter.findings_total, 0u);
  EXPECT_EQ(shorter.log_records + 1, clean.log_records);
}

// What is in use lies in what is prepared: the rest is zeroed when the store needs it.
TEST(FsckTest, UsedBlocksThatAreNotPrepared) {
  for (const bool prepared : {true, false}) {
    StoreEditor tree(SmallStore()), log(SmallStore());
    const BlockNumber last = tree.superblock().geometry.end() - 1;
    tree.superblock().prepared_blocks = log.superblock().prepared_blocks =
        BlocksBefore(prepared ? last + 1 : last);
    tree.PutRoot(0, last, tree.RootEntries());
    EXPECT_EQ(Found(tree.disk()).count(6), prepared ? 0 : 1);
    log.PutSuperblock();
    const ObjectId object = log.FirstMapping().object;
    log.AppendRecord({TestMap(object, {1, 1}, last, MappingState::kUnwritten)});
    EXPECT_EQ(Found(log.disk()), prepared ? Codes{} : Codes{6});
  }
}

// Records that are sound but map what is in use.
TEST(FsckTest, LogMapsUsedBlocks) {
  const auto found = [](const std::function<LogEntry(const Superblock&, const MappingEntry&)>& entry) {
    StoreEditor editor(SmallStore());
    const MappingEntry first = editor.FirstMapping();
    editor.AppendRecord({entry(editor.superblock(), first)});
    return Found(editor.disk());
  };
  const auto map = [](const MappingEntry& e, ObjectBlock logical, BlockNumber physical, bool reserved) {
    const MappingState state = reserved ? MappingState::kWritten : MappingState::kUnwritten;
    return TestMap(e.object, {logical, 1}, physical, state, reserved);
  };
  // Free blocks are in order.
  EXPECT_EQ(found([&](const Superblock& sb, const MappingEntry& e) {
              return map(e, 1, sb.geometry.end() - 1, false);
            }),
            Codes{});
  EXPECT_EQ(found([&](const Superblock&, const MappingEntry& e) {
              return map(e, e.mapping.logical.start, e.mapping.physical, false);
            }),
            Codes{7});
  EXPECT_EQ(found([&](const Superblock& sb, const MappingEntry& e) {
              return map(e, 1, sb.tree.root.block, false);
            }),
            Codes{7});
  // Not reserved: written.
  EXPECT_EQ(found([&](const Superblock&, const MappingEntry& e) {
              return map(e, e.mapping.logical.start, e.mapping.physical, true);
            }),
            Codes{7});
  EXPECT_EQ(found([&](const Superblock& sb, const MappingEntry& e) {
              return map(e, 1, sb.geometry.end() - 1, true);
            }),
            Codes{10});
}

TEST(FsckTest, TreeNodes) {
  StoreEditor small(SmallStore());
  FlipByte(*small.disk(), small.superblock().tree.root.block, 1000, 1);
  EXPECT_EQ(Found(small.disk()), Codes{4});

  StoreEditor large(LargeStore(true));
  const nlohmann::json dump = RunDump(large.disk());
  for (const auto& node : dump["tree"]["nodes"]) {
    auto disk = large.disk()->Clone();
    FlipByte(*disk, BlockOf(node), 77, 0x80);
    EXPECT_EQ(Found(disk), Codes{4}) << node["block"];
    EXPECT_EQ(RunDump(disk).count("objects_error"), 1u);
  }
}

TEST(FsckTest, PointersOfTheTree) {
  // A root whose entries lead twice to the old one; nowhere; to the log.
  for (BlockNumber second : {BlockNumber(0), BlockNumber(uint64_t{1} << 60), BlockNumber(20)}) {
    StoreEditor editor(SmallStore());
    const BlockPointer leaf = editor.superblock().tree.root;
    const std::string first_key = editor.RootEntries().front().first;
    const BlockPointer other = second == 0 ? leaf : BlockPointer{second, 1};
    editor.PutRoot(1, editor.superblock().geometry.end() - 1,
                   {{first_key, ChildValue(leaf)}, {NameKey("zzz"), ChildValue(other)}});
    editor.superblock().tree.node_count = 2;
    editor.PutSuperblock();
    // The new root's block is not in the map.
    EXPECT_EQ(Found(editor.disk()), (Codes{4, 10})) << second;
  }
}

TEST(FsckTest, Entries) {
  EXPECT_EQ(FoundWithEntries([](Entries&) {}), Codes{});
  {
    // A leaf with an entry that makes no sense, behind a right checksum, is damaged.
    StoreEditor editor(SmallStore());
    editor.SpoilRoot();
    EXPECT_EQ(Found(editor.disk()), Codes{4});
  }
  for (BlockNumber physical : {BlockNumber(4096), BlockNumber(20), BlockNumber(uint64_t{1} << 62)}) {
    EXPECT_EQ(FoundWithEntries([&](Entries& e) {
                e[0].second = MappingValue(physical, 1, MappingState::kWritten);
              }).count(6),
              1)
        << physical;
  }
  EXPECT_EQ(FoundWithEntries([](Entries& e) {
              MappingEntry m = *ParseMapping(e[0].first, e[0].second);
              e.insert(e.begin() + 1, {MappingKey(m.object, 1000), e[0].second});
            }),
            (Codes{7, 15}));
}

TEST(FsckTest, NamesAndObjects) {
  const auto erase = [](Entries& entries, const std::string& key) {
    EXPECT_EQ(std::erase_if(entries, [&](const auto& e) { return e.first == key; }), 1u);
  };
  const auto id_of = [](Entries& entries, const std::string& name) {
    for (const auto& [key, value] : entries) {
      if (key == NameKey(name)) return ParseName(key, value)->second;
    }
    return ObjectId::kNone;
  };
  const auto put = [](Entries& entries, const std::string& key, const std::string& to) {
    for (auto& [k, value] : entries) {
      if (k == key) value = to;
    }
  };
  EXPECT_EQ(FoundWithEntries([&](Entries& e) {
              erase(e, InodeKey(id_of(e, "a")));
              erase(e, NameKey("a"));
            }),
            Codes{8});
  EXPECT_EQ(FoundWithEntries([&](Entries& e) { erase(e, InodeKey(id_of(e, "c"))); }), Codes{12});
  EXPECT_EQ(FoundWithEntries([&](Entries& e) { erase(e, NameKey("b")); }), Codes{13});
  EXPECT_EQ(FoundWithEntries([&](Entries& e) { put(e, NameKey("c"), NameValue(id_of(e, "b"))); }),
            (Codes{13, 14}));
  EXPECT_EQ(FoundWithEntries([&](Entries& e) {
              const ObjectId c = id_of(e, "c");
              put(e, InodeKey(c), InodeValue({c, 0, "x\xff"}));
            }),
            Codes{14});
  EXPECT_EQ(FoundWithEntries([&](Entries& e) {
              const ObjectId a = id_of(e, "a");
              put(e, InodeKey(a), InodeValue({a, 0, "a"}));
            }),
            Codes{15});
  // It begins before the object's end: a later write over that part would leave the rest beyond it.
  EXPECT_EQ(FoundWithEntries([&](Entries& e) {
              const ObjectId a = id_of(e, "a");
              put(e, InodeKey(a), InodeValue({a, 45000, "a"}));
            }),
            Codes{15});
}

TEST(FsckTest, FreeMap) {
  StoreEditor editor(SmallStore());
  const BlockNumber bitmap = editor.RootTable()[0].block, table = editor.superblock().free_map.block;
  for (BlockNumber block : {bitmap, table}) {
    auto disk = editor.disk()->Clone();
    FlipByte(*disk, block, 3000, 4);
    EXPECT_EQ(Found(disk), Codes{9}) << block;
  }
  const auto found = [](Extent extent, bool used) {
    StoreEditor changed(SmallStore());
    changed.ChangeBitmap(extent, used);
    return Found(changed.disk());
  };
  EXPECT_EQ(found({editor.FirstMapping().mapping.physical, 3}, false), Codes{10});
  EXPECT_EQ(found({editor.superblock().tree.root.block, 1}, false), Codes{10});
  EXPECT_EQ(found({20, 2}, false), Codes{10});
  EXPECT_EQ(found({4000, 3}, true), Codes{11});
  EXPECT_EQ(found({4096, 3}, true), Codes{11});  // beyond the end
}

TEST(FsckTest, Counts) {
  EXPECT_EQ(FoundWithSuperblock([](Superblock& s) { ++s.used_blocks; }), Codes{16});
  EXPECT_EQ(FoundWithSuperblock([](Superblock& s) { ++s.tree.node_count; }), Codes{16});
  EXPECT_EQ(FoundWithSuperblock([](Superblock& s) { --s.tree.leaf_bytes; }), Codes{16});
  EXPECT_EQ(FoundWithSuperblock([](Superblock& s) { ++s.tree.levels; }), Codes{16});
  EXPECT_EQ(FoundWithSuperblock([](Superblock& s) { s.next_object = 2; }), Codes{16});
  StoreEditor editor(SmallStore());
  std::vector<FreeMapEntry> table = editor.RootTable();
  ++table[0].used_blocks;
  editor.PutRootTable(table);
  EXPECT_EQ(Found(editor.disk()), Codes{16});
}

}  // namespace
}  // namespace untorn
