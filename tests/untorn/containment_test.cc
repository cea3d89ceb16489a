// Promise 9 for changes: on a store with a damaged node every change is accepted or refused with kDataLoss; what is
// accepted becomes durable and is checkpointed, and the store goes on.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/on_device.h"
#include "tests/inspect/fsck_testing.h"
#include "tests/untorn/test_store.h"

namespace untorn {
namespace {

using Bytes = std::vector<std::byte>;

std::string NameOf(int i) { return absl::StrCat("object with a name of some length, number ", i); }

// A tree of three levels: 300 objects of 12 mappings, and one of 3600, in leaves of its own.
std::shared_ptr<SimulatedDisk> Base() {
  static const std::shared_ptr<SimulatedDisk> base = [] {
    auto disk = LargeStore();
    auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 16 << 20}, false);
    EXPECT_TRUE(IsOk(store));
    auto big = (*store)->CreateObject("big");
    EXPECT_TRUE(IsOk(big));
    for (int i = 0; i < 3600; ++i) {
      const int at = i * 1201 % 3600;
      EXPECT_TRUE(IsOk(big->Write(at * 8192, Stamped(at, 4096))));
      if (i % 500 == 0) {
        EXPECT_TRUE(IsOk((*store)->Sync()));
      }
    }
    EXPECT_TRUE(IsOk((*store)->Close()));
    return disk;
  }();
  return base->Clone();
}

// What an application holds to be there; an object whose content is not known has none.
using Expected = std::map<std::string, std::optional<Bytes>>;

Expected Everything() {
  auto store = internal::OpenOnDevice(OpenDisk(Base()), {.cache_bytes = 16 << 20}, false);
  EXPECT_TRUE(IsOk(store));
  Expected all;
  for (auto& [name, bytes] : Contents(**store)) all[name] = std::move(bytes);
  return all;
}

struct Counts {
  int accepted = 0, refused = 0;
};

// One change, by what `rng` draws; what it does to `expected`.
void Change(Store& store, Expected& expected, std::mt19937_64& rng, uint64_t step, Counts& counts) {
  const auto note = [&](const absl::Status& status) {
    EXPECT_TRUE(status.ok() || absl::IsDataLoss(status)) << status;
    if (absl::IsDataLoss(status)) {
      EXPECT_NE(status.message().find("block"), std::string::npos) << status;
    }
    ++(status.ok() ? counts.accepted : counts.refused);
    return status.ok();
  };
  auto it = expected.begin();
  std::advance(it, rng() % expected.size());
  const std::string name = rng() % 8 == 0 ? "big" : it->first;
  if (!expected.contains(name)) return;
  std::optional<Bytes>& bytes = expected[name];
  const auto durability = rng() % 4 == 0 ? Durability::kSync : Durability::kBuffered;
  const uint64_t kind = rng() % 12;
  if (kind == 0) {
    if (note(store.Remove(name, durability))) expected.erase(name);
    return;
  }
  if (kind == 1) {
    const std::string to = absl::StrCat(rng() % 2 ? "a" : "zz", step);
    if (!note(store.Rename(name, to, durability))) return;
    expected[to] = std::move(bytes);
    expected.erase(name);
    return;
  }
  if (kind == 2) {
    const std::string made = absl::StrCat(rng() % 2 ? "m" : "p", step);
    if (note(store.CreateObject(made, durability).status())) expected[made] = Bytes();
    return;
  }
  auto object = store.OpenObject(name);
  if (!note(object.status())) return;
  const uint64_t size = object->Size().value_or(0);
  const uint64_t offset = rng() % (size + 8192);
  const uint64_t length = 1 + rng() % (rng() % 4 == 0 ? 60000 : 3000);
  if (bytes) {
    EXPECT_EQ(size, bytes->size());
  }
  // Of what cannot be read, nothing is known but what is written.
  const auto resize = [&](uint64_t to) {
    if (bytes) bytes->resize(to);
  };
  if (kind < 5) {
    if (!note(object->Truncate(offset, durability))) return;
    resize(offset);
  } else if (kind == 5) {
    if (!note(object->PunchHole(offset, length, durability))) return;
    if (bytes && offset < size)
      std::fill_n(bytes->begin() + offset, std::min(length, size - offset), std::byte{0});
  } else if (kind == 6) {
    if (!note(object->Preallocate(offset, length))) return;
    resize(std::max(size, offset + length));
  } else {
    const Bytes data = Stamped(step + 1, length);
    absl::Status status;
    if (kind < 9) {
      Transaction transaction = store.Begin();
      status = transaction.Write(*object, offset, data);
      if (status.ok()) status = transaction.Commit(durability);
    } else {
      status = object->Write(offset, data, {.durability = durability});
    }
    if (!note(status)) return;
    resize(std::max(size, offset + length));
    if (bytes) std::copy(data.begin(), data.end(), bytes->begin() + offset);
  }
}

