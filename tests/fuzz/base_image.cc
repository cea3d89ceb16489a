#include "tests/fuzz/base_image.h"

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "extent/log_format.h"
#include "inspect/on_device.h"
#include "store/on_device.h"
#include "untorn/inspect.h"
#include "untorn/store.h"

namespace untorn {
namespace {

// How large: objects with data and without, and how many bytes their names have.
struct BaseShape {
  int objects, empty_objects;
  size_t name_bytes;
};
constexpr BaseShape kShapes[kBaseImages] = {{6, 0, 20}, {12, 6, 200}, {6, 190, 255}};

// The UUID is drawn when a store is made; here it is always the same, and with it every checksum.
void FixUuid(const std::shared_ptr<SimulatedDisk>& disk) {
  SuperblockSlots slots = ReadSuperblocks(*DeviceOn(disk));
  BlockBytes block;
  for (int slot : {0, 1}) {
    Must(slots.slots[slot].status());
    slots.slots[slot]->uuid.fill(0x5a);
    EncodeSuperblock(*slots.slots[slot], slot, block);
    disk->Poke(ByteOffset(kSuperblockSlots[slot]), block.data(), kBlockBytes);
  }
}

void Fill(const std::shared_ptr<SimulatedDisk>& disk, const BaseShape& shape) {
  absl::StatusOr<std::unique_ptr<Store>> opened = internal::OpenOnDevice(DeviceOn(disk), {}, false);
  Must(opened.status());
  Store& store = **opened;
  const std::vector<std::byte> data(20000, std::byte{0x5a});
  const auto name = [&](int i) {
    std::string text = absl::StrCat(i, " ");
    return text.append(shape.name_bytes - text.size(), 'n');
  };
  for (int i = 0; i < shape.objects + shape.empty_objects; ++i) {
    absl::StatusOr<Object> object = store.CreateObject(name(i));
    Must(object.status());
    if (i >= shape.objects) continue;
    for (uint64_t at : {0, 40000}) Must(object->Write(at, std::span(data).first(5000 + i % 3 * 4096)));
    if (i % 5 == 0) Must(object->Preallocate(100000, 20000));
  }
  Must(store.Sync());
  Must(store.Checkpoint());
  absl::StatusOr<Object> object = store.OpenObject(name(0));
  Must(object.status());
  for (uint64_t at : {0, 4096, 102400}) {
    Must(object->Write(at, std::span(data).first(9000), {.durability = Durability::kSync}));
  }
  Must(object->PunchHole(4096, 8192, Durability::kSync));
  Must(object->Truncate(108000, Durability::kSync));
  Must(store.Rename(name(1), "another", Durability::kSync));
  Must(store.Remove(name(2), Durability::kSync));
  // These two go to lanes, and no record of the ring has them.
  for (uint64_t at : {4096, 8192}) {
    Must(object->Write(at, std::span(data).first(4096), {.durability = Durability::kSync}));
  }
  std::mt19937_64 rng(1);
  disk->Kill(rng);
}

BaseImage Make(const BaseShape& shape) {
  BaseImage base;
  base.disk = std::make_shared<SimulatedDisk>(Bytes(kStoreBlocksMin));
  Must(internal::CreateOnDevice(*DeviceOn(base.disk), {}));
  FixUuid(base.disk);
  Fill(base.disk, shape);

  const SuperblockSlots slots = ReadSuperblocks(*DeviceOn(base.disk));
  Must(slots.slots[0].status());
  base.superblock = *slots.slots[0];
  base.blocks.assign(kSuperblockSlots.begin(), kSuperblockSlots.end());
  const Geometry& geometry = base.superblock.geometry;
  const LogPosition position = base.superblock.checkpoint_position;
  for (LogPosition p = position; p < position + BlockCount(kLogBlocks); ++p) {
    base.blocks.push_back(geometry.LogBlock(p));
  }
  DumpOptions options;
  options.objects = false;
  absl::StatusOr<std::string> dump = DumpJsonDevice(*DeviceOn(base.disk), options);
  Must(dump.status());
  const nlohmann::json json = nlohmann::json::parse(*dump);
  for (const char* part : {"tree", "free_map"}) {
    for (const auto& node : json[part]["nodes"]) {
      if (node.count("block")) base.blocks.emplace_back(node["block"].get<uint64_t>());
    }
  }
  for (BlockNumber at = geometry.log.end(); at < geometry.end(); ++at) {
    BlockHeader header;
    base.disk->Peek(ByteOffset(at), &header, sizeof(header));
    if (header.magic == kMagic && header.type == static_cast<uint16_t>(BlockType::kLaneRecord))
      base.blocks.push_back(at);
  }
  for (BlockNumber block : base.blocks) {
    base.disk->Peek(ByteOffset(block), base.contents.emplace_back().data(), kBlockBytes);
  }
  return base;
}

}  // namespace

const BaseImage& GetBaseImage(int index) {
  static const std::array<BaseImage, kBaseImages> bases = {Make(kShapes[0]), Make(kShapes[1]),
                                                           Make(kShapes[2])};
  return bases[static_cast<size_t>(index)];
}

std::unique_ptr<SimulatedDevice> DeviceOn(const std::shared_ptr<SimulatedDisk>& disk) {
  SimulatedDeviceOptions options;
  options.shuffle = false;
  options.atomic = {AtomicSource::kHardware, 4096, 16384, 0};
  return std::make_unique<SimulatedDevice>(disk, options);
}

void Must(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::abort();
}

}  // namespace untorn
