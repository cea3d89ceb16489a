#include "tests/inspect/fsck_testing.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "inspect/on_device.h"
#include "store/on_device.h"
#include "tests/untorn/test_store.h"

namespace untorn {

std::unique_ptr<SimulatedDevice> OpenDisk(const std::shared_ptr<SimulatedDisk>& disk) {
  SimulatedDeviceOptions options;
  options.size_bytes = disk->size_bytes();
  options.shuffle = false;
  return std::make_unique<SimulatedDevice>(disk, options);
}

void FlipByte(SimulatedDisk& disk, BlockNumber block, size_t at, int bits) {
  std::byte byte;
  disk.Peek(ByteOffset(block) + at, &byte, 1);
  byte ^= static_cast<std::byte>(bits);
  disk.Poke(ByteOffset(block) + at, &byte, 1);
}

void ZeroBlock(SimulatedDisk& disk, BlockNumber block) {
  const std::vector<std::byte> zeros(kBlockBytes);
  disk.Poke(ByteOffset(block), zeros.data(), kBlockBytes);
}

StoreEditor::StoreEditor(std::shared_ptr<SimulatedDisk> disk) : disk_(std::move(disk)) {
  const SuperblockSlots slots = ReadSuperblocks(*OpenDisk(disk_));
  EXPECT_GE(slots.current, 0);
  slot_ = slots.current;
  superblock_ = *slots.slots[slot_];
}

std::vector<std::byte> StoreEditor::Read(BlockNumber block) {
  std::vector<std::byte> bytes(kBlockBytes);
  disk_->Peek(ByteOffset(block), bytes.data(), kBlockBytes);
  return bytes;
}

void StoreEditor::Write(BlockNumber block, const std::vector<std::byte>& bytes) {
  disk_->Poke(ByteOffset(block), bytes.data(), bytes.size());
}

void StoreEditor::PutSuperblock() {
  std::vector<std::byte> block(kBlockBytes);
  for (int slot : {0, 1}) {
    EncodeSuperblock(superblock_, slot, block);
    Write(kSuperblockSlots[slot], block);
  }
}

uint64_t StoreEditor::ChangeBlock(BlockNumber block,
                                  const std::function<void(std::vector<std::byte>&)>& change) {
  std::vector<std::byte> bytes = Read(block);
  change(bytes);
  const uint64_t checksum = SealBlock(bytes);
  Write(block, bytes);
  return checksum;
}

StoreEditor::Entries StoreEditor::RootEntries() {
  const BlockPointer root = superblock_.tree.root;
  auto node = TreeNode::Parse(Read(root.block), superblock_.uuid, root);
  EXPECT_TRUE(IsOk(node));
  return StringsOf(**node);
}

void StoreEditor::PutRoot(int level, BlockNumber block, const Entries& entries) {
  TreeNodeBuilder builder(level);
  for (const EntryStrings& entry : entries) EXPECT_TRUE(builder.Add(*EntryOf(entry, level)));
  const auto root = builder.Finish(superblock_.uuid, block, superblock_.generation);
  if (level == 0) superblock_.tree.leaf_bytes = root->entry_bytes();
  superblock_.tree.levels = level + 1;
  superblock_.tree.root = root->pointer();
  Write(block, {root->block().begin(), root->block().end()});
  PutSuperblock();
}

void StoreEditor::ChangeRoot(const std::function<void(Entries&)>& change) {
  EXPECT_EQ(superblock_.tree.node_count, 1);
  Entries entries = RootEntries();
  change(entries);
  PutRoot(0, superblock_.tree.root.block, entries);
}

void StoreEditor::SpoilRoot() {
  BlockPointer& root = superblock_.tree.root;
  root.checksum =
      ChangeBlock(root.block, [](std::vector<std::byte>& b) { b[kHeaderBytes] = std::byte{0x11}; });
  PutSuperblock();
}

MappingEntry StoreEditor::FirstMapping() {
  const Entries entries = RootEntries();
  const auto mapping = ParseMapping(entries[0].first, entries[0].second);
  EXPECT_TRUE(mapping.has_value());
  return *mapping;
}

std::vector<FreeMapEntry> StoreEditor::RootTable() {
  std::vector<FreeMapEntry> table(kTableFanout);
  std::memcpy(table.data(), Read(superblock_.free_map.block).data() + kHeaderBytes,
              table.size() * sizeof(FreeMapEntry));
  return table;
}

void StoreEditor::PutRootTable(const std::vector<FreeMapEntry>& table) {
  superblock_.free_map.checksum = ChangeBlock(superblock_.free_map.block, [&](std::vector<std::byte>& b) {
    std::memcpy(b.data() + kHeaderBytes, table.data(), table.size() * sizeof(FreeMapEntry));
  });
  PutSuperblock();
}

void StoreEditor::ChangeBitmap(Extent extent, bool used) {
  std::vector<FreeMapEntry> table = RootTable();
  table[0].checksum = ChangeBlock(table[0].block, [&](std::vector<std::byte>& b) {
    for (uint64_t block = extent.start.value(); block < extent.end().value(); ++block) {
      const std::byte mask{static_cast<unsigned char>(1 << block % 8)};
      std::byte& byte = b[kHeaderBytes + block / 8];
      EXPECT_NE((byte & mask) != std::byte{0}, used) << block;
      byte ^= mask;
    }
  });
  for (BlockCount* in_use : {&table[0].used_blocks, &superblock_.used_blocks}) {
    *in_use = used ? *in_use + extent.count : *in_use - extent.count;
  }
  PutRootTable(table);
}

void StoreEditor::AppendRecord(std::vector<LogEntry> entries) {
  LogRecord record;
  record.position = superblock_.checkpoint_position;
  record.epoch = superblock_.epoch;
  record.lsn = superblock_.checkpoint_lsn + 1;
  record.previous_checksum = superblock_.checkpoint_checksum;
  record.claim = superblock_.checkpoint_lsn;
  record.superblock_generation = superblock_.generation;
  record.prepared_blocks = superblock_.prepared_blocks;
  record.entries = std::move(entries);
  for (LogEntry& e : record.entries) {
    if (e.type != LogEntry::Type::kMap || e.state != MappingState::kWritten) continue;
    std::vector<std::byte> data(Bytes(e.logical.count));
    disk_->Peek(ByteOffset(e.physical), data.data(), data.size());
    const iovec piece{data.data(), data.size()};
    e.data = DataChecksums::Of({&piece, 1}, superblock_.data_key);
  }
  std::vector<std::byte> block(kBlockBytes);
  EncodeRecord(record, superblock_.uuid, block);
  const Geometry& g = superblock_.geometry;
  Write(g.LogBlock(record.position), block);
}

std::shared_ptr<SimulatedDisk> SmallStore(bool with_log) {
  TestStore store({.size_bytes = 16 << 20, .shuffle = false});
  auto a = store->CreateObject("a"), b = store->CreateObject("b"), c = store->CreateObject("c");
  EXPECT_TRUE(IsOk(a) && IsOk(b) && IsOk(c));
  EXPECT_TRUE(IsOk(a->Write(0, Stamped(1, 50000))));
  EXPECT_TRUE(IsOk(b->Preallocate(0, 1 << 20)));
  EXPECT_TRUE(IsOk(b->Write(8192, Stamped(2, 4096), {.durability = Durability::kSync})));
  EXPECT_TRUE(IsOk(store->Checkpoint()));
  if (!with_log) {
    EXPECT_TRUE(IsOk(store.Close()));
    return store.disk();
  }
  // After the checkpoint: into preallocated space, over old blocks, holes, names that come and go.
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(IsOk(b->Write(65536 + 16384 * i, Stamped(3 + i, 5000), {.durability = Durability::kSync})));
    EXPECT_TRUE(IsOk(a->Write(4096 * i, Stamped(30 + i, 6000), {.durability = Durability::kSync})));
  }
  EXPECT_TRUE(IsOk(a->PunchHole(16384, 8192, Durability::kSync)));
  EXPECT_TRUE(IsOk(a->Truncate(30000, Durability::kSync)));
  EXPECT_TRUE(IsOk(store->CreateObject("d", Durability::kSync)));
  EXPECT_TRUE(IsOk(store->Rename("c", "e", Durability::kSync)));
  EXPECT_TRUE(IsOk(store->Remove("d", Durability::kSync)));
  store.Kill();
  return store.disk();
}

