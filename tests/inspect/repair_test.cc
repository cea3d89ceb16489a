// fsck --repair: what is kept, what is quarantined, and that it may be interrupted. That it leaves nothing to
// be found is checked for every damage that fsck_test makes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "inspect/on_device.h"
#include "store/on_device.h"
#include "tests/explore/landings.h"
#include "tests/inspect/fsck_testing.h"
#include "tests/untorn/test_store.h"
#include "untorn/inspect.h"

namespace untorn {
namespace {

using Files = std::map<std::string, std::vector<std::byte>>;

Files FilesOn(const std::shared_ptr<SimulatedDisk>& disk) {
  auto store = internal::OpenOnDevice(OpenDisk(disk), {.read_only = true, .cache_bytes = 16 << 20}, false);
  EXPECT_TRUE(IsOk(store));
  return store.ok() ? Contents(**store) : Files();
}

// Of a quarantined object, its name before.
std::string NameBefore(const std::string& name) {
  if (!absl::StartsWith(name, "quarantine/")) return name;
  return name.substr(name.find('/', sizeof("quarantine/") - 1) + 1);
}

// Whether `part` is `whole` with some blocks of it zero.
bool IsPartOf(const std::vector<std::byte>& part, const std::vector<std::byte>& whole) {
  for (size_t at = 0; at < std::max(part.size(), whole.size()); at += kBlockBytes) {
    const auto block = [&](const std::vector<std::byte>& of) {
      std::vector<std::byte> bytes(kBlockBytes);
      if (at < of.size()) std::copy_n(of.begin() + at, std::min(kBlockBytes, of.size() - at), bytes.begin());
      return bytes;
    };
    if (block(part) != block(whole) && block(part) != std::vector<std::byte>(kBlockBytes)) return false;
  }
  return true;
}

TEST(RepairTest, NothingToDo) {
  for (bool with_log : {false, true}) {
    const auto disk = LargeStore(with_log);
    const uint64_t before = disk->Fingerprint();
    EXPECT_EQ(RunRepair(disk).actions_total, 0u);
    EXPECT_EQ(disk->Fingerprint(), before);
  }
}

TEST(RepairTest, SuperblockComesBackFromItsTwinAndNothingElseIsWritten) {
  for (int slot : {0, 1}) {
    StoreEditor editor(SmallStore(true));
    const Files before = FilesOn(editor.disk());
    FlipByte(*editor.disk(), kSuperblockSlots[slot], 100, 1);
    auto device = OpenDisk(editor.disk());
    auto result = RepairDevice(*device, {});
    ASSERT_TRUE(IsOk(result));
    EXPECT_TRUE(result->repaired);
    EXPECT_EQ(result->actions_total, 1u);
    EXPECT_EQ(device->counts().writes, 1u);
    EXPECT_EQ(RunFsck(editor.disk()).log_records, result->found.log_records);
    EXPECT_TRUE(FilesOn(editor.disk()) == before);
  }
}

TEST(RepairTest, EveryDamagedNodeCostsWhatItHeldAndNothingElse) {
  StoreEditor large(LargeStore(true));
  const Files before = FilesOn(large.disk());
  const nlohmann::json dump = RunDump(large.disk());
  for (const auto& node : dump["tree"]["nodes"]) {
    SCOPED_TRACE(node.dump());
    auto disk = large.disk()->Clone();
    ZeroBlock(*disk, BlockOf(node));
    const RepairResult result = RunRepair(disk);
    uint64_t quarantined = 0;
    std::set<std::string> names;
    for (const auto& [name, bytes] : FilesOn(disk)) {
      const std::string was = NameBefore(name);
      if (was == name) {
        ASSERT_TRUE(before.contains(name));
        EXPECT_TRUE(bytes == before.at(name)) << name;
      } else {
        ++quarantined;
        // Without its record and its name it has none.
        EXPECT_TRUE(!before.contains(was) || IsPartOf(bytes, before.at(was))) << name;
      }
      names.insert(was);
    }
    EXPECT_EQ(quarantined, result.quarantined);
    if (node["level"] == 0) {
      EXPECT_LT(quarantined, 110u);
      EXPECT_GE(names.size(), before.size()) << "of no object is all in a single leaf";
    }
  }
}

TEST(RepairTest, LeakedSpaceIsGivenBack) {
  StoreEditor editor(SmallStore());
  const uint64_t used = RunFsck(editor.disk()).blocks_used;
  editor.ChangeBitmap({3000, 900}, true);
  const RepairResult result = RunRepair(editor.disk());
  EXPECT_EQ(result.found.findings[0].code, FindingCode::kLeak);
  EXPECT_EQ(result.after.blocks_used, used);
  EXPECT_EQ(result.quarantined, 0u);
  EXPECT_EQ(StoreEditor(editor.disk()).superblock().used_blocks, BlockCount(used));
}

TEST(RepairTest, DamagedLogEndsBeforeTheDamageAndStaysThere) {
  StoreEditor editor(SmallStore(true));
  const Superblock& sb = editor.superblock();
  const BlockNumber third = sb.geometry.LogBlock(sb.checkpoint_position + 2);
  FlipByte(*editor.disk(), third, 300, 1);
  const RepairResult result = RunRepair(editor.disk());
  EXPECT_EQ(result.found.findings[0].code, FindingCode::kLogDamaged);
  EXPECT_EQ(Lsn(result.after.lsn_recovered), sb.checkpoint_lsn + 2);
  // The records beyond are still in the ring, and count no more.
  auto store = internal::OpenOnDevice(OpenDisk(editor.disk()), {.cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  auto object = (*store)->OpenObject("b");
  ASSERT_TRUE(IsOk(object));
  EXPECT_TRUE(ReadAll(*object, 65536, 5000) == Stamped(3, 5000))
      << "written by record 1 after the checkpoint";
  EXPECT_TRUE(ReadAll(*object, 65536 + 16384, 5000) == std::vector<std::byte>(5000)) << "by record 3";
  EXPECT_FALSE((*store)->OpenObject("e").ok());
}

// An extent that a lost record displaced may have been given to another object since.
TEST(RepairTest, WhatTheLogWroteAndIsNoLongerThereIsQuarantined) {
  constexpr uint64_t kBytes = 512 << 10;
  TestStore store({.size_bytes = 8 << 20, .shuffle = false});
  auto a = store->CreateObject("a"), b = store->CreateObject("b");
  ASSERT_TRUE(IsOk(a) && IsOk(b));
  ASSERT_TRUE(IsOk(b->Write(0, Stamped(5, 8192), {.durability = Durability::kSync})));
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  std::vector<std::byte> seen;
  uint64_t writes = 0;
  // Until something lies where record 1 put its data, and is not a's.
  // In one run that is long enough to be used again soon.
  ASSERT_TRUE(IsOk(a->Write(0, Stamped(1, kBytes), {.durability = Durability::kSync})));
  StoreEditor first(store.disk()->Clone());
  const nlohmann::json dump = RunDump(first.disk());
  uint64_t physical = 0;
  for (const auto& object : dump["objects"]) {
    if (object["name"] == "a") physical = object["mappings"][0]["physical"];
  }
  ASSERT_GT(physical, 0u);
  do {
    ASSERT_TRUE(IsOk(a->Write(0, Stamped(2 + writes, kBytes), {.durability = Durability::kSync})));
    ASSERT_TRUE(IsOk(b->Write(0, Stamped(1000 + writes, 1 << 20), {.durability = Durability::kSync})));
    seen.resize(kBytes);
    store.disk()->Peek(physical * kBlockBytes, seen.data(), seen.size());
  } while (++writes < 40 && seen == Stamped(1, kBytes));
  ASSERT_FALSE(seen == Stamped(1, kBytes)) << "the extent was never used again";
  *a = Object();
  *b = Object();
  store.Kill();

  const Superblock& sb = first.superblock();
  const auto disk = store.disk()->Clone();
  FlipByte(*disk, sb.geometry.LogBlock(sb.checkpoint_position + 1), 300, 1);
  const RepairResult result = RunRepair(disk);
  EXPECT_EQ(result.quarantined, 1);
  auto after = internal::OpenOnDevice(OpenDisk(disk), {.read_only = true, .cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(after));
  const auto quarantined = (*after)->OpenObject(absl::StrCat("quarantine/", 1, "/a"));
  ASSERT_TRUE(IsOk(quarantined));
  EXPECT_TRUE(Fails(quarantined->Read(0, seen), absl::StatusCode::kDataLoss)) << "others wrote there";
  EXPECT_TRUE(ReadAll(*(*after)->OpenObject("b"), 0, 8192) == Stamped(5, 8192));
}

TEST(RepairTest, BlocksMappedTwicePutBothInQuarantine) {
  StoreEditor editor(SmallStore());
  const Files before = FilesOn(editor.disk());
  editor.ChangeRoot([](StoreEditor::Entries& entries) {
    std::vector<size_t> mappings;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (ParseMapping(entries[i].first, entries[i].second)) mappings.push_back(i);
    }
    // b's first mapping now leads to a's blocks.
    const MappingEntry a = *ParseMapping(entries[mappings[0]].first, entries[mappings[0]].second);
    for (size_t i : mappings) {
      const MappingEntry m = *ParseMapping(entries[i].first, entries[i].second);
      if (m.object == a.object) continue;
      entries[i].second = MappingValue(a.mapping.physical, 1, MappingState::kWritten);
      return;
    }
  });
  RunRepair(editor.disk());
  const Files after = FilesOn(editor.disk());
  EXPECT_TRUE(after.at("quarantine/1/a") == before.at("a")) << "the first keeps what is there";
  EXPECT_TRUE(after.contains("quarantine/2/b"));
  EXPECT_TRUE(after.contains("c"));
}

TEST(RepairTest, NumbersThatNothingCanFollowAreRefusedAndTheStoreStays) {
  StoreEditor editor(SmallStore());
  editor.AppendRecord({LogEntry::NameGone("zzz")});
  const Geometry& g = editor.superblock().geometry;
  const BlockNumber record = g.LogBlock(editor.superblock().checkpoint_position);
  for (const size_t field : {size_t{88}, offsetof(BlockHeader, generation)}) {
    const auto disk = editor.disk()->Clone();
    PatchBlock(*disk, record, field, UINT64_MAX);
    const uint64_t before = disk->Fingerprint();
    const absl::Status refused = RepairDevice(*OpenDisk(disk), {}).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    const char* what = field == 88 ? "the highest superblock generation in the store is "
                                   : "the highest epoch in the store is ";
    EXPECT_TRUE(absl::StrContains(refused.message(), absl::StrCat(what, UINT64_MAX))) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), "copy the objects out")) << refused;
    EXPECT_EQ(disk->Fingerprint(), before);
  }
}

TEST(RepairTest, ReadsThatFailForGoodStopItBeforeItWrites) {
  StoreEditor editor(LargeStore(true));
  FlipByte(*editor.disk(), editor.RootTable()[0].block, 3000, 4);
  auto clean = OpenDisk(editor.disk()->Clone());
  ASSERT_TRUE(IsOk(RepairDevice(*clean, {})));
  const uint64_t reads = clean->counts().reads;
  const uint64_t before = editor.disk()->Fingerprint();
  for (uint64_t first = 3; first < reads; first += 1 + reads / 60) {
    const auto disk = editor.disk()->Clone();
    auto device = OpenDisk(disk);
    device->Inject(
        {.op = IoOp::kRead, .first = first, .count = UINT64_MAX / 2, .status = absl::DataLossError("EIO")});
    auto result = RepairDevice(*device, {});
    EXPECT_FALSE(result.ok()) << first;
    EXPECT_TRUE(device->counts().writes > 0 || disk->Fingerprint() == before);
    RunRepair(disk);
  }
}

// Cut the power at every point of a repair, in every way or a sample of them: what is left can be repaired,
// to the same.
TEST(RepairTest, MayBeInterruptedAnywhere) {
  std::mt19937_64 rng(TestSeed(50));
  struct Case {
    const char* what;
    std::function<void(StoreEditor&)> damage;
  };
  const std::vector<Case> cases = {
      {"superblock", [](StoreEditor& e) { ZeroBlock(*e.disk(), kSuperblockSlots[e.slot()]); }},
      {"bitmap", [](StoreEditor& e) { FlipByte(*e.disk(), e.RootTable()[0].block, 3000, 4); }},
      {"log",
       [](StoreEditor& e) {
         const Superblock& sb = e.superblock();
         FlipByte(*e.disk(), sb.geometry.LogBlock(sb.checkpoint_position + 1), 99, 1);
       }},
      {"leaf",
       [](StoreEditor& e) {
         const nlohmann::json dump = RunDump(e.disk());
         for (const auto& node : dump["tree"]["nodes"]) {
           if (node["level"] == 0) return ZeroBlock(*e.disk(), BlockOf(node));
         }
       }},
      {"root", [](StoreEditor& e) { ZeroBlock(*e.disk(), e.superblock().tree.root.block); }},
  };
  uint64_t images = 0;
  for (bool large : {false, true}) {
    for (const Case& c : cases) {
      SCOPED_TRACE(absl::StrCat(c.what, large ? ", large" : ", small"));
      StoreEditor editor(large ? LargeStore(true) : SmallStore(true));
      c.damage(editor);
      const auto repaired = editor.disk()->Clone();
      std::vector<std::shared_ptr<SimulatedDisk>> cut;
      std::set<uint64_t> known;
      repaired->SetObserver([&] {
        for (const Landings& landings : EnumerateLandings(repaired->unflushed(), large ? 16 : 400, rng)) {
          auto disk = repaired->AfterCut(landings);
          if (known.insert(disk->Fingerprint()).second) cut.push_back(std::move(disk));
        }
      });
      ASSERT_TRUE(IsOk(RepairDevice(*OpenDisk(repaired), {})));
      repaired->SetObserver({});
      const Files after = FilesOn(repaired);
      for (const auto& disk : cut) {
        auto again = RepairDevice(*OpenDisk(disk), {});
        ASSERT_TRUE(IsOk(again));
        ASSERT_EQ(RunFsck(disk).findings_total, 0u);
        ASSERT_TRUE(FilesOn(disk) == after);
      }
      images += cut.size();
    }
  }
  std::cout << images << " images of interrupted repairs" << std::endl;
  EXPECT_GT(images, 500u);
}

// The older version was displaced within the record, which nothing claims. Recovery compares the data of both.
TEST(RepairTest, MayBeInterruptedBehindACommitOfTwoVersionsOfARange) {
  std::mt19937_64 rng(TestSeed(51));
  constexpr size_t kBytes = 512 << 10;
  TestStore store({.size_bytes = 16 << 20});
  // A tree of some nodes, which a repair writes anew to free blocks.
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(IsOk(store->CreateObject(absl::StrCat("object-", i, "-", std::string(200, 'x')))));
  }
  absl::StatusOr<Object> object = store->CreateObject("a");
  ASSERT_TRUE(IsOk(object));
  ASSERT_TRUE(IsOk(store->Checkpoint()));
  ASSERT_TRUE(IsOk(object->Write(0, std::vector<std::byte>(kBytes, std::byte{1}))));
  ASSERT_TRUE(IsOk(store->Barrier()));
  ASSERT_TRUE(IsOk(object->Write(0, std::vector<std::byte>(kBytes, std::byte{2}))));
  ASSERT_TRUE(IsOk(store->Sync()));
  object = absl::CancelledError();
  store.Kill();
  ASSERT_EQ(RunDump(store.disk())["log"]["records"].size(), 1u);
  StoreEditor(store.disk()).ChangeBitmap({3500, 10}, true);
  const auto repaired = store.disk()->Clone();
  const Files before = FilesOn(repaired);
  std::vector<std::shared_ptr<SimulatedDisk>> cut;
  repaired->SetObserver([&] {
    for (const Landings& landings : EnumerateLandings(repaired->unflushed(), 16, rng)) {
      cut.push_back(repaired->AfterCut(landings));
    }
  });
  ASSERT_TRUE(IsOk(RepairDevice(*OpenDisk(repaired), {})));
  repaired->SetObserver({});
  EXPECT_TRUE(FilesOn(repaired) == before);
  EXPECT_GT(cut.size(), 10u);
  for (const auto& disk : cut) EXPECT_TRUE(FilesOn(disk) == before);
}

}  // namespace
}  // namespace untorn