// Everything that can be read is as expected. Returns how many objects cannot.
int Compare(Store& store, const Expected& expected) {
  int unreadable = 0;
  for (const auto& [name, bytes] : expected) {
    auto object = store.OpenObject(name);
    absl::Status status = object.status();
    if (status.ok() && bytes) {
      Bytes read(bytes->size());
      auto n = object->Read(0, read);
      status = n.status();
      if (n.ok()) {
        EXPECT_TRUE(read == *bytes) << name;
      }
    }
    EXPECT_TRUE(status.ok() || absl::IsDataLoss(status)) << name << ": " << status;
    unreadable += !status.ok();
  }
  return unreadable;
}

TEST(ContainmentTest, DamagedNodeRefusesTheChangesOfWhatItCoversAndNoOthers) {
  std::mt19937_64 rng(TestSeed(60));
  const nlohmann::json dump = RunDump(Base());
  const Expected all = Everything();
  int leaves = 0;
  for (const auto& node : dump["tree"]["nodes"]) {
    if (HasFailure()) return;
    SCOPED_TRACE(node.dump());
    const bool leaf = node["level"] == 0;
    leaves += leaf;
    auto disk = Base();
    ZeroBlock(*disk, BlockOf(node));
    Expected expected = all;
    Counts counts;
    uint64_t step = 0;
    for (int round = 0; round < 4; ++round) {
      auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
      ASSERT_TRUE(IsOk(store));
      for (int i = 0; i < 60; ++i) Change(**store, expected, rng, ++step, counts);
      ASSERT_TRUE(IsOk((*store)->Sync()));
      if (rng() % 2) {
        ASSERT_TRUE(IsOk((*store)->Checkpoint()));
      }
      const int unreadable = Compare(**store, expected);
      if (leaf) {
        EXPECT_LT(unreadable, 110);
      }
      if (rng() % 2) {
        ASSERT_TRUE(IsOk((*store)->Close()));
      } else {
        store->reset();
        disk->Kill(rng);
      }
    }
    if (leaf) {
      EXPECT_GT(counts.accepted, counts.refused);
    }
    auto copy = disk->Clone();
    RunRepair(copy);
  }
  EXPECT_GT(leaves, 12);
}

// Leaves in the middle of an object that goes: they go with it, and what they had mapped is given back by a repair.
TEST(ContainmentTest, ObjectWithDamageInItsMiddleCanBeRemovedAndItsSpaceRepaired) {
  auto disk = Base();
  const nlohmann::json dump = RunDump(disk);
  std::vector<BlockNumber> of_big;
  for (const auto& node : dump["tree"]["nodes"]) {
    const std::string first = node.value("first_key", "");
    if (node["level"] == 0 && first.starts_with("mapping of object 301 ")) of_big.push_back(BlockOf(node));
  }
  ASSERT_GE(of_big.size(), 4u);
  ZeroBlock(*disk, of_big[1]);
  ZeroBlock(*disk, of_big[2]);
  const uint64_t used = RunFsck(Base()).blocks_used;
  auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  EXPECT_TRUE(IsOk((*store)->Remove("big", Durability::kSync)));
  EXPECT_TRUE(IsOk((*store)->Checkpoint()));
  EXPECT_TRUE(IsOk((*store)->CreateObject("big")));
  EXPECT_TRUE(IsOk((*store)->Close()));
  for (const Finding& f : RunFsck(disk).findings) {
    EXPECT_TRUE(f.code == FindingCode::kLeak || f.code == FindingCode::kCountMismatch) << f.what;
  }
  const RepairResult repair = RunRepair(disk);
  EXPECT_EQ(repair.quarantined, 0u);
  EXPECT_LE(repair.after.blocks_used + 3600, used);
}