std::shared_ptr<SimulatedDisk> LargeStore(bool with_log) {
  TestStore store({.size_bytes = 64 << 20, .shuffle = false});
  std::vector<Object> objects;
  for (int i = 0; i < 300; ++i) {
    auto object = store->CreateObject(absl::StrCat("object with a name of some length, number ", i));
    EXPECT_TRUE(IsOk(object));
    objects.push_back(*std::move(object));
  }
  // The parts of an object lie apart, so a mapping takes four bytes, and the mappings take several leaves.
  for (int part = 0; part < 12; ++part) {
    for (int i = 0; i < 300; ++i) EXPECT_TRUE(IsOk(objects[i].Write(part * 8192, Stamped(i, 4096))));
    EXPECT_TRUE(IsOk(store->Sync()));
  }
  objects.clear();
  if (!with_log) {
    EXPECT_TRUE(IsOk(store.Close()));
  } else {
    EXPECT_TRUE(IsOk(store->Checkpoint()));
    for (int i = 0; i < 300; i += 7) {
      EXPECT_TRUE(IsOk(store->Remove(absl::StrCat("object with a name of some length, number ", i))));
    }
    EXPECT_TRUE(IsOk(store->Sync()));
    store.Kill();
  }
  return store.disk();
}

FsckResult RunFsck(const std::shared_ptr<SimulatedDisk>& disk) {
  auto device = OpenDisk(disk);
  uint64_t last = 0, calls = 0;
  FsckOptions options;
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_LE(last, done);
    EXPECT_LE(done, total);
    last = done;
    ++calls;
  };
  auto result = FsckDevice(*device, options);
  EXPECT_TRUE(IsOk(result));
  EXPECT_EQ(device->counts().writes + device->counts().atomic_writes + device->counts().flushes, 0u);
  if (!result.ok()) return {};
  for (const Finding& f : result->findings) EXPECT_NE(f.what, "");
  return *result;
}

RepairResult RunRepair(const std::shared_ptr<SimulatedDisk>& disk) {
  RepairResult planned;
  RepairOptions options{.dry_run = true, .planned = [&](const RepairResult& plan) { planned = plan; }};
  auto device = OpenDisk(disk);
  auto dry = RepairDevice(*device, options);
  EXPECT_TRUE(IsOk(dry));
  EXPECT_EQ(device->counts().writes + device->counts().atomic_writes + device->counts().flushes, 0u);
  EXPECT_TRUE(!dry.ok() || dry->actions == planned.actions);

  options.dry_run = false;
  uint64_t last = 0;
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_LE(done, total);
    EXPECT_LE(last, done);
    last = done;
  };
  device = OpenDisk(disk);
  auto result = RepairDevice(*device, options);
  EXPECT_TRUE(IsOk(result));
  if (!result.ok() || !dry.ok()) return {};
  EXPECT_EQ(result->actions, dry->actions);
  EXPECT_EQ(result->repaired, result->found.findings_total > 0);
  EXPECT_EQ(RunFsck(disk).findings_total, 0u);
  auto again = RepairDevice(*OpenDisk(disk), {});
  EXPECT_TRUE(IsOk(again));
  EXPECT_TRUE(!again.ok() || (again->actions_total == 0 && !again->repaired));

  const auto copy = disk->Clone();
  auto store = internal::OpenOnDevice(OpenDisk(copy), {.cache_bytes = 4 << 20}, false);
  EXPECT_TRUE(IsOk(store));
  if (!store.ok()) return *result;
  const auto objects = (*store)->List();
  EXPECT_TRUE(IsOk(objects));
  for (const ObjectInfo& info : objects.ok() ? *objects : std::vector<ObjectInfo>()) {
    auto object = (*store)->OpenObject(info.name);
    EXPECT_TRUE(IsOk(object));
    if (!object.ok()) continue;
    std::vector<std::byte> bytes(info.size_bytes);
    const auto read = object->Read(0, bytes);
    // Damage may have led a mapping to other data. Only the checksums tell so.
    EXPECT_TRUE(read.ok() || absl::StrContains(read.status().message(), "does not match its checksum"))
        << read.status();
    EXPECT_TRUE(
        IsOk(object->Write(WholeBlocks(info.size_bytes).value() / 2 * kBlockBytes, Stamped(99, 8192))));
  }
  EXPECT_TRUE(IsOk((*store)->Checkpoint()));
  EXPECT_TRUE(IsOk((*store)->Close()));
  EXPECT_EQ(RunFsck(copy).findings_total, 0u);
  return *result;
}

nlohmann::json RunDump(const std::shared_ptr<SimulatedDisk>& disk, const DumpOptions& options) {
  auto device = OpenDisk(disk);
  auto text = DumpJsonDevice(*device, options);
  EXPECT_TRUE(IsOk(text));
  EXPECT_EQ(device->counts().writes, 0u);
  if (!text.ok()) return {};
  nlohmann::json json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  EXPECT_TRUE(json.is_object()) << *text;
  return json;
}

}  // namespace untorn