// The leaves in order, with the first key of each in words.
std::vector<std::pair<BlockNumber, std::string>> Leaves(const std::shared_ptr<SimulatedDisk>& disk = Base()) {
  std::vector<std::pair<BlockNumber, std::string>> leaves;
  const nlohmann::json dump = RunDump(disk);
  for (const auto& node : dump["tree"]["nodes"]) {
    if (node["level"] == 0) leaves.push_back({BlockOf(node), node.value("first_key", "")});
  }
  return leaves;
}
std::vector<std::pair<BlockNumber, std::string>> LeavesOfBig() {
  auto leaves = Leaves();
  std::erase_if(leaves, [](const auto& leaf) { return !leaf.second.starts_with("mapping of object 301 "); });
  return leaves;
}
uint64_t LastNumber(const std::string& text) { return std::stoull(text.substr(text.rfind(' ') + 1)); }

TEST(ContainmentTest, WriteIntoAHoleOverDamageIsKept) {
  auto disk = Base();
  const std::vector<std::pair<BlockNumber, std::string>> of_big = LeavesOfBig();
  ASSERT_GE(of_big.size(), 4u);
  ZeroBlock(*disk, of_big[1].first);
  const uint64_t offset = (LastNumber(of_big[1].second) + 6) * kBlockBytes;
  {
    auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
    ASSERT_TRUE(IsOk(store));
    auto big = (*store)->OpenObject("big");
    ASSERT_TRUE(IsOk(big));
    ASSERT_TRUE(IsOk(big->Truncate(0, Durability::kSync)));
    ASSERT_TRUE(IsOk(big->Write(offset, Stamped(1, 4096), {.durability = Durability::kSync})));
    EXPECT_TRUE(IsOk((*store)->Checkpoint()));
    EXPECT_TRUE(ReadAll(*big, offset, 4096) == Stamped(1, 4096));
    EXPECT_TRUE(IsOk((*store)->Close()));
  }
  auto store = internal::OpenOnDevice(OpenDisk(disk), {.read_only = true, .cache_bytes = 4 << 20}, false);
  auto big = (*store)->OpenObject("big");
  ASSERT_TRUE(IsOk(big));
  EXPECT_TRUE(ReadAll(*big, offset, 4096) == Stamped(1, 4096));
}

TEST(ContainmentTest, WholeBlocksCanBeWrittenWhereALeafIsDamagedAndTheRestIsTold) {
  auto disk = Base();
  const std::vector<std::pair<BlockNumber, std::string>> of_big = LeavesOfBig();
  ASSERT_GE(of_big.size(), 4u);
  ZeroBlock(*disk, of_big[1].first);
  const uint64_t first = LastNumber(of_big[1].second);
  const auto check = [&](const Object& big) {
    for (const uint64_t block : {4, 8, 10}) {
      EXPECT_TRUE(ReadAll(big, (first + block) * kBlockBytes, 4096) == Stamped(block, 4096)) << block;
    }
    Bytes bytes(4096);
    for (const uint64_t block : {2, 6, 12}) {
      EXPECT_TRUE(Fails(big.Read((first + block) * kBlockBytes, bytes), absl::StatusCode::kDataLoss))
          << block;
    }
  };
  for (int round = 0; round < 2; ++round) {
    auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
    ASSERT_TRUE(IsOk(store));
    auto big = (*store)->OpenObject("big");
    ASSERT_TRUE(IsOk(big));
    if (round == 0) {
      for (const uint64_t block : {4, 8, 10}) {
        const uint64_t offset = (first + block) * kBlockBytes;
        ASSERT_TRUE(IsOk(big->Write(offset, Stamped(block, 4096), {.durability = Durability::kSync})));
      }
      const Bytes part = Stamped(9, 100);
      EXPECT_TRUE(Fails(big->Write((first + 12) * kBlockBytes + 100, part), absl::StatusCode::kDataLoss))
          << "a part of a block needs what is lost";
    }
    check(*big);
    ASSERT_TRUE(IsOk((*store)->Checkpoint()));
    check(*big);
    ASSERT_TRUE(IsOk((*store)->Close()));
  }
  // What was written can be given back, and reads as zeros.
  {
    auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
    ASSERT_TRUE(IsOk(store));
    auto big = (*store)->OpenObject("big");
    ASSERT_TRUE(IsOk(big->PunchHole((first + 8) * kBlockBytes, 4096, Durability::kSync)));
    ASSERT_TRUE(IsOk((*store)->Checkpoint()));
    EXPECT_TRUE(ReadAll(*big, (first + 8) * kBlockBytes, 4096) == Bytes(4096));
    ASSERT_TRUE(IsOk((*store)->Close()));
  }
  const FsckResult found = RunFsck(disk);
  EXPECT_EQ(std::count_if(found.findings.begin(), found.findings.end(),
                          [](const Finding& f) { return f.code == FindingCode::kTreeNodeDamaged; }),
            5)
      << "once for each part of the leaf's keys that is lost, and that no leaks were looked for";
  RunRepair(disk);
}

// On a device with an atomic unit a lone write looks its mapping up, and goes by copy-on-write where that is damaged.
TEST(ContainmentTest, WriteThatMightGoInPlaceGoesElsewhereWhereALeafIsDamaged) {
  auto disk = Base();
  const std::vector<std::pair<BlockNumber, std::string>> of_big = LeavesOfBig();
  ASSERT_GE(of_big.size(), 4u);
  ZeroBlock(*disk, of_big[1].first);
  const uint64_t offset = (LastNumber(of_big[1].second) + 4) * kBlockBytes;
  auto device = std::make_unique<SimulatedDevice>(
      disk, SimulatedDeviceOptions{.size_bytes = disk->size_bytes(),
                                   .atomic = {AtomicSource::kHardware, kBlockBytes, 16 * kBlockBytes, 0}});
  auto store = internal::OpenOnDevice(std::move(device), {.cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  auto big = (*store)->OpenObject("big");
  ASSERT_TRUE(IsOk(big));
  ASSERT_TRUE(IsOk(big->Write(offset, Stamped(1, 4096), {.durability = Durability::kSync})));
  EXPECT_EQ((*store)->stats().change_sets_by_reason[static_cast<int>(PathReason::kMappingDamaged)], 1u);
  EXPECT_TRUE(ReadAll(*big, offset, 4096) == Stamped(1, 4096));
  ASSERT_TRUE(IsOk(big->Write(offset + (16 << 20), Stamped(2, 4096), {.durability = Durability::kSync})));
  EXPECT_EQ((*store)->stats().change_sets_by_reason[static_cast<int>(PathReason::kMappingDamaged)], 1u)
      << "only there";
  EXPECT_TRUE(IsOk((*store)->Close()));
}

// What was preallocated under a leaf that is damaged at the checkpoint: the blocks are in use already.
TEST(ContainmentTest, WriteIntoPreallocatedSpaceIsCheckpointedOverADamagedLeaf) {
  auto disk = Base();
  {
    auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
    auto made = (*store)->CreateObject("preallocated");
    ASSERT_TRUE(IsOk(made));
    ASSERT_TRUE(IsOk(made->Preallocate(0, 1 << 20)));
    ASSERT_TRUE(IsOk((*store)->Close()));
  }
  BlockNumber leaf;
  for (const auto& [block, first] : Leaves(disk)) {
    if (first <= "mapping of object 302 at block 0" && first.starts_with("mapping of object 30"))
      leaf = block;
  }
  ASSERT_NE(leaf, 0);
  auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  auto object = (*store)->OpenObject("preallocated");
  ASSERT_TRUE(IsOk(object));
  Bytes zeros(4096);
  ASSERT_TRUE(IsOk(object->Read(512 << 10, zeros)));  // its leaf is in memory now
  ASSERT_TRUE(IsOk(object->Write(512 << 10, Stamped(1, 4096), {.durability = Durability::kSync})));
  ZeroBlock(*disk, leaf);
  // Reading all the rest pushes the leaf out of the cache, if anything can.
  for (auto& [name, bytes] : Everything()) {
    auto other = (*store)->OpenObject(name);
    if (other.ok() && bytes) other->Read(0, *bytes).IgnoreError();
  }
  EXPECT_TRUE(IsOk((*store)->Checkpoint()));
  EXPECT_TRUE(ReadAll(*object, 512 << 10, 4096) == Stamped(1, 4096));
  EXPECT_TRUE(IsOk((*store)->Close()));
}

TEST(ContainmentTest, TransactionThatCreatesAndTruncatesIsLookedAt) {
  auto disk = Base();
  BlockNumber last;
  for (const auto& [block, first] : Leaves()) {
    if (first.starts_with("mapping of ")) last = block;
  }
  ZeroBlock(*disk, last);
  auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  Transaction transaction = (*store)->Begin();
  auto object = transaction.CreateObject("zz new");
  ASSERT_TRUE(IsOk(object));
  ASSERT_TRUE(IsOk(transaction.Truncate(*object, 4096)));
  EXPECT_TRUE(Fails(transaction.Commit(Durability::kSync), absl::StatusCode::kDataLoss));
  EXPECT_TRUE(IsOk((*store)->CreateObject("zz other", Durability::kSync)));
  EXPECT_TRUE(IsOk((*store)->Checkpoint()));
}

// The first mapping, or name, behind a damaged leaf goes in one checkpoint, and comes back in the next.
TEST(ContainmentTest, WhatGoesRightBehindDamageMayComeBack) {
  const auto leaves = Leaves();
  int mappings = 0, names = 0;
  for (size_t i = 1; i < leaves.size(); ++i) {
    const std::string& first = leaves[i].second;
    SCOPED_TRACE(first);
    auto disk = Base();
    ZeroBlock(*disk, leaves[i - 1].first);
    auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
    ASSERT_TRUE(IsOk(store));
    if (first.starts_with("mapping of object ") && !first.starts_with("mapping of object 301")) {
      auto object = (*store)->OpenObject(NameOf(std::stoi(first.substr(18)) - 1));
      ASSERT_TRUE(IsOk(object));
      const uint64_t offset = LastNumber(first) * kBlockBytes;
      if (!object->PunchHole(offset, kBlockBytes, Durability::kSync).ok()) continue;
      ++mappings;
      ASSERT_TRUE(IsOk(object->Write(offset, Stamped(1, 4096))));
    } else if (first.starts_with("name 'object") && leaves[i - 1].second.starts_with("name")) {
      const std::string name = first.substr(6, first.size() - 7);
      if (!(*store)->Remove(name, Durability::kSync).ok()) continue;
      ++names;
      ASSERT_TRUE(IsOk((*store)->CreateObject(name)));
    }
    EXPECT_TRUE(IsOk((*store)->Checkpoint()));
    EXPECT_TRUE(IsOk((*store)->Sync()));
    EXPECT_TRUE(IsOk((*store)->Checkpoint()));
  }
  EXPECT_GE(mappings, 3);
  EXPECT_GE(names, 3);
}

TEST(ContainmentTest, EntriesThatMakeNoSenseRefuseChangesToo) {
  for (bool out_of_bounds : {false, true}) {
    StoreEditor editor(SmallStore());
    if (out_of_bounds) {
      editor.ChangeRoot([&](StoreEditor::Entries& entries) {
        entries[0].second = MappingValue(BlockNumber(uint64_t{1} << 40), 3, MappingState::kWritten);
      });
    } else {
      editor.SpoilRoot();
    }
    auto store = internal::OpenOnDevice(OpenDisk(editor.disk()), {.cache_bytes = 4 << 20}, false);
    ASSERT_TRUE(IsOk(store));
    for (const absl::Status& status : {(*store)->CreateObject("zz", Durability::kSync).status(),
                                       (*store)->Remove("a", Durability::kSync)}) {
      EXPECT_TRUE(status.ok() == out_of_bounds && (status.ok() || absl::IsDataLoss(status))) << status;
    }
    EXPECT_TRUE(IsOk((*store)->Checkpoint()));
  }
}

// A name may lead to an object whose own record has another name, and that one may be another object's.
TEST(ContainmentTest, NameThatLeadsToAnotherObjectIsNotRemovedOrRenamed) {
  StoreEditor editor(SmallStore());
  editor.ChangeRoot([&](StoreEditor::Entries& entries) {
    const auto entry = [&](const std::string& name) {
      return std::find_if(entries.begin(), entries.end(),
                          [&](const auto& e) { return e.first == NameKey(name); });
    };
    entry("c")->second = entry("b")->second;
  });
  auto store = internal::OpenOnDevice(OpenDisk(editor.disk()), {.cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  EXPECT_TRUE(Fails((*store)->Remove("c"), absl::StatusCode::kDataLoss));
  EXPECT_TRUE(Fails((*store)->Rename("c", "d"), absl::StatusCode::kDataLoss));
  Transaction transaction = (*store)->Begin();
  EXPECT_TRUE(Fails(transaction.Remove("c"), absl::StatusCode::kDataLoss));
  EXPECT_TRUE(Fails(transaction.Rename("c", "d"), absl::StatusCode::kDataLoss));
  EXPECT_TRUE(IsOk(transaction.Rename("b", "e")));
  EXPECT_TRUE(IsOk(transaction.Remove("e")));
  EXPECT_TRUE(IsOk(transaction.Commit()));
  EXPECT_TRUE(Fails((*store)->OpenObject("b"), absl::StatusCode::kNotFound));
}

// Two preallocated ranges with one place, which only a damaged tree has, are written in one batch.
TEST(ContainmentTest, RangesThatAreMappedToOnePlaceAreNotWrittenOverEachOther) {
  auto disk = std::make_shared<SimulatedDisk>(16 << 20);
  auto device = OpenDisk(disk);
  ASSERT_TRUE(IsOk(internal::CreateOnDevice(*device, {.size_bytes = 16 << 20})));
  device.reset();
  {
    auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
    ASSERT_TRUE(IsOk(store));
    for (const char* name : {"a", "b"})
      ASSERT_TRUE(IsOk((*store)->CreateObject(name)->Preallocate(0, 40960)));
    ASSERT_TRUE(IsOk((*store)->Close()));
  }
  StoreEditor editor(disk);
  editor.ChangeRoot([&](StoreEditor::Entries& entries) { entries[1].second = entries[0].second; });
  auto store = internal::OpenOnDevice(OpenDisk(editor.disk()), {.cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  for (const char* name : {"a", "b"}) {
    auto object = (*store)->OpenObject(name);
    ASSERT_TRUE(IsOk(object));
    ASSERT_TRUE(IsOk(object->Write(0, Filled(1, 40960))));
  }
  const absl::Status status = (*store)->Sync();
  EXPECT_TRUE(Fails(status, absl::StatusCode::kFailedPrecondition));
  EXPECT_NE(status.message().find("two ranges of objects"), std::string::npos) << status;
}

TEST(ContainmentTest, ObjectThatHasNothingBeforeADamagedFirstLeafIsReadAndWritten) {
  auto disk = Base();
  const auto open = [&] { return internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false); };
  {
    auto store = open();
    ASSERT_TRUE(IsOk(store));
    auto first = (*store)->OpenObject(NameOf(0));
    ASSERT_TRUE(IsOk(first));
    ASSERT_TRUE(IsOk(first->PunchHole(0, 1 << 20)));
    ASSERT_TRUE(IsOk((*store)->Close()));
  }
  const auto leaves = Leaves(disk);
  ASSERT_TRUE(leaves[0].second.starts_with("mapping of object 2 ")) << leaves[0].second;
  ZeroBlock(*disk, leaves[0].first);
  auto store = open();
  ASSERT_TRUE(IsOk(store));
  auto first = (*store)->OpenObject(NameOf(0));
  ASSERT_TRUE(IsOk(first));
  EXPECT_TRUE(ReadAll(*first, 0, 4096) == Bytes(4096));
  EXPECT_TRUE(IsOk(first->Write(0, Stamped(7, 4096), {.durability = Durability::kSync})));
  EXPECT_TRUE(IsOk((*store)->Checkpoint()));
  EXPECT_TRUE(IsOk((*store)->Close()));
  store = open();
  first = (*store)->OpenObject(NameOf(0));
  ASSERT_TRUE(IsOk(first));
  EXPECT_TRUE(ReadAll(*first, 0, 4096) == Stamped(7, 4096));
  EXPECT_TRUE(IsOk((*store)->Remove(NameOf(0), Durability::kSync)));
  EXPECT_TRUE(IsOk((*store)->Checkpoint()));
}

// A leaf whose first and last object can be told from its parent: they alone are refused.
TEST(ContainmentTest, RemovalIsRefusedWhereTheObjectSharesADamagedLeaf) {
  auto disk = Base();
  const nlohmann::json dump = RunDump(disk);
  for (const auto& node : dump["tree"]["nodes"]) {
    const std::string first = node.value("first_key", "");
    if (node["level"] != 0 || !first.starts_with("mapping of object 1")) continue;
    ZeroBlock(*disk, BlockOf(node));
    break;
  }
  auto store = internal::OpenOnDevice(OpenDisk(disk), {.cache_bytes = 4 << 20}, false);
  ASSERT_TRUE(IsOk(store));
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    absl::Status status = (*store)->Remove(NameOf(i), Durability::kSync);
    EXPECT_TRUE(status.ok() || absl::IsDataLoss(status)) << status;
    refused += !status.ok();
  }
  EXPECT_TRUE(IsOk((*store)->Checkpoint()));
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, 110);
}

}  // namespace
}  // namespace untorn
